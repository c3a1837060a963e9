"""The server verifies signed spans by itself, in every tenant."""

import asyncio

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.span_verification import verifying
from isola.platform.tenants import Tenant
from isola.subjects.spans import spans
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import physical
from tests.signed_spans import signed


async def states(database: Database, tenant: Tenant) -> dict[str, str]:
    async with database.transaction(tenant, read_only=True) as work:
        return await work.pairs("SELECT id::text, verification FROM spans WHERE signature IS NOT NULL")


async def test_a_server_notices_changed_spans_in_every_tenant_and_passes_suspended_ones(
    copy: Copy, owner: Database, control: Database, database: Database
) -> None:
    tenants = [await provisioning.named(owner, f"{name}-{letter}") for name in copy.strategies for letter in "ab"]
    expected = {}
    for tenant in tenants:
        good, bad = await signed(database, tenant), await signed(database, tenant)
        async with owner.unbound() as work:
            table = physical(copy.strategies[tenant.strategy], tenant, spans)
            await work.value(f"UPDATE {table} SET title = 'forged' WHERE id = $1", bad)
        expected[tenant.slug] = {str(good): "verified", str(bad): "failed"}
    suspended = tenants.pop()
    del expected[suspended.slug]
    before = await states(database, suspended)
    await provisioning.suspend(control, suspended.slug)

    async with verifying(control, database, interval=0.05):
        for _ in range(200):
            found = {each.slug: await states(database, each) for each in tenants}
            if found == expected:
                break
            await asyncio.sleep(0.05)

    assert found == expected
    assert await states(database, suspended) == before
