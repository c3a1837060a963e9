"""One tenant updates its rows repeatedly: the bloat, the cost of VACUUM, and the effect on another tenant."""

import re
import statistics
import time
from collections.abc import Mapping

import asyncpg

from isola.database.transactions import Database
from isola.lab import looking
from isola.lab.laboratory import Laboratory
from isola.lab.newcomer import Beside, newcomer, run, tables
from isola.lab.owning import entering
from isola.lab.population import Resident
from isola.lab.scenario import Point, sized
from isola.lab.statements import Written
from isola_strategies.base import Strategy

READS = 40
SIZE = "SELECT pg_total_relation_size($1::text::regclass)"
SCANNED = re.compile(r"pages: .*?(\d+) scanned")


class Vacuum(Beside):
    """A busy tenant of ``new_rows`` resources sets a column of all of them, ``updates`` times.

    Nothing is vacuumed meanwhile: autovacuum is off, as where it does not keep up.

    - ``bloat``: by how much the table of resources, with its indexes, has grown.
    - ``vacuum``: how long VACUUM takes for the table in which those rows are, and ``scanned``: the pages of it that it
      had to read. Indexes come on top.
    - ``other_before``, ``other_bloated``, ``other_vacuumed``: another tenant's list of 50, before the changes, after
      them, and after VACUUM; with ``pages``, how many pages PostgreSQL looked at for it. ``busy_…``: the same list in
      the busy tenant.
    """

    name = "vacuum"
    question = "What does VACUUM cost after one busy tenant?"
    notes = (
        (
            "VACUUM skips pages in which nothing has changed, but reads every index of the table from end to end: in a "
            "shared table those of all tenants. This is inherent."
        ),
        (
            "The changes are made by the owner, which the log of changes does not note: entries of the log are never "
            "changed, so there is nothing of them to vacuum."
        ),
    )

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        place = population.place
        strategy = place.strategies[subject]
        other = population.residents[round % len(population.residents)]
        values: dict[str, float] = {}
        async with newcomer(population, strategy, point.number("new_rows")) as busy:
            table = f"{strategy.home(busy.tenant.id).schema}.resources"
            operation = laboratory.operations["Resources"]
            asked = {
                name: (resident, self._statements.of(operation, resident, strategy))
                for name, resident in (("other", other), ("busy", busy))
            }
            await run(population, [f"VACUUM (ANALYZE) {name}" for name in tables(strategy.home(busy.tenant.id))])
            connection = await asyncpg.connect(place.address)
            try:
                async with await place.tenants() as database:
                    values |= await _read(database, asked, "before")
                    before = await connection.fetchval(SIZE, table)
                    for _ in range(point.number("updates")):
                        await _update(connection, strategy, busy)
                    values["bloat_bytes"] = await connection.fetchval(SIZE, table) - before
                    values |= await _read(database, asked, "bloated")
                    values |= await _vacuumed(connection, table)
                    values |= await _read(database, asked, "vacuumed")
            finally:
                await connection.close()
        return values


async def _read(database: Database, asked: Mapping[str, tuple[Resident, Written]], when: str) -> Mapping[str, float]:
    values: dict[str, float] = {}
    for name, (resident, written) in asked.items():
        values[f"{name}_{when}_ms"] = statistics.median(await looking.timed(database, resident, written, READS))
        values[f"{name}_{when}_pages_count"] = await looking.pages(database, resident, written)
    return values


async def _update(connection: asyncpg.Connection, strategy: Strategy, resident: Resident) -> None:
    own = strategy.predicate("resources") or "true"
    async with connection.transaction():
        await connection.execute(entering(strategy, resident.tenant.id))
        await connection.execute(f"UPDATE resources SET size_bytes = size_bytes + 1 WHERE {own}")


async def _vacuumed(connection: asyncpg.Connection, table: str) -> Mapping[str, float]:
    notices: list[str] = []

    def listen(_: object, message: asyncpg.PostgresLogMessage) -> None:
        notices.append(str(message))

    connection.add_log_listener(listen)
    started = time.perf_counter()
    await connection.execute(f"VACUUM (VERBOSE) {table}")
    seconds = time.perf_counter() - started
    connection.remove_log_listener(listen)
    # PostgreSQL says it in the server's language, so it may not be found.
    scanned = [int(found[1]) for text in notices if (found := SCANNED.search(text))]
    return {"vacuum_ms": seconds * 1000, **({"scanned_count": sum(scanned)} if scanned else {})}
