"""The kind of a resource."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    op.add_column("resources", sa.Column("kind", sa.Text))
    op.create_check_constraint("kind_length", "resources", "length(kind) BETWEEN 0 AND 200")
    op.create_index(None, "resources", ["kind", "id"])
