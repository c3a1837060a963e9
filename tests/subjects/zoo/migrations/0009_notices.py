"""Notices."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0009"
down_revision = "0008"


def upgrade(op: Operations) -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("published", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_notices_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_notices_updated_at_range"),
        ),
        sa.CheckConstraint("length(text) BETWEEN 0 AND 100", name=op.f("ck_notices_text_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices_id")),
    )
    op.create_index(op.f("ix_notices_created_at_id"), "notices", ["created_at", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON notices REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('notice', '{}', 'ntc_', 'id', '', '', '{published}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON notices REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('notice', '{}', 'ntc_', 'id', '', '', '{published}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON notices REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('notice', '{}', 'ntc_', 'id', '', '', '{published}')"
    )
