"""Foods in diaries."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0003"
down_revision = "0002"


def upgrade(op: Operations) -> None:
    op.create_table(
        "diaries_foods",
        sa.Column("diary_id", sa.Uuid(), nullable=False),
        sa.Column("food_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_diaries_foods_created_at_range"),
        ),
        sa.ForeignKeyConstraint(
            ["diary_id"], ["diaries.id"], name=op.f("fk_diaries_foods_diary_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["food_id"], ["foods.id"], name=op.f("fk_diaries_foods_food_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("diary_id", "food_id", name=op.f("pk_diaries_foods_diary_id_food_id")),
    )
    op.create_index(op.f("ix_diaries_foods_food_id_diary_id"), "diaries_foods", ["food_id", "diary_id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON diaries_foods REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary_foods', '{}', 'dia_', 'diary_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON diaries_foods REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary_foods', '{}', 'dia_', 'diary_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON diaries_foods REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary_foods', '{}', 'dia_', 'diary_id')"
    )
