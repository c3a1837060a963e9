"""The CPU cost of reads of a declared subject, relative to the same reads of resources: server and PostgreSQL.

``python -m benchmarks.declared`` from the checkout. Both have the same columns, rows and documents; measurements
alternate. The ratio is that of the subject to resources, over the rounds, with its 95 % interval.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from rich.console import Console
from rich.table import Table
from sqlalchemy import MetaData

from benchmarks.things import HISTORY, Thing
from isola.database import embedded
from isola.lab import cluster, machine
from isola.lab.asking import answers, load, requests, sampled
from isola.lab.command import POSTGRESQL
from isola.lab.laboratory import Laboratory
from isola.lab.operations import Operation, usual
from isola.lab.peers.load import Job
from isola.lab.population import Population, Resident
from isola.lab.report.statistics import paired
from isola.lab.scenario import strategies
from isola.lab.serving import Served
from isola.subjects.resources import Resource

TENANTS, ROWS, CONNECTIONS = 10, 200, 4
ROUNDS, SECONDS, WARMING_SECONDS = 15, 1.5, 3.0
LIKE = {"Resource": "one by its id", "Resources": "a list of 50 with owners", "SearchResources": "a filtered page"}


async def copied(population: Population) -> Sequence[Resident]:
    """Copy all things, with their keys, to resources. Returns the residents with the ids."""
    strategy = population.place.strategies[population.size.strategy]
    names = ", ".join(strategy.shape(Thing.table, MetaData()).columns.keys())
    connection = await asyncpg.connect(population.place.address)
    try:
        for home in strategy.homes([each.tenant.id for each in population.residents]):
            await connection.execute(
                f"ALTER TABLE {home.schema}.resources DISABLE TRIGGER USER;"
                f"INSERT INTO {home.schema}.resources ({names}) SELECT {names} FROM {home.schema}.things;"
                f"ALTER TABLE {home.schema}.resources ENABLE TRIGGER USER"
            )
        await connection.execute("VACUUM (ANALYZE, FREEZE)")
    finally:
        await connection.close()
    return [replace(each, keys={**each.keys, "resource": each.keys["thing"]}) for each in population.residents]


def compared_requests(served: Served, residents: Sequence[Resident]) -> Mapping[str, Mapping[str, list[str]]]:
    """The requests for each subject, by operation. Raises ValueError if their answers differ."""
    operations = {subject.declaration.name: usual(subject).operations for subject in (Resource, Thing)}
    found = {}
    for like, what in LIKE.items():
        both = {name: each[like] for name, each in operations.items()}
        said = {_answer(served, each, residents[0]) for each in both.values()}
        if len(said) > 1:
            raise ValueError(f"{what}: the answers differ, so nothing can be compared")
        found[like] = {name: requests(served, each, residents, 1) for name, each in both.items()}
    return found


def _answer(served: Served, operation: Operation, resident: Resident) -> str:
    """The answer, without the name of the subject."""
    text = json.dumps(answers(served, [served.request(operation, resident, 0)]), default=str)
    return text.replace("thing", "resource").replace("thi_", "")


async def measured(
    laboratory: Laboratory, strategy: str, rounds: int
) -> Mapping[str, Mapping[str, Mapping[int, float]]]:
    """Milliseconds of CPU per request, server and PostgreSQL together, by operation, subject and round."""
    population = await laboratory.population(strategy=strategy, tenants=TENANTS, rows=ROWS, application="things")
    residents = await copied(population)
    served = await laboratory.server(population, strategy, connections=CONNECTIONS)
    port = served.server.port
    every = compared_requests(served, residents)
    found: dict[str, dict[str, dict[int, float]]] = {like: {name: {} for name in both} for like, both in every.items()}
    with laboratory.pinned():
        for both in every.values():
            for one in both.values():
                await load(served, Job(port, CONNECTIONS, WARMING_SECONDS, one))
        for number in range(rounds):
            for like, both in every.items():
                for name in sorted(both, reverse=bool(number % 2)):
                    values = await sampled(laboratory, served, Job(port, CONNECTIONS, SECONDS, both[name]))
                    found[like][name][number] = values["server_cpu_ms"] + values["postgresql_cpu_ms"]
    laboratory.rest()
    return found


async def run(address: str, directory: Path, rounds: int) -> None:
    table = Table("strategy", "read", "ms of CPU, resources", "ms of CPU, declared", "ratio", "95 %", box=None)
    async with cluster.entered(address, lasting=False) as ground:
        postgresql = await machine.postmaster(ground.maintenance)
        async with Laboratory(ground, directory=directory, seed=1, postgresql=postgresql) as laboratory:
            for strategy in strategies():
                for like, by_name in (await measured(laboratory, strategy, rounds)).items():
                    ratio = paired(by_name["thing"], by_name["resource"])
                    if ratio is not None:
                        medians = [f"{statistics.median(by_name[name].values()):.3f}" for name in ("resource", "thing")]
                        interval = f"{ratio.low:.3f} to {ratio.high:.3f}"
                        table.add_row(strategy, LIKE[like], *medians, f"{ratio.value:.3f}", interval)
    Console(width=140).print(table)


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    rounds = arguments.parse_args().rounds
    with TemporaryDirectory(prefix="isola-benchmark-") as held:
        if HISTORY not in os.environ:
            # Applications are loaded when a process starts.
            given = {**os.environ, "ISOLA_APPLICATIONS": "benchmarks.things:application", HISTORY: held}
            isola = Path(sys.executable).with_name("isola")
            subprocess.run([isola, "revision", "--application", "things", "-m", "Things"], check=True, env=given)
            subprocess.run([sys.executable, *sys.orig_argv[1:]], check=True, env=given)
            return
        with embedded.running(Path(held) / "postgresql", POSTGRESQL) as address:
            asyncio.run(run(address, Path(held), rounds))


if __name__ == "__main__":
    main()
