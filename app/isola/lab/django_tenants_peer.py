"""The peer django-tenants, in a separate virtual environment.

This module must not be called like the package: the scripts beside it import that.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url

from isola.errors import OperatorError

SCRIPT = Path(__file__).with_name("django_tenants_life.py")
MAKING = Path(__file__).with_name("django_tenants_making.py")
PEER = "django-tenants==4.0.1"
PEER_NEEDS = ("psycopg[binary]",)


class DjangoTenants:
    """The package manager installs it on first use; it is removed with this object."""

    def __init__(self) -> None:
        self._directory: TemporaryDirectory[str] | None = None
        self._missing: str | None = None

    def measured(self, address: str, tenants: int, rows: int, few: int, processes: int) -> Mapping[str, float]:
        """Measure creating, migrating and dropping tenants; see the script. Blocks.

        ``address`` is the owner's address of a database without tenants. Raises OperatorError when the package cannot
        be installed, and when the script fails.
        """
        python = self._python()
        url = make_url(address)
        host, port = url.host or str(url.query["host"]), str(url.port or url.query.get("port", 5432))
        password = {} if url.password is None else {"PGPASSWORD": str(url.password)}
        numbers = [str(number) for number in (tenants, rows, few, processes)]
        said = _run(python, str(SCRIPT), host, port, str(url.username), str(url.database), *numbers, **password)
        values: Mapping[str, float] = json.loads(said)
        return values

    def _python(self) -> str:
        if self._missing is not None:
            raise OperatorError(self._missing)
        if self._directory is None:
            self._directory = TemporaryDirectory(prefix="isola-lab-")
            try:
                _run(sys.executable, "-m", "venv", self._directory.name)
                _run(self._program(), "-m", "pip", "install", "-q", "--disable-pip-version-check", PEER, *PEER_NEEDS)
            except OperatorError as error:
                self._missing = f"{PEER} could not be installed: {error.message}"
                raise OperatorError(self._missing) from error
        return self._program()

    def _program(self) -> str:
        assert self._directory is not None
        return str(Path(self._directory.name) / "bin" / "python")


def _run(*command: str, **environment: str) -> str:
    """A program's output. Raises OperatorError with the last line of its error output when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        complaint = done.stderr.strip().splitlines() or ["it said nothing"]
        raise OperatorError(f"{Path(command[0]).name} {Path(command[1]).name} failed: {complaint[-1]}")
    return done.stdout
