"""Memory of connections by the tenants that they have served, and disk space of tenants."""

from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from isola.database.transactions import Database, Transaction
from isola.lab.backend import Backend
from isola.lab.laboratory import Laboratory
from isola.lab.place import Place
from isola.lab.population import Population
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola.lab.statements import Statements
from isola.platform.logins import quote
from isola_strategies.base import Strategy

BACKEND_BYTES = 8 << 20
MET_BYTES = 600 << 10
"""What a connection may be expected to remember of a tenant at most; more was never seen."""

CONTEXTS = """
SELECT unnest(ARRAY[sum(total_bytes), sum(total_bytes) FILTER (WHERE name LIKE 'CachedPlan%')])::text
FROM pg_backend_memory_contexts
"""
PLANS = "SELECT unnest(ARRAY[count(*), sum(generic_plans), sum(custom_plans)])::text FROM pg_prepared_statements"
RELATIONS = """
SELECT count(*),
    count(*) FILTER (WHERE relkind = 'i'),
    (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
     WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r')
FROM pg_class
"""
SIZES = """
SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class
WHERE relkind = 'r' AND relnamespace = ANY($1::text[]::regnamespace[])
"""


class Memory:
    """One new connection of tenant traffic meets tenants, one after the other, and does the same reads in each.

    - ``backend``: memory of the server process behind it that is its own, as the operating system counts it: shared
      buffers are not in it. ``backend_growth``: how much of it came after the first tenant, per tenant met.
    - ``contexts``: what PostgreSQL itself says that the session has allocated; ``plans`` of it for cached statements.
      Both only where the owner may let the login of tenant traffic ask.
    - ``statements``: texts that the session keeps prepared; ``kept_plans``, ``single_plans``: how often it has run them
      by a plan that serves every execution, and by one made for that execution.
    - ``relations``, ``indexes``, ``catalogue``: all of the database, PostgreSQL's own included.
    - ``tables_a_tenant``, ``indexes_a_tenant``: what tenants' rows and indexes take up, divided by tenants.

    ``tenants`` is how many there are, and the connection meets them all.
    """

    name = "memory"
    question = "How much room do tenants take, in memory and on disk?"
    notes = (
        (
            "Under `schema` each tenant has its own prepared statements, within 32 MB a connection. What PostgreSQL "
            "remembers of tables and indexes comes on top, and is never forgotten."
        ),
        ("The product replaces a connection that has grown by about 56 MB; this is what one holds before that."),
        (
            "Each home has copies of all triggers and policies, under `schema` as many as tenants: by our design, "
            "which has a log of changes and a proof of the tenant in every home. Bare tables would be remembered in "
            "less."
        ),
        (
            "Rows are few and equal, so under `schema` each table and each index of each tenant has at least one page "
            "of 8 kB that is mostly empty. With more rows a tenant the difference goes away."
        ),
    )

    def __init__(self) -> None:
        self._statements = Statements()

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        return Needs(
            connections=2,
            memory_bytes=BACKEND_BYTES + point.number("tenants") * MET_BYTES,
            populations=tuple(sized(point, subject) for subject in self.subjects(point)),
        )

    def expected_seconds(self, point: Point) -> float:
        return 0.5 + point.number("tenants") * 0.008

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  each round has its own connection
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        asked = await _let_ask(population.place)
        async with await population.place.tenants() as database:
            return {
                **await self._met(laboratory, database, population, strategy, asked=asked),
                **await _stored(population, strategy),
            }

    async def _met(
        self, laboratory: Laboratory, database: Database, population: Population, strategy: Strategy, *, asked: bool
    ) -> Mapping[str, float]:
        backend = Backend(None)
        first: int | None = None
        for resident in population.residents:
            # In this order, each in a transaction.
            for operation in (each for each in laboratory.operations.values() if not each.writes):
                written = self._statements.of(operation, resident, strategy)
                async with database.transaction(resident.tenant, read_only=True) as work:
                    await work.value(written.sql, *written.arguments)
            if resident is population.residents[0]:
                async with database.unbound() as work:
                    backend = await Backend.behind(work, laboratory)
                first = backend.own_bytes()
        async with database.unbound() as work:
            values = await _reported(work, asked=asked)
        last = backend.own_bytes()
        if first is not None and last is not None:
            values["backend_bytes"] = last
            if len(population.residents) > 1:
                values["backend_growth_bytes"] = (last - first) / (len(population.residents) - 1)
        return values


async def _let_ask(place: Place) -> bool:
    """Let the tenant login read its session's memory contexts. Returns whether the owner, as superuser, may do this."""
    login = quote(place.installation.addresses.tenant_login)
    connection = await asyncpg.connect(place.address)
    try:
        await connection.execute(
            f"GRANT SELECT ON pg_backend_memory_contexts TO {login};"
            f"GRANT EXECUTE ON FUNCTION pg_get_backend_memory_contexts(), pg_prepared_statement() TO {login}"
        )
    except asyncpg.InsufficientPrivilegeError:
        return False
    else:
        return True
    finally:
        await connection.close()


async def _reported(work: Transaction, *, asked: bool) -> dict[str, float]:
    """PostgreSQL's statistics of this session."""
    found = dict(
        zip(("statements_count", "kept_plans_count", "single_plans_count"), await work.texts(PLANS), strict=True)
    )
    if asked:
        found |= zip(("contexts_bytes", "plans_bytes"), await work.texts(CONTEXTS), strict=True)
    return {name: float(text) for name, text in found.items()}


async def _stored(population: Population, strategy: Strategy) -> Mapping[str, float]:
    homes = [home.schema for home in strategy.homes([each.tenant.id for each in population.residents])]
    connection = await asyncpg.connect(population.place.address)
    try:
        relations, indexes, catalogue = await connection.fetchrow(RELATIONS)
        of_tables, of_indexes = await connection.fetchrow(SIZES, homes)
    finally:
        await connection.close()
    tenants = len(population.residents)
    return {
        "relations_count": relations,
        "indexes_count": indexes,
        "catalogue_bytes": int(catalogue),
        "tables_a_tenant_bytes": int(of_tables) / tenants,
        "indexes_a_tenant_bytes": int(of_indexes) / tenants,
    }
