"""A temporary tenant in addition to those of a population."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import asyncpg

from isola.errors import NotFound
from isola.installed import metadata
from isola.lab.owning import entered, furnish
from isola.lab.population import Population, Resident
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements
from isola.platform import provisioning
from isola_strategies.base import Home, Strategy

ROW_BYTES = 4000
"""What a resource takes up with its five spans, indexes and what deleting it leaves for a while."""
ROWS_A_SECOND = 2500
"""About so many resources, with their spans, are made, analyzed and dropped in a second."""


class Beside:
    """A ``Scenario`` about a tenant of ``new_rows`` resources that comes, without its question and measurements."""

    name: str
    seconds = 1.0
    """Of a measurement, besides those that grow with rows."""

    def __init__(self) -> None:
        self._statements = Statements()

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        return Needs(
            connections=4,
            disk_bytes=point.number("new_rows") * ROW_BYTES,
            populations=tuple(sized(point, subject) for subject in self.subjects(point)),
        )

    def expected_seconds(self, point: Point) -> float:
        rows = point.number("tenants") * point.number("rows")
        return self.seconds + point.number("new_rows") / ROWS_A_SECOND + rows / 60_000


@asynccontextmanager
async def newcomer(population: Population, strategy: Strategy, rows: int) -> AsyncIterator[Resident]:
    """A new tenant with ``rows`` resources and five spans of each.

    At the end it is dropped, unless it is gone already, and the tables that it shared are vacuumed and analyzed.
    Autovacuum is kept from its tables meanwhile.
    """
    place = population.place
    slug = f"new-{uuid4().hex[:8]}"
    async with await place.owner() as owner:
        tenant = await provisioning.create(owner, place.strategies, slug=slug, name=slug, strategy=strategy.name)
        home = strategy.home(tenant.id)
        await run(population, [f"ALTER TABLE {table} SET (autovacuum_enabled = off)" for table in tables(home)])
        try:
            await furnish(owner, strategy, tenant.id, rows)
            async with entered(owner, strategy, tenant.id) as work:
                ids = await work.texts(f"SELECT id::text FROM users WHERE {strategy.predicate('users') or 'true'}")
            yield Resident(len(population.residents), tenant, rows, UUID(ids[-1]), (), {})
        finally:
            with suppress(NotFound):  # a scenario may have dropped it
                await provisioning.drop(owner, place.strategies, slug, notice=0)
            if home in strategy.homes([]):  # other tenants share this home
                await run(population, [f"ALTER TABLE {table} RESET (autovacuum_enabled)" for table in tables(home)])
                await run(population, [f"VACUUM (ANALYZE) {table}" for table in tables(home)])


async def run(population: Population, statements: Sequence[str]) -> None:
    """Run statements as the owner, each in a transaction of its own."""
    connection = await asyncpg.connect(population.place.address)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def tables(home: Home) -> Sequence[str]:
    """The full names of all tables of a home, parents first."""
    return [f"{home.schema}.{table.name}" for table in metadata.sorted_tables]
