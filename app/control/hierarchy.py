"""Tenants below tenants. The database sees to it that there are no circles and at most ``LEVELS`` levels."""

from sqlalchemy import update

from app.control import provisioning
from app.control.tenants import COLUMNS, Tenant, entry, tenants
from app.database import Database

LEVELS = 8
"""The longest way from a tenant at the top to one at the bottom, both counted."""


async def place(control: Database, slug: str, *, under: str | None) -> Tenant:
    """Put a tenant, with all that are below it, under another; at the top where ``under`` is None.

    Raises NotFound for either, and BadUserInput where that would be a circle or too deep.
    """
    tenant = await provisioning.named(control, slug)
    parent = None if under is None else await provisioning.named(control, under)
    placed = update(tenants).where(tenants.c.id == tenant.id).values(parent_id=parent and parent.id)
    async with control.unbound() as transaction:
        rows = await transaction.rows(placed.returning(*COLUMNS))
    return entry(rows[0])
