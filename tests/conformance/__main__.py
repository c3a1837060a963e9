"""``python -m tests.conformance``: the suite of isolation, by every way of connecting, for all strategies or a new one.

A strategy is named like an entry point, ``package.module:Class``. It need not be installed: for the run it is offered
beside those that are, so it shares with them, is moved between and is compared with them.
"""

import argparse
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

from isola_strategies.registry import GROUP
from tests.modes import Mode

ROOT = Path(__file__).parents[2]

# What says the same of a strategy however it is connected to is asked once, in the first mode.
SUITE = ("tests/isolation", "tests/http/test_sharing.py", "tests/http/test_other_tenants.py")
ONCE = (
    "tests/database",
    "tests/control/test_history.py",
    "tests/control/test_moves.py",
    "tests/control/test_provisioning.py",
    "tests/http/test_dropping.py",
    "tests/api/test_differential.py",
)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    parser.add_argument("--strategy", metavar="PACKAGE.MODULE:CLASS", help="only this one; all installed ones without")
    parser.add_argument("--mode", action="append", choices=list(Mode), help="only these ways of connecting")
    parser.add_argument("more", nargs="*", help="more for pytest, behind --: -n 2, -x, -k …")
    arguments = parser.parse_args()
    modes = arguments.mode or list(Mode)
    if Mode.PGBOUNCER in modes and shutil.which("pgbouncer") is None:
        parser.error("the program pgbouncer is missing: install Debian's package of that name, or name other modes")
    red = []
    with offered(arguments.strategy) as environment:
        for mode in modes:
            paths = (*SUITE, *ONCE) if mode == Mode.DIRECT else SUITE
            begun = time.monotonic()
            if run(paths, {**environment, "TEST_MODE": mode}, arguments.more):
                red.append(mode)
            print(f"{mode}: {'red' if mode in red else 'green'} ({time.monotonic() - begun:.0f} s)", flush=True)
    return 1 if red else 0


def run(paths: Sequence[str], environment: dict[str, str], more: Sequence[str]) -> int:
    command = [sys.executable, "-m", "pytest", "-q", *paths, *more]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, check=False).returncode


@contextmanager
def offered(value: str | None) -> Iterator[dict[str, str]]:
    """An environment in which the strategy is installed and the only one that is tried.

    Raises ValueError when another strategy has its name.
    """
    if value is None:
        yield {}
        return
    name: str = EntryPoint("tried", value, GROUP).load().name
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    if installed.get(name, value) != value:
        raise ValueError(f"the installed strategy {installed[name]} is called {name!r} as well")
    with TemporaryDirectory(prefix="isola-strategy-") as directory:
        if name not in installed:
            about = Path(directory) / "isola_strategy_under_test-0.dist-info"
            about.mkdir()
            (about / "METADATA").write_text("Metadata-Version: 2.1\nName: isola-strategy-under-test\nVersion: 0\n")
            (about / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {value}\n")
        places = [directory, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        yield {"PYTHONPATH": os.pathsep.join(places), "TEST_STRATEGY": name}


if __name__ == "__main__":
    sys.exit(main())
