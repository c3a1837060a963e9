"""The cost of tenant proofs in transactions: the list of 50 over HTTP, with and without the check of the proof.

``python -m benchmarks.signing`` from the checkout. One server, with the data of ``make bench-peers``; requiring proofs
is switched on and off alternately, as with ``isola platform proofs``. The server creates proofs in both cases: that
costs two SHA-256 hashes, some 3 µs per request.

Exit status 1 if the bar is missed.
"""

import asyncio
import secrets
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import asyncpg
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from isola.database import embedded
from isola.errors import IsolaError
from isola.lab.peers import data, measure, operations, tokens
from isola.lab.peers.data import Size
from isola.lab.peers.load import Job
from isola.lab.peers.measure import Sample
from isola.lab.peers.operations import OPERATIONS
from isola.lab.peers.processes import PEERS, Cores, PostgreSQL, serving
from isola.platform.proofs import DEMANDED, TRUSTED

BAR = 0.05
LIST = "Resources"
STRATEGIES = {"rls": "isola", "schema": "isola-schema"}
err = Console(stderr=True)


def main(
    *,
    tenants: Annotated[int, typer.Option(min=2, help="number of tenants under each strategy")] = 200,
    rounds: Annotated[int, typer.Option(min=3)] = 15,
    seconds: Annotated[float, typer.Option(min=0.1, help="seconds of load for each form and round")] = 1.0,
    pin: Annotated[bool, typer.Option(help="reserve a core for the server")] = True,
    directory: Annotated[Path, typer.Option(help="directory in which the data is kept between runs")] = Path(
        ".isola/bench-peers"
    ),
) -> None:
    """Print both forms beside each other, and what the check takes of the throughput."""
    size, directory = Size(tenants), directory / str(tenants)
    cores = Cores.split(pinned=pin)
    cores.keep()
    table = Table(
        "", "requests/s", "believed", "less by", "server µs", "believed", "PostgreSQL µs", "believed", box=None
    )
    worst = 0.0
    with ExitStack() as held:
        data.discard_other(directory, size)
        address = held.enter_context(embedded.running(directory, data.POSTGRESQL))
        places = asyncio.run(data.fill(address, directory, size, err.print))
        held.callback(lambda: asyncio.run(_timed_query(address, DEMANDED)))
        secret = secrets.token_hex(32)
        for strategy, name in STRATEGIES.items():
            [peer] = [each for each in PEERS if each.name == name]
            [operation] = [each for each in OPERATIONS if each.name == LIST]
            minted = {each.tenant: tokens.mint(secret, each.tenant, each.user) for each in places[strategy]}
            with serving(peer, address, directory, secret, cores) as server:
                requests = operations.requests(operation, peer.dialect, places[strategy], minted, server.port)
                samples: dict[str, list[Sample]] = {DEMANDED: [], TRUSTED: []}
                for number in track(range(rounds + 1), strategy, console=err):
                    for form in (DEMANDED, TRUSTED) if number % 2 else (TRUSTED, DEMANDED):
                        asyncio.run(_timed_query(address, form))
                        # Warm-up: every connection plans its statements again, which must not be measured.
                        measure.load(Job(server.port, 8, 0.5 if number else 5.0, requests), server)
                        sample = measure.sample(server, PostgreSQL(directory), Job(server.port, 8, seconds, requests))
                        if number:
                            samples[form].append(sample)
                asyncio.run(_timed_query(address, DEMANDED))
            less = _less(samples[DEMANDED], samples[TRUSTED])
            worst = max(worst, statistics.median(less))
            table.add_row(strategy, *_row(samples[DEMANDED], samples[TRUSTED], less))
    Console(width=120).print(table)
    print(f"the check takes {worst:.1%} of the throughput at most: the bar is {BAR:.0%}")
    raise SystemExit(worst > BAR)


def _less(checked: Sequence[Sample], believed: Sequence[Sample]) -> list[float]:
    """The fraction of throughput lost to the check in each round."""
    return [1 - one.rate / other.rate for one, other in zip(checked, believed, strict=True)]


def _row(checked: Sequence[Sample], believed: Sequence[Sample], less: Sequence[float]) -> list[str]:
    low, _, high = statistics.quantiles(less, n=4)
    cells = [f"{statistics.median(each.rate for each in form):,.0f}" for form in (checked, believed)]
    cells.append(f"{statistics.median(less):.1%} (quartiles {low:.1%} to {high:.1%})")
    for side in ("server", "postgresql"):
        cells += [f"{statistics.median(getattr(each, side) for each in form):.0f}" for form in (checked, believed)]
    return cells


async def _timed_query(address: str, sql: str) -> str:
    connection = await asyncpg.connect(address)
    try:
        return str(await connection.fetchval(sql))
    finally:
        await connection.close()


if __name__ == "__main__":
    try:
        typer.run(main)
    except IsolaError as error:
        err.print(error.message, style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)
