"""Tries one sabotage: in a copy of the source, with a PostgreSQL of its own, until the first test fails."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutation.sabotage import OutdatedError, Patch, Sabotage

ROOT = Path(__file__).parents[2]
COPIED = ("app", "strategies", "migrations", "graphql", "tests", "docs", "pyproject.toml")
# The tests that run if the suite itself has to detect the sabotage.
SUITE = (
    "app/isola/testing",
    *(f"tests/{name}" for name in ("database", "query", "api", "identity", "subjects", "control", "http", "faults")),
)
# Each takes longer than all the others together, and does not test isolation.
LEFT_OUT = ("tests/http/test_audit.py", "tests/http/test_schemathesis.py")
NOTICED = Path(__file__).with_name("noticed.json")
"""For each sabotage the test that noticed it the last time. It is run first, and most often it is all that is run."""
PATIENCE = 900.0
# Some tests detect a sabotage because something does not happen within this time.
OF_EACH_TEST = "60"


class BrokenTrialError(Exception):
    """pytest ended without a verdict."""


_RED = re.compile(r"^(?:FAILED|ERROR) (\S+?::.*?)(?: - .*)?$", re.MULTILINE)
_TESTS_FAILED = 1
_NO_SUCH_TEST = 4


class Verdict(StrEnum):
    KILLED = "killed"
    SURVIVED = "survived"
    BROKEN = "broken"
    """The trial itself went wrong: nothing is known."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """``by`` is the test that failed, or the error. ``expected``: whether it is one of those named for the sabotage."""

    name: str
    strategy: str
    breaks: str
    verdict: Verdict
    by: str
    expected: bool
    seconds: float


@contextmanager
def workshop() -> Iterator[Path]:
    """A copy of the source to be sabotaged."""
    with TemporaryDirectory(prefix="isola-mutation-") as name:
        for each in COPIED:
            source = ROOT / each
            if source.is_dir():
                shutil.copytree(source, Path(name) / each, ignore=shutil.ignore_patterns("__pycache__", "node_modules"))
            else:
                shutil.copy(source, name)
        yield Path(name)


def tried(sabotage: Sabotage, place: Path) -> Outcome:
    """The verdict of the suite on a sabotage. Afterwards the copy in ``place`` is restored."""
    begun = time.monotonic()

    def outcome(verdict: Verdict, by: str, *, expected: bool = False) -> Outcome:
        seconds = round(time.monotonic() - begun, 1)
        return Outcome(sabotage.name, sabotage.strategy, sabotage.breaks, verdict, by, expected, seconds)

    try:
        with patched(sabotage, place):
            red = _first_red(sabotage, place)
        if red is None:
            return outcome(Verdict.SURVIVED, "")
        return outcome(Verdict.KILLED, red, expected=red.startswith(sabotage.expect))
    except (BrokenTrialError, OutdatedError, subprocess.TimeoutExpired) as error:
        return outcome(Verdict.BROKEN, str(error))


def _first_red(sabotage: Sabotage, place: Path) -> str | None:
    """The first test that fails: the one of the last time, an expected one, or any."""
    before = noticed().get(sabotage.name)
    for tests in (() if before is None else (before,), sabotage.expect, SUITE):
        status, said = run(place, tests, sabotage.name) if tests else (0, "")
        red = _RED.search(said)
        if status == _TESTS_FAILED and red:
            return red[1]
        if status != 0 and not (status == _NO_SUCH_TEST and tests == (before,)):
            raise BrokenTrialError(said[-2000:])
    return None


@cache
def noticed() -> Mapping[str, str]:
    """The test that last detected each sabotage, as far as recorded."""
    known: dict[str, str] = json.loads(NOTICED.read_text(encoding="utf-8"))
    return known


def confirmed(outcomes: Sequence[Outcome], place: Path, *more: str) -> list[Outcome]:
    """The outcomes, except that tests which fail without any sabotage count as broken."""
    tests = sorted({outcome.by for outcome in outcomes if outcome.verdict is Verdict.KILLED})
    status, said = run(place, tests, "", "--maxfail=0", *more) if tests else (0, "")
    if status not in {0, _TESTS_FAILED}:
        raise BrokenTrialError(said[-2000:])
    red = set(_RED.findall(said))
    return [
        replace(outcome, verdict=Verdict.BROKEN, by=f"{outcome.by} is red without sabotage")
        if outcome.verdict is Verdict.KILLED and outcome.by in red
        else outcome
        for outcome in outcomes
    ]


def search_path(place: Path) -> str:
    """The PYTHONPATH that imports a copy of the source instead of the installed packages."""
    return os.pathsep.join(str(place / root) for root in (".", "app", "strategies"))


def run(place: Path, tests: Sequence[str], name: str = "", *more: str) -> tuple[int, str]:
    """Run tests in a copy of the source; return the exit status and the output."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ISOLA_", "TEST_", "COVERAGE_"))}
    given = {key: os.environ[key] for key in ("TEST_DATABASE_URL",) if key in os.environ}
    options = ["-x", "-q", "--tb=line", "-rfE", "-p", "tests.mutation.plugin"]
    # Resources that a failed test left open are no verdict.
    options += ["-p", "no:cacheprovider", "-p", "no:unraisableexception"]
    # Its plugin only affects how failures are shown, and takes half a second to import.
    options += ["-p", "no:hypothesispytest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(f"--ignore={each}" for each in LEFT_OUT), *more, *tests],
        cwd=place,
        env={
            **kept,
            **given,
            "PYTHONPATH": search_path(place),
            "TEST_SABOTAGE": name,
            "TEST_PATIENCE": OF_EACH_TEST,
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@contextmanager
def patched(sabotage: Sabotage, place: Path) -> Iterator[None]:
    if not isinstance(sabotage, Patch):
        yield
        return
    path = place / sabotage.file
    sabotage.check(place)
    before = path.read_text(encoding="utf-8")
    path.write_text(sabotage.applied(before), encoding="utf-8")
    _forget_compiled(path)
    try:
        yield
    finally:
        path.write_text(before, encoding="utf-8")
        _forget_compiled(path)


def _forget_compiled(path: Path) -> None:
    """Compiled files are matched by time and size, and both can equal those of the previous file."""
    if path.suffix == ".py":
        Path(cache_from_source(str(path))).unlink(missing_ok=True)
