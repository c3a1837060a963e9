"""A client can disconnect at any moment. Its task is cancelled, and no connection or binding leaks."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import insert, select

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing.patience import PATIENCE
from tests.database.conftest import tenant_of
from tests.database.interruption import Interruption

ROUNDS = 3


async def _written(database: Database, tenant: Tenant, subject: str) -> None:
    """Run a transaction with every kind of await."""
    async with database.transaction(tenant) as work:
        await work.execute(insert(users).values(subject=subject, name=str(tenant.id)))
        await work.rows(select(users))
        await asyncio.sleep(0)


async def _interrupted(database: Database, tenant: Tenant, subject: str, at: int, *, late: bool) -> bool:
    interruption = Interruption(_written(database, tenant, subject), at, late=late)

    async def run() -> None:
        await interruption

    with suppress(asyncio.CancelledError):
        await asyncio.create_task(run())
    return interruption.reached


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "when the wait is over"])
async def test_cancellation_at_every_await_leaves_no_state_to_the_next_transaction(
    late: bool,  # noqa: FBT001
    database: Database,
    login_count: "LoginCount",
    a: Tenant,
    b: Tenant,
) -> None:
    """Over two connections, A and B in turn. After each cancellation both connections are available and clean."""
    tried = 0
    for attempt in range(ROUNDS):
        at, reached = 1, True
        while reached:
            tenant, other = (a, b) if (at + attempt) % 2 else (b, a)
            reached = await _interrupted(database, tenant, f"{attempt}-{at}-{late}", at, late=late)
            found = await asyncio.gather(tenant_of(database, other), tenant_of(database, tenant))
            assert list(found) == [str(other.id), str(tenant.id)]
            at += 1
            tried += 1
    assert tried > ROUNDS * 6
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            assert {row["name"] for row in await work.rows(select(users))} <= {str(tenant.id)}
    await login_count.settles_at(most=2)


async def test_random_cancellations_leave_no_state_to_the_next_transaction(
    database: Database, login_count: "LoginCount", a: Tenant, b: Tenant
) -> None:
    """More clients than connections, so that some are cancelled while they wait for one."""
    for delay in range(40):
        tasks = [
            asyncio.create_task(_written(database, tenant, f"{delay}-{number}"))
            for number, tenant in enumerate([a, b] * 3)
        ]
        await asyncio.sleep(delay / 5000)
        for task in tasks[delay % 2 :: 2]:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(outcome is None or isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
        assert [await tenant_of(database, tenant) for tenant in (a, b)] == [str(a.id), str(b.id)]
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            assert {row["name"] for row in await work.rows(select(users))} == {str(tenant.id)}
    await login_count.settles_at(most=2)


async def test_a_cancelled_statement_stops(database: Database, login_count: "LoginCount", a: Tenant) -> None:
    async def sleep() -> None:
        async with database.transaction(a) as work:
            await work.value("SELECT pg_sleep(3600)")

    task = asyncio.create_task(sleep())
    await asyncio.sleep(0.1)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    await login_count.settles_at(most=0)


class LoginCount:
    """How many connections of the login of tenant traffic exist on the database server."""

    def __init__(self, watcher: asyncpg.Connection) -> None:
        self._watcher = watcher

    async def settles_at(self, *, most: int) -> None:
        """Fail unless there are soon at most ``most``. A discarded connection takes a moment to close."""
        others = """
            SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
        """
        async with asyncio.timeout(PATIENCE):
            while await self._watcher.fetchval(others) > most:  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.02)


@pytest.fixture
async def login_count(killer: asyncpg.Connection) -> LoginCount:
    return LoginCount(killer)
