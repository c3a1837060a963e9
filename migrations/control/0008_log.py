"""The log of a tenant is written by a statement that is planned once."""

from pathlib import Path

from alembic.operations import Operations

revision = "0008"
down_revision = "0007"


def upgrade(op: Operations) -> None:
    op.execute(Path(__file__).with_name("0008_log.sql").read_text())
