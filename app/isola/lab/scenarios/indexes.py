"""An index for the reads of one large tenant: its cost for that tenant and for the others."""

import statistics
import time
from collections.abc import Iterable, Mapping

import asyncpg

from isola.database.transactions import Database
from isola.lab import looking
from isola.lab.filling import discriminator
from isola.lab.laboratory import Laboratory
from isola.lab.newcomer import Beside, newcomer, run, tables
from isola.lab.owning import entering
from isola.lab.population import Population, Resident
from isola.lab.scenario import Point, sized
from isola.lab.statements import Written
from isola_strategies.base import Home, Strategy

INDEX = "ix_resources_made_by_lab"
READS = 40
WRITES, ROWS_A_WRITE = 15, 200
SIZE = (
    "SELECT sum(pg_relation_size(c.oid))::bigint FROM pg_class c WHERE c.relkind = 'i' AND c.relname = '" + INDEX + "'"
)


class Indexes(Beside):
    """A tenant of ``new_rows`` resources asks for those of one size, which no index serves. ``tenants`` are beside it.

    - ``own``: an index for this tenant alone. Under `schema`, one in its schema; in shared tables, one with a
      condition on the tenant. ``all``: an index for every tenant: one in each home.
    - ``make``, ``index``: how long making it takes, and its bytes. ``read``: the tenant's read with it;
      ``read_before``: without.
    - ``own_used``: 1 if PostgreSQL uses the tenant's own index for the tenant's own read, otherwise 0.
    - ``other_write``: another tenant adds a resource, without an index, with the tenant's own, and with one for all:
      the time of one row of a statement that adds 200.
    - ``least``: the smaller one of both that serves the read: the tenant's own if PostgreSQL uses it, or else the one
      for all. This is what strategies are compared by.
    """

    name = "indexes"
    question = "What does an index for a single tenant cost?"
    notes = (
        (
            "Under `rls` statements name the tenant by a sub-select, whose value the planner does not know, so it "
            "cannot prove that the condition of an index holds: one with a condition on the tenant is never used. "
            "This follows from our design: one text and one plan serve all tenants."
        ),
    )

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        other = population.residents[round % len(population.residents)]
        async with newcomer(population, strategy, point.number("new_rows")) as large:
            home = strategy.home(large.tenant.id)
            await run(population, [f"VACUUM (ANALYZE) {name}" for name in tables(home)])
            homes = strategy.homes([*(each.tenant.id for each in population.residents), large.tenant.id])
            try:
                values = await _measured(population, strategy, large, other, homes)
            finally:
                dropping = [f"DROP INDEX IF EXISTS {each.schema}.{INDEX}" for each in homes]
                await run(population, [*dropping, f"VACUUM {strategy.home(other.tenant.id).schema}.resources"])
        least = "own" if values["own_used_count"] else "all"
        return {
            **values,
            "least_make_ms": values[f"{least}_make_ms"],
            "least_index_bytes": values[f"{least}_index_bytes"],
            "least_other_write_ratio": values[f"other_write_{least}_us"] / values["other_write_before_us"],
        }


async def _measured(
    population: Population, strategy: Strategy, large: Resident, other: Resident, homes: Iterable[Home]
) -> dict[str, float]:
    own = strategy.predicate("resources") or "true"
    written = Written(f"SELECT name FROM resources WHERE {own} AND size_bytes = $1", [large.rows // 2])
    column = discriminator(strategy)
    keys = ", ".join(filter(None, [column, "size_bytes"]))
    condition = f" WHERE {column} = '{large.tenant.id}'" if column else ""
    made = {
        "own": [_making(strategy.home(large.tenant.id), "size_bytes", condition)],
        "all": [_making(home, keys) for home in homes],
    }
    values: dict[str, float] = {}
    connection = await asyncpg.connect(population.place.address)
    try:
        async with await population.place.tenants() as database:
            values["read_before_ms"] = await _read(database, large, written)
            values["other_write_before_us"] = await _write(connection, strategy, other)
            for kind, statements in made.items():
                started = time.perf_counter()
                for statement in statements:
                    await connection.execute(statement)
                values[f"{kind}_make_ms"] = (time.perf_counter() - started) * 1000
                values[f"{kind}_index_bytes"] = await connection.fetchval(SIZE)
                values[f"read_{kind}_ms"] = await _read(database, large, written)
                values[f"other_write_{kind}_us"] = await _write(connection, strategy, other)
                if kind == "own":
                    values["own_used_count"] = await _used(database, large, written)
                    await connection.execute(f"DROP INDEX {strategy.home(large.tenant.id).schema}.{INDEX}")
    finally:
        await connection.close()
    return values


def _making(home: Home, keys: str, condition: str = "") -> str:
    return f"CREATE INDEX {INDEX} ON {home.schema}.resources ({keys}){condition}"


async def _read(database: Database, resident: Resident, written: Written) -> float:
    # The first ones are planned for their values.
    return statistics.median((await looking.timed(database, resident, written, READS))[READS // 4 :])


async def _used(database: Database, resident: Resident, written: Written) -> int:
    async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
        plan: str = await work.value(f"EXPLAIN (FORMAT JSON) {written.sql}", *written.arguments)
    return int(INDEX in plan)


async def _write(connection: asyncpg.Connection, strategy: Strategy, resident: Resident) -> float:
    """Microseconds of adding a resource, which is taken back."""
    times = []
    for _ in range(WRITES):
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(entering(strategy, resident.tenant.id))
            started = time.perf_counter()
            await connection.execute(
                "INSERT INTO resources (owner_id, name, size_bytes)"
                f" SELECT '{resident.user}', 'added ' || n, n FROM generate_series(1, {ROWS_A_WRITE}) n"
            )
            times.append((time.perf_counter() - started) * 1e6 / ROWS_A_WRITE)
        finally:
            await transaction.rollback()
    return statistics.median(times)
