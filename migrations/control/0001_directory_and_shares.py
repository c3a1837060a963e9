"""The directory of tenants, what they share, and the functions that bound transactions may call."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

# Two random UUIDs hold 244 random bits.
FOR_CURSORS = """
INSERT INTO control.secrets (name, value)
VALUES ('cursors', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
"""
FOR_BINDINGS = """
INSERT INTO control.binding_key ("inner", "outer")
VALUES (
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
)
"""
LIVE_SHARES = """
CREATE VIEW control.live_shares WITH (security_invoker = true) AS
SELECT id, owner_id, resource_id, grantee_id, granted_by, granted_at, expires_at FROM control.shares
WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())
"""


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def statements(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def upgrade(op: Operations) -> None:
    op.execute(statements("0001_identifiers.sql"))
    op.create_table(
        "tenants",
        identifier(),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'active'")),
        sa.Column("settings", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("home", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        moment("created_at"),
        sa.CheckConstraint("slug ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="slug"),
        sa.CheckConstraint("status IN ('active', 'suspended', 'deleted')", name="status"),
        sa.CheckConstraint("home IS NOT NULL OR status = 'deleted'", name="home"),
        schema="control",
    )
    op.create_index(
        None, "tenants", ["slug"], unique=True, schema="control", postgresql_where=sa.text("status <> 'deleted'")
    )
    op.create_table(
        "shares",
        identifier(),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("resource_id", sa.Uuid, nullable=False),
        sa.Column("grantee_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("granted_by", sa.Uuid, nullable=False),
        moment("granted_at"),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("owner_id <> grantee_id", name="with_another"),
        schema="control",
    )
    live = sa.text("revoked_at IS NULL")
    op.create_index(
        None,
        "shares",
        ["owner_id", "resource_id", "grantee_id"],
        unique=True,
        schema="control",
        postgresql_where=live,
    )
    op.create_index(None, "shares", ["grantee_id", "granted_at", "id"], schema="control", postgresql_where=live)
    op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        schema="control",
    )
    op.execute(FOR_CURSORS)
    op.create_table(
        "binding_key",
        sa.Column("inner", sa.LargeBinary, nullable=False),
        sa.Column("outer", sa.LargeBinary, nullable=False),
        schema="control",
    )
    op.execute(FOR_BINDINGS)
    op.execute(statements("0001_binding.sql"))
    op.execute(LIVE_SHARES)
    op.execute(statements("0001_sharing.sql"))
    op.execute(statements("0001_versions.sql"))
