"""Behind PgBouncer in transaction mode, many clients share few connections, and no tenant meets another."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select

from app.control import provisioning
from app.control.tenants import Tenant
from app.database import Database
from app.domain.users import users
from app.errors import Conflict, Unavailable
from strategies import registry
from tests.conftest import Copy
from tests.database import pgbouncer

CLIENTS = 50
TURNS = 6


@pytest.fixture
async def pooled(copy: Copy) -> AsyncIterator[Database]:
    """As many connections to PgBouncer as there are clients. Before 1.21 it knows no prepared statements."""
    with pgbouncer.running(copy.where.tenant) as url:
        async with await Database.open(
            url, copy.strategies, copy.binding_key, size=CLIENTS, wait=20, statement_cache=False
        ) as database:
            yield database


@pytest.fixture
async def tenants(control: Database) -> list[Tenant]:
    """A and B under every strategy."""
    return [
        await provisioning.named(control, f"{strategy}-{letter}")
        for strategy in registry.load("isola_tenant")
        for letter in "ab"
    ]


async def test_many_clients_on_few_connections_are_never_mixed(pooled: Database, tenants: list[Tenant]) -> None:
    backends: Counter[int] = Counter()

    async def client(number: int) -> None:
        for turn in range(TURNS):
            tenant = tenants[(number + turn) % len(tenants)]
            async with pooled.transaction(tenant) as work:
                await work.execute(insert(users).values(subject=f"{number}-{turn}", name=str(tenant.id)))
                await asyncio.sleep(0)
                assert {row["name"] for row in await work.rows(select(users))} == {str(tenant.id)}
                assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
                backends[await work.value("SELECT pg_backend_pid()")] += 1

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    assert len(backends) == pgbouncer.SERVER_CONNECTIONS
    assert backends.total() == CLIENTS * TURNS
    written = 0
    for tenant in tenants:
        async with pooled.transaction(tenant) as work:
            written += len(await work.rows(select(users)))
    assert written == CLIENTS * TURNS


async def test_failing_clients_leave_nothing_to_the_next(pooled: Database, tenants: list[Tenant]) -> None:
    """One of them breaks a rule, raises, leaves settings behind or is cancelled at every turn."""

    async def client(number: int) -> None:
        tenant = tenants[number % len(tenants)]
        outcome: BaseException | None = None
        try:
            async with pooled.transaction(tenant) as work:
                await work.execute(insert(users).values(subject=str(number), name=str(tenant.id)))
                match number % 5:
                    case 0:
                        await work.execute(insert(users).values(subject=str(number), name=str(tenant.id)))
                    case 1:
                        raise LookupError
                    case 2:
                        await work.script("SET isola.request TO 'left behind'; SET search_path TO public")
                    case 3:
                        await work.script(
                            "SELECT pg_advisory_lock(42); LISTEN everybody; SELECT pg_advisory_unlock(42)"
                        )
                    case _:
                        asyncio.current_task().cancel()  # type: ignore[union-attr]  # this is one
                        await asyncio.sleep(0)
        except (Conflict, LookupError, asyncio.CancelledError) as error:
            outcome = error
        assert (outcome is None) == (number % 5 in {2, 3})
        async with pooled.transaction(tenant) as work:
            assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
            assert await work.value("SELECT current_setting('search_path')") != "public"
            assert {row["name"] for row in await work.rows(select(users))} <= {str(tenant.id)}
        async with pooled.unbound() as work:
            assert await work.value("SELECT isola.current_tenant_id()") is None
            assert await work.value("SELECT coalesce(current_setting('isola.request', true), '')") == ""
            assert await work.value("SELECT current_setting('role')") == "none"

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def test_when_its_server_connections_are_taken_it_is_unavailable_in_time(
    copy: Copy, tenants: list[Tenant]
) -> None:
    """PgBouncer itself would let them wait for two minutes."""
    with pgbouncer.running(copy.where.tenant) as url:
        async with await Database.open(
            url, copy.strategies, copy.binding_key, size=4, wait=0.5, statement_cache=False
        ) as database:
            async with database.transaction(tenants[0]), database.transaction(tenants[1]):
                with pytest.raises(Unavailable):
                    async with asyncio.timeout(5), database.transaction(tenants[0]):
                        pytest.fail("there is a third connection")
            async with database.transaction(tenants[0]) as work:
                assert await work.value("SELECT isola.current_tenant_id()") == tenants[0].id
