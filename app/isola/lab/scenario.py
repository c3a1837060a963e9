"""The types that scenarios, the runner and the profiles share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Protocol

from isola.lab.laboratory import Laboratory
from isola.lab.population import DATABASES, MOST_DATABASES, OWN_TABLES, SHARED, Size
from isola.subjects.applications import BUILT_IN
from isola_strategies import registry

Value = str | int

APPLICATION = "application"
"""The dimension of points that are about the tables of an application, rather than about the nouns that ship."""


@dataclass(frozen=True, slots=True)
class Point:
    """The parameters of a measurement, except subject and round: dimensions with values, in the profile's order."""

    dimensions: tuple[tuple[str, Value], ...]

    def __getitem__(self, dimension: str) -> Value:
        """Raises KeyError for a dimension that this point does not have."""
        return dict(self.dimensions)[dimension]

    def number(self, dimension: str) -> int:
        """The value of a numeric dimension. Raises KeyError as above."""
        return int(self[dimension])

    def text(self, dimension: str) -> str:
        """The value of a dimension that has names as values. Raises KeyError as above."""
        return str(self[dimension])


def sized(point: Point, strategy: str, *, is_changed: bool = False) -> Size:
    """The population of a point, under a strategy."""
    said = dict(point.dimensions)
    return Size(
        strategy,
        point.number("tenants"),
        point.number("rows"),
        str(said.get("skew", "even")),
        int(said.get("tables", OWN_TABLES)),
        str(said.get(APPLICATION, BUILT_IN)),
        is_changed,
    )


def one_database(point: Point) -> Size:
    """The population that a database for each tenant is copied from: one of the point's tenants."""
    return replace(sized(point, SHARED), tenants=1, skew="even")


def databases(point: Point) -> Sequence[str]:
    """The subject of a database for each tenant, where there may be so many of them."""
    few = point.number("tenants") <= MOST_DATABASES and APPLICATION not in dict(point.dimensions)
    return [DATABASES] if few else []


@dataclass(frozen=True, slots=True)
class Needs:
    """The resources that a measurement needs on the machine and the server, checked before a run begins.

    ``populations`` are those that the scenario requests from the laboratory: the harness counts their disk space once,
    even if several points share them, and keeps them until the last point that names them. ``disk_bytes`` is additional
    space, ``connections`` the maximum open at once, ``memory_bytes`` the expected memory of their backends.
    """

    disk_bytes: int = 0
    connections: int = 0
    memory_bytes: int = 0
    populations: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of all combinations of values, and the number of rounds for each."""

    rounds: int
    values: Mapping[str, tuple[Value, ...]]

    def points(self) -> Sequence[Point]:
        return [Point(tuple(zip(self.values, at, strict=True))) for at in product(*self.values.values())]


@dataclass(frozen=True, slots=True)
class Profile:
    """A selection of measurements, read from profiles.toml. Scenarios that it does not list are not run."""

    name: str
    parts: Mapping[str, Sequence[Grid]]
    lasting: Mapping[str, float]

    def points(self, scenario: str) -> Sequence[Point]:
        """The distinct points of a scenario's grids. Raises KeyError for a scenario that is not listed."""
        return list(self._rounds(scenario))

    def rounds(self, scenario: str, point: Point) -> int:
        """The number of rounds of a point. Raises KeyError as above."""
        return self._rounds(scenario)[point]

    def seconds(self, scenario: str) -> float:
        """The duration of one measurement under load. Raises KeyError as above."""
        return self.lasting[scenario]

    def _rounds(self, scenario: str) -> Mapping[Point, int]:
        found: dict[Point, int] = {}
        for grid in self.parts[scenario]:
            for point in grid.points():
                found.setdefault(point, grid.rounds)
        return found


class Scenario(Protocol):
    """One question, and its measurement for each subject. Each module of ``isola.lab.scenarios`` has one such class.

    Each run creates a new object, so the object may hold state that its measurements share.
    """

    name: str
    """As in the results and in profiles.toml: ``read``."""
    question: str
    """A heading of the report: "How fast are reads?"."""

    @property
    def notes(self) -> Sequence[str]:
        """For the report: effects of our design, not of a subject itself, that make it look better or worse."""
        ...

    def points(self, profile: Profile) -> Iterable[Point]:
        """What to measure in this profile; mostly ``profile.points(self.name)``."""
        ...

    def subjects(self, point: Point) -> Sequence[str]:
        """The subjects to compare at a point, in any order: the runner alternates them by round."""
        ...

    def needs(self, point: Point) -> Needs:
        """The required resources. Without them the run is rejected before it begins."""
        ...

    def expected_seconds(self, point: Point) -> float:
        """The duration of one measurement of a subject at a point, without preparation: for the remaining time."""
        ...

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        """The values. Each name ends with the unit.

        Raises ``OperatorError`` with the reason if a measurement is not possible; the record stores it as ``failed``.
        """
        ...


@cache
def strategies() -> Sequence[str]:
    """The names of the installed strategies: the subjects of most scenarios."""
    return sorted(registry.load("isola_tenant"))
