"""A share that ends is gone for the partner's next statement, even inside a transaction that has read it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects import resources, shares
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import NOT_BOUND, SHARED_RESOURCE, received, seen, shared
from isola.testing.oracles.canary import Canary, tried

# In seconds: long enough to grant and read a share once on a busy machine.
EXPIRY = 2.0

End = Callable[["Scene"], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Scene:
    database: Database
    control: Database
    sharer: Canary
    share: UUID


async def _revoke(scene: Scene) -> None:
    async with scene.database.transaction(scene.sharer.tenant) as work:
        await shares.revoke(work, actor(scene.sharer), scene.share)


async def _delete(scene: Scene) -> None:
    async with scene.database.transaction(scene.sharer.tenant) as work:
        await resources.delete(work, actor(scene.sharer), scene.sharer.rows["resources"]["id"])


async def _suspend(scene: Scene) -> None:
    await provisioning.suspend(scene.control, scene.sharer.tenant.slug)


async def _wait(_: Scene) -> None:
    await asyncio.sleep(EXPIRY * 1.3)


@pytest.mark.parametrize(
    "end",
    [
        pytest.param(_revoke, id="revoking it"),
        pytest.param(_delete, id="deleting the resource"),
        pytest.param(_suspend, id="suspending the owner"),
        pytest.param(_wait, id="its time"),
    ],
)
async def test_the_end_of_a_share_applies_to_the_next_statement(
    end: End, database: Database, control: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    until = datetime.now(UTC) + timedelta(seconds=EXPIRY) if end is _wait else None
    share = await grant(until)
    async with database.transaction(partner.tenant) as work:
        assert len(await shared(work, share)) == len(await received(work)) == 1
        await end(Scene(database, control, sharer, share))
        assert await shared(work, share) == await received(work) == []
    assert await seen(database, partner.tenant, share) == ([], [])


async def test_a_suspended_partner_is_refused(
    database: Database, control: Database, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    await provisioning.suspend(control, partner.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        assert await tried(work, SHARED_RESOURCE, share) == NOT_BOUND
        assert await tried(work, "SELECT * FROM isola.shares_received()") == NOT_BOUND
    await provisioning.resume(control, partner.tenant.slug)
    rows, listed = await seen(database, partner.tenant, share)
    assert len(rows) == len(listed) == 1


async def test_uncommitted_rows_are_not_shared(database: Database, sharer: Canary, partner: Canary) -> None:
    async with database.transaction(sharer.tenant) as work:
        share = await shares.grant(work, actor(sharer), "resource", sharer.rows["resources"]["id"], partner.tenant.slug)
        assert await seen(database, partner.tenant, share) == ([], [])
    assert len((await seen(database, partner.tenant, share))[0]) == 1
