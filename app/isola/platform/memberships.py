"""Which subjects are known in which tenants. Written when a user first enters a tenant; read only for that subject."""

from collections.abc import Sequence

from sqlalchemy import Column, ForeignKey, Index, Table, Uuid, bindparam

from isola.database.transactions import Database
from isola.platform.tenants import SERVED, STATUS, Status, Tenant, entry, metadata, tenants
from isola.subjects.metadata import indexed_text
from isola.subjects.users import MAX_SUBJECT

MOST = 100

memberships = Table(
    "memberships",
    metadata,
    indexed_text("subject", MAX_SUBJECT, primary_key=True),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id", ondelete="CASCADE"), primary_key=True),
    Index(None, "tenant_id"),
)

_OF = (
    SERVED.join(memberships, memberships.c.tenant_id == tenants.c.id)
    .where(memberships.c.subject == bindparam("subject"), STATUS == Status.ACTIVE)
    .order_by(tenants.c.slug)
    .limit(MOST)
)


async def of(control: Database, subject: str) -> Sequence[Tenant]:
    """The active tenants that a subject of tokens has entered, by slug, at most 100.

    A tenant can list any subject as a member; only its home says whether they are a user there.
    """
    async with control.unbound() as transaction:
        rows = await transaction.rows(_OF, {"subject": subject})
    return [entry(row) for row in rows]
