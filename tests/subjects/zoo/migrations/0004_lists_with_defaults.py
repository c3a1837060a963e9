"""Lists with defaults."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0004"
down_revision = "0003"


def upgrade(op: Operations) -> None:
    op.add_column("animals", sa.Column("kin", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False))
    op.add_column(
        "animals", sa.Column("days", sa.ARRAY(sa.Date()), server_default=sa.text("'{\"2026-01-31\"}'"), nullable=False)
    )
    op.add_column(
        "animals",
        sa.Column(
            "words",
            sa.ARRAY(sa.Text()),
            server_default=sa.text('\'{"a\\"b","c\\\\d","it\'\'s, {e}"}\''),
            nullable=False,
        ),
    )
    op.create_check_constraint(
        op.f("ck_animals_days_items"), "animals", "cardinality(days) <= 10000 AND array_position(days, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_days_size"), "animals", "octet_length(days::text) <= 4000000")
    op.create_check_constraint(op.f("ck_animals_kin"), "animals", "kin <@ ARRAY['bird', 'a fish']")
    op.create_check_constraint(
        op.f("ck_animals_kin_items"), "animals", "cardinality(kin) <= 10000 AND array_position(kin, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_kin_size"), "animals", "octet_length(kin::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_words_items"), "animals", "cardinality(words) <= 10000 AND array_position(words, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_words_size"), "animals", "octet_length(words::text) <= 4000000")
