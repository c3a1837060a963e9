"""Indexes by which connections count their rows in groups."""

from alembic.operations import Operations

revision = "0004"
down_revision = "0003"


def upgrade(op: Operations) -> None:
    op.create_index(None, "users", ["kind", "id"])
    for column in ("type", "visibility"):
        op.create_index(None, "spans", [column, "id"])
