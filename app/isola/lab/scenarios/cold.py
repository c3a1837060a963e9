"""The first request of a tenant that is in no cache of the server and its connections, compared with a later one."""

from collections.abc import Mapping, Sequence

from isola.lab.asking import latencies, load
from isola.lab.laboratory import Laboratory
from isola.lab.operations import Operation
from isola.lab.peers.load import Job
from isola.lab.population import Resident
from isola.lab.scenario import Point
from isola.lab.serving import Served
from isola.lab.workload import Workload

KNOWN = 20
"""Tenants that are met first: code is loaded by then, and statements are prepared."""
KNOWN_TIMES = 10
MET = 200
"""Tenants, at most, whose first requests are measured. Each is asked one thing by one connection, in turn."""
PATIENCE_SECONDS = 60.0


class Cold(Workload):
    name = "cold"
    question = "What does the first request of a tenant cost?"
    notes = (
        (
            "The first request includes what Isola itself has to look up: the tenant, and how the user stands there. "
            "The hand-written function looks nothing up."
        ),
        (
            "Pages are in PostgreSQL's memory already: this is the cost of new connections and of a server that was "
            "just started, not of a cold disk."
        ),
    )

    def connections(self, point: Point) -> int:  # noqa: ARG002  one server at a time, with one
        return 1

    def expected_seconds(self, point: Point) -> float:
        return 3.5 + min(MET, point.number("tenants")) * 0.02

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(self.size(point, subject))
        operation = laboratory.operations[point.text("operation")]
        # Other tenants in each round, so that caches from an earlier round do not make a first request warm.
        residents = population.residents
        start = KNOWN + round * MET % max(1, len(residents) - KNOWN - MET + 1)
        known, met = residents[:KNOWN], residents[start : start + MET]
        # One connection to the database, because each connection has its own caches.
        async with laboratory.fresh_server(population, subject, connections=1) as served:
            with laboratory.pinned():
                await self._asked(served, operation, known, KNOWN_TIMES)
                cold = await self._asked(served, operation, met, 1)
                warm = await self._asked(served, operation, met, 1)
        return {
            **{f"cold_{name}": value for name, value in latencies(cold).items()},
            **{f"warm_{name}": value for name, value in latencies(warm).items()},
        }

    async def _asked(
        self, served: Served, operation: Operation, residents: Sequence[Resident], times: int
    ) -> Sequence[float]:
        asked = [served.request(operation, resident, 0) for resident in residents]
        return (await load(served, Job(served.server.port, 1, PATIENCE_SECONDS, asked * times, once=True))).latencies
