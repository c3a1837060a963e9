"""Custom domains, and keys for machines."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY

revision = "0002"
down_revision = "0001"


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade(op: Operations) -> None:
    op.create_table(
        "domains",
        identifier(),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("challenge", sa.Text, nullable=False),
        sa.Column("challenge_expires_at", sa.DateTime(timezone=True), nullable=False),
        moment("created_at"),
        sa.Column("verified_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("tenant_id", "name"),
        sa.CheckConstraint("name = lower(name)", name="name_lower"),
        schema="control",
    )
    op.create_index(
        None, "domains", ["name"], unique=True, schema="control", postgresql_where=sa.text("verified_at IS NOT NULL")
    )
    op.create_table(
        "api_keys",
        identifier(),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("permissions", ARRAY(sa.Text), nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("created_by", sa.Uuid, nullable=False),
        moment("created_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("last_used_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.UniqueConstraint("prefix"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        sa.CheckConstraint("length(digest) = 32", name="digest_length"),
        schema="control",
    )
    op.create_index(None, "api_keys", ["tenant_id", "id"], schema="control")
    for name in ("0002_domains.sql", "0002_api_keys.sql"):
        op.execute(Path(__file__).with_name(name).read_text())
