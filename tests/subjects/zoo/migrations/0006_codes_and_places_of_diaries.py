"""Codes and places of diaries."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"


def upgrade(op: Operations) -> None:
    op.add_column("diaries", sa.Column("code", sa.Text(), nullable=True))
    op.add_column("diaries", sa.Column("place", sa.Text(), nullable=True))
    op.create_check_constraint(op.f("ck_diaries_code_length"), "diaries", "length(code) BETWEEN 0 AND 20")
    op.create_check_constraint(op.f("ck_diaries_place_length"), "diaries", "length(place) BETWEEN 0 AND 20")
    op.create_unique_constraint(op.f("uq_diaries_code"), "diaries", ["code"])
