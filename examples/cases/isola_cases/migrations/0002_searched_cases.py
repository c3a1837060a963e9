"""Searched cases."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0002"
down_revision = "0001"


def upgrade(op: Operations) -> None:
    op.create_table(
        "cases_words",
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("word", sa.Text(collation="C"), nullable=False),
        sa.ForeignKeyConstraint(["case_id"], ["cases.id"], name=op.f("fk_cases_words_case_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("case_id", "word", name=op.f("pk_cases_words_case_id_word")),
    )
    op.create_index(op.f("ix_cases_words_word"), "cases_words", ["word"], unique=False)
    op.execute(
        "CREATE TRIGGER words_insert AFTER INSERT ON cases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.keep_words('cases_words', 'case_id', 'pg_catalog.english', '{title,description}')"
    )
    op.execute(
        "CREATE TRIGGER words_update AFTER UPDATE ON cases FOR EACH ROW WHEN (OLD.title IS DISTINCT FROM NEW.title OR OLD.description IS DISTINCT FROM NEW.description) EXECUTE FUNCTION isola.keep_words('cases_words', 'case_id', 'pg_catalog.english', '{title,description}')"
    )
    op.execute("SELECT isola.fill_words('cases_words', 'cases', 'pg_catalog.english', '{title,description}')")
