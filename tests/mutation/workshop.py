"""Copies of the source, with processes that run its tests."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory

from tests.mutation.sabotage import Sabotage, Sql

ROOT = Path(__file__).parents[2]
COPIED = ("app", "strategies", "migrations", "graphql", "tests", "docs", "pyproject.toml")
# Each takes longer than all the others together, and does not test isolation.
LEFT_OUT = ("tests/http/test_audit.py", "tests/http/test_schemathesis.py")
# What takes long to import: of other packages, and of the program.
LIBRARIES = (
    "alembic",
    "asyncpg",
    "cryptography.x509",
    "graphql",
    "httpx",
    "hypothesis",
    "jwt",
    "pydantic_settings",
    "pytest",
    "sqlalchemy.dialects.postgresql.asyncpg",
    "strawberry",
    "uvicorn",
)
PROGRAM = ("isola.testing.fixtures", "isola.testing.served")
PATIENCE = 900.0
# Some tests detect a sabotage because something does not happen within this time.
OF_EACH_TEST = "20"


class BrokenTrialError(Exception):
    """pytest ended without a verdict."""


class Workshop:
    """A copy of the source, and processes that run its tests with most modules imported already.

    The program itself is imported already, and its databases are copied from ``prepared``, if the source is unchanged.
    """

    def __init__(self, place: Path, prepared: Path) -> None:
        self.place = place
        self._prepared = prepared
        self._changed = self._warm(*LIBRARIES)
        self._unchanged = self._warm(*LIBRARIES, *PROGRAM)

    def _warm(self, *modules: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-P", Path(__file__).with_name("warm.py"), *modules],
            cwd=self.place,
            env=_environment(self.place),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout
        # It has imported the program before a sabotage changes the source.
        process.stdout.readline()
        return process

    def run(self, tests: Sequence[str], sabotage: Sabotage) -> tuple[int, str]:
        """Run tests; return the exit status and the output."""
        environ = {"TEST_SABOTAGE": sabotage.name}
        if isinstance(sabotage, Sql):
            environ["TEST_PREPARED"] = str(self._prepared)
        warm = self._unchanged if isinstance(sabotage, Sql) else self._changed
        assert warm.stdin
        assert warm.stdout
        with NamedTemporaryFile("r", encoding="utf-8", errors="replace") as output:
            request = {"arguments": _arguments(tests), "environ": environ, "output": output.name, "most": PATIENCE}
            print(json.dumps(request), file=warm.stdin, flush=True)
            status = warm.stdout.readline()
            if not status:
                raise BrokenTrialError("the process that runs pytest has ended")
            return int(status), output.read()

    def close(self) -> None:
        """End the processes."""
        for process in (self._changed, self._unchanged):
            process.communicate()


@contextmanager
def copied() -> Iterator[Path]:
    """A copy of the source."""
    with TemporaryDirectory(prefix="isola-mutation-") as name:
        for each in COPIED:
            source = ROOT / each
            if source.is_dir():
                shutil.copytree(source, Path(name) / each, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, name)
        yield Path(name)


def search_path(place: Path) -> str:
    """The PYTHONPATH that imports a copy of the source instead of the installed packages."""
    return os.pathsep.join(str(place / root) for root in (".", "app", "strategies"))


def run(place: Path, tests: Sequence[str], *more: str) -> tuple[int, str]:
    """Run tests in a copy of the source; return the exit status and the output."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *_arguments(tests, more)],
        cwd=place,
        env=_environment(place),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _arguments(tests: Sequence[str], more: Sequence[str] = ()) -> Sequence[str]:
    options = ["-x", "-q", "--tb=line", "-rfE", "-p", "tests.mutation.plugin"]
    # Resources that a failed test left open are no verdict.
    options += ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    # Its plugin only affects how failures are shown, and takes half a second to import.
    options += ["-p", "no:hypothesispytest"]
    # What is imported already is not imported by pytest.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return [*options, *(f"--ignore={each}" for each in LEFT_OUT), *more, *tests]


def _environment(place: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ISOLA_", "TEST_", "COVERAGE_"))}
    given = {key: os.environ[key] for key in ("TEST_DATABASE_URL",) if key in os.environ}
    return {**kept, **given, "PYTHONPATH": search_path(place), "TEST_PATIENCE": OF_EACH_TEST}
