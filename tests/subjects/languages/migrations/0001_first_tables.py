"""First tables."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "sparrows",
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
            name=op.f("ck_sparrows_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_sparrows_updated_at_range"),
        ),
        sa.CheckConstraint("length(name) BETWEEN 0 AND 50", name=op.f("ck_sparrows_name_length")),
        sa.CheckConstraint("length(nest) BETWEEN 0 AND 50", name=op.f("ck_sparrows_nest_length")),
        sa.CheckConstraint("length(song) BETWEEN 0 AND 50", name=op.f("ck_sparrows_song_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sparrows_id")),
    )
    op.create_index(op.f("ix_sparrows_created_at_id"), "sparrows", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_name_id"), "sparrows", ["name", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_name_sorted_de_id"), "sparrows", ["name_sorted_de", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_name_sorted_sv_id"), "sparrows", ["name_sorted_sv", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_nest_id"), "sparrows", ["nest", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_song_id"), "sparrows", ["song", "id"], unique=False)
    op.create_index(op.f("ix_sparrows_song_sorted_pt_br_id"), "sparrows", ["song_sorted_pt_br", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON sparrows REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sparrow', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'spw_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON sparrows REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sparrow', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'spw_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON sparrows REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('sparrow', '{name_sorted_de,name_sorted_sv,song_sorted_pt_br}', 'spw_', 'id')"
    )
