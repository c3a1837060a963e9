"""Indexes of groups."""

from alembic.operations import Operations

revision = "0007"
down_revision = "0006"


def upgrade(op: Operations) -> None:
    op.create_index(None, "animals", ["class", "id"])
    op.create_index(None, "diaries", ["sealed", "id"])
