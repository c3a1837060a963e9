"""Parents of tenants, and leave to look into one."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0004"
down_revision = "0003"


def moment(name: str, *, nullable: bool = False, default: str | None = None) -> sa.Column[object]:
    given = sa.text(default) if default else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=given)


def upgrade(op: Operations) -> None:
    op.add_column("tenants", sa.Column("parent_id", sa.Uuid), schema="control")
    op.create_foreign_key(
        None, "tenants", "tenants", ["parent_id"], ["id"], source_schema="control", referent_schema="control"
    )
    op.create_index(None, "tenants", ["parent_id"], schema="control")
    op.create_table(
        "access_grants",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()")),
        sa.Column("tenant_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("staff", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        moment("granted_at", default="now()"),
        moment("expires_at"),
        moment("ended_at", nullable=True),
        sa.CheckConstraint("length(reason) BETWEEN 10 AND 500", name="reason_length"),
        sa.CheckConstraint("expires_at <= granted_at + interval '8 hours'", name="at_most_8_hours"),
        schema="control",
    )
    op.create_index(None, "access_grants", ["tenant_id", "id"], schema="control")
    op.execute(Path(__file__).with_name("0004_hierarchy.sql").read_text())
    op.execute(Path(__file__).with_name("0004_access.sql").read_text())
