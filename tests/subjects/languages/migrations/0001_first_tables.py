"""First tables."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "birds",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("song", sa.Text(), nullable=True),
        sa.Column("nest", sa.Text(), server_default=sa.text("''"), nullable=False),
        sa.Column("name_sorted_de", sa.Text(collation="de-x-icu"), sa.Computed("name", persisted=True), nullable=False),
        sa.Column("name_sorted_sv", sa.Text(collation="sv-x-icu"), sa.Computed("name", persisted=True), nullable=False),
        sa.Column(
            "song_sorted_pt_br", sa.Text(collation="pt-BR-x-icu"), sa.Computed("song", persisted=True), nullable=True
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_birds_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_birds_updated_at_range"),
        ),
        sa.CheckConstraint("length(name) BETWEEN 0 AND 50", name=op.f("ck_birds_name_length")),
        sa.CheckConstraint("length(nest) BETWEEN 0 AND 50", name=op.f("ck_birds_nest_length")),
        sa.CheckConstraint("length(song) BETWEEN 0 AND 50", name=op.f("ck_birds_song_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_birds_id")),
    )
    op.create_index(op.f("ix_birds_created_at_id"), "birds", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_birds_name_id"), "birds", ["name", "id"], unique=False)
    op.create_index(op.f("ix_birds_name_sorted_de_id"), "birds", ["name_sorted_de", "id"], unique=False)
    op.create_index(op.f("ix_birds_name_sorted_sv_id"), "birds", ["name_sorted_sv", "id"], unique=False)
    op.create_index(op.f("ix_birds_nest_id"), "birds", ["nest", "id"], unique=False)
    op.create_index(op.f("ix_birds_song_id"), "birds", ["song", "id"], unique=False)
    op.create_index(op.f("ix_birds_song_sorted_pt_br_id"), "birds", ["song_sorted_pt_br", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON birds REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('bird', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'brd_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON birds REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('bird', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'brd_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON birds REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('bird', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'brd_', 'id')"
    )
