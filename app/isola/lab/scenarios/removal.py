"""Dropping a large tenant among small ones, and the effect on the others."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import asyncpg

from isola.database.transactions import Database
from isola.lab.asking import latencies
from isola.lab.laboratory import Laboratory
from isola.lab.looking import timed
from isola.lab.newcomer import Beside, newcomer, tables
from isola.lab.population import Population, Resident
from isola.lab.scenario import Point, sized
from isola.lab.statements import Written
from isola.platform import provisioning
from isola_strategies.base import Home, Strategy

ALONE = 100
"""Reads of another tenant before the drop."""
WRITTEN = "SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint"
SIZE = "SELECT coalesce(sum(pg_total_relation_size(to_regclass(name))), 0)::bigint FROM unnest($1::text[]) AS name"


class Removal(Beside):
    """A tenant of ``new_rows`` resources, five spans of each, is dropped. ``tenants`` others stay.

    - ``drop``: the time of the command, without the wait in which servers are notified. ``wal``: what it writes to
      the write-ahead log, which is what replicas and archives have to take.
    - ``left``: by how much the tables of the home are larger afterwards than before the tenant came: room that is
      dead, until VACUUM makes it free for others. ``vacuum``: how long that takes.
    - ``alone``, ``meanwhile``: reads of another tenant, one at a time, before the drop and during it.
    """

    name = "removal"
    question = "What does dropping a large tenant cost, and how does it affect the others?"
    notes = (
        (
            "Under `rls` the rows are deleted one by one, each with its index entries; under `schema` files are "
            "removed. This is inherent. One transaction for all of it follows from our design: a tenant is erased "
            "entirely or not at all."
        ),
        "With a schema there is nothing to vacuum afterwards, so those two figures are 0 there.",
    )

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        place = population.place
        strategy = place.strategies[subject]
        other = population.residents[round % len(population.residents)]
        written = self._statements.of(laboratory.operations["Resources"], other, strategy)
        before = await _size(population, strategy.homes([]))
        async with newcomer(population, strategy, point.number("new_rows")) as large, await place.owner() as owner:
            connection = await asyncpg.connect(place.address)
            try:
                async with await place.tenants() as database:
                    alone = await timed(database, other, written, ALONE)
                    reading = asyncio.create_task(_reads(database, other, written))
                    wal, started = await connection.fetchval(WRITTEN), time.perf_counter()
                    try:
                        await provisioning.drop(owner, place.strategies, large.tenant.slug, notice=0)
                    finally:
                        seconds = time.perf_counter() - started
                        reading.cancel()
                    meanwhile = await reading
                wal = await connection.fetchval(WRITTEN) - wal
                left = await _size(population, strategy.homes([])) - before
                vacuumed = await _vacuumed(connection, strategy)
            finally:
                await connection.close()
        return {
            "drop_s": seconds,
            "drop_wal_bytes": wal,
            "left_bytes": max(0, left),
            "vacuum_s": vacuumed,
            **{f"alone_{name}": value for name, value in latencies([each / 1000 for each in alone]).items()},
            **{f"meanwhile_{name}": value for name, value in latencies([each / 1000 for each in meanwhile]).items()},
        }


async def _reads(database: Database, resident: Resident, written: Written) -> Sequence[float]:
    """Milliseconds of each read until this is cancelled; the one that is then under way counts until that moment."""
    found: list[float] = []
    while True:
        started = time.perf_counter()
        try:
            found += await timed(database, resident, written, 1)
        except asyncio.CancelledError:
            return [*found, (time.perf_counter() - started) * 1000]


async def _size(population: Population, homes: Sequence[Home]) -> int:
    """Bytes of the tables that tenants share, and of their indexes."""
    connection = await asyncpg.connect(population.place.address)
    try:
        size: int = await connection.fetchval(SIZE, [name for home in homes for name in tables(home)])
    finally:
        await connection.close()
    return size


async def _vacuumed(connection: asyncpg.Connection, strategy: Strategy) -> float:
    """Vacuum the tables that tenants share. Returns its seconds, 0 if there are none."""
    started = time.perf_counter()
    shared = [name for home in strategy.homes([]) for name in tables(home)]
    for name in shared:
        await connection.execute(f"VACUUM {name}")
    return time.perf_counter() - started if shared else 0.0
