"""Reads over HTTP in a closed loop: each connection sends its next request after the answer to the previous one."""

from collections.abc import Mapping

from isola.lab.asking import Answers, answers, load, requests, sampled
from isola.lab.laboratory import Laboratory
from isola.lab.peers.load import Job
from isola.lab.scenario import Point
from isola.lab.serving import BASELINES
from isola.lab.workload import Workload

WARMING_SECONDS = 8.0
"""At most. Every connection is to have met every tenant, as after some hours of service."""


class Read(Workload):
    name = "read"
    baselines = BASELINES
    question = "How fast are reads?"
    notes = (
        (
            "Both strategies run the same server and the same compiled statements. Isola looks tenants and users up "
            "in its directory and remembers them; the hand-written function and PostGraphile take both from the "
            "token."
        ),
        (
            "`none` is a hand-written function with one statement for each operation, on shared tables whose policies "
            "were taken away: no GraphQL, no isolation but its own WHERE. PostGraphile runs on the tables of `rls`."
        ),
        (
            "Under `schema`, each tenant has its own prepared statements, on the connections that know it. A "
            "connection plans a statement for a tenant six times before it keeps the plan."
        ),
    )

    def __init__(self) -> None:
        self._warm: set[tuple[int, Point]] = set()
        self._answers = Answers()

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  as every other
        population = await laboratory.populated(self.size(point, subject))
        served = await laboratory.server(population, subject, connections=point.number("connections"))
        asked = requests(served, laboratory.operations[point.text("operation")], population.residents, laboratory.seed)
        with laboratory.pinned():
            if (served.server.port, point) not in self._warm:
                self._answers.compare(point, subject, answers(served, asked))
                await load(served, Job(served.server.port, point.number("connections"), self._warming(point), asked))
                self._warm.add((served.server.port, point))
            return await sampled(
                laboratory, served, Job(served.server.port, point.number("connections"), self._seconds, asked)
            )

    def _warming(self, point: Point) -> float:
        return min(WARMING_SECONDS, 0.5 + point.number("tenants") * point.number("connections") / 1000)
