"""One tenant with ten times its share of load: the latency of the others without it, and with it.

Each other tenant has one client that sends at a constant rate; latency counts from the due time of a request. The
greedy tenant has ten clients in a closed loop. There are fewer connections than clients.
"""

import asyncio
from collections.abc import Mapping, Sequence

from isola.lab.asking import latencies, load, requests
from isola.lab.laboratory import Laboratory
from isola.lab.peers.load import Job, Measured
from isola.lab.population import Resident
from isola.lab.scenario import Point
from isola.lab.serving import Served
from isola.lab.workload import Workload

MODEST = 8
GREED = 10
MODEST_PER_S = 25.0
"""Requests a second of each modest tenant."""
WARMING_SECONDS = 1.5
AHEAD_SECONDS = 0.5
"""By how much the greedy tenant begins earlier and ends later."""


class Neighbour(Workload):
    name = "neighbour"
    question = "How does a tenant at ten times its share of requests affect the others?"
    notes = (
        (
            "Under both strategies, tenants take turns for the server's connections: that is the product's pool and "
            "has nothing to do with where rows are. The hand-written function gives connections to whoever asks "
            "first."
        ),
    )

    def __init__(self) -> None:
        self._warm: set[int] = set()

    def expected_seconds(self, point: Point) -> float:  # noqa: ARG002  the load takes as long everywhere
        return 2 * self._seconds + 2 * AHEAD_SECONDS + 1.0

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        population = await laboratory.populated(self.size(point, subject))
        served = await laboratory.server(population, subject, connections=point.number("connections"))
        modest, greedy = population.residents[:MODEST], population.residents[MODEST]
        with laboratory.pinned():
            if served.server.port not in self._warm:
                await self._modest(laboratory, served, point, modest, WARMING_SECONDS)
                await self._greedy(laboratory, served, point, greedy, WARMING_SECONDS)
                self._warm.add(served.server.port)
            alone = await self._modest(laboratory, served, point, modest, self._seconds)
            greed = asyncio.create_task(
                self._greedy(laboratory, served, point, greedy, self._seconds + 2 * AHEAD_SECONDS)
            )
            try:
                await asyncio.sleep(AHEAD_SECONDS)
                beside = await self._modest(laboratory, served, point, modest, self._seconds)
            finally:
                taken = await greed
        return {
            **{f"alone_{name}": value for name, value in latencies(alone.latencies).items()},
            **{f"beside_{name}": value for name, value in latencies(beside.latencies).items()},
            "greedy_throughput_per_s": len(taken.latencies) / taken.seconds,
        }

    async def _modest(
        self, laboratory: Laboratory, served: Served, point: Point, residents: Sequence[Resident], seconds: float
    ) -> Measured:
        asked = requests(served, laboratory.operations[point.text("operation")], residents, laboratory.seed)
        return await load(served, Job(served.server.port, MODEST, seconds, asked, MODEST * MODEST_PER_S))

    async def _greedy(
        self, laboratory: Laboratory, served: Served, point: Point, resident: Resident, seconds: float
    ) -> Measured:
        asked = requests(served, laboratory.operations[point.text("operation")], [resident], laboratory.seed)
        return await load(served, Job(served.server.port, GREED, seconds, asked))
