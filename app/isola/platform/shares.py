"""What tenants granted each other. Written and read by tenants through the functions of the schema ``isola`` only."""

from sqlalchemy import Boolean, CheckConstraint, Column, ForeignKey, Index, Table, Uuid, text

from isola.platform.registry import MAX_SUBJECT
from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment

LIVE = text("revoked_at IS NULL")
RECEIVED = text("revoked_at IS NULL AND NOT lapsed")
LAPSING = text("revoked_at IS NULL AND NOT lapsed AND expires_at IS NOT NULL")
MAX_SLUG = 63

shares = Table(
    "shares",
    metadata,
    identifier(),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # What is shared: the name of a subject, see isola.platform.registry, and the id of one of its rows.
    indexed_text("subject", MAX_SUBJECT),
    Column("row_id", Uuid, nullable=False),
    # What the owner wrote, and all that it is ever told of the grantee.
    indexed_text("grantee_slug", MAX_SLUG, least=2),
    # Whose slug that was then; null where it was nobody's. Who gets the slug later receives nothing.
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id")),
    Column("granted_by", Uuid, nullable=False),
    moment("granted_at"),
    moment("expires_at", nullable=True, default=None),
    moment("revoked_at", nullable=True, default=None),
    # Whether a server has found that it has ended by its date: see isola.platform.lapsing.
    Column("lapsed", Boolean, nullable=False, server_default=text("false")),
    CheckConstraint("owner_id <> grantee_id", name="with_another"),
    Index(None, "owner_id", "row_id", "subject", "grantee_slug", unique=True, postgresql_where=LIVE),
    Index(
        None,
        "grantee_id",
        "owner_id",
        "granted_at",
        "id",
        postgresql_where=RECEIVED,
        postgresql_include=["expires_at"],
    ),
    Index(None, "expires_at", postgresql_where=LAPSING),
)

# What a tenant said to what another shares with it. Until it said yes, it receives nothing from there.
share_answers = Table(
    "share_answers",
    metadata,
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    # What it was called, for the log.
    indexed_text("owner_slug", MAX_SLUG, least=2),
    # The share of its that was answered.
    Column("share_id", Uuid, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("answered_by", Uuid, nullable=False),
    moment("answered_at"),
    CheckConstraint("owner_id <> grantee_id", name="to_another"),
    Index(None, "owner_id"),
)
