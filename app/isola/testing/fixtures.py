"""Fixtures for one suite over all strategies, on a real PostgreSQL.

It is the embedded one, unless ``TEST_DATABASE_URL`` is the owner's address of another server: a superuser's, or one
with CREATEDB and CREATEROLE. A template database with two tenants of each strategy is copied for each test.
"""

import asyncio
import gc
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest
from graphql import parse, validate
from sqlalchemy import make_url

from isola.database import embedded
from isola.database.binding import NOTHING, BindingKey, record
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning, secrets
from isola.platform.changes import Changes
from isola.platform.tenants import Tenant
from isola.query import documents
from isola.settings import Settings
from isola.testing import modes
from isola.testing.consent import make_partners
from isola.testing.patience import PATIENCE
from isola_strategies import registry
from isola_strategies.base import Strategy

# Independent of the environment variables of the person who runs the tests.
# Tests send more new documents than a tenant may.
DEFAULTS = Settings.model_construct(pool_wait=PATIENCE, statement_timeout=PATIENCE, document_share=1.0)
STRATEGIES = sorted(registry.load("isola_tenant"))
# The strategies of the fixture ``strategy``: all, unless ``make isolation STRATEGY=…`` selects a single one.
TRIED = [name for name in STRATEGIES if name == os.environ.get("TEST_STRATEGY", name)]
# The data need not survive a crash.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
# Like a shared cluster that allows prepared transactions and records the texts of statements.
SHARED = {
    "max_prepared_transactions": "5",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.track": "all",
}
# Every test database shows those texts, if the server records them and the owner may create the extension.
SHOW_STATEMENTS = """
DO $$ BEGIN
    IF current_setting('pg_stat_statements.max', true) IS NOT NULL AND current_setting('is_superuser')::bool THEN
        CREATE EXTENSION pg_stat_statements;
    END IF;
END $$
"""
# The template of a cluster that ``prepare`` made.
PREPARED = "isola_test_prepared"
# Platform roles that the tests created are marked with this comment and removed at the end.
OURS = "made by the tests of isola"
PLATFORM_ROLES = r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'isola\_%'"
# Roles with privileges in a database, except the platform's and the owner; any database can run this query.
HOMES_ROLES = r"""
SELECT DISTINCT quote_ident(rolname) AS role FROM pg_database d JOIN pg_shdepend s ON s.dbid = d.oid
JOIN pg_roles r ON s.refclassid = 'pg_authid'::regclass AND s.refobjid = r.oid
WHERE datname = $1 AND rolname NOT LIKE 'isola\_%' AND rolname <> current_user
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL server with a database to copy."""

    url: str
    template: str
    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    """The tenants of the template, and so of every copy, by their slugs."""
    key: BindingKey | None = field(default=None, repr=False)
    """The binding key of the template, and so of every copy."""

    def address(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)


def pytest_collection_finish() -> None:
    """Exclude imported modules from garbage collection: they stay, and scanning them takes time."""
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000, 20, 20)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the sums of the tests' counters."""
    figures: Counter[str] = Counter()
    for report in terminalreporter.getreports(""):
        if report.when == "teardown":
            for name, value in report.user_properties:
                figures[name] += value
    for name, value in figures.items():
        terminalreporter.write_line(f"{name}: {value:,}")


@pytest.fixture(scope="session", autouse=True)
def documents_read_once() -> Iterator[None]:
    """Cache graphql-core's parsed and validated documents for all servers of a run: they are immutable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documents, "parse", lru_cache(1000)(parse))
        patch.setattr(documents, "validate", lru_cache(1000)(validate))
        yield


@pytest.fixture(scope="session", autouse=True)
def packages_looked_for_once() -> Iterator[None]:
    """If sniffio is missing, httpx searches for it several times per request, which takes half of the request's time.

    Strategies are searched for in all installed packages, each time that a database is copied.
    """
    with pytest.MonkeyPatch.context() as patch:
        if find_spec("sniffio") is None:
            patch.setitem(sys.modules, "sniffio", None)
        patch.setattr("isola_strategies.registry.entry_points", lru_cache(entry_points))
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    given = os.environ.get("TEST_DATABASE_URL")
    template = f"isola_test_{uuid4().hex[:8]}"
    if given:
        made = Cluster(given, template)
        try:
            yield asyncio.run(_furnish(made))
        finally:
            asyncio.run(_clear(made))
    else:
        prepared = os.environ.get("TEST_PREPARED")
        # Not in pytest's own directory: each new run makes it inaccessible to PostgreSQL's user.
        with TemporaryDirectory(prefix="isola-test-", dir=memory()) as data_dir:
            if prepared:
                # PostgreSQL runs as the owner of the files.
                subprocess.run(["cp", "-a", f"{prepared}/.", data_dir], check=True)
            with embedded.running(Path(data_dir), FAST | SHARED) as url:
                made = Cluster(url, PREPARED if prepared else template)
                yield asyncio.run(_known(made) if prepared else _furnish(made))


def prepare(data_dir: Path) -> None:
    """Make a cluster with a template. Test runs copy it if ``TEST_PREPARED`` names it; they start four times faster."""
    with embedded.running(data_dir, FAST | SHARED) as url:
        asyncio.run(_furnish(Cluster(url, PREPARED)))


def memory() -> Path | None:
    """A file system in memory with free space, if there is one: copying a database takes a quarter of the time."""
    memory = Path("/dev/shm")  # noqa: S108  the caller makes its own directory in it
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > 2 << 30 else None


async def _furnish(made: Cluster) -> Cluster:
    async with _alone(made) as connection:
        before = {row["rolname"] for row in await connection.fetch(PLATFORM_ROLES)}
        await connection.execute(f"CREATE DATABASE {made.template} TEMPLATE template0")
        where = logins.addresses(DEFAULTS, made.address(made.template))
        strategies = registry.load(where.tenant_login)
        async with await Database.open(made.address(made.template), size=2, statement_timeout=60) as owner:
            async with owner.unbound() as work:
                await work.script(SHOW_STATEMENTS)
            await migrations.migrate(owner, strategies, where)
            for strategy in strategies:
                for letter in "ab":
                    slug = f"{strategy}-{letter}"
                    await provisioning.create(owner, strategies, slug=slug, name=slug.title(), strategy=strategy)
            await make_partners(owner)
        for row in await connection.fetch(PLATFORM_ROLES):
            if row["rolname"] not in before:
                await connection.execute(f"COMMENT ON ROLE {row['rolname']} IS '{OURS}'")
    return await _known(made)


async def _known(made: Cluster) -> Cluster:
    """The cluster with what its template has."""
    slugs = [f"{strategy}-{letter}" for strategy in STRATEGIES for letter in "ab"]
    async with await Database.open(made.address(made.template), size=1) as owner:
        tenants = {slug: await provisioning.named(owner, slug) for slug in slugs}
        async with owner.unbound() as work:
            return replace(made, tenants=tenants, key=await secrets.binding_key(work))


async def _clear(made: Cluster) -> None:
    """Remove the template and its roles: roles belong to the server, so they outlive the test databases."""
    async with _alone(made) as connection:
        roles = await _homes_roles(connection, made.template)
        await _drop_database(connection, made.template)
        for role in roles:
            await connection.execute(f"DROP ROLE {role}")
        for row in await connection.fetch(f"{PLATFORM_ROLES} AND shobj_description(oid, 'pg_authid') = '{OURS}'"):
            with suppress(asyncpg.DependentObjectsStillExistError):  # another run uses it, and will drop it
                await connection.execute(f"DROP ROLE {row['rolname']}")


async def _drop_database(connection: asyncpg.Connection, name: str) -> None:
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    except asyncpg.InsufficientPrivilegeError:
        # Only a superuser can end the sessions of others. Without FORCE, PostgreSQL waits 5 s for them to end.
        await connection.execute(f"DROP DATABASE IF EXISTS {name}")


async def _homes_roles(connection: asyncpg.Connection, database: str) -> set[str]:
    """The roles created for the homes of a database; empty if there is no such database, or no home."""
    return {row["role"] for row in await connection.fetch(HOMES_ROLES, database)}


@asynccontextmanager
async def connected(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to the server, to create and drop databases."""
    connection = await asyncpg.connect(cluster.url)
    try:
        yield connection
    finally:
        await connection.close()


@asynccontextmanager
async def _alone(made: Cluster) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection, with a lock that keeps other runs on the server from changing shared roles."""
    async with connected(made) as connection:
        await connection.execute("SELECT pg_advisory_lock(hashtext('isola.tests'))")
        yield connection


@dataclass(frozen=True, slots=True)
class Copy:
    """A test's own database: the addresses of its logins, and the strategies that serve it."""

    where: logins.Addresses
    strategies: Mapping[str, Strategy]
    key: BindingKey | None = field(default=None, repr=False)
    """Its binding key, if it had one when it was copied."""

    async def binding_key(self) -> BindingKey:
        if self.key:
            return self.key
        async with await Database.open(self.where.control) as control, control.unbound() as work:
            return await secrets.binding_key(work)

    async def proof(self, connection: asyncpg.Connection, tenant: Tenant, about: Mapping[str, str] = NOTHING) -> str:
        """A proof for the current transaction of a connection."""
        transaction = await connection.fetchval("SELECT isola.this_transaction()")
        return (await self.binding_key()).proof(record(tenant.id, about), transaction)

    async def enter(self, connection: asyncpg.Connection, tenant: Tenant, about: Mapping[str, str] = NOTHING) -> None:
        """Bind the current transaction of a connection to a tenant, as the server does."""
        proof = await self.proof(connection, tenant, about)
        await connection.execute(self.strategies[tenant.strategy].bind(tenant.id))
        await connection.execute("SELECT set_config('isola.proof', $1, true)", proof)


_databases = count()


@asynccontextmanager
async def made(cluster: Cluster, server: asyncpg.Connection, template: str) -> AsyncIterator[str]:
    """Create a database from a template; drop it at the end, with the roles of its homes. Yields its name."""
    name = f"{cluster.template}_{next(_databases)}"
    there = await _homes_roles(server, template)
    await server.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    yield name
    brought = await _homes_roles(server, name) - there
    await _drop_database(server, name)
    for role in brought:
        await server.execute(f"DROP ROLE IF EXISTS {role}")


@asynccontextmanager
async def copied(cluster: Cluster, server: asyncpg.Connection) -> AsyncIterator[Copy]:
    """A copy of the template database, dropped at the end."""
    async with made(cluster, server, cluster.template) as name:
        where = logins.addresses(DEFAULTS, cluster.address(name))
        await server.execute(logins.admit_to_database(name, where))
        yield Copy(where, registry.load(where.tenant_login), cluster.key)


@pytest.fixture(scope="session")
async def server(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    async with connected(cluster) as connection:
        yield connection


@pytest.fixture
async def copy(cluster: Cluster, server: asyncpg.Connection) -> AsyncIterator[Copy]:
    async with copied(cluster, server) as copy:
        yield copy


@pytest.fixture
async def owner(copy: Copy) -> AsyncIterator[Database]:
    """The owner's connections."""
    assert copy.where.owner
    async with await Database.open(copy.where.owner, size=4, wait=PATIENCE, statement_timeout=60) as database:
        yield database


@pytest.fixture
async def control(copy: Copy) -> AsyncIterator[Database]:
    """The control plane's connections."""
    async with await Database.open(copy.where.control, size=2, wait=PATIENCE) as database:
        yield database


@pytest.fixture
async def changes(copy: Copy) -> AsyncIterator[Changes]:
    """Notifications of changes, delivered when the test asks for them."""
    async with await Database.open(copy.where.control) as database, Changes(database, interval=3600) as heard:
        heard.fresh_until = math.inf
        yield heard


@pytest.fixture
async def database(copy: Copy) -> AsyncIterator[Database]:
    """A pool of tenant traffic, so small that leaks from one use of a connection to the next become visible."""
    with modes.between(copy.where.tenant) as address:
        async with await Database.open(
            address, copy.strategies, copy.binding_key, size=2, wait=PATIENCE, statement_cache=modes.STATEMENT_CACHE
        ) as opened:
            yield opened


@pytest.fixture(params=TRIED)
def strategy(request: pytest.FixtureRequest, copy: Copy) -> Strategy:
    """Each strategy of the registry in turn, or the one under test."""
    return copy.strategies[request.param]


@pytest.fixture
def other(strategy: Strategy, copy: Copy) -> Strategy:
    """Another strategy, as different as possible: the target of moves."""
    others = [each for each in copy.strategies.values() if each != strategy]
    unlike = [each for each in others if each.capabilities != strategy.capabilities]
    return [*others, *unlike][-1]


@pytest.fixture
def a(strategy: Strategy, cluster: Cluster) -> Tenant:
    """A tenant under the strategy."""
    return cluster.tenants[f"{strategy.name}-a"]


@pytest.fixture
def b(strategy: Strategy, cluster: Cluster) -> Tenant:
    """Another tenant under the same strategy."""
    return cluster.tenants[f"{strategy.name}-b"]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return DEFAULTS.model_copy(update={"data_dir": tmp_path})
