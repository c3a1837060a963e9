"""The cost of idempotency keys: CPU of server and PostgreSQL for a create with a key, against one without.

``python -m benchmarks.idempotency`` from the checkout. One client creates resources over HTTP in tenants by turns, with
a new key for each, and without one in as many other tenants: so connections keep as many statements for either, as they
do for clients that always send keys. Rounds of both alternate; the ratio is the median over the rounds. CPU is that of
the server's process and of all of PostgreSQL's, as Linux counts it. A repeated request is measured in the same way.

Exit status 1 if a bar is missed.
"""

import asyncio
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import uuid4

import asyncpg
import httpx
import psutil
import typer

from benchmarks.figures import Figure, show
from benchmarks.large import STRATEGIES
from benchmarks.many import place_of, populated, residents
from isola.lab import machine
from isola.lab.peers.processes import ISOLA, Cores, free_port, started
from isola.lab.serving import Served, environment

CREATE = """
mutation CreateResource($input: CreateResourceInput!) {
  createResource(input: $input) { resource { id name kind sizeBytes createdAt owner { id name } } }
}
"""
WITHOUT, WITH, AGAIN = "without a key", "with a new key", "repeated"
TENANTS, RESOURCES, SPANS, CONNECTIONS = 40, 20, 20, 10
EACH, WARMING = 10, 40
"""Requests of a round: few, so that what else the machine does affects those that are compared alike. Rounds."""
BAR = 1.05


class Spent:
    """CPU of the server and of PostgreSQL, in microseconds."""

    def __init__(self, server: psutil.Process, postmaster: psutil.Process) -> None:
        self._server = server
        self._postmaster = postmaster

    def now(self) -> tuple[float, float]:
        database = [self._postmaster, *self._postmaster.children(recursive=True)]
        return _cpu(self._server), sum(map(_cpu, database))


def _cpu(process: psutil.Process) -> float:
    """What Linux has counted for all threads. It counts nanoseconds; other figures of it are in ticks of 10 ms."""
    threads = Path(f"/proc/{process.pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text(encoding="ascii").split()[0]) for each in threads) / 1e3


async def create(http: httpx.AsyncClient, tokens: Sequence[str], way: str, keys: list[str]) -> None:
    """Send a request for each token. ``keys`` are those of the last round with a key."""
    kept, keys[:] = [*keys], []
    for number, token in enumerate(tokens):
        headers = {"authorization": f"Bearer {token}"}
        if way != WITHOUT:
            keys.append(kept[number] if way == AGAIN else str(uuid4()))
            headers["idempotency-key"] = keys[-1]
        body = {"query": CREATE, "variables": {"input": {"name": f"one more {number}", "sizeBytes": number}}}
        answer = await http.post("/graphql", json=body, headers=headers)
        if "errors" in answer.json() or ("idempotency-replayed" in answer.headers) != (way == AGAIN):
            raise RuntimeError(f"{way}: {answer.text}")


async def measure(address: str, directory: Path, strategy: str, rounds: int) -> list[Figure]:
    every = await residents(place_of(address))
    secret, port = token_hex(32), free_port()
    given = environment(place_of(address), directory, secret, port, CONNECTIONS)
    connection = await asyncpg.connect(address)
    postmaster = await machine.postmaster(connection)
    if postmaster is None:
        raise RuntimeError("PostgreSQL does not run on this machine")
    took: dict[str, list[tuple[float, float]]] = defaultdict(list)
    base = f"http://127.0.0.1:{port}"
    with started(ISOLA, given, port, directory / "server.log", Cores.split(pinned=False), directory) as server:
        served = Served(server, secret, "editor")
        tokens = [served.token(resident) for resident in every]
        spent = Spent(psutil.Process(server.process.pid), postmaster)
        async with httpx.AsyncClient(base_url=base, timeout=60, trust_env=False) as http:
            keys: list[str] = []
            for turn in range(rounds + WARMING):
                # A repeated request needs a first one; with and without a key go first by turns.
                for way in (WITHOUT, WITH, AGAIN) if turn % 2 else (WITH, AGAIN, WITHOUT):
                    of_way = tokens[way == WITHOUT :: 2]
                    first = turn * EACH % len(of_way)
                    before = spent.now()
                    await create(http, of_way[first : first + EACH], way, keys)
                    after = spent.now()
                    if turn >= WARMING:
                        took[way].append(((after[0] - before[0]) / EACH, (after[1] - before[1]) / EACH))
    await connection.close()
    figures = []
    for way, each in took.items():
        server_us, database_us = (statistics.median(part) for part in zip(*each, strict=True))
        figures += [
            Figure(f"{strategy}: {way}, server", server_us, "µs"),
            Figure(f"{strategy}: {way}, PostgreSQL", database_us, "µs"),
        ]
    totals = {way: [sum(each) for each in took[way]] for way in took}
    for way, bar in ((WITH, BAR), (AGAIN, None)):
        ratios = [one / other for one, other in zip(totals[way], totals[WITHOUT], strict=True)]
        figures.append(Figure(f"{strategy}: {way}, against one without", statistics.median(ratios), "", bar))
    return figures


def main(*, rounds: Annotated[int, typer.Option(min=2, help="rounds of each kind of request")] = 160) -> None:
    """Create resources with and without keys, and measure."""
    figures = []
    for strategy in STRATEGIES:
        with TemporaryDirectory() as directory, populated(strategy, TENANTS, RESOURCES, SPANS) as address:
            figures += asyncio.run(measure(address, Path(directory), strategy, rounds))
    show(figures, f"creates in {TENANTS} tenants by turns")
    sys.exit(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    typer.run(main)
