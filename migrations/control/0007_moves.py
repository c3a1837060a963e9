"""Moves of tenants between strategies, and the orders that operators carry out for the platform's staff."""

from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0007"
down_revision = "0006"

OPEN = sa.text("state IN ('waiting', 'running')")


def moment(name: str, *, nullable: bool = True, default: str | None = None) -> sa.Column[object]:
    given = sa.text(default) if default else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=given)


def upgrade(op: Operations) -> None:
    op.add_column("tenants", sa.Column("moving_to", sa.Text), schema="control")
    op.add_column("tenants", moment("moved_at"), schema="control")
    op.create_index(None, "tenants", ["moved_at"], schema="control", postgresql_where=sa.text("moved_at IS NOT NULL"))
    op.add_column(
        "binding_key",
        sa.Column("moved", sa.ARRAY(sa.Uuid), nullable=False, server_default=sa.text("'{}'")),
        schema="control",
    )
    op.execute(Path(__file__).with_name("0007_moves.sql").read_text())
    op.create_table(
        "orders",
        sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()")),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Uuid, nullable=False, server_default=sa.text("isola.uuid_v7()")),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("parent", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("ordered_by", sa.Text, nullable=False),
        sa.Column("request", sa.Text),
        moment("ordered_at", nullable=False, default="now()"),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'waiting'")),
        sa.Column("message", sa.Text),
        moment("finished_at"),
        sa.CheckConstraint("kind IN ('create', 'move')", name="kind"),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="state"),
        sa.CheckConstraint("(state IN ('waiting', 'running')) = (finished_at IS NULL)", name="finished"),
        schema="control",
    )
    # Of one tenant there is one thing to be done at a time, and of one slug that is still to be given.
    op.create_index(None, "orders", ["tenant_id"], unique=True, schema="control", postgresql_where=OPEN)
    op.create_index(None, "orders", ["slug"], unique=True, schema="control", postgresql_where=OPEN)
    op.create_index(None, "orders", ["state", "id"], schema="control")
