"""Whether a tenant of a million rows changes how small tenants are read: PostgreSQL's CPU and plans.

``python -m benchmarks.large`` from the checkout. Under each strategy, 1,000 tenants have 100 rows of resources and 100
of spans each. Reads of some of them are measured, then one tenant gets 1,000,000 rows, all tables are analyzed, and the
same reads are measured again, and in the large tenant. The reads run on one connection, as the server's do; a plan is
the nodes of EXPLAIN, each with its index.
"""

import asyncio
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any

import asyncpg
import psutil
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.many import place_of, populated, residents, rows_of, script_of
from isola.database.transactions import Database
from isola.lab.operations import READS, Declared, Operation
from isola.lab.population import Resident
from isola.lab.statements import Statements
from isola.platform import provisioning
from isola.platform.collation import sorts_by_code_point
from isola_strategies.base import Strategy

STRATEGIES = ("rls", "schema")
RESOURCES, SPANS, SHARE = 100, 100, 10
"""Rows of a small tenant; a large one has one span for each ``SHARE`` resources."""
SAMPLED, ROUNDS, REPEATED = 5, 7, 40
PREFIX = Declared(
    "ByPrefix",
    "query ByPrefix($name: String) { resources(first: 20, filter: {name: {startsWith: $name}},"
    " orderBy: [{field: NAME, direction: ASC}]) { nodes { id name kind } } }",
    lambda *_: {"name": "amber 9"},
)
OPERATIONS: Mapping[str, Operation] = {**READS, PREFIX.name: PREFIX}

Found = Mapping[str, tuple[float, str]]
"""Microseconds of PostgreSQL's CPU a read, and its plan, by operation."""


def shape(plan: Mapping[str, Any]) -> Iterator[str]:
    yield plan["Node Type"] + (f" on {plan['Index Name']}" if "Index Name" in plan else "")
    for below in plan.get("Plans", ()):
        yield from shape(below)


async def measured(database: Database, strategy: Strategy, some: Sequence[Resident]) -> Found:
    async with database.unbound() as work:
        statements = Statements(by_code_point=await sorts_by_code_point(work))
        backend = psutil.Process(await work.value("SELECT pg_backend_pid()"))
    found = {}
    for name, operation in OPERATIONS.items():
        written = [(each, statements.of(operation, each, strategy)) for each in some]
        rounds = []
        for _ in range(ROUNDS + 1):
            before = backend.cpu_times()
            for _ in range(REPEATED):
                for resident, statement in written:
                    async with database.transaction(resident.tenant, read_only=True, about=statement.about) as work:
                        await work.value(statement.sql, *statement.arguments)
            after = backend.cpu_times()
            spent = after.user + after.system - before.user - before.system
            rounds.append(spent / REPEATED / len(written) * 1e6)
        resident, statement = written[0]
        async with database.transaction(resident.tenant, read_only=True, about=statement.about) as work:
            plan = await work.value(f"EXPLAIN (FORMAT JSON) {statement.sql}", *statement.arguments)
        found[name] = statistics.median(rounds[1:]), "; ".join(shape(json.loads(plan)[0]["Plan"]))
    return found


async def grow(
    address: str,
    strategy: str,
    rows: int,
    spans: int,
    more: str = "",
    figures: Mapping[str, int] = MappingProxyType({}),
) -> Resident:
    """Create the large tenant, also by another script with these figures: see ``script_of``."""
    place = place_of(address)
    async with await place.owner() as owner:
        tenant = await provisioning.create(owner, place.strategies, slug="large", name="Large", strategy=strategy)
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("SET session_replication_role TO replica")
        await connection.execute(rows_of(place, tenant, rows, spans))
        if more:
            await connection.execute(script_of(more, place, tenant, **figures))
    finally:
        await connection.close()
    return next(each for each in await residents(place) if each.tenant.id == tenant.id)


async def analyze(address: str) -> None:
    connection = await asyncpg.connect(address)
    await connection.execute("VACUUM (ANALYZE)")
    await connection.close()


async def run(address: str, strategy: str, rows: int) -> Sequence[Found]:
    place = place_of(address, connections=1)
    chosen = place.strategies[strategy]
    await analyze(address)
    small = (await residents(place))[:SAMPLED]
    async with await place.tenants() as database:
        before = await measured(database, chosen, small)
    large = await grow(address, strategy, rows, rows // SHARE)
    await analyze(address)
    async with await place.tenants() as database:
        return before, await measured(database, chosen, small), await measured(database, chosen, [large])


def main(
    *,
    tenants: Annotated[int, typer.Option(min=SAMPLED, help="number of small tenants")] = 1_000,
    rows: Annotated[int, typer.Option(min=1_000, help="resources of the large tenant")] = 1_000_000,
) -> None:
    """Measure reads of small tenants beside a large one."""
    table = Table(
        "strategy", "read", "small alone, µs", "beside it, µs", "ratio", "plan", "large, µs", "its plan", box=None
    )
    for strategy in STRATEGIES:
        with populated(strategy, tenants, RESOURCES, SPANS) as address:
            before, after, large = asyncio.run(run(address, strategy, rows))
        for name, (cost, plan) in before.items():
            (later, plan_later), (most, plan_large) = after[name], large[name]
            same = ["the same" if each == plan else "another" for each in (plan_later, plan_large)]
            table.add_row(
                strategy, name, f"{cost:.0f}", f"{later:.0f}", f"{later / cost:.2f}", same[0], f"{most:.0f}", same[1]
            )
            for title, other in (("beside it", plan_later), ("large", plan_large)):
                if other != plan:
                    Console(stderr=True).print(f"{strategy}, {name}, {title}:\n  {plan}\n  {other}", highlight=False)
    Console(width=140).print(table)


if __name__ == "__main__":
    typer.run(main)
