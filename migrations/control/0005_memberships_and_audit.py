"""Who is known in which tenants, and the log of what is done in each."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"


def setting(name: str) -> sa.TextClause:
    return sa.text(f"nullif(current_setting('isola.{name}', true), '')")


def statements(name: str) -> str:
    return Path(__file__).with_name(name).read_text()


def upgrade(op: Operations) -> None:
    op.create_table(
        "memberships",
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id", ondelete="CASCADE"), primary_key=True),
        schema="control",
    )
    op.create_index(None, "memberships", ["tenant_id"], schema="control")
    op.create_table(
        "audit_heads",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("hash", sa.LargeBinary, nullable=False, server_default=sa.text(r"'\x'")),
        schema="control",
    )
    op.create_table(
        "audit_staged",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.Column("actor", sa.Text, server_default=setting("actor")),
        sa.Column("on_behalf_of", sa.Text, server_default=setting("behalf")),
        sa.Column("request", sa.Text, server_default=setting("request")),
        sa.Column("changes", sa.ARRAY(JSONB), nullable=False),
        schema="control",
        # What it holds is gone when the transaction ends that it was noted in.
        prefixes=["UNLOGGED"],
    )
    op.execute(statements("0005_memberships.sql"))
    op.execute(statements("0005_audit.sql"))
