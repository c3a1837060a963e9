"""The cost of records of requests: CPU of server and PostgreSQL for each, against a server that records none.

``python -m benchmarks.recording`` from the checkout. Two servers on one database, of which one records; rounds of a
list of 50 go to both in turns. Requests of a round are sent some at a time, so that a batch has many records. CPU is
that of a server's process and, for the time of a round, of all of PostgreSQL; the figures are medians over the rounds.
Then a tenant's month is read, 24 hours of 30 days, among 10,000 tenants that have as much, stored hour by hour.

Exit status 1 if a bar is missed.
"""

import asyncio
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Annotated

import asyncpg
import httpx
import psutil
import typer

from benchmarks.figures import Figure, show
from benchmarks.idempotency import Spent
from benchmarks.many import place_of, populated, residents
from isola.database.transactions import Database
from isola.lab import machine
from isola.lab.peers.processes import ISOLA, Cores, free_port, started
from isola.lab.serving import Served, environment
from isola.platform import request_records

LIST = "query List { resources(first: 50) { nodes { id name kind owner { id name } } } }"
MONTH = 24 * 30
TENANTS, RESOURCES, SPANS, CONNECTIONS = 20, 60, 0, 10
EACH, AT_ONCE, WARMING = 600, 8, 4
BARS = {"requests": 1.03, "month": 10.0}
OTHERS = """
WITH made AS (
    INSERT INTO control.tenants (slug, name, strategy, home, role)
    SELECT 'measured-' || n, 'Measured', 'rls', 'rls', 'none' FROM generate_series(1, $1::int) n RETURNING id
)
INSERT INTO control.hourly_metrics
SELECT id, h, 100, 1, 10, 5, 5000, 500000, 900000
FROM made, generate_series($2::timestamptz, $2::timestamptz + interval '719 hours', interval '1 hour') h
ORDER BY h, id
"""
START = datetime(2026, 10, 1, tzinfo=UTC)


async def ask(http: httpx.AsyncClient, tokens: list[str]) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with gate:
            headers = {"authorization": f"Bearer {tokens[number % len(tokens)]}"}
            answer = await http.post("/graphql", json={"query": LIST}, headers=headers)
            if "errors" in answer.json():
                raise RuntimeError(answer.text)

    await asyncio.gather(*map(one, range(EACH)))


async def requests(address: str, directory: Path, rounds: int) -> Figure:
    """What a request costs with records, as a multiple of what it costs without."""
    every = await residents(place_of(address))
    secret = token_hex(32)
    connection = await asyncpg.connect(address)
    postmaster = await machine.postmaster(connection)
    if postmaster is None:
        raise RuntimeError("PostgreSQL does not run on this machine")
    took: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as servers:
        ways = {}
        for way, more in (("without", {}), ("with", {"ISOLA_REQUEST_RECORD_DAYS": "1"})):
            port = free_port()
            given = {**environment(place_of(address), directory, secret, port, CONNECTIONS), **more}
            cores = Cores.split(pinned=False)
            log = directory / f"{way}.log"
            server = servers.enter_context(started(ISOLA, given, port, log, cores, directory))
            ways[way] = port, Served(server, secret, "editor"), Spent(psutil.Process(server.process.pid), postmaster)
        for turn in range(rounds + WARMING):
            for way in ("without", "with") if turn % 2 else ("with", "without"):
                port, served, spent = ways[way]
                tokens = [served.token(resident) for resident in every]
                async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
                    before = spent.now()
                    await ask(http, tokens)
                    # What is recorded later belongs to this round.
                    await asyncio.sleep(0.8)
                    after = spent.now()
                if turn >= WARMING:
                    took[way].append(sum(after) - sum(before))
    await connection.close()
    medians = {way: statistics.median(each) / EACH for way, each in took.items()}
    print({way: round(each) for way, each in medians.items()}, "µs of CPU a request")
    return Figure(
        "a request with records, against one without", medians["with"] / medians["without"], "", BARS["requests"]
    )


async def month(address: str, tenants: int) -> Figure:
    """How long it takes to read a tenant's month, as the median of different tenants."""
    connection = await asyncpg.connect(address)
    await connection.execute(OTHERS, tenants, START, timeout=600)
    await connection.execute("VACUUM ANALYZE control.hourly_metrics", timeout=600)
    ids = [row["id"] for row in await connection.fetch("SELECT id FROM control.tenants WHERE slug LIKE 'measured-%'")]
    await connection.close()
    took = []
    async with await Database.open(address) as control:
        for tenant in ids[:: max(1, tenants // 200)]:
            began = perf_counter()
            found = await request_records.hours(control, tenant, START, START + timedelta(days=30))
            took.append((perf_counter() - began) * 1000)
            if len(found) != MONTH:
                raise RuntimeError(f"expected {MONTH} hours, not {len(found)}")
    return Figure(f"a tenant's month among {tenants:,}", statistics.median(took), "ms", BARS["month"])


def main(
    *,
    rounds: Annotated[int, typer.Option(min=2, help="rounds of each server")] = 40,
    tenants: Annotated[int, typer.Option(min=1, help="tenants with a month of metrics")] = 10_000,
) -> None:
    """Measure requests with and without records, and reading a month of metrics."""
    with TemporaryDirectory() as directory, populated("rls", TENANTS, RESOURCES, SPANS) as address:
        figures = [asyncio.run(requests(address, Path(directory), rounds)), asyncio.run(month(address, tenants))]
    show(figures, f"lists of 50 in {TENANTS} tenants by turns")
    sys.exit(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    typer.run(main)
