"""Houses."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"


def upgrade(op: Operations) -> None:
    op.create_table(
        "house_versions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("motto", sa.Text(), server_default=sa.text("'It''s \"wild\".'"), nullable=False),
        sa.Column("opened", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("visitors", sa.Integer(), server_default=sa.text("100"), nullable=False),
        sa.Column("symbol", sa.Text(), server_default=sa.text("'a fish'"), nullable=False),
        sa.Column("fee", sa.Numeric(precision=6, scale=2), server_default=sa.text("2.50"), nullable=False),
        sa.Column("hours", postgresql.JSONB(), server_default=sa.text("'{\"from\"\\:9}'"), nullable=False),
        sa.Column("closed", sa.ARRAY(sa.Date()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("until", sa.Date(), nullable=True),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("changed_by_id", sa.Uuid(), nullable=False),
        sa.Column("previous_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "'0001-01-01' <= ALL (closed) AND '9999-12-31' >= ALL (closed)", name=op.f("ck_house_versions_closed_range")
        ),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_house_versions_created_at_range"),
        ),
        sa.CheckConstraint(
            "octet_length(hours::text) <= least(100, 10 * pg_column_size(hours #> '{}') + 100)",
            name=op.f("ck_house_versions_hours_size"),
        ),
        sa.CheckConstraint("symbol IN ('bird', 'a fish')", name=op.f("ck_house_versions_symbol")),
        sa.CheckConstraint("until BETWEEN '0001-01-01' AND '9999-12-31'", name=op.f("ck_house_versions_until_range")),
        sa.CheckConstraint(
            "cardinality(closed) <= 10000 AND array_position(closed, NULL) IS NULL",
            name=op.f("ck_house_versions_closed_items"),
        ),
        sa.CheckConstraint("length(motto) BETWEEN 0 AND 20", name=op.f("ck_house_versions_motto_length")),
        sa.CheckConstraint("number >= 1", name=op.f("ck_house_versions_number_range")),
        sa.CheckConstraint("octet_length(closed::text) <= 4000000", name=op.f("ck_house_versions_closed_size")),
        sa.CheckConstraint("visitors BETWEEN 1 AND 500", name=op.f("ck_house_versions_visitors_range")),
        sa.ForeignKeyConstraint(
            ["changed_by_id"], ["users.id"], name=op.f("fk_house_versions_changed_by_id"), deferrable=True
        ),
        sa.ForeignKeyConstraint(
            ["previous_id"],
            ["house_versions.id"],
            name=op.f("fk_house_versions_previous_id"),
            ondelete="SET NULL",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_house_versions_id")),
        sa.UniqueConstraint("number", name=op.f("uq_house_versions_number")),
    )
    op.create_index(
        op.f("ix_house_versions_changed_by_id_number_id"),
        "house_versions",
        ["changed_by_id", "number", "id"],
        unique=False,
    )
    op.create_index(op.f("ix_house_versions_created_at_id"), "house_versions", ["created_at", "id"], unique=False)
    op.create_index(
        op.f("ix_house_versions_previous_id_number_id"), "house_versions", ["previous_id", "number", "id"], unique=False
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON house_versions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('house', '{}', 'hse_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON house_versions REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('house', '{}', 'hse_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON house_versions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('house', '{}', 'hse_', 'id')"
    )
