"""Memory of connections by the tenants that they have served, and disk space of tenants."""

import statistics
import time
from collections.abc import Iterable, Mapping, Sequence

import asyncpg

from isola.database.pool import GROWTH
from isola.database.transactions import Database, Transaction
from isola.lab.backend import Backend
from isola.lab.laboratory import Laboratory
from isola.lab.place import Place
from isola.lab.population import DATABASES, SHARED, Population
from isola.lab.refusal import disk_bytes
from isola.lab.scenario import Needs, Point, Profile, databases, one_database, sized, strategies
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
ADD_UP = {"relations_count", "indexes_count", "catalogue_bytes", "reach_bytes"}
SIZES = """
SELECT sum(pg_table_size(oid)), sum(pg_indexes_size(oid)) FROM pg_class
WHERE relkind = 'r' AND relnamespace = ANY($1::text[]::regnamespace[])
"""


class Memory:
    """One new connection of tenant traffic meets tenants, one after the other, and does the same reads in each.

    - ``backend``: memory of the server process behind it that is its own, as the operating system counts it: shared
      buffers are not in it; the most that it had. ``backend_growth``: how much of it came after the first tenant, per
      tenant met. ``replaced``: how often the product replaced it, because it had grown too much.
    - ``contexts``: what PostgreSQL itself says that the session has allocated; ``plans`` of it for cached statements.
      Both only where the owner may let the login of tenant traffic ask.
    - ``statements``: texts that the session keeps prepared; ``kept_plans``, ``single_plans``: how often it has run them
      by a plan that serves every execution, and by one made for that execution.
    - ``relations``, ``indexes``, ``catalogue``: all of the database, PostgreSQL's own included.
    - ``tables_a_tenant``, ``indexes_a_tenant``: what tenants' rows and indexes take up, divided by tenants.

    - ``disk_a_tenant``: the size of the database, divided by tenants. ``connect``: the time to open a connection.
    - ``reach``: the memory of the connections that it takes at least to reach every tenant: of one, where one reaches
      all; of one for each tenant in ``database``.

    ``tenants`` is how many there are, and the connection meets them all. ``database`` has a database for each tenant,
    each with a connection of its own: memory, statements and disk space are the median of them, relations and catalogue
    the sum.
    """

    name = "memory"
    question = "How much memory and disk space do tenants take?"
    notes = (
        (
            "Under `schema` each tenant has its own prepared statements, within 32 MB a connection. What PostgreSQL "
            "caches about tables and indexes comes on top, and is never evicted."
        ),
        (
            "`database` is no strategy of the product: each database is a copy of a whole installation with one "
            "tenant, so the platform's own tables are in it, too."
        ),
        (
            "The product replaces a connection that has grown by about 44 MB by its own estimate: this is the most "
            "that one had, and with many tenants it does not get more."
        ),
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

    def subjects(self, point: Point) -> Sequence[str]:
        return [*strategies(), *databases(point)]

    def needs(self, point: Point) -> Needs:
        one = [one_database(point)] if databases(point) else []
        return Needs(
            connections=4,
            disk_bytes=sum(map(disk_bytes, one)) * point.number("tenants"),
            memory_bytes=BACKEND_BYTES + min(point.number("tenants") * MET_BYTES, 2 * GROWTH),
            populations=(*(sized(point, subject) for subject in strategies()), *one),
        )

    def expected_seconds(self, point: Point) -> float:
        copying = point.number("tenants") * 0.06 if databases(point) else 0.0
        return 0.5 + point.number("tenants") * 0.008 + copying

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:  # noqa: ARG002  each round has its own connection
        if subject == DATABASES:
            return await self._in_databases(laboratory, point)
        population = await laboratory.populated(sized(point, subject))
        return await self._in_one(laboratory, population, population.place.strategies[subject])

    async def _in_databases(self, laboratory: Laboratory, point: Point) -> Mapping[str, float]:
        """Each figure of one database, by a connection of its own; what adds up is the sum over all of them."""
        copies = await laboratory.copies(one_database(point), point.number("tenants"))
        each = [await self._in_one(laboratory, copy, copy.place.strategies[SHARED]) for copy in copies]
        return {
            name: (sum if name in ADD_UP else statistics.median)([values[name] for values in each])
            for name in each[0]
            if all(name in values for values in each)
        }

    async def _in_one(self, laboratory: Laboratory, population: Population, strategy: Strategy) -> Mapping[str, float]:
        asked = await _let_ask(population.place)
        started = time.perf_counter()
        async with await population.place.tenants() as database:
            async with database.unbound():
                connected = time.perf_counter() - started
            values = await self._met(laboratory, database, population, strategy, asked=asked)
            return {
                **values,
                **({"reach_bytes": values["backend_bytes"]} if "backend_bytes" in values else {}),
                "connect_ms": connected * 1000,
                **await _stored(population, strategy),
            }

    async def _met(
        self, laboratory: Laboratory, database: Database, population: Population, strategy: Strategy, *, asked: bool
    ) -> Mapping[str, float]:
        backend = Backend(None)
        connections: list[list[int]] = []
        for resident in population.residents:
            # In this order, each in a transaction.
            for operation in (each for each in laboratory.operations.values() if not each.writes):
                written = self._statements.of(operation, resident, strategy)
                async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
                    await work.value(written.sql, *written.arguments)
            size = backend.own_bytes()
            if size is None:  # the first connection, or the one after a connection that was replaced
                async with database.unbound() as work:
                    backend = await Backend.behind(work, laboratory)
                size = backend.own_bytes()
                connections.append([])
            if size is not None:
                connections[-1].append(size)
        async with database.unbound() as work:
            values = await _reported(work, asked=asked)
        if first := connections[0]:
            values["backend_bytes"] = max(max(sizes, default=0) for sizes in connections)
            values["replaced_count"] = len(connections) - 1
            if len(first) > 1:
                values["backend_growth_bytes"] = (first[-1] - first[0]) / (len(first) - 1)
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
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    tenants = len(population.residents)
    return {
        "relations_count": relations,
        "indexes_count": indexes,
        "catalogue_bytes": int(catalogue),
        "tables_a_tenant_bytes": int(of_tables) / tenants,
        "indexes_a_tenant_bytes": int(of_indexes) / tenants,
        "disk_a_tenant_bytes": int(size) / tenants,
    }
