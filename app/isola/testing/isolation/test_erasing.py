"""Everything that injected SQL left behind in a tenant is erased with the tenant."""

from contextlib import suppress

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.tenants import Status
from isola.testing.fixtures import Copy
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
async def test_nothing_that_was_left_keeps_a_tenant_from_being_erased(
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
