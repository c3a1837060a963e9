"""Orders of the platform's staff are carried out once, even if the process that does so dies."""

import asyncio
import contextlib
from uuid import UUID

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, NotFound
from isola.platform import orders, provisioning
from isola.platform.orders import Order, State
from isola.platform.platform_log import Author
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.waiting import until_someone_waits
from isola_strategies.base import Strategy
from tests.control.test_moves import content
from tests.control.test_provisioning import footprint, held_up

SAM = Author("staff:sam", "request-1")


async def ordered(control: Database, copy: Copy, slug: str = "new") -> Order:
    return await orders.create(control, copy.strategies, SAM, slug=slug, name="New", strategy=min(copy.strategies))


async def test_a_tenant_is_ordered_and_made(
    owner: Database, control: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    order = await orders.create(
        control, copy.strategies, SAM, slug="new", name="New", strategy=strategy.name, parent=a.slug, plan="unlimited"
    )
    assert (order.state, order.ordered_by, order.request) == (State.WAITING, "staff:sam", "request-1")
    done = await orders.carry_out(owner, copy.strategies)
    assert done is not None
    assert (done.id, done.state, done.message) == (order.id, State.DONE, None)
    assert done.finished_at is not None
    assert done == await orders.find(control, order.id)
    made = await provisioning.named(control, "new")
    assert (made.id, made.strategy, made.parent_id) == (order.tenant_id, strategy.name, a.id)
    assert await orders.carry_out(owner, copy.strategies) is None


async def test_an_ordered_move_is_executed_in_the_name_of_its_author(
    owner: Database,
    control: Database,
    copy: Copy,
    strategy: Strategy,
    other: Strategy,
) -> None:
    await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=strategy.name)
    await orders.move(control, copy.strategies, SAM, slug="new", strategy=other.name)
    done = await orders.carry_out(owner, copy.strategies)
    assert done is not None
    assert done.state is State.DONE
    moved = await provisioning.named(control, "new")
    assert moved.strategy == other.name
    [entry] = (await content(owner, copy, moved))["audit_entries"]
    assert (entry["action"], entry["actor"], entry["request"]) == ("tenant:move", "staff:sam", "request-1")


async def test_orders_known_to_be_invalid_are_refused_at_once(
    control: Database,
    copy: Copy,
    strategy: Strategy,
    a: Tenant,
    other: Strategy,
) -> None:
    wanted = {"slug": "new", "name": "New", "strategy": strategy.name}
    wrong = [
        ({"slug": "Acme"}, BadUserInput, "slug"),
        ({"name": ""}, BadUserInput, "name"),
        ({"strategy": "moon"}, BadUserInput, "expected one of"),
        ({"slug": a.slug}, Conflict, "the same slug"),
        ({"parent": "nobody"}, NotFound, "there is no such tenant"),
        ({"plan": "nothing"}, NotFound, "there is no such plan"),
    ]
    for change, error, message in wrong:
        with pytest.raises(error, match=message):
            await orders.create(control, copy.strategies, SAM, **{**wanted, **change})
    for slug, target, refused in ((a.slug, strategy.name, Conflict), (a.slug, "moon", BadUserInput)):
        with pytest.raises(refused):
            await orders.move(control, copy.strategies, SAM, slug=slug, strategy=target)
    with pytest.raises(NotFound):
        await orders.move(control, copy.strategies, SAM, slug="nobody", strategy=other.name)
    assert await orders.page(control, state=None, after=None, first=10) == []
    await ordered(control, copy)
    with pytest.raises(Conflict, match="the same slug"):
        await ordered(control, copy)


async def test_an_order_that_cannot_be_executed_fails_with_its_reason(
    owner: Database, control: Database, copy: Copy
) -> None:
    await ordered(control, copy)
    await provisioning.create(owner, copy.strategies, slug="new", name="Sooner", strategy=min(copy.strategies))
    before = await footprint(owner)
    failed = await orders.carry_out(owner, copy.strategies)
    assert failed is not None
    assert (failed.state, failed.message) == (State.FAILED, "tenants: there is one with the same slug already")
    assert await footprint(owner) == before


async def test_a_waiting_order_can_be_cancelled(owner: Database, control: Database, copy: Copy) -> None:
    order = await ordered(control, copy)
    assert (await orders.cancel(control, order.id)).state is State.CANCELLED
    assert await orders.carry_out(owner, copy.strategies) is None
    with pytest.raises(Conflict, match="the order is cancelled, not waiting"):
        await orders.cancel(control, order.id)
    with pytest.raises(NotFound):
        await orders.cancel(control, order.tenant_id)


async def test_concurrent_operators_execute_each_order_once(control: Database, copy: Copy) -> None:
    wanted = [await ordered(control, copy, f"new-{number}") for number in range(6)]

    async def work() -> None:
        assert copy.where.owner
        async with await Database.open(copy.where.owner, size=3, wait=10, statement_timeout=60) as mine:
            while await orders.carry_out(mine, copy.strategies) is not None:
                pass

    await asyncio.gather(*(work() for _ in range(3)))
    states = {order.id: order.state for order in await orders.page(control, state=None, after=None, first=10)}
    assert states == {order.id: State.DONE for order in wanted}
    for order in wanted:
        assert (await provisioning.named(control, order.slug)).id == order.tenant_id


@pytest.mark.parametrize("when", ["before it was done", "after it was done"])
async def test_an_order_of_a_killed_process_is_executed_again(
    owner: Database, control: Database, copy: Copy, when: str
) -> None:
    order = await ordered(control, copy)
    if when == "after it was done":
        made = await provisioning.create(
            owner, copy.strategies, slug="new", name="New", strategy=min(copy.strategies), key=order.tenant_id
        )
    async with owner.unbound() as work:
        await work.script("UPDATE control.orders SET state = 'running'")
    before = await footprint(owner)
    with pytest.raises(Conflict, match="running, not waiting"):
        await orders.cancel(control, order.id)
    done = await orders.carry_out(owner, copy.strategies)
    assert done is not None
    assert (done.id, done.state) == (order.id, State.DONE)
    if when == "after it was done":
        assert await footprint(owner) == before
        assert await provisioning.named(control, "new") == made


async def test_a_running_order_is_left_to_its_process(owner: Database, control: Database, copy: Copy) -> None:
    await ordered(control, copy)
    async with held_up(owner, "LOCK TABLE control.tenants IN SHARE MODE"):
        working = asyncio.create_task(orders.carry_out(owner, copy.strategies))
        await until_someone_waits(owner)
        assert copy.where.owner
        async with await Database.open(copy.where.owner, size=3, wait=10) as second:
            assert await orders.carry_out(second, copy.strategies) is None
        working.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await working
    done = await orders.carry_out(owner, copy.strategies)
    assert done is not None
    assert done.state is State.DONE


async def test_an_interrupted_move_can_be_reversed_by_an_order(
    owner: Database, control: Database, copy: Copy, a: Tenant, other: Strategy
) -> None:
    async with owner.unbound() as work:
        await work.value("UPDATE control.tenants SET moving_to = $1 WHERE id = $2", other.name, a.id)
    await orders.move(control, copy.strategies, SAM, slug=a.slug, strategy=a.strategy)
    done = await orders.carry_out(owner, copy.strategies)
    assert done is not None
    assert done.state is State.DONE
    assert await provisioning.named(control, a.slug) == a


async def test_the_control_login_stores_orders_but_cannot_execute_them(control: Database, copy: Copy) -> None:
    connection = await asyncpg.connect(copy.where.control)
    try:
        for statement in (
            "DELETE FROM control.orders",
            "UPDATE control.orders SET strategy = 'rls'",
            "CREATE SCHEMA t_mine",
            f"SELECT isola.proof('{UUID(int=1)}')",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
    finally:
        await connection.close()
    assert await orders.page(control, state=None, after=None, first=1) == []
