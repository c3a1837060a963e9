"""Tenants below tenants. The database prevents cycles and allows at most ``LEVELS`` levels."""

from sqlalchemy import select, update

from isola.database.transactions import Database
from isola.platform import platform_log, provisioning
from isola.platform.platform_log import Action, Author, operator
from isola.platform.tenants import COLUMNS, Tenant, entry, tenants

LEVELS = 8
"""The length of the longest path from a top tenant to one at the bottom, both counted."""


# The lock of the trigger that keeps the hierarchy: later reads stay valid until the end of the transaction.
TURN = "SET LOCAL lock_timeout TO '10s'; LOCK TABLE control.tenants IN SHARE UPDATE EXCLUSIVE MODE"


async def place(control: Database, slug: str, *, under: str | None, by: Author | None = None) -> Tenant:
    """Move a tenant, with all tenants below it, under another; to the top where ``under`` is None.

    ``by`` defaults to the operator who runs this process.

    Raises NotFound for either, and BadUserInput for a cycle or too many levels.
    """
    tenant = await provisioning.named(control, slug)
    parent = None if under is None else await provisioning.named(control, under)
    placed = update(tenants).where(tenants.c.id == tenant.id).values(parent_id=parent and parent.id)
    by = by or operator()
    async with control.unbound() as transaction:
        await transaction.script(TURN)
        own = select(tenants.c.parent_id).where(tenants.c.id == tenant.id).scalar_subquery()
        was = await transaction.scalar(select(tenants.c.slug).where(tenants.c.id == own))
        [row] = await transaction.rows(placed.returning(*COLUMNS))
        if was != under:
            about, old, new = platform_log.about(slug), {"parent": was}, {"parent": under}
            await platform_log.note(transaction, by.actor, Action.TENANT_SET_PARENT, about, old, new, by.request)
    return entry(row)
