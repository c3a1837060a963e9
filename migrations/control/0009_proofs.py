"""Whether transactions have to prove their tenant becomes a choice of the owner's; they have to, until it is made."""

from pathlib import Path

from alembic.operations import Operations

revision = "0009"
down_revision = "0008"


def upgrade(op: Operations) -> None:
    op.execute(Path(__file__).with_name("0009_proofs.sql").read_text())
