"""A tenant moves from one strategy to another with all its data, or stays where it is."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from sqlalchemy import Table

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, NotFound, OperatorError, Unavailable
from isola.platform import audit, moves, platform_log, provisioning
from isola.platform.tenants import Status, Tenant
from isola.subjects import resources, shares, users
from isola.subjects.actor import Actor
from isola.subjects.metadata import metadata
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.reading import row_of
from isola.testing.oracles.canary import stored
from isola.testing.patience import PATIENCE
from isola_strategies.base import Home, Strategy
from tests.control.test_provisioning import EVERYTHING, fill, footprint, held_up, made, names_in, received

Content = Mapping[str, Sequence[Mapping[str, Any]]]


async def content(owner: Database, copy: Copy, tenant: Tenant) -> Content:
    return await stored(owner, copy.strategies[tenant.strategy], tenant)


async def test_everything_of_a_tenant_is_in_the_new_home_and_nothing_in_the_old_one(
    owner: Database,
    control: Database,
    database: Database,
    copy: Copy,
    strategy: Strategy,
    other: Strategy,
    a: Tenant,
    b: Tenant,
) -> None:
    await fill(database, b, a)
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    before, neighbours = await content(owner, copy, tenant), await content(owner, copy, b)
    homes = await footprint(owner)

    moved = await moves.move(owner, copy.strategies, "new", to=other.name)

    assert (moved.id, moved.strategy, moved.moving_to) == (tenant.id, other.name, None)
    assert moved == await provisioning.named(control, "new")
    after = await content(owner, copy, moved)
    [entry] = [each for each in after["audit_entries"] if each not in before["audit_entries"]]
    assert {**after, "audit_entries": before["audit_entries"]} == before
    assert (entry["action"], entry["object"]) == ("tenant:move", "tenant:new")
    assert entry["actor"] == platform_log.operator().actor
    assert (entry["old"], entry["new"]) == ({"strategy": strategy.name}, {"strategy": other.name})
    assert await content(owner, copy, b) == neighbours
    assert (await audit.verify(control, database, moved)).broken is None
    left, reached = strategy.home(tenant.id), other.home(tenant.id)
    found = await footprint(owner)
    assert reached.schema in found.schemas
    assert found.roles - homes.roles == {reached.role} - {None} - homes.roles
    shared = left in strategy.homes([])
    assert homes.roles - found.roles == (set() if shared else {left.role} - {None})
    if shared:
        async with owner.unbound() as work:
            for table in metadata.tables:
                rows = f"SELECT count(*) FROM {left.schema}.{table} WHERE tenant_id = $1"
                assert await work.value(rows, tenant.id) == 0
    else:
        assert left.schema not in found.schemas


async def test_a_suspended_tenant_goes_through_every_strategy_and_back_and_loses_nothing(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    before, homes = await content(owner, copy, tenant), await footprint(owner)
    await provisioning.suspend(owner, "new")
    for to in [*(name for name in copy.strategies if name != strategy.name), strategy.name]:
        tenant = await moves.move(owner, copy.strategies, "new", to=to)
        assert tenant.status is Status.SUSPENDED
        assert await names_in(database, tenant) == ["canary"]
    after = await content(owner, copy, tenant)
    assert {**after, "audit_entries": before["audit_entries"]} == before
    assert (await audit.verify(owner, database, tenant)).broken is None
    found = await footprint(owner)
    assert (found.schemas, found.roles) == (homes.schemas, homes.roles)


async def test_a_moved_tenant_works_in_its_new_home(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant, b: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    resource = await fill(database, tenant, a)
    await fill(database, b, tenant)
    async with database.transaction(a) as work:
        await work.value("SELECT isola.comment_on_share(id, 'stays') FROM isola.shares_received()")
    moved = await moves.move(owner, copy.strategies, "new", to=other.name)
    assert await received(database, a) == ["new"]
    assert await received(database, moved) == [b.slug]
    async with database.transaction(moved) as work:
        actor = Actor(await users.ensure(work, subject="ada", name=None, email=None), EVERYTHING)
        await resources.held(work, actor, resource)
        await shares.grant(work, actor, "resource", await resources.create(work, actor, name="second"), b.slug)
    assert await received(database, b) == ["new"]
    async with database.transaction(a) as work:
        shared = f"SELECT r.name FROM isola.shares_received() s, {row_of('s.id', 'r')}"
        assert await work.texts(shared) == ["canary"]
        assert await work.texts("SELECT c.text FROM isola.shares_received() s, isola.share_comments(s.id) c") == [
            "stays"
        ]
    assert (await audit.verify(owner, database, moved)).broken is None


async def test_invalid_requests_are_refused_and_change_nothing(
    owner: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    before = await footprint(owner)
    with pytest.raises(Conflict, match="placed under this strategy already"):
        await moves.move(owner, copy.strategies, a.slug, to=strategy.name)
    with pytest.raises(BadUserInput, match="strategy: expected one of"):
        await moves.move(owner, copy.strategies, a.slug, to="moon")
    with pytest.raises(NotFound):
        await moves.move(owner, copy.strategies, "nobody", to=other.name)
    with pytest.raises(OperatorError, match="which is not installed"):
        await moves.move(owner, {other.name: other}, a.slug, to=other.name)
    assert await footprint(owner) == before


FALSIFY = """
CREATE OR REPLACE FUNCTION control.falsify() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.name := 'forgery'; RETURN NEW; END $$;
CREATE TRIGGER falsify BEFORE INSERT ON {home}.resources FOR EACH ROW EXECUTE FUNCTION control.falsify()
"""


async def test_a_copy_that_differs_is_not_taken(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    def admit(self: Strategy, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        return [*type(other).admit(self, home, tables), FALSIFY.format(home=home.schema)]

    falsifying = type("Falsifying", (type(other),), {"admit": admit})(copy.where.tenant_login)
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    before = await content(owner, copy, tenant)
    async with owner.unbound() as work:
        for home in other.homes([]):
            await work.script(FALSIFY.format(home=home.schema))
    homes = await footprint(owner)
    with pytest.raises(OperatorError, match="the copy of resources differs from the original: nothing was moved"):
        await moves.move(owner, {**copy.strategies, other.name: falsifying}, "new", to=other.name)
    assert await content(owner, copy, tenant) == before
    assert await footprint(owner) == homes
    assert await provisioning.named(owner, "new") == tenant


# --- during a move


async def marked(owner: Database, slug: str) -> None:
    """Wait until a tenant is marked as moving."""
    async with asyncio.timeout(PATIENCE):
        while (await provisioning.named(owner, slug)).moving_to is None:  # noqa: ASYNC110  nobody tells of it
            await asyncio.sleep(0.01)


async def test_a_move_waits_for_open_writes_and_refuses_new_ones(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy
) -> None:
    tenant = await made(owner, copy, strategy)
    async with database.transaction(tenant) as work:
        actor = Actor(await users.ensure(work, subject="ada", name=None, email=None), EVERYTHING)
    read: list[str] = []
    # In a pool of two, no single tenant can take both connections.
    roomy = await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=3)
    with pytest.raises(Unavailable, match="is being moved"):
        async with roomy, roomy.transaction(tenant) as late:
            await resources.create(late, actor, name="late")
            moving = asyncio.create_task(moves.move(owner, copy.strategies, "new", to=other.name))
            await marked(owner, "new")
            # Transactions with the old home still read it.
            read = await names_in(roomy, tenant)
    moved = await moving
    assert read == []
    assert await names_in(database, moved) == []


async def test_a_stale_placement_reads_and_writes_nothing(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    moved = await moves.move(owner, copy.strategies, "new", to=other.name)
    with pytest.raises(Unavailable):
        await names_in(database, tenant)
    with pytest.raises(Unavailable):
        async with database.transaction(tenant) as work:
            await users.ensure(work, subject="late", name=None, email=None)
    assert await names_in(database, moved) == ["canary"]
    assert await names_in(database, a) == []


async def test_a_blocking_transaction_aborts_the_move_and_nothing_else(
    owner: Database,
    copy: Copy,
    strategy: Strategy,
    other: Strategy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tenant = await made(owner, copy, strategy)
    before = await content(owner, copy, tenant)
    monkeypatch.setattr(moves, "LOCK_TIMEOUT", "SET LOCAL lock_timeout TO '0.2s'")
    # For example, a migration.
    async with held_up(owner, f"SELECT pg_advisory_xact_lock(hashtext('{strategy.home(tenant.id).schema}'))"):
        with pytest.raises(Unavailable, match="try again"):
            await moves.move(owner, copy.strategies, "new", to=other.name)
        assert await provisioning.named(owner, "new") == tenant
    assert await content(owner, copy, tenant) == before
    await moves.move(owner, copy.strategies, "new", to=other.name)


async def test_concurrent_moves_of_a_tenant_are_one_move(
    owner: Database, copy: Copy, strategy: Strategy, other: Strategy
) -> None:
    await made(owner, copy, strategy)
    tried = await asyncio.gather(
        *(moves.move(owner, copy.strategies, "new", to=other.name) for _ in range(2)), return_exceptions=True
    )
    assert [each for each in tried if isinstance(each, Tenant)] == [await provisioning.named(owner, "new")]
    assert [type(each) for each in tried if not isinstance(each, Tenant)] == [Conflict]


async def test_concurrent_moves_do_not_conflict(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    tenants = [await made(owner, copy, strategy, f"new-{number}") for number in range(3)]
    for tenant in tenants:
        await fill(database, tenant, a)
    moved = await asyncio.gather(
        *(moves.move(owner, copy.strategies, tenant.slug, to=other.name) for tenant in tenants)
    )
    assert [each.strategy for each in moved] == [other.name] * 3
    assert [await names_in(database, each) for each in moved] == [["canary"]] * 3


async def test_a_tenant_dropped_during_a_move_is_erased_in_both_places(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    homes = await footprint(owner)
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    tried = await asyncio.gather(
        moves.move(owner, copy.strategies, "new", to=other.name),
        provisioning.drop(owner, copy.strategies, "new", notice=0.2),
        return_exceptions=True,
    )
    assert isinstance(tried[0], Tenant | Conflict | NotFound)
    assert isinstance(tried[1], Tenant)
    found = await footprint(owner)
    assert (found.schemas, found.roles) == (homes.schemas, homes.roles)
    async with owner.unbound() as work:
        for home in (home for each in copy.strategies.values() for home in each.homes([])):
            left = f"SELECT count(*) FROM {home.schema}.resources WHERE tenant_id = $1"
            assert await work.value(left, tenant.id) == 0


# --- interrupted


async def test_an_interrupted_move_can_be_resumed_or_undone(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, other: Strategy, a: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    await _break_off(owner, other)
    assert await moves.move(owner, copy.strategies, "new", to=strategy.name) == tenant
    assert await names_in(database, tenant) == ["canary"]
    async with database.transaction(tenant) as work:
        await users.ensure(work, subject="again", name=None, email=None)

    await _break_off(owner, other)
    moved = await moves.move(owner, copy.strategies, "new", to=other.name)
    assert await names_in(database, moved) == ["canary"]


async def _break_off(owner: Database, to: Strategy) -> None:
    """Leave the tenant in the state that a killed process leaves."""
    async with owner.unbound() as work:
        await work.value("UPDATE control.tenants SET moving_to = $1 WHERE slug = 'new'", to.name)


async def test_a_move_that_is_cancelled_leaves_the_tenant_where_it_was(
    owner: Database, copy: Copy, strategy: Strategy, other: Strategy
) -> None:
    tenant = await made(owner, copy, strategy)
    async with held_up(owner, f"LOCK TABLE {strategy.home(tenant.id).schema}.users IN ACCESS EXCLUSIVE MODE"):
        moving = asyncio.create_task(moves.move(owner, copy.strategies, "new", to=other.name, patience=0))
        await marked(owner, "new")
        moving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await moving
    assert await provisioning.named(owner, "new") == tenant


def test_every_declared_table_can_be_moved_by_copying() -> None:
    """A sequence of a table would have to keep its value: moves.py does not support that yet."""
    columns = [column for table in metadata.tables.values() for column in table.columns]
    assert [str(column) for column in columns if column.identity is not None] == []
