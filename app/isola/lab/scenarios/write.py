"""Writes over HTTP in a closed loop: create a row and read it back, and update a row."""

from collections.abc import Mapping

from isola.lab.asking import load, requests, sampled
from isola.lab.laboratory import Laboratory
from isola.lab.peers.load import Job
from isola.lab.scenario import Point
from isola.lab.workload import Workload

WARMING_SECONDS = 1.5


class Write(Workload):
    name = "write"
    baselines = ()
    changes = True
    question = "How fast are writes?"
    notes = (
        (
            "Each write is a transaction of its own, with its entries in the log of changes, and commits are durable: "
            "by our design, and equally for all strategies."
        ),
        "Rows are made in populations that nothing else reads. They grow meanwhile, under each strategy by itself.",
    )

    def __init__(self) -> None:
        self._warm: set[tuple[int, Point]] = set()

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(self.size(point, subject))
        connections = point.number("connections")
        served = await laboratory.server(population, subject, connections=connections)
        asked = requests(
            served, laboratory.operations[point.text("operation")], population.residents, laboratory.seed + round
        )
        port = served.server.port
        with laboratory.pinned():
            if (port, point) not in self._warm:
                await load(served, Job(port, connections, WARMING_SECONDS, asked))
                self._warm.add((port, point))
            return await sampled(laboratory, served, Job(port, connections, self._seconds, asked))
