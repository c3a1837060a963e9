"""The life cycle of tenants: create, migrate, export and drop."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from operator import methodcaller
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
from sqlalchemy import BigInteger, Column, Index, MetaData, Table, Uuid

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.installed import metadata
from isola.lab.django_tenants_peer import DjangoTenants
from isola.lab.laboratory import Laboratory
from isola.lab.owning import entering, furnish
from isola.lab.place import Place
from isola.lab.population import DATABASES, SHARED, Population, Size
from isola.lab.refusal import disk_bytes
from isola.lab.scenario import Needs, Point, Profile, databases, one_database, strategies
from isola.platform import migrations, provisioning
from isola.platform.tenants import Tenant
from isola.subjects.applications import BUILT_IN
from isola_strategies.base import Home, Strategy

PEER = "django-tenants"
PEER_TENANTS = 100
"""The most that the peer is asked to make: each takes it a tenth of a second and more, and there is no faster way."""
WORKERS = 4
FEW = 10
"""So many tenants are made, exported and dropped beside those that are there."""
HOME_SECONDS, PEER_SECONDS = 0.02, 0.15
"""In which a tenant goes through all that is measured here, and back: the mean over strategies, and over all."""

ADDED, INDEX = "added_by_lab", "ix_resources_added_by_lab"
REVISION = """
import sqlalchemy as sa

revision = "{revision}"
down_revision = "{before}"


def upgrade(op):
    {operation}
"""
ADD_COLUMN = f'op.add_column("resources", sa.Column("{ADDED}", sa.Text))'
BACKFILL = f'op.execute("UPDATE resources SET {ADDED} = name")'


class Provisioning:
    """All that is done to tenants, where there are ``tenants`` with ``rows`` resources each, and five spans of each.

    - ``make``: making one more, as the command does. The median of ten.
    - ``export``: COPY of all rows of one tenant, each table by its own statement, in one transaction of the owner.
    - ``drop``: dropping one with as many rows, without the time in which servers are notified.
    - ``nothing``, ``add_column``, ``backfill``: migrating all with four workers where nothing is to be done, where a
      revision adds a nullable column, and where one sets that column in every resource.
    - ``add_index``: an index of resources, made with CONCURRENTLY in every home, four at a time.

    Then all of it is taken back, and the tables are vacuumed.
    """

    name = "provisioning"
    question = "What does it take to create, change, export and drop tenants?"
    notes = (
        (
            "CREATE INDEX CONCURRENTLY cannot run in a transaction, and each migration of the product is one "
            "transaction for each home, by our design. So the lab runs it, outside of migrations, equally for all "
            "strategies."
        ),
        (
            "Under `rls` the backfill is one statement for the rows of all tenants, and locks all of these rows until "
            "it ends; under `schema` it is one for each tenant. The time says nothing about who waits meanwhile."
        ),
        (
            "The backfill fires the triggers of the log, once a statement. They do not log changes by the owner, but "
            "collect all changed rows in memory first. This follows from our design, and is worst for one large "
            "statement."
        ),
        (
            "A home of `schema` has grants, policies, triggers and a version table of its own besides its eight "
            "tables: part of what making one takes is by our design."
        ),
        (
            "django-tenants has three tables a tenant where the product has eight, without roles, policies or a log, "
            "and runs its migrations with Django at each tenant where the product runs rendered SQL. It is asked for "
            "as many tenants as 100 only. It has no export of its own."
        ),
        (
            "`database` is a database for each tenant, as copies of one with a whole installation and one tenant, for "
            "50 tenants at most. It is no strategy of the product: there is no directory of databases, and statements "
            "are run in each by the lab, without the product's migrations."
        ),
        "Making files is most of making a home. It takes longer for some seconds after many files were deleted.",
    )

    def __init__(self) -> None:
        self._peer = DjangoTenants()

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:
        return [*strategies(), *databases(point), *([PEER] if point.number("tenants") <= PEER_TENANTS else [])]

    def needs(self, point: Point) -> Needs:
        populations = tuple(_size(point, subject) for subject in strategies())
        one = [one_database(point)] if databases(point) else []
        disk = sum(map(disk_bytes, one)) * (point.number("tenants") + FEW)
        return Needs(connections=WORKERS + 3, disk_bytes=disk, populations=(*populations, *one))

    def expected_seconds(self, point: Point) -> float:
        tenants = point.number("tenants")
        return 4 + tenants * (PEER_SECONDS if tenants <= PEER_TENANTS else HOME_SECONDS)

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  each round finds what the first found
        tenants, rows = point.number("tenants"), point.number("rows")
        if subject == PEER:
            async with laboratory.place() as place:
                return await asyncio.to_thread(self._peer.measured, place.address, tenants, rows, FEW, WORKERS)
        if subject == DATABASES:
            return await _in_databases(laboratory, point)
        population = await laboratory.populated(_size(point, subject))
        strategy = population.place.strategies[subject]
        async with await population.place.owner(WORKERS) as owner:
            return {
                **await _few(owner, population.place, strategy, rows),
                **await _all(owner, population, strategy),
            }


def _size(point: Point, subject: str) -> Size:
    return Size(subject, point.number("tenants"), point.number("rows"))


async def _in_databases(laboratory: Laboratory, point: Point) -> Mapping[str, float]:
    """The same where each tenant has a database: made by copying one, and changed by the same statements."""
    one = await laboratory.populated(one_database(point))
    copies = [copy.place for copy in await laboratory.copies(one.size, point.number("tenants"))]
    strategy, (tenant,) = one.place.strategies[SHARED], one.tenants
    home = strategy.home(tenant.id)
    times: dict[str, list[float]] = {"make_ms": [], "export_ms": [], "drop_ms": []}
    for _ in range(FEW):
        started = time.perf_counter()
        async with laboratory.copied(one) as place:
            times["make_ms"].append(time.perf_counter() - started)
            times["export_ms"].append(await _exported(place, strategy, tenant))
            started = time.perf_counter()
        times["drop_ms"].append(time.perf_counter() - started)
    values = {name: statistics.median(each) * 1000 for name, each in times.items()}
    changes = {
        "add_column_s": f"ALTER TABLE {home.schema}.resources ADD COLUMN {ADDED} text",
        "add_index_s": _index(strategy, home),
        "backfill_s": f"UPDATE {home.schema}.resources SET {ADDED} = name",
    }
    try:
        for name, statement in changes.items():
            values[name] = await _in_all(copies, methodcaller("execute", statement))
        # It includes the column, as for strategies.
        values["backfill_s"] += values["add_column_s"]
    finally:
        await _in_all(copies, lambda connection: _back(connection, home))
    return values


async def _in_all(places: Iterable[Place], do: Callable[[asyncpg.Connection], Awaitable[object]]) -> float:
    """Run an action in every database, with the same concurrency as migrations. Returns its seconds."""
    waiting = [*places][::-1]
    started = time.perf_counter()

    async def work() -> None:
        while waiting:
            async with _connected(waiting.pop()) as connection:
                await do(connection)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return time.perf_counter() - started


async def _few(owner: Database, place: Place, strategy: Strategy, rows: int) -> Mapping[str, float]:
    """Create, fill, export and drop tenants in addition to the existing ones."""
    batch = uuid4().hex[:8]
    times: dict[str, list[float]] = {"make_ms": [], "export_ms": [], "drop_ms": []}
    made: list[Tenant] = []
    try:
        for number in range(FEW):
            slug = f"few-{batch}-{number}"
            started = time.perf_counter()
            tenant = await provisioning.create(owner, place.strategies, slug=slug, name=slug, strategy=strategy.name)
            times["make_ms"].append(time.perf_counter() - started)
            made.append(tenant)
        for tenant in made:
            await furnish(owner, strategy, tenant.id, rows)
            times["export_ms"].append(await _exported(place, strategy, tenant))
    finally:
        for tenant in made:
            started = time.perf_counter()
            await provisioning.drop(owner, place.strategies, tenant.slug, notice=0)
            times["drop_ms"].append(time.perf_counter() - started)
    return {name: statistics.median(each) * 1000 for name, each in times.items()}


async def _exported(place: Place, strategy: Strategy, tenant: Tenant) -> float:
    """Seconds for copying out all rows of a tenant."""

    async def away(data: bytes) -> None:
        """Discard the data: writing it somewhere is not part of the measurement."""

    connection = await asyncpg.connect(place.address)
    try:
        started = time.perf_counter()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            # As the owner itself: tenant traffic may not read all of the log, nor rows of other users.
            await connection.execute(f"{entering(strategy, tenant.id)}; SET LOCAL ROLE NONE")
            for table in metadata.sorted_tables:
                columns = ", ".join(table.columns.keys())
                own = strategy.predicate(table.name) or "true"
                await connection.copy_from_query(f"SELECT {columns} FROM {table.name} WHERE {own}", output=away)
        return time.perf_counter() - started
    finally:
        await connection.close()


async def _all(owner: Database, population: Population, strategy: Strategy) -> Mapping[str, float]:
    """Migrate all tenants, then revert the changes."""
    place = population.place
    homes = strategy.homes([resident.tenant.id for resident in population.residents])
    values: dict[str, float] = {}

    async def migrated(operations: Sequence[str], expected: int) -> float:
        with _revised(operations):
            started = time.perf_counter()
            report = await migrations.migrate(owner, place.strategies, place.installation.addresses, workers=WORKERS)
            seconds = time.perf_counter() - started
        if report.failed or len(report.behind) != expected:
            raise OperatorError(f"{len(report.behind)} of {expected} homes migrated: {dict(report.failed)}")
        return seconds

    # Shared homes exist and are migrated even without tenants.
    every = len(
        {home.schema for one in place.strategies.values() for home in (*one.homes([]), *_homes(one, population))}
    )
    try:
        values["nothing_s"] = await migrated([], 0)
        values["add_column_s"] = await migrated([ADD_COLUMN], every)
        started = time.perf_counter()
        await _each(place, homes, lambda connection, home: connection.execute(_index(strategy, home)))
        values["add_index_s"] = time.perf_counter() - started
        values["backfill_s"] = await migrated([ADD_COLUMN, BACKFILL], every)
        await _each(place, homes[:1], _filled)
    finally:
        shared = [home for one in place.strategies.values() for home in one.homes([]) if home not in homes]
        await _each(place, [*homes, *shared], _back)
        # The registry of applications must name the newest revision again; otherwise no tenant can be created.
        await migrations.migrate(owner, place.strategies, place.installation.addresses, workers=WORKERS)
    return values


def _homes(strategy: Strategy, population: Population) -> Sequence[Home]:
    return strategy.homes([each.tenant.id for each in population.residents if each.tenant.strategy == strategy.name])


@contextmanager
def _revised(operations: Sequence[str]) -> Iterator[None]:
    """Inside this context, the history of homes has additional revisions."""
    ours = migrations.MIGRATIONS
    before = str(migrations.newest(BUILT_IN))
    with TemporaryDirectory(prefix="isola-lab-") as directory:
        theirs = copytree(ours, Path(directory) / "migrations")
        for number, operation in enumerate(operations):
            revision = f"lab_{number}"
            text = REVISION.format(revision=revision, before=before, operation=operation)
            (theirs / "tenant" / f"{revision}.py").write_text(text)
            before = revision
        migrations.MIGRATIONS = theirs
        migrations.clear_caches()
        try:
            yield
        finally:
            migrations.MIGRATIONS = ours
            migrations.clear_caches()


Doing = Callable[[asyncpg.Connection, Home], Awaitable[object]]


async def _each(place: Place, homes: Iterable[Home], do: Doing) -> None:
    """Run an action in every home, with the same concurrency as migrations."""
    waiting = [*homes][::-1]

    async def work() -> None:
        async with _connected(place) as connection:
            while waiting:
                await do(connection, waiting.pop())

    async with asyncio.TaskGroup() as group:
        for _ in range(min(WORKERS, len(waiting))):
            group.create_task(work())


@asynccontextmanager
async def _connected(place: Place) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(place.address)
    try:
        yield connection
    finally:
        await connection.close()


def _index(strategy: Strategy, home: Home) -> str:
    """An index on the size of resources, with the columns that the strategy adds."""
    blind = Table("resources", MetaData(), Column("id", Uuid, primary_key=True), Column("size_bytes", BigInteger))
    Index(INDEX, blind.c.size_bytes)
    index = next(iter(strategy.shape(blind, MetaData()).indexes))
    return f"CREATE INDEX CONCURRENTLY {INDEX} ON {home.schema}.resources ({', '.join(index.columns.keys())})"


async def _filled(connection: asyncpg.Connection, home: Home) -> None:
    if await connection.fetchval(f"SELECT count(*) FROM {home.schema}.resources WHERE {ADDED} IS DISTINCT FROM name"):
        raise OperatorError("the backfill left rows out: the owner is held by the policies, unless it is a superuser")


async def _back(connection: asyncpg.Connection, home: Home) -> None:
    await connection.execute(
        f"DROP INDEX IF EXISTS {home.schema}.{INDEX};"
        f"ALTER TABLE {home.schema}.resources DROP COLUMN IF EXISTS {ADDED};"
        f"COMMENT ON SCHEMA {home.schema} IS '{migrations.MARK}{migrations.head('tenant')}'"
    )
    # Dead rows of the backfill would distort the next measurement.
    await connection.execute(f"VACUUM (ANALYZE) {home.schema}.resources")
