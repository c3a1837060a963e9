"""The changes between two runs, and whether they exceed the noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from isola.errors import OperatorError
from isola.lab.report import units
from isola.lab.report.about import disturbed
from isola.lab.report.results import BASELINES, Point, Results, read
from isola.lab.report.slices import described
from isola.lab.report.statistics import DRIFT, Change, changed, discoveries

Key = tuple[str, str, Point, str]
"""Scenario, subject, point and value."""
DETAILS = ("postgresql", "python", "commit")


@dataclass(frozen=True, slots=True)
class Compared:
    """A value of a subject in both runs, at one point, or averaged over the common points if ``point`` is None.

    ``found`` if the change is more than noise.
    """

    scenario: str
    subject: str
    value: str
    point: Point | None
    change: Change
    evidence: str
    found: bool = False

    @property
    def worse(self) -> bool:
        return (self.change.ratio < 1) == units.more_is_better(self.value)


def compare(a: Path, b: Path) -> str:
    """The changes from the results in ``a`` to those in ``b``, as text, with the points that only one has.

    Raises OperatorError when either is no file of results, and when they are of different applications.
    """
    before, after = read(a), read(b)
    if before.application != after.application:
        what = [f"{path} is of {_about(run)}" for path, run in ((a, before), (b, after))]
        raise OperatorError(f"{' and '.join(what)}: expected results of the same tables")
    compared = differences(before, after)
    shown = list(_shown(compared))
    named = ((a.name, before), (b.name, after))
    busy = [f"{name}: {evidence}" for name, run in named if (evidence := disturbed(run))]
    lines = [*busy, *_different_machines(before, after), *_headline(compared, shown, a.name, b.name)]
    for title, worse in (("Worse:", True), ("Better:", False)):
        chosen = sorted((each for each in shown if each.worse is worse), key=lambda each: -_strength(each))
        if chosen:
            lines += ["", title, *(f"  {_line(each)}" for each in chosen)]
    if any(each.subject in BASELINES for each in shown):
        lines += ["", "A baseline changed as well, in which there is none of this code: part of it may be the machine."]
    for title, one, other in ((f"Only in {a.name}:", before, after), (f"Only in {b.name}:", after, before)):
        alone = _only(one, other)
        if alone:
            lines += ["", title, *(f"  {each}" for each in alone)]
    return "\n".join(lines) + "\n"


def _about(results: Results) -> str:
    return f"the application {results.application}" if results.application else "the nouns that ship"


def differences(before: Results, after: Results) -> Sequence[Compared]:
    """Every value of both runs, on average over its points and at each of them.

    Of those that are ``found``, at most one in a hundred is so by chance. What has a single round, or zeros, is left
    out: it says nothing of noise.
    """
    pairs = []
    for (scenario, subject, value), points in _shared(before, after).items():
        rounds = {
            point: tuple(list(run.rounds(scenario, subject, point, value).values()) for run in (before, after))
            for point in points
        }
        for point, chosen in ((None, list(rounds.values())), *((point, [rounds[point]]) for point in points)):
            change = changed([(one[0], one[1]) for one in chosen])
            if change is not None and (point is not None or len(points) > 1):
                evidence = _with_rounds(value, chosen[0]) if point is not None else f"over {len(points)} points"
                pairs.append(Compared(scenario, subject, value, point, change, evidence))
    decided = discoveries([each.change.probability for each in pairs])
    return [replace(each, found=found) for each, found in zip(pairs, decided, strict=True)]


def _shared(before: Results, after: Results) -> Mapping[tuple[str, str, str], Sequence[Point]]:
    found: dict[tuple[str, str, str], list[Point]] = {}
    for scenario, subject, point, value in _keys(before):
        if after.rounds(scenario, subject, point, value):
            found.setdefault((scenario, subject, value), []).append(point)
    return found


def _shown(compared: Sequence[Compared]) -> Iterator[Compared]:
    """The significant changes; without single points of a value that changed on average."""
    whole = {(each.scenario, each.subject, each.value) for each in compared if each.found and each.point is None}
    for each in compared:
        if each.found and (each.point is None or (each.scenario, each.subject, each.value) not in whole):
            yield each


def _headline(compared: Sequence[Compared], shown: Sequence[Compared], a: str, b: str) -> Iterator[str]:
    tested = sum(each.point is not None for each in compared)
    yield f"{a} → {b}: {tested:,} values compared"
    if not tested:
        yield "Nothing can be said: of no value do both have two rounds or more."
    elif not shown:
        yield f"No significant difference beyond {DRIFT:.0%}, by which runs of the same code may differ."
    else:
        worse = sum(each.worse for each in shown)
        yield f"{worse:,} worse and {len(shown) - worse:,} better, significantly and beyond {DRIFT:.0%}."


def _different_machines(before: Results, after: Results) -> Iterator[str]:
    for name in ("cpu", "cores", "memory_bytes"):
        one, two = (run.run.get("machine", {}).get(name) for run in (before, after))
        if one != two:
            yield f"The machines differ ({name}: {one} and {two}): times of one are not comparable with the other's."
    for name in DETAILS:
        one, two = (run.run.get("versions", {}).get(name) for run in (before, after))
        if one != two:
            yield f"{name}: {one} → {two}"


def _line(each: Compared) -> str:
    where = f" at {', '.join(described(*pair) for pair in each.point)}" if each.point else ""
    change = f"{each.change.ratio - 1:+.0%}"
    return f"{each.scenario}, {each.subject}, {units.words(each.value)}: {change} {each.evidence}{where}"


def _with_rounds(value: str, rounds: tuple[Sequence[float], ...]) -> str:
    return f"({' → '.join(units.figure(value, median(one)) for one in rounds)})"


def _strength(each: Compared) -> float:
    return max(each.change.ratio, 1 / each.change.ratio)


def _only(one: Results, other: Results) -> Sequence[str]:
    """Pairs of scenario and subject, with the number of points, that the other run does not have at all or in part."""
    there = {(key[0], key[1], key[2]) for key in _keys(other)}
    alone: dict[tuple[str, str], set[Point]] = {}
    for scenario, subject, point, _ in _keys(one):
        if (scenario, subject, point) not in there:
            alone.setdefault((scenario, subject), set()).add(point)
    return [
        f"{scenario}, {subject}: {len(points)} point{'s' if len(points) > 1 else ''}"
        for (scenario, subject), points in alone.items()
    ]


def _keys(results: Results) -> Sequence[Key]:
    return list(
        dict.fromkeys(
            (each.scenario, each.subject, each.point, value) for each in results.measurements for value in each.values
        )
    )
