"""The command line as users run it: in separate processes, in a separate directory."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from isola.identity.tokens import mint
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS
from isola.testing.patience import PATIENCE

# The command of this environment, or one that is installed elsewhere: tests/on-the-wheel.
ISOLA = Path(os.environ.get("TEST_ISOLA") or Path(sys.executable).with_name("isola"))
SERVING = "Serving on "


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a separate process. Its output and its log go to files."""

    process: subprocess.Popen[bytes]
    output: Path
    errors: Path

    @property
    def printed(self) -> str:
        return self.output.read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        return self.errors.read_text(encoding="utf-8")

    @property
    def url(self) -> str:
        """The address of the server, from its own output."""
        line = next(line for line in self.printed.splitlines() if line.startswith(SERVING))
        return line.removeprefix(SERVING).split("/graphql")[0]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def await_readiness(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while SERVING not in self.printed:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Place:
    """A directory to run commands in, and the settings in their environment."""

    directory: Path
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return self.directory / "data"

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ISOLA_")}
        # Commands share compiled bytecode, even if the tests themselves write none.
        inherited.pop("PYTHONDONTWRITEBYTECODE", None)
        own = {"ISOLA_DATA_DIR": str(self.data_dir), "ISOLA_PORT": "0", "COLUMNS": "200"}
        return {**inherited, **own, **self.settings, **more}

    def begin(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Start a command without waiting for it."""
        return subprocess.Popen(
            [ISOLA, *arguments],
            cwd=self.directory,
            env=self.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, **settings: str) -> str:
        """Run a command that succeeds, and return its output."""
        printed, said, status = finished(self.begin(*arguments, **settings))
        assert status == 0, said
        return printed

    def fail(self, *arguments: str, **settings: str) -> str:
        """Run a command that fails, and return its error message, one line."""
        _, said, status = finished(self.begin(*arguments, **settings))
        assert status == 1, said
        [line] = said.splitlines()
        return line

    @contextmanager
    def server(self, command: str = "serve", **settings: str) -> Iterator[Running]:
        """A server that is ready. It is killed at the end, unless it was stopped before."""
        output, errors = self.directory / "output", self.directory / "errors"
        with output.open("wb") as printed, errors.open("wb") as said:
            environment = self.environment(settings)
            process = subprocess.Popen(
                [ISOLA, command], cwd=self.directory, env=environment, stdout=printed, stderr=said
            )
        running = Running(process, output, errors)
        try:
            running.await_readiness()
            yield running
        finally:
            process.kill()
            process.wait(PATIENCE)

    def token(self, tenant: str) -> str:
        """A token of an administrator, signed with this place's development key."""
        return mint(DEFAULTS.model_copy(update={"data_dir": self.data_dir}), tenant, "ada", Role.ADMIN, 3600)

    def await_postgresql_end(self) -> None:
        """Wait for the PostgreSQL of a server that was killed: it ends by itself, and writes files until then."""
        deadline = time.monotonic() + PATIENCE
        while (self.data_dir / "server.lock").exists() and not self.postgresql_is_gone():
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def postgresql_is_gone(self) -> bool:
        """Whether no process of PostgreSQL is left: each holds this lock."""
        with (self.data_dir / "server.lock").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True


def finished(process: subprocess.Popen[str]) -> tuple[str, str, int]:
    """The output of a command, its error output, and its exit status. No command ends with a traceback."""
    printed, said = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in said
    return printed, said, process.returncode
