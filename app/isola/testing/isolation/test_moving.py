"""Moving a tenant moves no other tenant's rows, leaves none behind, and makes the old binding unusable."""

import asyncio
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.errors import Conflict, Unavailable
from isola.platform import moves, provisioning
from isola.subjects.resources import resources
from isola.subjects.spans import spans
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import TABLES, Canary, content, physical, plant
from isola.testing.waiting import until_someone_waits
from isola_strategies.base import Strategy

MOVED = "IS004"


@pytest.fixture
async def mover(owner: Database, database: Database, copy: Copy, strategy: Strategy) -> Canary:
    """A tenant beside the canaries, with a row in every table."""
    return await plant(
        database, await provisioning.create(owner, copy.strategies, slug="mover", name="M", strategy=strategy.name)
    )


async def test_a_drop_or_move_keeps_the_data_of_others(
    copy: Copy,
    owner: Database,
    database: Database,
    strategy: Strategy,
    other: Strategy,
    mover: Canary,
    canary_b: Canary,
) -> None:
    neighbour = await plant(database, await provisioning.named(owner, f"{other.name}-b"))
    before = [await content(database, each.tenant) for each in (canary_b, neighbour)]
    for to in (other, strategy):
        moved = await moves.move(owner, copy.strategies, "mover", to=to.name)
        found = await content(database, moved)
        assert mover.traced_in(found)
        assert not canary_b.traced_in(found)
        assert not neighbour.traced_in(found)
        assert [await content(database, each.tenant) for each in (canary_b, neighbour)] == before


async def test_the_former_binding_finds_no_row_and_is_reported(
    copy: Copy,
    owner: Database,
    database: Database,
    strategy: Strategy,
    other: Strategy,
    mover: Canary,
    login: asyncpg.Connection,
) -> None:
    """Even for a server that was suspended with the old location: an empty result would be worse than an error."""
    moved = await moves.move(owner, copy.strategies, "mover", to=other.name)
    with pytest.raises(Unavailable):
        await content(database, mover.tenant)
    shared = strategy.home(mover.tenant.id) in strategy.homes([])
    for table in TABLES:
        transaction = login.transaction()
        await transaction.start()
        # A home with only this tenant is gone, along with its role.
        with pytest.raises(asyncpg.PostgresError) as refused:
            await copy.enter(login, mover.tenant)
            await login.fetch(f"SELECT * FROM {physical(strategy, mover.tenant, table)}")
        await transaction.rollback()
        assert not shared or refused.value.sqlstate == MOVED
    assert mover.traced_in(await content(database, moved))
    # After moving back, it works as before.
    back = await moves.move(owner, copy.strategies, "mover", to=strategy.name)
    assert mover.traced_in(await content(database, back))


@pytest.mark.parametrize("moves_away", [True, False])
async def test_a_reference_deleted_with_its_tenant_is_not_reported_as_a_conflict(
    copy: Copy, owner: Database, database: Database, strategy: Strategy, mover: Canary, *, moves_away: bool
) -> None:
    """The row that a statement references may be gone if a move finishes while the statement runs."""
    tenant = mover.tenant
    resource = physical(strategy, tenant, resources)
    async with database.transaction(tenant) as work:
        author, key = await work.value("SELECT id FROM users LIMIT 1"), uuid4()
        await work.execute(insert(resources).values(id=key, owner_id=author, name="leaves"))

    async def write() -> None:
        async with database.transaction(tenant, about={"user": str(author)}) as work:
            await work.execute(insert(spans).values(author_id=author, title="refers", resource_id=key))

    async with owner.unbound() as moving:
        await copy.enter(moving._connection, tenant)
        await moving.script(f"RESET ROLE; DELETE FROM {resource} WHERE id = '{key}'")
        if moves_away:
            await moving.script(
                f"UPDATE control.tenants SET home = 'elsewhere' WHERE id = '{tenant.id}'; "
                f"UPDATE control.binding_key SET moved = ARRAY['{tenant.id}'::uuid]"
            )
        writing = asyncio.create_task(write())
        await until_someone_waits(database)
    with pytest.raises(Unavailable if moves_away else Conflict):
        await writing
