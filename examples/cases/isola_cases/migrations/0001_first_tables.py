"""First tables."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "cases",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column(
            "title_folded",
            sa.Text(collation="C"),
            sa.Computed(
                "lower(regexp_replace(normalize(title, NFKD), '[\\u0300-\\u036F\\U0010FFFF]', '', 'g'))", persisted=True
            ),
            nullable=False,
        ),
        sa.Column("description", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("state", sa.Text(), server_default=sa.text("'new'"), nullable=False),
        sa.Column("reporter_id", sa.Uuid(), nullable=False),
        sa.Column("assignee_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_cases_created_at_range"),
        ),
        sa.CheckConstraint("state IN ('new', 'open', 'waiting', 'solved', 'closed')", name=op.f("ck_cases_state")),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_cases_updated_at_range"),
        ),
        sa.CheckConstraint("length(description) BETWEEN 0 AND 20000", name=op.f("ck_cases_description_length")),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name=op.f("ck_cases_title_length")),
        sa.CheckConstraint("octet_length(title_folded) <= 2600", name=op.f("ck_cases_title_folded_size")),
        sa.ForeignKeyConstraint(
            ["assignee_id"], ["users.id"], name=op.f("fk_cases_assignee_id"), ondelete="SET NULL", deferrable=True
        ),
        sa.ForeignKeyConstraint(["reporter_id"], ["users.id"], name=op.f("fk_cases_reporter_id"), deferrable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cases_id")),
    )
    op.create_index(
        op.f("ix_cases_assignee_id_created_at_id"), "cases", ["assignee_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_cases_created_at_id"), "cases", ["created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_cases_reporter_id_created_at_id"), "cases", ["reporter_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_cases_title_folded_id"), "cases", ["title_folded", "id"], unique=False)
    op.create_index(op.f("ix_cases_title_id"), "cases", ["title", "id"], unique=False)
    op.create_table(
        "activities",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("case_id", sa.Uuid(), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("old_state", sa.Text(), nullable=True),
        sa.Column("new_state", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_activities_created_at_range"),
        ),
        sa.CheckConstraint("kind IN ('comment', 'move')", name=op.f("ck_activities_kind")),
        sa.CheckConstraint(
            "new_state IN ('new', 'open', 'waiting', 'solved', 'closed')", name=op.f("ck_activities_new_state")
        ),
        sa.CheckConstraint(
            "old_state IN ('new', 'open', 'waiting', 'solved', 'closed')", name=op.f("ck_activities_old_state")
        ),
        sa.CheckConstraint("length(text) BETWEEN 1 AND 20000", name=op.f("ck_activities_text_length")),
        sa.ForeignKeyConstraint(["author_id"], ["users.id"], name=op.f("fk_activities_author_id"), deferrable=True),
        sa.ForeignKeyConstraint(
            ["case_id"], ["cases.id"], name=op.f("fk_activities_case_id"), ondelete="CASCADE", deferrable=True
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activities_id")),
    )
    op.create_index(
        op.f("ix_activities_author_id_created_at_id"), "activities", ["author_id", "created_at", "id"], unique=False
    )
    op.create_index(
        op.f("ix_activities_case_id_created_at_id"), "activities", ["case_id", "created_at", "id"], unique=False
    )
    op.create_index(op.f("ix_activities_created_at_id"), "activities", ["created_at", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON cases REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('case', '{title_folded}', 'cas_', 'id', '', '', '{}', 'cases', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON cases REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('case', '{title_folded}', 'cas_', 'id', '', '', '{}', 'cases', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON cases REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('case', '{title_folded}', 'cas_', 'id', '', '', '{}', 'cases', '{}')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON activities REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('activity', '{}', 'act_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON activities REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('activity', '{}', 'act_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON activities REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('activity', '{}', 'act_', 'id')"
    )
