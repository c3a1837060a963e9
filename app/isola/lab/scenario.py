"""What is measured: the vocabulary that scenarios, the runner and the profiles share."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Protocol

from isola.lab.laboratory import Laboratory
from isola.lab.population import OWN_TABLES, Size
from isola.subjects.applications import BUILT_IN
from isola_strategies import registry

Value = str | int

APPLICATION = "application"
"""The dimension of points that are about the tables of an application, rather than about the nouns that ship."""


@dataclass(frozen=True, slots=True)
class Point:
    """What a measurement is about, subject and round apart: dimensions with their values, in the profile's order."""

    dimensions: tuple[tuple[str, Value], ...]

    def __getitem__(self, dimension: str) -> Value:
        """Raises KeyError for a dimension that this point does not have."""
        return dict(self.dimensions)[dimension]

    def number(self, dimension: str) -> int:
        """The value of a dimension that is counted. Raises KeyError as above."""
        return int(self[dimension])

    def text(self, dimension: str) -> str:
        """The value of a dimension that is named. Raises KeyError as above."""
        return str(self[dimension])


def sized(point: Point, strategy: str, *, is_changed: bool = False) -> Size:
    """The population that a point is about, of a strategy's homes."""
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


@dataclass(frozen=True, slots=True)
class Needs:
    """What measuring at a point takes of the machine and the server, so that a run can be refused before it begins.

    ``populations`` are those that will be asked of the laboratory: their disk is counted by the harness, once however
    many points share them, and they are kept until the last point that names them. ``disk_bytes`` is what is needed
    besides, ``connections`` the most that are open at once, ``memory_bytes`` what their backends are expected to hold.
    """

    disk_bytes: int = 0
    connections: int = 0
    memory_bytes: int = 0
    populations: tuple[Size, ...] = ()


@dataclass(frozen=True, slots=True)
class Grid:
    """The points of all combinations of some values, and how often each is measured."""

    rounds: int
    values: Mapping[str, tuple[Value, ...]]

    def points(self) -> Sequence[Point]:
        return [Point(tuple(zip(self.values, at, strict=True))) for at in product(*self.values.values())]


@dataclass(frozen=True, slots=True)
class Profile:
    """A choice of what to measure, read from profiles.toml. A scenario that has no part in it is not run."""

    name: str
    parts: Mapping[str, Sequence[Grid]]
    lasting: Mapping[str, float]

    def points(self, scenario: str) -> Sequence[Point]:
        """The points of a scenario's grids, each once. Raises KeyError for a scenario that has no part here."""
        return list(self._rounds(scenario))

    def rounds(self, scenario: str, point: Point) -> int:
        """How often a point is measured, once in each round. Raises KeyError as above."""
        return self._rounds(scenario)[point]

    def seconds(self, scenario: str) -> float:
        """How long one measurement under load lasts. Raises KeyError as above."""
        return self.lasting[scenario]

    def _rounds(self, scenario: str) -> Mapping[Point, int]:
        found: dict[Point, int] = {}
        for grid in self.parts[scenario]:
            for point in grid.points():
                found.setdefault(point, grid.rounds)
        return found


class Scenario(Protocol):
    """One question, and how it is put to each subject. A module of ``isola.lab.scenarios`` has one class of it.

    A fresh object serves one run, so it may keep what its measurements share.
    """

    name: str
    """As in the results and in profiles.toml: ``read``."""
    question: str
    """A heading of the report: "How fast are reads?"."""

    @property
    def notes(self) -> Sequence[str]:
        """For the report: what makes one subject look better or worse by our design rather than by its nature."""
        ...

    def points(self, profile: Profile) -> Iterable[Point]:
        """What to measure in this profile; mostly ``profile.points(self.name)``."""
        ...

    def subjects(self, point: Point) -> Sequence[str]:
        """What is compared at a point, in any order: the runner alternates it by round."""
        ...

    def needs(self, point: Point) -> Needs:
        """What is refused before the run if it is not there."""
        ...

    def expected_seconds(self, point: Point) -> float:
        """Of one measurement of one subject at a point, preparation apart: for the time left."""
        ...

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        """The values, each with its unit as the ending of its name.

        Raises ``OperatorError`` with the reason for what cannot be measured: that becomes the line's ``failed``.
        """
        ...


@cache
def strategies() -> Sequence[str]:
    """The names of the strategies that are installed: subjects of most scenarios."""
    return sorted(registry.load("isola_tenant"))
