"""Parser of results files for the report, the comparison and the advisor: JSON Lines, a run and its measurements."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from isola.errors import OperatorError
from isola.shipped import shipped

T = TypeVar("T")
Point = tuple[tuple[str, str | int], ...]
"""What a measurement is about, subject and round apart: dimensions with their values, in the scenario's order."""
Rounds = Mapping[int, float]
"""A value by round."""

KEPT = shipped("benchmarks/results")
BASELINES = ("none", "postgraphile", "django-tenants", "database")
"""Subjects that are no strategies: what strategies are measured against."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One subject at one point in one round: values, or the reason of the failure."""

    scenario: str
    subject: str
    point: Point
    round: int
    values: Mapping[str, float] = field(default_factory=dict)
    failed: str | None = None
    busy_elsewhere: float = 0.0


@dataclass(frozen=True, eq=False)
class Results:
    """The results of one run."""

    run: Mapping[str, Any]
    measurements: Sequence[Measurement]

    @cached_property
    def _rounds(self) -> Mapping[tuple[str, str, Point, str], Rounds]:
        found: dict[tuple[str, str, Point, str], dict[int, float]] = {}
        for each in self.measurements:
            for name, value in each.values.items():
                found.setdefault((each.scenario, each.subject, each.point, name), {})[each.round] = value
        return found

    @cached_property
    def _by_scenario(self) -> Mapping[str, Sequence[Measurement]]:
        found: dict[str, list[Measurement]] = {}
        for each in self.measurements:
            found.setdefault(each.scenario, []).append(each)
        return found

    def rounds(self, scenario: str, subject: str, point: Point, value: str) -> Rounds:
        """A value of a subject at a point, by round; empty if it was not measured."""
        return self._rounds.get((scenario, subject, point, value), {})

    @property
    def application(self) -> str | None:
        """The application whose tables were measured; None for the built-in nouns."""
        name: str | None = (self.run.get("application") or {}).get("name")
        return name

    @property
    def scenarios(self) -> Sequence[str]:
        return list(self._by_scenario)

    def of(self, scenario: str) -> Sequence[Measurement]:
        """The measurements of a scenario."""
        return self._by_scenario.get(scenario, [])

    def subjects(self, scenario: str | None = None) -> Sequence[str]:
        """The subjects of one scenario or of all: strategies first, then baselines."""
        found = _distinct(each.subject for each in (self.measurements if scenario is None else self.of(scenario)))
        return sorted(found, key=lambda name: (name in BASELINES, _rank(name), found.index(name)))

    def points(self, scenario: str) -> Sequence[Point]:
        """All points of a scenario, including those at which every measurement failed."""
        return _distinct(each.point for each in self.of(scenario))

    def values(self, scenario: str) -> Sequence[str]:
        return _distinct(name for each in self.of(scenario) for name in each.values)

    def failures(self, scenario: str) -> Mapping[tuple[str, Point], str]:
        """The reasons for missing values, for each subject and point at which no round succeeded."""
        measured = {(each.subject, each.point) for each in self.of(scenario) if each.values}
        return {
            (each.subject, each.point): each.failed
            for each in self.of(scenario)
            if each.failed is not None and (each.subject, each.point) not in measured
        }


def read(path: Path) -> Results:
    """Read a results file. If a measurement occurs twice, the later one counts.

    Ignores an incomplete last line after an interruption. Raises OperatorError for any other kind of file.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"{path}: expected a file of results that can be read ({error})") from error
    runs: list[Mapping[str, Any]] = []
    found: dict[tuple[str, str, Point, int], Measurement] = {}
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            if "run" in entry:
                runs.append(entry["run"])
                continue
            measurement = _measurement(entry)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            if number == len(lines):
                break
            raise OperatorError(f"{path}, line {number}: expected a measurement of isola bench ({error})") from error
        found[measurement.scenario, measurement.subject, measurement.point, measurement.round] = measurement
    if not runs:
        raise OperatorError(f"{path}: expected results of isola bench, whose first line describes the run")
    # A resumed run may add another description: the first one has the original start time.
    return Results(runs[0], list(found.values()))


def newest(directory: Path = KEPT) -> Path:
    """The results file in ``directory`` whose run began last.

    Raises OperatorError with instructions when there is none.
    """
    found = {path: str(read(path).run.get("started", "")) for path in sorted(directory.glob("*.jsonl"))}
    if not found:
        raise OperatorError(
            f"no results in {directory}: make some with isola bench, or name a file of them (--results)"
        )
    return max(found, key=found.__getitem__)


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    values = {name: float(value) for name, value in (entry.get("values") or {}).items()}
    return Measurement(
        entry["scenario"],
        entry["subject"],
        tuple(entry["point"].items()),
        int(entry["round"]),
        values,
        entry.get("failed"),
        float(entry.get("busy_elsewhere") or 0),
    )


def strategies(results: Results, scenario: str | None = None) -> Sequence[str]:
    """The subjects that are strategies, without baselines."""
    return [name for name in results.subjects(scenario) if name not in BASELINES]


def _rank(name: str) -> int:
    known = ("rls", "schema", *BASELINES)
    return known.index(name) if name in known else known.index("none")


def _distinct(found: Iterable[T]) -> list[T]:
    return list(dict.fromkeys(found))
