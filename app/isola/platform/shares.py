"""Shares between tenants. Tenants read and write them through the functions of the schema ``isola`` only."""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment
from isola.subjects.shares import MAX_NOTE, ShareAccess
from isola.subjects.shares.comments import MAX_TEXT

LIVE = text("revoked_at IS NULL")
RECEIVED = text("revoked_at IS NULL AND NOT lapsed")
LAPSING = text("revoked_at IS NULL AND NOT lapsed AND expires_at IS NOT NULL")
MAX_SLUG = 63
MAX_SUBJECT = 63


def _access() -> tuple[Column[str], CheckConstraint]:
    """What the grantee may do besides reading."""
    named = ", ".join(f"'{each}'" for each in ShareAccess)
    return (
        Column("access", Text, nullable=False, server_default=text(f"'{ShareAccess.READ}'")),
        CheckConstraint(f"access IN ({named})", name="access"),
    )


shares = Table(
    "shares",
    metadata,
    identifier(),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # What is shared: the name of a subject, see isola.platform.registry, and the id of one of its rows.
    indexed_text("subject", MAX_SUBJECT),
    Column("row_id", Uuid, nullable=False),
    # The grantee's slug at the time. Neither, if it is shared with all children of the owner.
    indexed_text("grantee_slug", MAX_SLUG, least=2, nullable=True),
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id")),
    # The partnership in which it was made: the share ends with it. The owner's id, if it is shared with all children.
    Column("partnership_id", Uuid, nullable=False),
    # Null if the transaction proved no user: a worker's.
    Column("granted_by", Uuid),
    moment("granted_at"),
    moment("expires_at", nullable=True, default=None),
    moment("revoked_at", nullable=True, default=None),
    # Whether a server has marked it as expired: see isola.platform.lapsing.
    Column("lapsed", Boolean, nullable=False, server_default=text("false")),
    # The columns of the row that the grantee may read, as far as its subject shares them.
    Column("fields", ARRAY(Text), nullable=False),
    # What the owner tells the grantee.
    Column("note", Text),
    *_access(),
    # The rule that made it.
    Column("rule_id", Uuid),
    CheckConstraint("owner_id <> grantee_id", name="with_another"),
    CheckConstraint(
        "num_nulls(grantee_slug, grantee_id) = CASE WHEN partnership_id = owner_id THEN 2 ELSE 0 END",
        name="with_partner_or_children",
    ),
    CheckConstraint("access = 'read' OR partnership_id <> owner_id", name="children_read"),
    CheckConstraint("cardinality(fields) > 0", name="grants_something"),
    CheckConstraint(f"length(note) BETWEEN 1 AND {MAX_NOTE}", name="note_length"),
    Index(
        None,
        "row_id",
        "owner_id",
        "subject",
        "partnership_id",
        "rule_id",
        unique=True,
        postgresql_where=LIVE,
        postgresql_nulls_not_distinct=True,
    ),
    Index(None, "rule_id", "row_id", postgresql_where=text("revoked_at IS NULL AND rule_id IS NOT NULL")),
    Index(
        None,
        "partnership_id",
        "owner_id",
        "granted_at",
        "id",
        postgresql_where=RECEIVED,
        postgresql_include=["expires_at"],
    ),
    # Whether a child has received a row as a partner.
    Index(None, "grantee_id", "owner_id", "row_id"),
    # By which an owner reads its own shares.
    *(
        Index(None, "owner_id", *leading, "id", postgresql_where=RECEIVED)
        for leading in (
            (),
            ("granted_at",),
            ("expires_at",),
            ("granted_by", "granted_at"),
            ("grantee_slug", "granted_at"),
        )
    ),
    Index(None, "expires_at", postgresql_where=LAPSING),
)

# Rules that share the rows of a subject for which a condition holds: see migrations/control/0001_share_rules.sql.
share_rules = Table(
    "share_rules",
    metadata,
    identifier(),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    indexed_text("subject", MAX_SUBJECT),
    indexed_text("grantee_slug", MAX_SLUG, least=2),
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("partnership_id", Uuid, nullable=False),
    Column("granted_by", Uuid),
    moment("granted_at"),
    moment("expires_at", nullable=True, default=None),
    moment("ended_at", nullable=True, default=None),
    Column("fields", ARRAY(Text), nullable=False),
    Column("note", Text),
    *_access(),
    # As the client sent it, and as the database evaluates it; and the columns that it compares.
    Column("filter", JSONB, nullable=False),
    Column("condition", JSONB, nullable=False),
    Column("columns", ARRAY(Text), nullable=False),
    CheckConstraint("owner_id <> grantee_id", name="with_another"),
    CheckConstraint("cardinality(fields) > 0", name="grants_something"),
    CheckConstraint(f"length(note) BETWEEN 1 AND {MAX_NOTE}", name="note_length"),
    Index(None, "owner_id", "subject", postgresql_where=text("ended_at IS NULL")),
)

# Of the shares with partners that have not been revoked and have not lapsed, what decides whether they are current: see
# migrations/control/0001_received_rows.sql.
received_shares = Table(
    "received_shares",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False, index=True),
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id"), nullable=False, index=True),
    Column("partnership_id", Uuid, nullable=False),
    Column("subject", Text, nullable=False),
    Column("row_id", Uuid, nullable=False, index=True),
    Column("rule_id", Uuid),
    Column("granted_by", Uuid),
    moment("expires_at", nullable=True, default=None),
)

# The users who are disabled or deleted: what they shared is hidden. See migrations/control/0001_received_rows.sql.
disabled_users = Table(
    "disabled_users",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("user_id", Uuid, primary_key=True),
)

# What users of the owner and of the grantee of a share say about it: see migrations/control/0001_share_comments.sql.
share_comments = Table(
    "share_comments",
    metadata,
    identifier(),
    # No foreign key: nobody who ends a share waits for a comment.
    Column("share_id", Uuid, nullable=False),
    Column("owner_id", Uuid, ForeignKey("control.tenants.id"), nullable=False, index=True),
    Column("grantee_id", Uuid, ForeignKey("control.tenants.id"), nullable=False, index=True),
    # Whether a user of the owner wrote it, or one of the grantee; and who.
    Column("by_owner", Boolean, nullable=False),
    Column("author_id", Uuid),
    Column("text", Text, nullable=False),
    moment("created_at"),
    CheckConstraint("owner_id <> grantee_id", name="with_another"),
    CheckConstraint(f"length(text) BETWEEN 1 AND {MAX_TEXT}", name="text_length"),
    Index(None, "share_id", "by_owner", "id"),
)

# Entries on their way into the logs of tenants: about the shares that they receive, as in
# migrations/control/0001_audit.sql, about partnerships with tenants that were erased, and about overrides of limits.
share_notices = Table(
    "share_notices",
    metadata,
    # The tenant whose log it is. No foreign key: whoever adds an entry waits for nothing that happens to it.
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("old", JSONB),
    Column("new", JSONB),
)
