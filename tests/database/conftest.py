"""A pool of one connection, and the session state that a borrower leaves to the next one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE

LEFT_BEHIND = """
SELECT current_setting('role') AS role,
       coalesce(current_setting('isola.tenant', true), '') AS tenant,
       coalesce(current_setting('isola.proof', true), '') AS proof,
       current_setting('search_path') AS search_path,
       current_setting('statement_timeout') AS statement_timeout,
       current_setting('TimeZone') AS timezone,
       (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') AS locks,
       (SELECT count(*) FROM pg_cursors) AS cursors,
       (SELECT count(*) FROM pg_listening_channels()) AS channels,
       (SELECT count(*) FROM pg_class WHERE pg_my_temp_schema() = relnamespace) AS temporary
"""

# Session state that outlives a transaction. PostgreSQL does not list custom settings, so they are named here.
OF_THE_SESSION = """
SELECT name FROM pg_settings WHERE source = 'session' AND name NOT IN ('transaction_isolation', 'transaction_read_only')
UNION ALL
SELECT name FROM unnest(ARRAY['isola.proof', 'isola.home', 'isola.tenant']) name WHERE current_setting(name, true) <> ''
"""

State = Mapping[str, Any]


@pytest.fixture
async def single(copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1, wait=20) as database:
        yield database


@pytest.fixture
def next_borrower(single: Database) -> Callable[[], Awaitable[State]]:
    """The state that the next borrower of the one connection finds before it runs anything."""

    async def look() -> State:
        link = await single._pool.borrow(None)
        assert not link.connection.is_in_transaction()
        found = dict(await link.connection.fetchrow(LEFT_BEHIND))
        single._pool.release(link, None, clean=True)
        return found

    return look


@pytest.fixture
async def untouched(copy: Copy) -> State:
    """The state of a new connection."""
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as database:
        link = await database._pool.borrow(None)
        found = dict(await link.connection.fetchrow(LEFT_BEHIND))
        database._pool.release(link, None, clean=True)
        return found


@pytest.fixture
async def killer(copy: Copy, owner: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection that may terminate the others of its login, unlike any other connection of that login."""
    async with owner.unbound() as work:
        await work.script(
            f"GRANT EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) TO {copy.where.tenant_login}"
        )
    connection = await asyncpg.connect(copy.where.tenant)
    yield connection
    await connection.close()


async def kill(killer: asyncpg.Connection, *backends: int) -> None:
    """Terminate server processes, and wait until they are gone."""
    for backend in backends:
        assert await killer.fetchval("SELECT pg_terminate_backend($1)", backend)
    gone = "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = ANY ($1::int[]))"
    async with asyncio.timeout(PATIENCE):
        while not await killer.fetchval(gone, backends):  # noqa: ASYNC110  another process is waited for
            await asyncio.sleep(0.01)


async def tenant_of(database: Database, tenant: Tenant) -> str:
    """The tenant that a transaction is bound to."""
    async with database.transaction(tenant) as work:
        bound: str = await work.value("SELECT current_setting('isola.tenant')")
        return bound
