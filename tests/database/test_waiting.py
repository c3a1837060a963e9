"""No wait is unlimited: not for a connection, not for a statement, not for a database that is down."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from tests.database.conftest import tenant_of

WAIT = 1.0


@pytest.fixture
async def impatient(copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, size=2, wait=WAIT, statement_timeout=WAIT
    ) as database:
        yield database


async def test_without_a_free_connection_it_is_unavailable_in_time(impatient: Database, a: Tenant, b: Tenant) -> None:
    async with AsyncExitStack() as held:
        for tenant in (a, b):
            await held.enter_async_context(impatient.transaction(tenant))
        begun = time.monotonic()
        # No connection is given back meanwhile: only the timeout ends the wait.
        refused = await asyncio.gather(*(tenant_of(impatient, b) for _ in range(20)), return_exceptions=True)
        waited = time.monotonic() - begun
    assert {type(error) for error in refused} == {Unavailable}
    assert {str(error) for error in refused} == {f"the database gave no connection within {WAIT:g} s"}
    assert waited >= WAIT * 0.9
    found = await asyncio.gather(tenant_of(impatient, b), tenant_of(impatient, a))
    assert list(found) == [str(b.id), str(a.id)]


async def test_a_waiter_gets_the_released_connection(impatient: Database, a: Tenant, b: Tenant) -> None:
    async with AsyncExitStack() as held:
        for tenant in (a, b):
            await held.enter_async_context(impatient.transaction(tenant))
        waiting = asyncio.create_task(tenant_of(impatient, b))
        await asyncio.sleep(WAIT / 3)
        assert not waiting.done()
    assert await waiting == str(b.id)


async def test_a_statement_that_takes_too_long_is_unavailable(impatient: Database, a: Tenant) -> None:
    with pytest.raises(Unavailable, match="the statement took too long"):
        async with impatient.transaction(a) as work:
            await work.value("SELECT pg_sleep(3600)")
    assert await tenant_of(impatient, a) == str(a.id)


async def test_waiting_for_a_row_is_limited_by_the_statement_timeout(impatient: Database, a: Tenant) -> None:
    async with impatient.transaction(a) as first:
        await first.script("INSERT INTO users (subject, name) VALUES ('ada', 'Ada')")
        with pytest.raises(Unavailable):
            async with impatient.transaction(a) as second:
                await second.script("INSERT INTO users (subject, name) VALUES ('ada', 'Ada')")
    assert await tenant_of(impatient, a) == str(a.id)


def _closed() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


async def test_a_database_that_is_down_is_unavailable(copy: Copy, a: Tenant) -> None:
    for url in (
        f"postgresql://isola@{_closed()}/isola",
        "postgresql://isola@/isola?host=%2Fnowhere",
        "postgresql://isola@nowhere.invalid/isola",
    ):
        async with await Database.open(url, copy.strategies, copy.binding_key, wait=WAIT) as database:
            for _ in range(2):
                with pytest.raises(Unavailable) as caught:
                    await tenant_of(database, a)
                assert "isola@" not in caught.value.message


async def test_a_database_that_accepts_connections_but_does_not_answer_is_unavailable_in_time(
    copy: Copy, a: Tenant
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://isola@127.0.0.1:{silent.getsockname()[1]}/isola"
        async with await Database.open(url, copy.strategies, copy.binding_key, wait=WAIT) as database:
            with pytest.raises(Unavailable):
                await tenant_of(database, a)


async def test_a_login_that_is_refused_is_unavailable(copy: Copy, a: Tenant) -> None:
    """The error of the database names the login; the client does not see it."""
    for refused in ("nobody_of_that_name", "isola_members"):
        url = make_url(copy.where.tenant).set(username=refused).render_as_string(hide_password=False)
        async with await Database.open(url, copy.strategies, copy.binding_key) as database:
            with pytest.raises(Unavailable) as caught:
                await tenant_of(database, a)
            assert refused not in caught.value.message
