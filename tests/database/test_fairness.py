"""Waiters for a connection take turns by tenant, and one tenant can never take all connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.testing.fixtures import STRATEGIES, Copy
from tests.database.conftest import tenant_of

SIZE = 5
WAIT = 20.0


@pytest.fixture
async def tenants(control: Database) -> list[Tenant]:
    return [await provisioning.named(control, f"{strategy}-{letter}") for strategy in STRATEGIES for letter in "ab"]


@pytest.fixture
async def few(copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, size=SIZE, wait=WAIT
    ) as database:
        yield database


@pytest.fixture
async def one(copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1, wait=WAIT) as database:
        yield database


async def test_a_tenants_first_request_precedes_the_second_of_another(one: Database, tenants: list[Tenant]) -> None:
    greedy, *modest = tenants
    served: list[Tenant] = []

    async def ask(tenant: Tenant) -> None:
        async with one.transaction(tenant):
            served.append(tenant)

    async with asyncio.TaskGroup() as group, one.transaction(greedy):
        for tenant in (*[greedy] * 6, *modest):
            group.create_task(ask(tenant))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert served == []

    assert served == [greedy, *modest, *[greedy] * 5]


async def test_one_tenant_never_has_all_connections(few: Database, tenants: list[Tenant]) -> None:
    greedy, modest, *_ = tenants
    async with AsyncExitStack() as held:
        for _ in range(SIZE - 1):
            await held.enter_async_context(few.transaction(greedy))
        waiting = asyncio.create_task(tenant_of(few, greedy))
        # Served at once, although the other tenant has waited longer.
        for _ in range(3):
            async with asyncio.timeout(WAIT / 2):
                assert await tenant_of(few, modest) == str(modest.id)
        assert not waiting.done()
    assert await waiting == str(greedy.id)


async def test_a_queue_that_is_too_long_is_refused_at_once_and_only_to_its_tenant(
    one: Database, tenants: list[Tenant]
) -> None:
    greedy, modest, *_ = tenants
    async with one.transaction(greedy):
        waiting = [asyncio.create_task(tenant_of(one, greedy)) for _ in range(200)]
        other = asyncio.create_task(tenant_of(one, modest))
        done, _ = await asyncio.wait(waiting, timeout=WAIT / 4, return_when=asyncio.FIRST_COMPLETED)
        assert done
        assert not other.done()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, Unavailable)]
    assert refused
    assert len(refused) < len(outcomes)
    assert all(outcome == str(greedy.id) for outcome in outcomes if outcome not in refused)
    assert await other == str(modest.id)


async def test_cancelled_waiters_take_no_turn(one: Database, tenants: list[Tenant]) -> None:
    greedy, modest, *_ = tenants
    async with one.transaction(greedy):
        gone = [asyncio.create_task(tenant_of(one, modest)) for _ in range(5)]
        stays = asyncio.create_task(tenant_of(one, modest))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert not stays.done()
    assert await stays == str(modest.id)
    assert await tenant_of(one, greedy) == str(greedy.id)
