"""Reads over HTTP in an open loop: requests are due at fixed times, and late ones count from when they were due.

That is what callers wait for. A closed loop asks less of a server that is slow, and never sees how long the requests
would have waited that it did not send ("coordinated omission", as Gil Tene calls it).
"""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.lab.asking import READS, load, requests, sampled
from benchmarks.lab.laboratory import Laboratory
from benchmarks.lab.population import WITHOUT, Size
from benchmarks.lab.scenario import Needs, Point, Profile, strategies
from benchmarks.lab.scenarios.read import BACKEND_BYTES, SERVERS_BYTES, WARMING_SECONDS
from benchmarks.peers.load import Job


class Rate:
    name = "rate"
    question = "How long do callers wait at a steady rate of requests?"
    notes = (
        (
            "The rate is the same for all subjects, so that latencies compare. One that cannot keep up falls behind "
            "further and further: its latencies then say only that."
        ),
    )

    def __init__(self) -> None:
        self._warm: set[int] = set()
        self._seconds = 1.0

    def points(self, profile: Profile) -> Iterable[Point]:
        self._seconds = profile.seconds(self.name)
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return [*strategies(), WITHOUT]

    def needs(self, point: Point) -> Needs:
        connections = point.number("connections") * len(self.subjects(point))
        return Needs(
            connections=connections,
            memory_bytes=SERVERS_BYTES + connections * BACKEND_BYTES,
            populations=tuple(_size(point, subject) for subject in self.subjects(point)),
        )

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the load takes as long everywhere
        return self._seconds + 1.0

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        population = await laboratory.populated(_size(point, subject))
        connections = point.number("connections")
        served = await laboratory.server(population, subject, connections=connections)
        asked = requests(served, READS[point.text("operation")], population.residents, laboratory.seed)
        port = served.server.port
        with laboratory.pinned():
            if port not in self._warm:
                await load(served, Job(port, connections, WARMING_SECONDS / 2, asked))
                self._warm.add(port)
            return await sampled(
                laboratory, served, Job(port, connections, self._seconds, asked, float(point.number("rate_per_s")))
            )


def _size(point: Point, subject: str) -> Size:
    return Size(subject, point.number("tenants"), point.number("rows"), point.text("skew"), point.number("tables"))
