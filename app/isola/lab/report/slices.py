"""Slices of a scenario's measurements: points that differ in one dimension only, which a line of a chart can join."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from isola.lab.report import units
from isola.lab.report.results import Point, Results
from isola.lab.report.statistics import Ratio, Summary, paired

TENANTS = "tenants"


@dataclass(frozen=True, slots=True)
class Slice:
    """Points along a dimension, by their size in it; ``rest`` has the dimensions that they share."""

    scenario: str
    dimension: str
    rest: Point
    points: Mapping[float, Point]

    @property
    def counted(self) -> Point:
        """The shared dimensions that are numeric."""
        return tuple(pair for pair in self.rest if isinstance(pair[1], int))

    def summaries(self, results: Results, subject: str, value: str) -> Mapping[float, Summary]:
        rounds = {size: results.rounds(self.scenario, subject, point, value) for size, point in self.points.items()}
        return {size: Summary.of(list(of.values())) for size, of in rounds.items() if of}


@lru_cache(maxsize=64)
def dimensions(results: Results, scenario: str) -> Mapping[str, Sequence[str | int]]:
    """The dimensions of a scenario, each with its distinct values."""
    found: dict[str, dict[str | int, None]] = {}
    for point in results.points(scenario):
        for name, value in point:
            found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}


def varied(results: Results, scenario: str) -> Sequence[str]:
    """The numeric dimensions with more than one value, the number of tenants first."""
    found = [
        name
        for name, values in dimensions(results, scenario).items()
        if len(values) > 1 and all(isinstance(value, int) for value in values)
    ]
    return sorted(found, key=lambda name: name != TENANTS)


def along(results: Results, scenario: str, dimension: str, regardless: Sequence[str] = ()) -> Sequence[Slice]:
    """All cuts along a dimension, those with the most points first.

    Dimensions in ``regardless`` are ignored: of points that differ only in them, the first is used.
    """
    groups: dict[Point, dict[float, Point]] = {}
    for point in results.points(scenario):
        size = dict(point).get(dimension)
        if isinstance(size, int):
            rest = tuple(pair for pair in point if pair[0] not in {dimension, *regardless})
            groups.setdefault(rest, {}).setdefault(size, point)
    found = [Slice(scenario, dimension, rest, points) for rest, points in groups.items()]
    return sorted(found, key=lambda each: -len(each.points))


def main_cut(results: Results, scenario: str, regardless: Sequence[str] = ()) -> Sequence[Slice]:
    """The cuts along the main dimension: the number of tenants, or else the first numeric dimension that varies.

    If no numeric dimension varies, each point is its own cut, along the number of tenants if it has one.
    """
    dimension = next(iter(varied(results, scenario)), TENANTS)
    found = along(results, scenario, dimension, regardless)
    return found or [Slice(scenario, "", point, {1.0: point}) for point in results.points(scenario)]


def label(results: Results, scenario: str, rest: Point) -> str:
    """How points differ from the others of their scenario: ``Resources, 8 connections``. Empty if they do not."""
    several = {name for name, values in dimensions(results, scenario).items() if len(values) > 1}
    return ", ".join(described(name, value) for name, value in rest if name in several)


def described(name: str, value: str | int) -> str:
    return value if isinstance(value, str) else f"{value:,} {units.dimension(name)}"


def alike(slices: Sequence[Slice], where: Mapping[str, str]) -> Sequence[Slice]:
    """The longest slice with the given named dimensions, and those with the same values in all numeric dimensions."""
    kept = [each for each in slices if all(dict(each.rest).get(name) == value for name, value in where.items())]
    if not kept:
        return []
    longest = kept[0]
    return [each for each in kept if len(each.points) == len(longest.points) and each.counted == longest.counted]


def better(results: Results, slices: Sequence[Slice], value: str, first: str, second: str) -> Mapping[float, Ratio]:
    """The factor by which the first subject is better than the second, by size: the geometric mean over the slices.

    Uses only slices that both subjects have, so that both have the same load.
    """
    found: dict[float, Ratio] = {}
    for size in sorted({size for each in slices for size in each.points}):
        points = [each.points[size] for each in slices if size in each.points]
        sides = [
            {point: results.rounds(slices[0].scenario, subject, point, value) for point in points}
            for subject in (first, second)
        ]
        common = [point for point in points if all(side[point] for side in sides)]
        means = [_mean_by_round([side[point] for point in common]) for side in sides]
        ratio = paired(*means)
        if ratio is not None:
            found[size] = ratio if units.more_is_better(value) else ratio.inverse
    return found


def _mean_by_round(values: Sequence[Mapping[int, float]]) -> Mapping[int, float]:
    rounds = set[int].intersection(*(set(each) for each in values)) if values else set[int]()
    return {
        each: math.exp(statistics.fmean(math.log(one[each]) for one in values))
        if all(one[each] > 0 for one in values)
        else 0
        for each in rounds
    }
