"""First tables."""

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None


def upgrade(op: Operations) -> None:
    op.create_table(
        "cages",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_cages_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_cages_updated_at_range"),
        ),
        sa.CheckConstraint("number >= 1", name=op.f("ck_cages_number_range")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_cages_id")),
        sa.UniqueConstraint("number", name=op.f("uq_cages_number")),
    )
    op.create_index(op.f("ix_cages_created_at_id"), "cages", ["created_at", "id"], unique=False)
    op.create_table(
        "foods",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_foods_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_foods_updated_at_range"),
        ),
        sa.CheckConstraint("length(name) BETWEEN 0 AND 50", name=op.f("ck_foods_name_length")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_foods_id")),
        sa.UniqueConstraint("name", name=op.f("uq_foods_name")),
    )
    op.create_index(op.f("ix_foods_created_at_id"), "foods", ["created_at", "id"], unique=False)
    op.create_table(
        "animals",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("class", sa.Text(), server_default=sa.text("'bird'"), nullable=False),
        sa.Column("order", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("from", sa.Text(), nullable=True),
        sa.Column("group", sa.Date(), nullable=True),
        sa.Column("population", sa.BigInteger(), nullable=True),
        sa.Column("weight", sa.Double(), nullable=True),
        sa.Column("price", sa.Numeric(precision=6, scale=2), server_default=sa.text("1.50"), nullable=False),
        sa.Column("tame", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("born", sa.Date(), nullable=True),
        sa.Column("seen", sa.DateTime(timezone=True), nullable=True),
        sa.Column("chip", sa.Uuid(), nullable=True),
        sa.Column("notes", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("nicknames", sa.ARRAY(sa.Text()), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("sizes", sa.ARRAY(sa.Integer()), nullable=True),
        sa.Column("ring", sa.Text(), server_default=sa.text("'none'"), nullable=False),
        sa.Column("secret", sa.Text(), server_default=sa.text("'hidden'"), nullable=False),
        sa.Column("cage_id", sa.Uuid(), nullable=True),
        sa.Column("mother_id", sa.Uuid(), nullable=True),
        sa.Column("keeper_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("NOT tame OR class = 'bird'", name=op.f("ck_animals_tame_fish")),
        sa.CheckConstraint(
            "born >= '2000-01-01' AND born BETWEEN '0001-01-01' AND '9999-12-31'", name=op.f("ck_animals_born_range")
        ),
        sa.CheckConstraint("class IN ('bird', 'a fish')", name=op.f("ck_animals_class")),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_animals_created_at_range"),
        ),
        sa.CheckConstraint(
            "octet_length(notes::text) <= least(4194304, 10 * pg_column_size(notes #> '{}') + 100)",
            name=op.f("ck_animals_notes_size"),
        ),
        sa.CheckConstraint(
            "seen >= '0001-01-01 00:00:00+00' AND seen < '10000-01-01 00:00:00+00'", name=op.f("ck_animals_seen_range")
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_animals_updated_at_range"),
        ),
        sa.CheckConstraint(
            "weight >= 0 AND weight > '-Infinity' AND weight < 'Infinity'", name=op.f("ck_animals_weight_range")
        ),
        sa.CheckConstraint("\"group\" BETWEEN '0001-01-01' AND '9999-12-31'", name=op.f("ck_animals_group_range")),
        sa.CheckConstraint('"order" BETWEEN -5 AND 5', name=op.f("ck_animals_order_range")),
        sa.CheckConstraint(
            "cardinality(nicknames) <= 10000 AND array_position(nicknames, NULL) IS NULL",
            name=op.f("ck_animals_nicknames_items"),
        ),
        sa.CheckConstraint(
            "cardinality(sizes) <= 10000 AND array_position(sizes, NULL) IS NULL", name=op.f("ck_animals_sizes_items")
        ),
        sa.CheckConstraint('length("from") BETWEEN 0 AND 10', name=op.f("ck_animals_from_length")),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 50", name=op.f("ck_animals_name_length")),
        sa.CheckConstraint("length(ring) BETWEEN 0 AND 10", name=op.f("ck_animals_ring_length")),
        sa.CheckConstraint("length(secret) BETWEEN 0 AND 10", name=op.f("ck_animals_secret_length")),
        sa.CheckConstraint("octet_length(nicknames::text) <= 4000000", name=op.f("ck_animals_nicknames_size")),
        sa.CheckConstraint("octet_length(sizes::text) <= 4000000", name=op.f("ck_animals_sizes_size")),
        sa.CheckConstraint(
            "population BETWEEN -9007199254740991 AND 9007199254740991", name=op.f("ck_animals_population_range")
        ),
        sa.CheckConstraint("price >= 0", name=op.f("ck_animals_price_range")),
        sa.ForeignKeyConstraint(
            ["cage_id"], ["cages.id"], name=op.f("fk_animals_cage_id"), ondelete="SET NULL", deferrable=True
        ),
        sa.ForeignKeyConstraint(["keeper_id"], ["users.id"], name=op.f("fk_animals_keeper_id"), deferrable=True),
        sa.ForeignKeyConstraint(["mother_id"], ["animals.id"], name=op.f("fk_animals_mother_id"), deferrable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_animals_id")),
        sa.UniqueConstraint("chip", name=op.f("uq_animals_chip")),
        sa.UniqueConstraint("name", "cage_id", name=op.f("uq_animals_name_cage_id")),
    )
    op.create_index(op.f("ix_animals_cage_id_name_id"), "animals", ["cage_id", "name", "id"], unique=False)
    op.create_index(op.f("ix_animals_created_at_id"), "animals", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_animals_keeper_id_name_id"), "animals", ["keeper_id", "name", "id"], unique=False)
    op.create_index(op.f("ix_animals_mother_id_name_id"), "animals", ["mother_id", "name", "id"], unique=False)
    op.create_index(op.f("ix_animals_name_id"), "animals", ["name", "id"], unique=False)
    op.create_index(op.f("ix_animals_order_id"), "animals", ["order", "id"], unique=False)
    op.create_index(op.f("ix_animals_seen_id"), "animals", ["seen", "id"], unique=False)
    op.create_table(
        "animals_foods",
        sa.Column("animal_id", sa.Uuid(), nullable=False),
        sa.Column("food_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_animals_foods_created_at_range"),
        ),
        sa.ForeignKeyConstraint(
            ["animal_id"], ["animals.id"], name=op.f("fk_animals_foods_animal_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["food_id"], ["foods.id"], name=op.f("fk_animals_foods_food_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("animal_id", "food_id", name=op.f("pk_animals_foods_animal_id_food_id")),
    )
    op.create_index(op.f("ix_animals_foods_food_id_animal_id"), "animals_foods", ["food_id", "animal_id"], unique=False)
    op.create_table(
        "animals_friends",
        sa.Column("animal_id", sa.Uuid(), nullable=False),
        sa.Column("other_animal_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_animals_friends_created_at_range"),
        ),
        sa.ForeignKeyConstraint(
            ["animal_id"], ["animals.id"], name=op.f("fk_animals_friends_animal_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["other_animal_id"], ["animals.id"], name=op.f("fk_animals_friends_other_animal_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(
            "animal_id", "other_animal_id", name=op.f("pk_animals_friends_animal_id_other_animal_id")
        ),
    )
    op.create_index(
        op.f("ix_animals_friends_other_animal_id_animal_id"),
        "animals_friends",
        ["other_animal_id", "animal_id"],
        unique=False,
    )
    op.create_table(
        "diaries",
        sa.Column("id", sa.Uuid(), server_default=sa.text("isola.uuid_v7()"), nullable=False),
        sa.Column("author_id", sa.Uuid(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("animal_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint(
            "created_at >= '0001-01-01 00:00:00+00' AND created_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_diaries_created_at_range"),
        ),
        sa.CheckConstraint(
            "updated_at >= '0001-01-01 00:00:00+00' AND updated_at < '10000-01-01 00:00:00+00'",
            name=op.f("ck_diaries_updated_at_range"),
        ),
        sa.CheckConstraint("length(text) BETWEEN 0 AND 100", name=op.f("ck_diaries_text_length")),
        sa.ForeignKeyConstraint(
            ["animal_id"], ["animals.id"], name=op.f("fk_diaries_animal_id"), ondelete="CASCADE", deferrable=True
        ),
        sa.ForeignKeyConstraint(
            ["author_id"], ["users.id"], name=op.f("fk_diaries_author_id"), ondelete="CASCADE", deferrable=True
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_diaries_id")),
    )
    op.create_index(op.f("ix_diaries_animal_id_id"), "diaries", ["animal_id", "id"], unique=False)
    op.create_index(op.f("ix_diaries_author_id_id"), "diaries", ["author_id", "id"], unique=False)
    op.create_index(op.f("ix_diaries_created_at_id"), "diaries", ["created_at", "id"], unique=False)
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON cages REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('cage', '{}', 'cag_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON cages REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('cage', '{}', 'cag_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON cages REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('cage', '{}', 'cag_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON foods REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('food', '{}', 'fod_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON foods REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('food', '{}', 'fod_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON foods REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('food', '{}', 'fod_', 'id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON animals REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal', '{secret}', 'anm_', 'id', '', '', '{}', 'animals', '{tame}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON animals REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal', '{secret}', 'anm_', 'id', '', '', '{}', 'animals', '{tame}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON animals REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal', '{secret}', 'anm_', 'id', '', '', '{}', 'animals', '{tame}')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON animals_foods REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_foods', '{}', 'anm_', 'animal_id', '/fod_', 'food_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON animals_foods REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_foods', '{}', 'anm_', 'animal_id', '/fod_', 'food_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON animals_foods REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_foods', '{}', 'anm_', 'animal_id', '/fod_', 'food_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON animals_friends REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_friends', '{}', 'anm_', 'animal_id', '/anm_', 'other_animal_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON animals_friends REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_friends', '{}', 'anm_', 'animal_id', '/anm_', 'other_animal_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON animals_friends REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('animal_friends', '{}', 'anm_', 'animal_id', '/anm_', 'other_animal_id')"
    )
    op.execute(
        "CREATE TRIGGER audit_insert AFTER insert ON diaries REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id}')"
    )
    op.execute(
        "CREATE TRIGGER audit_update AFTER update ON diaries REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id}')"
    )
    op.execute(
        "CREATE TRIGGER audit_delete AFTER delete ON diaries REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('diary', '{}', 'dia_', 'id', '', '', '{author_id}')"
    )
