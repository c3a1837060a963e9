"""Reads over HTTP in an open loop: requests are due at fixed times, and latency counts from the due time.

That is the latency of callers. A closed loop sends fewer requests to a slow server, and so misses the waiting time of
the requests that it did not send ("coordinated omission", as Gil Tene calls it).
"""

from collections.abc import Mapping

from isola.lab.asking import load, requests, sampled
from isola.lab.laboratory import Laboratory
from isola.lab.peers.load import Job
from isola.lab.scenario import Point
from isola.lab.workload import Workload

WARMING_SECONDS = 4.0


class Rate(Workload):
    name = "rate"
    question = "What are the latencies at a steady rate of requests?"
    notes = (
        (
            "The rate is the same for all subjects, so that latencies compare. One that cannot keep up falls "
            "further and further behind: its latencies then show only that."
        ),
    )

    def __init__(self) -> None:
        self._warm: set[int] = set()

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        population = await laboratory.populated(self.size(point, subject))
        connections = point.number("connections")
        served = await laboratory.server(population, subject, connections=connections)
        asked = requests(served, laboratory.operations[point.text("operation")], population.residents, laboratory.seed)
        port = served.server.port
        with laboratory.pinned():
            if port not in self._warm:
                await load(served, Job(port, connections, WARMING_SECONDS, asked))
                self._warm.add(port)
            return await sampled(
                laboratory, served, Job(port, connections, self._seconds, asked, float(point.number("rate_per_s")))
            )
