"""Everything that injected SQL left behind in a tenant is erased with the tenant."""

import asyncio
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.errors import Forbidden
from isola.platform import provisioning
from isola.platform.tenants import Status, Tenant
from isola.subjects.audit import audit_entries
from isola.subjects.organizations import organizations
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import physical
from isola_strategies.base import Strategy

LEFT = {
    "rights on what is still to be made": "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "a large object": "SELECT lo_create(0)",
}
OWNED = """
SELECT count(*) FROM pg_default_acl WHERE defaclrole = to_regrole($1)::oid
UNION ALL SELECT count(*) FROM pg_largeobject_metadata WHERE lomowner = to_regrole($1)::oid
UNION ALL SELECT count(*) FROM pg_roles WHERE rolname = $1
"""


@pytest.mark.parametrize("left", LEFT)
async def test_leftover_objects_do_not_prevent_the_erasure_of_a_tenant(
    left: str, copy: Copy, strategy: Strategy, database: Database, owner: Database
) -> None:
    doomed = await provisioning.create(owner, copy.strategies, slug="doomed", name="Doomed", strategy=strategy.name)
    home = strategy.home(doomed.id)
    # A shared home outlives each of its tenants.
    role = None if home in strategy.homes([]) else home.role
    with suppress(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(doomed) as work:
            await work.script(LEFT[left])

    gone = await provisioning.drop(owner, copy.strategies, "doomed", notice=0)

    assert gone.status is Status.DELETED
    async with owner.unbound() as work:
        assert await work.value("SELECT home FROM control.tenants WHERE id = $1", doomed.id) is None
        assert [int(count) for count in await work.texts(OWNED, role or "nobodys")] == [0, 0, 0]


async def test_what_a_transaction_wrote_before_a_deletion_cannot_be_committed_afterwards(
    copy: Copy, strategy: Strategy, database: Database, owner: Database
) -> None:
    doomed = await provisioning.create(owner, copy.strategies, slug="doomed", name="Doomed", strategy=strategy.name)
    with pytest.raises(Forbidden):
        async with database.transaction(doomed) as work:
            await work.execute(insert(organizations).values(name="late", name_key="late"))
            dropping = asyncio.create_task(provisioning.drop(owner, copy.strategies, "doomed", notice=0))
            await asyncio.wait([dropping], timeout=2)
    await dropping

    await assert_nothing_is_left(owner, strategy, doomed)


async def test_transactions_that_commit_during_a_deletion_are_erased_with_the_tenant(
    copy: Copy, strategy: Strategy, database: Database, owner: Database
) -> None:
    doomed = await provisioning.create(owner, copy.strategies, slug="doomed", name="Doomed", strategy=strategy.name)
    async with database.transaction(doomed) as work:
        await work.execute(insert(organizations).values(name="late", name_key="late"))
        # As at its commit.
        await work.script("SET CONSTRAINTS ALL IMMEDIATE")
        dropping = asyncio.create_task(provisioning.drop(owner, copy.strategies, "doomed", notice=0))
        await asyncio.wait([dropping], timeout=1)
    await dropping

    await assert_nothing_is_left(owner, strategy, doomed)


async def assert_nothing_is_left(owner: Database, strategy: Strategy, doomed: Tenant) -> None:
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.audit_pending WHERE tenant_id = $1", doomed.id) == 0
        if strategy.home(doomed.id) in strategy.homes([]):
            for table in (organizations, audit_entries):
                left = f"SELECT count(*) FROM {physical(strategy, doomed, table)} WHERE tenant_id = $1"
                assert await work.value(left, doomed.id) == 0
