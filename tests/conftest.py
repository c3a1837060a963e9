"""One suite over all strategies, on a real PostgreSQL.

The embedded one, unless ``ISOLA_TEST_DATABASE_URL`` names another server by an owner's address: a superuser's, or one
with CREATEDB and CREATEROLE. A database that holds two tenants of each strategy is made once and copied for each test.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from app import embedded
from app.control import logins, migrations, provisioning
from app.control.tenants import Tenant
from app.database import Database
from app.settings import Settings
from strategies import registry
from strategies.base import Strategy

# Whatever the environment of the person who runs the tests says.
DEFAULTS = Settings.model_construct()
STRATEGIES = sorted(registry.load("isola_tenant"))
# Nothing here must survive a power cut.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A PostgreSQL server with a database to copy."""

    url: str
    template: str

    def address(self, database: str) -> str:
        return make_url(self.url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    given = os.environ.get("ISOLA_TEST_DATABASE_URL")
    template = f"isola_test_{uuid4().hex[:8]}"
    if given:
        made = Cluster(given, template)
        asyncio.run(_furnish(made))
        yield made
        asyncio.run(_clear(made))
    else:
        # Not in pytest's own directory: each new run closes that to the user that PostgreSQL runs as.
        with TemporaryDirectory(prefix="isola-test-") as data_dir, embedded.running(Path(data_dir), FAST) as url:
            made = Cluster(url, template)
            asyncio.run(_furnish(made))
            yield made


async def _furnish(made: Cluster) -> None:
    await _command(made, f"CREATE DATABASE {made.template}")
    where = logins.addresses(DEFAULTS, made.address(made.template))
    strategies = registry.load(where.tenant_login)
    async with await Database.open(made.address(made.template), size=2, statement_timeout=60) as owner:
        await migrations.migrate(owner, strategies, where)
        for strategy in strategies:
            for letter in "ab":
                slug = f"{strategy}-{letter}"
                await provisioning.create(owner, strategies, slug=slug, name=slug.title(), strategy=strategy)


async def _clear(made: Cluster) -> None:
    """Roles belong to the server, so they outlive the databases of the tests."""
    connection = await asyncpg.connect(made.address(made.template))
    roles = [row["role"] for row in await connection.fetch("SELECT role FROM control.tenants WHERE role <> 'none'")]
    await connection.close()
    await _command(made, f"DROP DATABASE {made.template} WITH (FORCE)", *(f"DROP ROLE {role}" for role in roles))


async def _command(made: Cluster, *statements: str) -> None:
    connection = await asyncpg.connect(made.url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


@dataclass(frozen=True, slots=True)
class Copy:
    """A test's own database: the addresses of its logins, and the strategies that serve it."""

    where: logins.Addresses
    strategies: Mapping[str, Strategy]


copies = count()


@pytest.fixture
async def copy(cluster: Cluster) -> AsyncIterator[Copy]:
    name = f"{cluster.template}_{next(copies)}"
    await _command(cluster, f"CREATE DATABASE {name} TEMPLATE {cluster.template} STRATEGY file_copy")
    where = logins.addresses(DEFAULTS, cluster.address(name))
    async with await Database.open(cluster.address(name)) as owner:
        # What a database itself may be used for is not copied with it.
        await migrations.prepare(owner, where)
    yield Copy(where, registry.load(where.tenant_login))
    connection = await asyncpg.connect(cluster.address(name))
    brought = await connection.fetch("SELECT role FROM control.tenants WHERE role <> 'none' AND home IS NOT NULL")
    await connection.close()
    await _command(cluster, f"DROP DATABASE {name} WITH (FORCE)")
    template = await asyncpg.connect(cluster.address(cluster.template))
    kept = {row["role"] for row in await template.fetch("SELECT role FROM control.tenants")}
    await template.close()
    await _command(cluster, *(f"DROP ROLE IF EXISTS {row['role']}" for row in brought if row["role"] not in kept))


@pytest.fixture
async def owner(copy: Copy) -> AsyncIterator[Database]:
    """The owner's connections."""
    assert copy.where.owner
    async with await Database.open(copy.where.owner, size=4, statement_timeout=60) as database:
        yield database


@pytest.fixture
async def control(copy: Copy) -> AsyncIterator[Database]:
    """The control plane's connections."""
    async with await Database.open(copy.where.control, size=2) as database:
        yield database


@pytest.fixture
async def database(copy: Copy) -> AsyncIterator[Database]:
    """The connections of tenant traffic: as few as show what one borrower leaves behind for the next."""
    async with await Database.open(copy.where.tenant, copy.strategies, size=2) as opened:
        yield opened


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest, copy: Copy) -> Strategy:
    """Each strategy of the registry in turn."""
    return copy.strategies[request.param]


@pytest.fixture
async def a(strategy: Strategy, control: Database) -> Tenant:
    """A tenant under the strategy."""
    return await provisioning.named(control, f"{strategy.name}-a")


@pytest.fixture
async def b(strategy: Strategy, control: Database) -> Tenant:
    """Another tenant under the same strategy."""
    return await provisioning.named(control, f"{strategy.name}-b")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return DEFAULTS.model_copy(update={"data_dir": tmp_path})
