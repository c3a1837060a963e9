"""Sessions of people, what was revoked, and what servers must hear of."""

from alembic.operations import Operations

revision = "0003"
down_revision = "0002"


def upgrade(op: Operations) -> None:
    pass
