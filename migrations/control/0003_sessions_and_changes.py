"""Sessions of people, what was revoked, and what servers must hear of."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"

KINDS = ("domain", "key", "revocation", "role", "tenant", "user")


def upgrade(op: Operations) -> None:
    op.create_table(
        "changes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column(
            "transaction",
            sa.BigInteger,
            nullable=False,
            server_default=sa.text("pg_current_xact_id()::text::bigint"),
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.CheckConstraint(f"kind IN ({', '.join(repr(kind) for kind in KINDS)})", name="kind"),
        sa.CheckConstraint("length(key) <= 2000", name="key_length"),
        schema="control",
    )
    op.create_index(None, "changes", ["transaction"], schema="control")
    op.create_table(
        "revocations",
        sa.Column("key", sa.Text, primary_key=True),
        moment("until", "'infinity'"),
        schema="control",
    )
    op.create_index(None, "revocations", ["until"], schema="control", postgresql_where=sa.text("until < 'infinity'"))
    op.create_table(
        "sign_outs",
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Uuid, nullable=False),
        moment("not_before"),
        schema="control",
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()")),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        moment("created_at", "now()"),
        moment("expires_at"),
        schema="control",
    )
    op.create_index(None, "sessions", ["expires_at"], schema="control")
    op.create_table(
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("session_id", sa.Uuid, sa.ForeignKey("control.sessions.id", ondelete="CASCADE"), nullable=False),
        moment("expires_at"),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        schema="control",
    )
    op.create_index(None, "refresh_tokens", ["session_id"], schema="control")
    op.execute(Path(__file__).with_name("0003_changes.sql").read_text())
    op.execute(Path(__file__).with_name("0003_revocations.sql").read_text())


def moment(name: str, default: str | None = None) -> sa.Column[object]:
    return sa.Column(
        name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text(default) if default else None
    )
