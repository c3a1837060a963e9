"""Users, organizations, resources, signing keys and spans."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

# In lower case and without accents: see isola.subjects.folding.
FOLDED = r"lower(regexp_replace(normalize(name, NFKD), '[\u0300-\u036F\U0010FFFF]', '', 'g'))"


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def in_range(moment: str) -> str:
    return f"{moment} >= '0001-01-01 00:00:00+00' AND {moment} < '10000-01-01 00:00:00+00'"


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def of_bounded_size(document: str, most: int = 4194304) -> str:
    return f"octet_length({document}::text) <= least({most}, 10 * pg_column_size({document} #> '{{}}') + 100)"


def create_table(op: Operations, name: str, *items: sa.Column[object] | sa.Constraint) -> None:
    """Create a table, with a range check for each timestamp column."""
    moments = [item.name for item in items if isinstance(item, sa.Column) and isinstance(item.type, sa.DateTime)]
    checks = (sa.CheckConstraint(in_range(moment), name=f"{moment}_range") for moment in moments)
    op.create_table(name, *items, *checks)


def upgrade(op: Operations) -> None:
    create_table(
        op,
        "users",
        identifier(),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
        moment("created_at"),
        sa.UniqueConstraint("subject"),
        sa.CheckConstraint("length(subject) BETWEEN 1 AND 400", name="subject_length"),
        sa.CheckConstraint("length(name) BETWEEN 0 AND 200", name="name_length"),
        sa.CheckConstraint("length(email) BETWEEN 0 AND 320", name="email_length"),
    )
    for column in ("name", "email", "created_at"):
        op.create_index(None, "users", [column, "id"])
    create_table(
        op,
        "organizations",
        identifier(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("name_folded", sa.Text(collation="C"), sa.Computed(FOLDED, persisted=True), nullable=False),
        moment("created_at"),
        sa.UniqueConstraint("name_key", name="uq_organizations_name"),
        sa.CheckConstraint("length(name_key) BETWEEN 1 AND 600", name="name_key_length"),
        sa.CheckConstraint("octet_length(name_folded) <= 2600", name="name_folded_size"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
    )
    for column in ("name", "name_folded", "created_at"):
        op.create_index(None, "organizations", [column, "id"])
    create_table(
        op,
        "memberships",
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        moment("joined_at"),
    )
    op.create_index(None, "memberships", ["user_id", "organization_id"])
    create_table(
        op,
        "resources",
        identifier(),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("users.id", deferrable=True), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("data", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("size_bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        moment("created_at"),
        moment("updated_at"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        sa.CheckConstraint(of_bounded_size("data"), name="data_size"),
        sa.CheckConstraint("size_bytes BETWEEN 0 AND 9007199254740991", name="size_bytes_range"),
    )
    for column in ("owner_id", "name", "size_bytes", "created_at"):
        op.create_index(None, "resources", [column, "id"])
    create_table(
        op,
        "signing_keys",
        identifier(),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE", deferrable=True), nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("node", sa.Text),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        moment("created_at"),
        sa.UniqueConstraint("public_key"),
        sa.CheckConstraint("length(public_key) BETWEEN 1 AND 44", name="public_key_length"),
        sa.CheckConstraint("length(node) BETWEEN 0 AND 500", name="node_length"),
    )
    for column in ("owner_id", "created_at"):
        op.create_index(None, "signing_keys", [column, "id"])
    create_table(
        op,
        "spans",
        identifier(),
        sa.Column("type", sa.Text, nullable=False, server_default=sa.text("'user'")),
        sa.Column("author_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE", deferrable=True)),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("payload", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("metadata", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("resource_id", sa.Uuid, sa.ForeignKey("resources.id", ondelete="SET NULL", deferrable=True)),
        sa.Column("organization_id", sa.Uuid, sa.ForeignKey("organizations.id", ondelete="CASCADE", deferrable=True)),
        sa.Column("visibility", sa.Text, nullable=False, server_default=sa.text("'private'")),
        sa.Column("node", sa.Text),
        sa.Column("delta_s", sa.Double),
        sa.Column("replay_from_id", sa.Uuid, sa.ForeignKey("spans.id", ondelete="SET NULL", deferrable=True)),
        sa.Column("verification", sa.Text, nullable=False, server_default=sa.text("'pending'")),
        sa.Column("signing_key_id", sa.Uuid, sa.ForeignKey("signing_keys.id", deferrable=True)),
        sa.Column("signature", sa.Text),
        moment("created_at"),
        moment("updated_at"),
        sa.CheckConstraint("type IN ('user', 'system', 'organization', 'ghost')", name="type"),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name="title_length"),
        sa.CheckConstraint(of_bounded_size("payload"), name="payload_size"),
        sa.CheckConstraint(of_bounded_size("metadata", 65536), name="metadata_size"),
        sa.CheckConstraint("visibility IN ('private', 'organization', 'public')", name="visibility"),
        sa.CheckConstraint("length(node) BETWEEN 0 AND 500", name="node_length"),
        sa.CheckConstraint("delta_s > '-Infinity' AND delta_s < 'Infinity'", name="delta_s_range"),
        sa.CheckConstraint("verification IN ('pending', 'verified', 'failed')", name="verification"),
        sa.CheckConstraint("length(signature) BETWEEN 0 AND 88", name="signature_length"),
        sa.CheckConstraint(
            "visibility <> 'organization' OR organization_id IS NOT NULL", name="organization_visible_to"
        ),
        sa.CheckConstraint(
            "CASE type WHEN 'user' THEN author_id IS NOT NULL WHEN 'ghost' THEN author_id IS NULL ELSE true END",
            name="author_of_type",
        ),
        sa.CheckConstraint("(signature IS NULL) = (signing_key_id IS NULL)", name="signed"),
    )
    for column in ("author_id", "resource_id", "organization_id", "replay_from_id", "signing_key_id"):
        op.create_index(None, "spans", [column, "created_at", "id"])
    for column in ("title", "created_at"):
        op.create_index(None, "spans", [column, "id"])
