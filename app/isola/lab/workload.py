"""The common part of scenarios that load a server of each subject over HTTP."""

from collections.abc import Iterable, Sequence

from isola.lab.population import WITHOUT, Size
from isola.lab.scenario import APPLICATION, Needs, Point, Profile, sized, strategies
from isola.lab.serving import placement

SERVERS_BYTES = 300 << 20
BACKEND_BYTES = 20 << 20


class Workload:
    """A ``Scenario`` without its question and measurements."""

    name: str
    baselines: Sequence[str] = (WITHOUT,)
    """Subjects beside the strategies, of the nouns that ship: nobody else has an application's tables."""
    changes = False
    """Whether rows are changed: then in populations that no other scenario reads."""
    _seconds = 1.0

    def points(self, profile: Profile) -> Iterable[Point]:
        self._seconds = profile.seconds(self.name)
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:
        return [*strategies(), *(() if APPLICATION in dict(point.dimensions) else self.baselines)]

    def connections(self, point: Point) -> int:
        """The maximum open at once. The servers of all subjects run at the same time."""
        return point.number("connections") * len(self.subjects(point))

    def needs(self, point: Point) -> Needs:
        connections = self.connections(point)
        return Needs(
            connections=connections,
            memory_bytes=SERVERS_BYTES + connections * BACKEND_BYTES,
            populations=tuple(dict.fromkeys(self.size(point, subject) for subject in self.subjects(point))),
        )

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the load takes as long everywhere
        return self._seconds + 1.0

    def size(self, point: Point, subject: str) -> Size:
        """The population for a subject."""
        return sized(point, placement(subject), is_changed=self.changes)
