"""Custom domains, and keys for machines."""

from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    pass
