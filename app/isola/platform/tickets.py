"""Tickets of SQL sessions. Tenants issue and use them through functions of the schema ``isola`` only."""

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment

tickets = Table(
    "tickets",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("user_id", Uuid, nullable=False),
    # SHA-256. The ticket itself has 256 random bits.
    Column("digest", LargeBinary, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    # The roles of the user, as isola.roles_of() writes them.
    Column("roles", Text, nullable=False),
    # The permissions that visibility rules ask for, as a proof contains them.
    Column("proved", Text, nullable=False),
    Column("organization_id", Uuid),
    Column("backend", Integer),
    Column("on_behalf_of", Text),
    moment("issued_at"),
    moment("expires_at", default=None),
    moment("used_at", nullable=True, default=None),
    # The transaction that the ticket binds: see isola.this_transaction().
    indexed_text("used_by", 100, nullable=True),
    UniqueConstraint("digest"),
    UniqueConstraint("used_by"),
    CheckConstraint("length(digest) = 32", name="digest_length"),
    Index(None, "tenant_id", "user_id"),
)
