"""What tenants granted each other. Written and read by tenants through the functions of the schema ``isola`` only."""

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Uuid, text

from app.control.tenants import metadata
from app.domain.metadata import identifier, moment

LIVE = text("revoked_at IS NULL")

shares = Table(
    "shares",
    metadata,
    identifier(),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("resource_id", Uuid, nullable=False),
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("granted_by", Uuid, nullable=False),
    moment("granted_at"),
    moment("expires_at", nullable=True, default=None),
    moment("revoked_at", nullable=True, default=None),
    CheckConstraint("owner_id <> grantee_id", name="with_another"),
    Index(None, "owner_id", "resource_id", "grantee_id", unique=True, postgresql_where=LIVE),
    Index(None, "grantee_id", "granted_at", "id", postgresql_where=LIVE),
)
