"""Plans with quotas, and the log of what staff and operators do."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0006"
down_revision = "0005"

LIMITS_NOTHING = "INSERT INTO control.plans (name, title) VALUES ('unlimited', 'Unlimited')"


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade(op: Operations) -> None:
    op.create_table(
        "plans",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("quotas", JSONB, nullable=False, server_default=sa.text("'{}'")),
        moment("created_at"),
        sa.Column("retired_at", sa.DateTime(timezone=True)),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="name"),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name="title_length"),
        sa.CheckConstraint("jsonb_typeof(quotas) = 'object'", name="quotas_object"),
        schema="control",
    )
    op.execute(LIMITS_NOTHING)
    op.add_column(
        "tenants", sa.Column("plan", sa.Text, nullable=False, server_default=sa.text("'unlimited'")), schema="control"
    )
    op.create_foreign_key(
        None, "tenants", "plans", ["plan"], ["name"], source_schema="control", referent_schema="control"
    )
    # What can be counted anew need not survive a crash.
    op.create_table(
        "quota_bounds",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("quota", sa.Text, primary_key=True),
        sa.Column("at_most", sa.BigInteger, nullable=False),
        schema="control",
        prefixes=["UNLOGGED"],
    )
    # Entries are linked into a chain by what does it for tenants: see 0005_audit.sql.
    op.create_table(
        "audit_entries",
        identifier(),
        sa.Column("number", sa.BigInteger, nullable=False),
        moment("at"),
        sa.Column("actor", sa.Text),
        sa.Column("on_behalf_of", sa.Text),
        sa.Column("request", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("old", JSONB),
        sa.Column("new", JSONB),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.UniqueConstraint("number"),
        schema="control",
    )
    for column in ("at", "actor", "action", "object"):
        op.create_index(None, "audit_entries", [column, "id"], schema="control")
    op.create_table(
        "interventions",
        identifier(),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("request", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("new", JSONB),
        moment("announced_at"),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        schema="control",
    )
    op.create_index(None, "interventions", ["tenant_id"], schema="control")
    op.execute(Path(__file__).with_name("0006_platform_log.sql").read_text())
    op.execute(Path(__file__).with_name("0006_quotas.sql").read_text())
