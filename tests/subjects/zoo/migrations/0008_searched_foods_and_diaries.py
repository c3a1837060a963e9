"""Searched foods and diaries."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0008"
down_revision = "0007"


def upgrade(op: Operations) -> None:
    op.create_table(
        "foods_words",
        sa.Column("food_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.ForeignKeyConstraint(["food_id"], ["foods.id"], name=op.f("fk_foods_words_food_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("food_id", "word", name=op.f("pk_foods_words_food_id_word")),
    )
    op.create_index(op.f("ix_foods_words_word"), "foods_words", ["word"], unique=False)
    op.create_table(
        "diaries_words",
        sa.Column("diary_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.ForeignKeyConstraint(
            ["diary_id"], ["diaries.id"], name=op.f("fk_diaries_words_diary_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("diary_id", "word", name=op.f("pk_diaries_words_diary_id_word")),
    )
    op.create_index(op.f("ix_diaries_words_word"), "diaries_words", ["word"], unique=False)
    op.execute(
        "CREATE TRIGGER words_insert AFTER INSERT ON foods REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT "
        "EXECUTE FUNCTION isola.keep_words('foods_words', 'food_id', 'pg_catalog.simple', '{name}')"
    )
    op.execute(
        "CREATE TRIGGER words_update AFTER UPDATE ON foods "
        "FOR EACH ROW WHEN (OLD.name IS DISTINCT FROM NEW.name) "
        "EXECUTE FUNCTION isola.keep_words('foods_words', 'food_id', 'pg_catalog.simple', '{name}')"
    )
    op.execute(
        "CREATE TRIGGER words_insert AFTER INSERT ON diaries REFERENCING NEW TABLE AS new_rows "
        "FOR EACH STATEMENT "
        "EXECUTE FUNCTION isola.keep_words('diaries_words', 'diary_id', 'pg_catalog.english', '{text,place}')"
    )
    op.execute(
        "CREATE TRIGGER words_update AFTER UPDATE ON diaries "
        "FOR EACH ROW WHEN (OLD.text IS DISTINCT FROM NEW.text OR OLD.place IS DISTINCT FROM NEW.place) "
        "EXECUTE FUNCTION isola.keep_words('diaries_words', 'diary_id', 'pg_catalog.english', '{text,place}')"
    )
    op.execute("SELECT isola.fill_words('foods_words', 'foods', 'pg_catalog.simple', '{name}')")
    op.execute("SELECT isola.fill_words('diaries_words', 'diaries', 'pg_catalog.english', '{text,place}')")
