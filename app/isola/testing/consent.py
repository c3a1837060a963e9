"""Makes tenants partners, for tests of what partners share."""

from itertools import combinations
from uuid import UUID

from isola.database.transactions import Database
from isola.platform import partnerships


async def make_partners(owner: Database, *tenants: UUID) -> None:
    """Make each of these tenants a partner of the others; by default all tenants. ``owner`` is the owner's database."""
    async with owner.unbound() as work:
        every = "SELECT id::text FROM control.tenants WHERE status <> 'deleted'"
        chosen = tenants or [UUID(each) for each in await work.texts(every)]
        # Tests make tenants at the same time.
        await work.value("SELECT pg_advisory_xact_lock(hashtext('isola.tests.partners'))")
        await partnerships.establish(work, combinations(chosen, 2))


async def end_partnerships(owner: Database, *tenants: UUID) -> None:
    """End all partnerships of these tenants."""
    keys = [str(tenant) for tenant in tenants]
    async with owner.unbound() as work:
        await work.value(
            "DELETE FROM control.partners WHERE tenant_id::text = ANY ($1::text[]) OR partner_id::text = ANY ($1)", keys
        )
