"""Creates populations: the product creates the tenants, SQL inserts the rows, ANALYZE updates the statistics."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from string import Template
from uuid import UUID

import asyncpg
from sqlalchemy import MetaData, Table, select

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.installed import metadata
from isola.lab import application
from isola.lab.declared import Declared, refused
from isola.lab.place import Place
from isola.lab.population import OWN_TABLES, WITHOUT, Population, Resident, Size
from isola.platform import protection, provisioning
from isola.platform.tenants import COLUMNS, Tenant, entry, tenants as directory
from isola.subjects import search
from isola.subjects.applications import BUILT_IN
from isola.subjects.rows import Rows
from isola_strategies.base import Home, Strategy

ROWS = Path(__file__).with_name("rows.sql")
USERS, ORGANIZATIONS, SPANS = 10, 3, 5
"""Users and organizations of a tenant, and spans of a resource."""
FURTHER = 10
"""Rows of a tenant in each further table."""
PEOPLE = ("users", "organizations", "memberships")
FILLED = ("users", "organizations", "memberships", "resources", "spans")
SAMPLE = 10
"""The resources that are known of each resident."""
WORKERS = 4
HOMES_A_TRANSACTION = 20

Progress = Callable[[str], None]


async def fill(place: Place, size: Size, seed: int, progress: Progress) -> Population:
    """Create a population in a place that has no tenants yet.

    Raises OperatorError for a strategy that adds more than one column to its tables.
    """
    strategy = place.strategies[size.placement]
    column = discriminator(strategy)
    async with await place.owner(WORKERS) as owner:
        made = await _tenants(owner, place, strategy, size, progress)
    connection = await asyncpg.connect(place.address)
    try:
        filling = _Filling(connection, strategy, column, size, seed, progress)
        await filling.declare(made)
        await filling.run(made)
        residents = await filling.residents(made)
        if size.strategy == WITHOUT:
            await _without_policies(connection)
        await connection.execute("DROP SCHEMA lab CASCADE")
        progress("vacuuming and analyzing")
        await connection.execute("VACUUM (ANALYZE, FREEZE)")
    finally:
        await connection.close()
    return Population(size, place, residents)


def others(rows: int) -> Mapping[str, int]:
    """A tenant's row counts of built-in nouns for a number of resources, if the population fills them."""
    return {"user": USERS, "organization": ORGANIZATIONS, "resource": rows, "span": rows * SPANS, "role": 0}


def shares(size: Size) -> Sequence[int]:
    """The number of rows of each tenant, largest first: ``rows`` on average, at least one."""
    if size.skew == "even":
        return [size.rows] * size.tenants
    if size.skew == "zipf":
        harmonic = sum(1 / rank for rank in range(1, size.tenants + 1))
        return [max(1, round(size.tenants * size.rows / rank / harmonic)) for rank in range(1, size.tenants + 1)]
    raise OperatorError(f"skew {size.skew!r}: expected even or zipf")


async def _tenants(
    owner: Database, place: Place, strategy: Strategy, size: Size, progress: Progress
) -> Sequence[Tenant]:
    slugs = [f"tenant-{number:05}" for number in range(size.tenants)]
    if strategy.homes([]):
        return await _entered(owner, strategy, slugs)
    made: dict[str, Tenant] = {}
    waiting = slugs[::-1]

    async def work() -> None:
        while waiting:
            slug = waiting.pop()
            progress(f"making tenant {len(made) + 1:,} of {size.tenants:,}")
            made[slug] = await provisioning.create(
                owner, place.strategies, slug=slug, name=slug, strategy=strategy.name
            )

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return [made[slug] for slug in slugs]


async def _entered(owner: Database, strategy: Strategy, slugs: Sequence[str]) -> Sequence[Tenant]:
    """Create tenants whose homes exist already: each needs only a row in the directory and a log."""
    async with owner.unbound() as transaction:
        ids = [UUID(text) for text in await transaction.texts(
            "SELECT isola.uuid_v7()::text FROM generate_series(1, $1)", len(slugs)
        )]  # fmt: skip
        homes = [strategy.home(each) for each in ids]
        await transaction.value(
            "INSERT INTO control.tenants (id, slug, name, strategy, home, role)"
            " SELECT id, slug, slug, $5, home, role"
            " FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS made (id, slug, home, role)",
            ids,
            slugs,
            [home.schema for home in homes],
            [home.role or "none" for home in homes],
            strategy.name,
        )
        await transaction.value("INSERT INTO control.audit_heads (tenant_id) SELECT unnest($1::uuid[])", ids)
        rows = await transaction.rows(select(*COLUMNS).order_by(directory.c.slug))
    return [entry(row) for row in rows]


class _Filling:
    """Inserts the rows of one population, on a connection of the owner."""

    def __init__(
        self,
        connection: asyncpg.Connection,
        strategy: Strategy,
        discriminator: str | None,
        size: Size,
        seed: int,
        progress: Progress,
    ) -> None:
        self._connection = connection
        self._strategy = strategy
        self._discriminator = discriminator
        self._size = size
        self._seed = seed
        self._progress = progress
        self._declared = Declared(size.application)
        self._generated: Mapping[int, Mapping[str, Rows]] = {}
        self._further = application.further(size.tables - OWN_TABLES)
        self._given: Mapping[str, frozenset[str]] = {}

    async def declare(self, made: Sequence[Tenant]) -> None:
        """Create the functions of rows.sql, the table of residents, and the staged rows."""
        counts = {
            "users": USERS,
            "organizations": ORGANIZATIONS,
            "spans": SPANS,
            "further": FURTHER,
            "seed": self._seed,
        }
        await self._connection.execute(Template(ROWS.read_text()).substitute(counts))
        rows = zip(made, shares(self._size), strict=True)
        await self._connection.copy_records_to_table(
            "residents",
            schema_name="lab",
            records=[(n, one.id, self._strategy.home(one.id).schema, share) for n, (one, share) in enumerate(rows)],
        )
        await self._connection.execute("ANALYZE lab.residents")
        columns = await self._connection.fetch(
            "SELECT relname, array_agg(attname::text) FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
            " WHERE relnamespace = 'lab'::regnamespace AND relkind = 'v' GROUP BY relname"
        )
        self._given = {row[0]: frozenset(row[1]) for row in columns}
        self._generated = {
            rows: self._declared.rows(rows, others(rows), self._seed) for rows in sorted(set(shares(self._size)))
        }
        await self._declared.stage(self._connection, self._generated)

    async def run(self, made: Sequence[Tenant]) -> None:
        homes = self._strategy.homes([tenant.id for tenant in made])
        step = 1 if self._discriminator else HOMES_A_TRANSACTION
        for start in range(0, len(homes), step):
            self._progress(f"filling home {start + 1:,} of {len(homes):,}")
            async with self._connection.transaction():
                for home in homes[start : start + step]:
                    try:
                        await self._connection.execute(self._script(home))
                    except asyncpg.IntegrityConstraintViolationError as error:
                        raise refused(error) from error

    def _script(self, home: Home) -> str:
        making = [application.making(self._strategy, home, self._further)] if self._further else []
        sources = {name: metadata.tables[name] for name in FILLED if self._fills(name)}
        inserts = [self._insert(home, table, name) for name, table in sources.items()]
        inserts += [self._insert(home, table, "further") for table in self._further]
        inserts += self._declared.inserts(home, self._discriminator)
        inserts += filter(None, (search.fill(table, home.schema) for table in self._declared.tables))
        # Without triggers: the change log would need an actor for these rows, and there is none. Without FORCE: the
        # policies bind the owner unless it is a superuser, and it would have to enter every tenant.
        words = [each.table for table in self._declared.tables if (each := search.words_of(table)) is not None]
        tables = (*sources.values(), *self._further, *self._declared.tables, *words)
        names = [f"{home.schema}.{table.name}" for table in tables]
        free = [f"ALTER TABLE {name} DISABLE TRIGGER USER, NO FORCE ROW LEVEL SECURITY" for name in names]
        bound = [f"ALTER TABLE {name} ENABLE TRIGGER USER, FORCE ROW LEVEL SECURITY" for name in names]
        return ";\n".join([*making, *free, *inserts, *bound])

    def _fills(self, name: str) -> bool:
        """Whether a built-in table gets rows: tables of people always, others if they are referenced."""
        everything = self._size.application == BUILT_IN
        return everything or name in {*PEOPLE, *self._declared.shipped, *(("resources",) if self._further else ())}

    def _insert(self, home: Home, table: Table, source: str) -> str:
        given = [column.name for column in table.columns if column.name in self._given[source]]
        target = [self._discriminator, *given] if self._discriminator else given
        values = ["tenant", *given] if self._discriminator else given
        return (
            f"INSERT INTO {home.schema}.{table.name} ({', '.join(target)}) SELECT {', '.join(values)}"
            f" FROM lab.{source} WHERE home = '{home.schema}' ORDER BY n, number"
        )

    async def residents(self, made: Sequence[Tenant]) -> Sequence[Resident]:
        found = await self._connection.fetch(
            "SELECT number, lab.id('user', number, $1), array_agg(lab.id('resource', number, n) ORDER BY n)"
            " FROM (SELECT number, 1 + (k * rows - 1) / $2 AS n"
            " FROM lab.residents CROSS JOIN LATERAL generate_series(1, least($2, rows)) k)"
            " AS chosen GROUP BY number ORDER BY number",
            USERS,
            SAMPLE,
        )
        given = shares(self._size)
        keys = await self._declared.keys(self._connection, self._generated, SAMPLE)
        return [
            Resident(
                number,
                made[number],
                given[number],
                user,
                tuple(dict.fromkeys(resources)),
                {"user": (user,), "resource": tuple(dict.fromkeys(resources)), **keys.get(number, {})},
            )
            for number, user, resources in found
        ]


def discriminator(strategy: Strategy) -> str | None:
    """The column by which a strategy distinguishes tenants in a shared table; None without shared tables."""
    table = metadata.tables["users"]
    more = [name for name in strategy.shape(table, MetaData()).columns.keys() if name not in table.columns]  # noqa: SIM118  their names, not the columns
    if len(more) > 1:
        raise OperatorError(f"{strategy.name} adds {', '.join(more)} to tables: expected one column, for the tenant")
    return more[0] if more else None


async def _without_policies(connection: asyncpg.Connection) -> None:
    """Remove row-level security from all tables of tenants."""
    guarded = await connection.fetch("SELECT oid::regclass::text FROM pg_class WHERE relrowsecurity")
    for (table,) in guarded:
        await connection.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
    # A server would refuse these homes otherwise.
    for (home,) in await connection.fetch(protection.MARKED_HOMES):
        await connection.execute(protection.mark(Home(home)))
