"""Parents of tenants, and leave to look into one."""

from alembic.operations import Operations

revision = "0004"
down_revision = "0003"


def upgrade(op: Operations) -> None:
    pass
