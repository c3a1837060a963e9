"""Tries one sabotage: in a copy of the source, with a PostgreSQL of its own, until the first test fails."""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cache
from importlib.util import cache_from_source
from pathlib import Path

from tests.mutation.sabotage import OutdatedError, Patch, Sabotage
from tests.mutation.workshop import BrokenTrialError, Workshop, run

# The tests that run if the suite itself has to detect the sabotage.
SUITE = (
    "app/isola/testing",
    *(f"tests/{name}" for name in ("database", "query", "api", "identity", "subjects", "control", "http", "faults")),
)
NOTICED = Path(__file__).with_name("noticed.json")
"""For each sabotage the test that noticed it the last time. It is run first, and most often it is all that is run."""


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


def tried(sabotage: Sabotage, workshop: Workshop, others: Sequence[str] = SUITE) -> Outcome:
    """The verdict on a sabotage: of the tests named for it, and if they all pass, of the others.

    Afterwards the copy of the source is restored.
    """
    begun = time.monotonic()

    def outcome(verdict: Verdict, by: str, *, expected: bool = False) -> Outcome:
        seconds = round(time.monotonic() - begun, 1)
        return Outcome(sabotage.name, sabotage.strategy, sabotage.breaks, verdict, by, expected, seconds)

    try:
        with patched(sabotage, workshop.place):
            red = _first_red(sabotage, workshop, others)
        if red is None:
            return outcome(Verdict.SURVIVED, "")
        return outcome(Verdict.KILLED, red, expected=red.startswith(sabotage.expect))
    except (BrokenTrialError, OutdatedError) as error:
        return outcome(Verdict.BROKEN, str(error))


def _first_red(sabotage: Sabotage, workshop: Workshop, others: Sequence[str]) -> str | None:
    """The first test that fails: the one of the last time, an expected one, or one of the others."""
    before = noticed().get(sabotage.name)
    for tests in (() if before is None else (before,), sabotage.expect, others):
        status, said = workshop.run(tests, sabotage) if tests else (0, "")
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
    status, said = run(place, tests, "--maxfail=0", *more) if tests else (0, "")
    if status not in {0, _TESTS_FAILED}:
        raise BrokenTrialError(said[-2000:])
    red = set(_RED.findall(said))
    return [
        replace(outcome, verdict=Verdict.BROKEN, by=f"{outcome.by} is red without sabotage")
        if outcome.verdict is Verdict.KILLED and outcome.by in red
        else outcome
        for outcome in outcomes
    ]


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
