"""Roles, who has them, and the log of what was done."""

from alembic.operations import Operations

revision = "0003"
down_revision = "0002"


def upgrade(op: Operations) -> None:
    pass
