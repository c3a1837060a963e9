"""What a tenant sees of what others shared with it."""

from collections.abc import Sequence
from uuid import UUID

from app.control.tenants import Tenant
from app.database import Database, Transaction
from tests.oracles.canary import Row

# The code of the error that isola.bound_tenant() raises.
NOT_BOUND = "IS001"
NOT_PROVED = "IS002"
SHARED_RESOURCE = "SELECT * FROM isola.shared_resource($1)"


async def shared(work: Transaction, share: UUID) -> Sequence[Row]:
    return [dict(row) for row in await work._connection.fetch(SHARED_RESOURCE, share)]


async def received(work: Transaction) -> Sequence[Row]:
    return [dict(row) for row in await work._connection.fetch("SELECT * FROM isola.shares_received()")]


async def seen(database: Database, tenant: Tenant, share: UUID) -> tuple[Sequence[Row], Sequence[Row]]:
    """The resource behind a share, and the list of what is shared."""
    async with database.transaction(tenant) as work:
        return await shared(work, share), await received(work)
