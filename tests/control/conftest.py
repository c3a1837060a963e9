"""Databases at every stage of installation and migration."""

import asyncio
from collections.abc import AsyncIterator
from io import StringIO

import asyncpg
import pytest
from alembic import command
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.platform.tenants import Tenant
from isola.subjects.applications import BUILT_IN
from isola.subjects.metadata import metadata
from isola.testing.fixtures import DEFAULTS, Cluster, Copy, made
from isola_strategies import registry
from isola_strategies.base import Strategy

OLD = "0001"
# The tables that existed at that revision.
FIRST = ("users", "organizations", "memberships", "resources", "spans")
HOMES_A_STRATEGY = 3


@pytest.fixture
async def blank(cluster: Cluster, server: asyncpg.Connection) -> AsyncIterator[Copy]:
    """An empty database."""
    async with made(cluster, server, "template0") as name:
        where = logins.addresses(DEFAULTS, cluster.address(name))
        yield Copy(where, registry.load(where.tenant_login))


@pytest.fixture
async def blank_owner(blank: Copy) -> AsyncIterator[Database]:
    """The owner's connections to the blank database."""
    assert blank.where.owner
    async with await Database.open(blank.where.owner, size=4, statement_timeout=60) as database:
        yield database


@pytest.fixture
async def old(blank: Copy, blank_owner: Database) -> list[Tenant]:
    """Some tenants under each strategy, with homes at the first revision, in the blank database."""
    await migrations.migrate(blank_owner, blank.strategies, blank.where)
    tenants = [
        await provisioning.create(blank_owner, blank.strategies, slug=f"{name}-{number}", name="Old", strategy=name)
        for name in blank.strategies
        for number in range(HOMES_A_STRATEGY)
    ]
    for strategy in blank.strategies.values():
        first = _first_revision(strategy)
        for home in strategy.homes([tenant.id for tenant in tenants if tenant.strategy == strategy.name]):
            async with blank_owner.unbound() as transaction:
                # The home's role outlives the schema, but loses its USAGE right.
                await transaction.script(f"DROP SCHEMA {home.schema} CASCADE; CREATE SCHEMA {home.schema}")
                await transaction.script(
                    f"GRANT USAGE ON SCHEMA {home.schema} TO {home.role or blank.where.tenant_login}"
                )
                await transaction.script(f"SET LOCAL search_path TO {home.schema}; {first}")
                await transaction.script(f"COMMENT ON SCHEMA {home.schema} IS '{migrations.MARK}{OLD}'")
                await transaction.script(";".join(strategy.admit(home, [metadata.tables[name] for name in FIRST])))
    return tenants


def _first_revision(strategy: Strategy) -> str:
    output = StringIO()
    command.upgrade(migrations._config(BUILT_IN, strategy, output), f"base:{OLD}", sql=True)
    return output.getvalue()


@pytest.fixture
async def second(cluster: Cluster, server: asyncpg.Connection) -> AsyncIterator[str]:
    """The address of an owner, not a superuser, with a separate database in the cluster of the tests' installations."""
    if not await server.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        pytest.skip("only a superuser makes another owner")
    async with made(cluster, server, "template0") as name:
        await server.execute("CREATE ROLE second_owner LOGIN CREATEROLE PASSWORD 'second'")
        await server.execute(f"ALTER DATABASE {name} OWNER TO second_owner")
        url = make_url(cluster.address(name)).set(username="second_owner", password="second")
        yield url.render_as_string(hide_password=False)
        inside = await asyncpg.connect(cluster.address(name))
        await inside.execute(f"ALTER DATABASE {name} OWNER TO CURRENT_USER")
        roles = await inside.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname ~ '^second_' ORDER BY rolname = 'second_owner'"
        )
        homes = await inside.fetch("SELECT nspname FROM pg_namespace WHERE nspname ~ '^t_'")
        for (role,) in [*homes, *roles]:
            await inside.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await inside.close()


def addresses(owner: str, prefix: str) -> logins.Addresses:
    names = (logins.derived(make_url(owner), f"{prefix}_{kind}") for kind in ("tenant", "control"))
    tenant, control = (name.render_as_string(hide_password=False) for name in names)
    return logins.Addresses(owner, tenant, control, prefix)


async def until_alone(owner: Database) -> None:
    """Wait until no other session runs anything here: those of lost clients have noticed the loss."""
    others = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'
    """
    for _ in range(2000):
        async with owner.unbound() as transaction:
            if not await transaction.value(others):
                return
        await asyncio.sleep(0.005)
    pytest.fail("somebody is still at work")
