"""Runs the isolation suite in every connection mode, for all installed strategies or a new one."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from tempfile import TemporaryDirectory

from isola.errors import OperatorError
from isola.testing.modes import Mode
from isola_strategies.registry import GROUP

HERE = Path(__file__).parent
SUITE = (HERE / "isolation", HERE / "over_http")


def run(
    strategy: str | None, modes: Sequence[Mode], more: Sequence[str], once: Sequence[str | Path] = ()
) -> list[Mode]:
    """Run the suite in each mode, and print the results. Returns the modes in which a test failed.

    ``strategy`` is named like an entry point, ``package.module:Class``; it need not be installed: for the run it is
    added to the installed ones, so that sharing, moving and comparing are tested between all of them. ``more`` are
    options of pytest, and ``once`` are further tests that run in one mode only: with direct connections.
    Raises OperatorError if PgBouncer is missing, or another strategy has the same name as the new one.
    """
    if Mode.PGBOUNCER in modes and shutil.which("pgbouncer") is None:
        raise OperatorError(
            "the program pgbouncer is missing: install Debian's package of that name, or name other modes"
        )
    failed = []
    # Nobody reads the standard output of a worker of pytest-xdist.
    output = sys.stderr if "PYTEST_XDIST_WORKER" in os.environ else sys.stdout
    with offered(strategy) as environment:
        for mode in modes:
            begun = time.monotonic()
            tests = [*SUITE, *(Path(test).resolve() for test in once)] if mode == Mode.DIRECT else SUITE
            # Outside of the root directory, the fixtures of one folder would apply to all.
            root = os.path.commonpath(tests)
            options = ["-q", "-c", HERE / "suite.ini", "--rootdir", root, f"--timeout={_timeout()}"]
            command = [sys.executable, "-m", "pytest", *options, *tests, *more]
            status = subprocess.run(
                command,
                env={**os.environ, **environment, "TEST_MODE": mode},
                stdout=2 if output is sys.stderr else None,
                check=False,
            ).returncode
            if status:
                failed.append(mode)
            output.write(f"{mode}: {'failed' if status else 'passed'} ({time.monotonic() - begun:.0f} s)\n")
            output.flush()
    return failed


def _timeout() -> int:
    """The time limit of a test, in seconds. Every subject adds paths through the schema."""
    from isola.installed import SUBJECTS  # noqa: PLC0415  not needed to test strategies

    return 300 + 30 * len(SUBJECTS)


@contextmanager
def offered(value: str | None) -> Iterator[dict[str, str]]:
    """An environment in which the strategy is installed and the only one under test.

    Raises OperatorError if it cannot be imported, or another strategy has its name.
    """
    if value is None:
        yield {}
        return
    # A strategy that is not installed is imported from the working directory.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        name: str = EntryPoint("tried", value, GROUP).load().name
    except (ImportError, AttributeError, ValueError) as error:
        raise OperatorError(f"the strategy cannot be imported: expected package.module:Class ({error})") from error
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if installed.get(name, value) != value:
        raise OperatorError(f"the installed strategy {installed[name]} is called {name!r} as well")
    with TemporaryDirectory(prefix="isola-strategy-") as directory:
        if name not in installed:
            about = Path(directory) / "isola_strategy_under_test-0.dist-info"
            about.mkdir()
            (about / "METADATA").write_text("Metadata-Version: 2.1\nName: isola-strategy-under-test\nVersion: 0\n")
            (about / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
        places = [directory, here, *filter(None, [os.environ.get("PYTHONPATH")])]
        yield {"PYTHONPATH": os.pathsep.join(places), "TEST_STRATEGY": name}
