"""What it changes that the planner assumes large tenants in shared tables: PostgreSQL's CPU of the usual reads.

``python -m benchmarks.assumed`` from the checkout. Under ``rls``, 199 tenants have 100 resources each, and one has
100,000 resources of 1,000 users, and 100,000 spans. The same reads run with the setting of the strategy and without it,
which alternate, each with a connection of its own. The ratio is that of the medians.
"""

import asyncio
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Annotated

import asyncpg
import typer

from benchmarks.figures import Figure, show
from benchmarks.finding import RESOURCES, SPANS, grown
from benchmarks.large import SAMPLED
from benchmarks.many import place_of, populated, residents
from benchmarks.reading import microseconds
from isola.database.transactions import Database
from isola.lab.backend import Backend
from isola.lab.operations import READS
from isola.lab.population import Resident
from isola.lab.statements import Statements
from isola.platform.collation import sorts_by_code_point
from isola_strategies.base import Strategy
from isola_strategies.rls import ASSUMED_TENANTS, TENANT

STRATEGY = "rls"
WARMING, REPEATED = 15, 60
SETTINGS = {True: f"SET (n_distinct = {ASSUMED_TENANTS})", False: "RESET (n_distinct)"}
TABLES = """
SELECT attrelid::regclass::text FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid
WHERE relnamespace = 'rls'::regnamespace AND relkind = 'r' AND attname = $1
"""
Used = Mapping[tuple[str, str], float]
"""Microseconds of a read, by its name and by the size of the tenant."""


async def measured(database: Database, strategy: Strategy, groups: Mapping[str, Sequence[Resident]]) -> Used:
    async with database.unbound() as work:
        statements = Statements(by_code_point=await sorts_by_code_point(work))
        backend = Backend(await work.value("SELECT pg_backend_pid()"))
    found = {}
    for name, operation in READS.items():
        for size, some in groups.items():
            reads = [(each, statements.of(operation, each, strategy)) for each in some]
            found[name, size] = await microseconds(database, reads, backend, warming=WARMING, repeated=REPEATED)
    return found


async def run(address: str, rows: int, rounds: int) -> Sequence[Figure]:
    large = await grown(address, STRATEGY, rows)
    place = place_of(address, connections=1)
    small = [each for each in await residents(place) if each.tenant.id != large.tenant.id][:SAMPLED]
    owner = await asyncpg.connect(address)
    tables = [row[0] for row in await owner.fetch(TABLES, TENANT)]
    found: dict[bool, dict[tuple[str, str], list[float]]] = {each: defaultdict(list) for each in SETTINGS}
    for number in range(rounds):
        for assumed in (number % 2 == 0, number % 2 != 0):
            for table in tables:
                await owner.execute(f"ALTER TABLE {table} ALTER COLUMN {TENANT} {SETTINGS[assumed]}")
            await owner.execute("VACUUM (ANALYZE)")
            async with await place.tenants() as database:
                used = await measured(database, place.strategies[STRATEGY], {"small": small, "large": [large]})
            for key, spent in used.items():
                found[assumed][key].append(spent)
    await owner.close()
    figures = []
    for name, size in found[True]:
        with_it, without = (statistics.median(found[each][name, size]) for each in (True, False))
        figures.append(
            Figure(f"{name}, a {size} tenant: {with_it:,.0f} against {without:,.0f} µs", with_it / without, "")
        )
    return figures


def main(
    *,
    tenants: Annotated[int, typer.Option(min=SAMPLED, help="number of small tenants")] = 199,
    rows: Annotated[int, typer.Option(min=1_000, help="resources of the large tenant")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1)] = 6,
) -> None:
    """Print the ratios."""
    with populated(STRATEGY, tenants, RESOURCES, SPANS) as address:
        figures = asyncio.run(run(address, rows, rounds))
    show(figures, "CPU where large tenants are assumed, to that where average ones are")


if __name__ == "__main__":
    typer.run(main)
