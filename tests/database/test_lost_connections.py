"""A server process that dies loses at most its current transaction, and nothing needs a restart."""

import asyncio
from contextlib import AsyncExitStack
from threading import Thread

import asyncpg
import pytest
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from isola.database.transactions import Database, Transaction
from isola.errors import Unavailable
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from tests.database.conftest import kill, tenant_of

ADA = insert(users).values(subject="ada", name="Ada")


async def _backend(work: Transaction) -> int:
    backend: int = await work.value("SELECT pg_backend_pid()")
    return backend


@pytest.mark.parametrize("seen", [True, False], ids=["seen at once", "not seen before they are used"])
async def test_dead_connections_in_the_pool_are_replaced_transparently(
    seen: bool,  # noqa: FBT001
    copy: Copy,
    killer: asyncpg.Connection,
    a: Tenant,
    b: Tenant,
) -> None:
    size = 8
    tenants = [a, b] * (size // 2)
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=size) as database:
        async with AsyncExitStack() as held:
            before = {await _backend(await held.enter_async_context(database.transaction(each))) for each in tenants}
        if seen:
            await kill(killer, *before)
        else:
            # In a thread that is joined at once, so that the event loop here runs nothing meanwhile.
            thread = Thread(target=asyncio.run, args=(_kill_by_another(copy.where.tenant, before),))
            thread.start()
            thread.join()
        found = await asyncio.gather(*(tenant_of(database, tenant) for tenant in tenants))
        assert found == [str(tenant.id) for tenant in tenants]
        async with database.transaction(a) as work:
            assert await _backend(work) not in before


async def _kill_by_another(url: str, backends: set[int]) -> None:
    connection = await asyncpg.connect(url)
    await kill(connection, *backends)
    await connection.close()


async def test_one_that_dies_between_statements_is_unavailable(
    database: Database, killer: asyncpg.Connection, a: Tenant
) -> None:
    with pytest.raises(Unavailable, match="connection"):
        async with database.transaction(a) as work:
            await work.execute(ADA)
            await kill(killer, await _backend(work))
            await work.rows(select(users))
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []


async def test_one_that_dies_during_a_statement_is_unavailable(
    database: Database, killer: asyncpg.Connection, a: Tenant
) -> None:
    started = asyncio.get_running_loop().create_future()

    async def sleep() -> None:
        async with database.transaction(a) as work:
            started.set_result(await _backend(work))
            await work.value("SELECT pg_sleep(3600)")

    sleeping = asyncio.create_task(sleep())
    await kill(killer, await started)
    with pytest.raises(Unavailable, match="connection"):
        await sleeping
    assert await tenant_of(database, a) == str(a.id)


async def test_one_that_dies_before_the_commit_is_unavailable_and_commits_nothing(
    database: Database, killer: asyncpg.Connection, a: Tenant
) -> None:
    with pytest.raises(Unavailable, match="connection was lost"):
        async with database.transaction(a) as work:
            await work.execute(ADA)
            await kill(killer, await _backend(work))
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []


async def test_one_that_dies_while_an_exception_is_on_its_way_changes_nothing_about_it(
    database: Database, killer: asyncpg.Connection, a: Tenant
) -> None:
    with pytest.raises(LookupError):
        async with database.transaction(a) as work:
            await work.execute(ADA)
            await kill(killer, await _backend(work))
            raise LookupError
    assert await tenant_of(database, a) == str(a.id)


async def test_under_load_there_are_clean_errors_and_then_none(
    database: Database, killer: asyncpg.Connection, a: Tenant, b: Tenant
) -> None:
    """Each answer is for the right tenant or UNAVAILABLE, and no acknowledged write is lost."""
    acknowledged: dict[str, set[str]] = {str(a.id): set(), str(b.id): set()}
    stop = asyncio.Event()

    async def client(number: int, tenant: Tenant) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            subject = f"{number}-{turn}"
            try:
                async with database.transaction(tenant) as work:
                    await work.execute(insert(users).values(subject=subject, name=str(tenant.id)))
                    seen = await work.rows(select(users.c.name).limit(10))
            except Unavailable:
                continue
            assert {row["name"] for row in seen} == {str(tenant.id)}
            acknowledged[str(tenant.id)].add(subject)

    async def murderer() -> None:
        for _ in range(20):
            await asyncio.sleep(0.03)
            await killer.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
                """
            )
        stop.set()

    async with asyncio.TaskGroup() as group:
        for number, tenant in enumerate([a, b] * 3):
            group.create_task(client(number, tenant))
        group.create_task(murderer())
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            there = {row["subject"]: row["name"] for row in await work.rows(select(users))}
        assert acknowledged[str(tenant.id)]
        assert acknowledged[str(tenant.id)] <= there.keys()
        assert set(there.values()) == {str(tenant.id)}


async def test_an_inaccessible_home_is_logged_with_a_code(
    copy: Copy, owner: Database, database: Database, a: Tenant
) -> None:
    """The name of a role and the tenant are only in the log of the database."""
    role = copy.strategies[a.strategy].home(a.id).role
    if role is None:
        pytest.skip("the home is entered without a role")
    async with owner.unbound() as transaction:
        await transaction.script(f"REVOKE {role} FROM {copy.where.tenant_login}")
    try:
        with capture_logs() as logged, pytest.raises(Unavailable) as caught:
            await tenant_of(database, a)
    finally:
        async with owner.unbound() as transaction:
            await transaction.script(f"GRANT {role} TO {copy.where.tenant_login}")
    assert logged == [{"event": "a transaction could not begin", "log_level": "warning", "sqlstate": "42501"}]
    assert a.id.hex not in caught.value.message.replace("-", "")
    assert await tenant_of(database, a) == str(a.id)
