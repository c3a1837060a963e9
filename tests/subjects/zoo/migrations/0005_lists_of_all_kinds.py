"""Lists of all kinds."""

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0005"
down_revision = "0004"


def upgrade(op: Operations) -> None:
    op.add_column("animals", sa.Column("herds", sa.ARRAY(sa.BigInteger()), nullable=True))
    op.add_column("animals", sa.Column("weights", sa.ARRAY(sa.Double()), nullable=True))
    op.add_column("animals", sa.Column("fees", sa.ARRAY(sa.Numeric(precision=6, scale=2)), nullable=True))
    op.add_column("animals", sa.Column("flags", sa.ARRAY(sa.Boolean()), nullable=True))
    op.add_column("animals", sa.Column("visits", sa.ARRAY(sa.DateTime(timezone=True)), nullable=True))
    op.add_column("animals", sa.Column("chips", sa.ARRAY(sa.Uuid()), nullable=True))
    op.add_column("animals", sa.Column("holidays", sa.ARRAY(sa.Date()), nullable=True))
    op.create_check_constraint(
        op.f("ck_animals_chips_items"), "animals", "cardinality(chips) <= 10000 AND array_position(chips, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_chips_size"), "animals", "octet_length(chips::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_days_range"), "animals", "'0001-01-01' <= ALL (days) AND '9999-12-31' >= ALL (days)"
    )
    op.create_check_constraint(
        op.f("ck_animals_fees_items"), "animals", "cardinality(fees) <= 10000 AND array_position(fees, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_fees_range"), "animals", "'NaN' <> ALL (fees)")
    op.create_check_constraint(op.f("ck_animals_fees_size"), "animals", "octet_length(fees::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_flags_items"), "animals", "cardinality(flags) <= 10000 AND array_position(flags, NULL) IS NULL"
    )
    op.create_check_constraint(op.f("ck_animals_flags_size"), "animals", "octet_length(flags::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_herds_items"), "animals", "cardinality(herds) <= 10000 AND array_position(herds, NULL) IS NULL"
    )
    op.create_check_constraint(
        op.f("ck_animals_herds_range"),
        "animals",
        "-9007199254740991 <= ALL (herds) AND 9007199254740991 >= ALL (herds)",
    )
    op.create_check_constraint(op.f("ck_animals_herds_size"), "animals", "octet_length(herds::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_holidays_items"),
        "animals",
        "cardinality(holidays) <= 10000 AND array_position(holidays, NULL) IS NULL",
    )
    op.create_check_constraint(
        op.f("ck_animals_holidays_range"),
        "animals",
        "'0001-01-01' <= ALL (holidays) AND '9999-12-31' >= ALL (holidays)",
    )
    op.create_check_constraint(op.f("ck_animals_holidays_size"), "animals", "octet_length(holidays::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_visits_items"),
        "animals",
        "cardinality(visits) <= 10000 AND array_position(visits, NULL) IS NULL",
    )
    op.create_check_constraint(
        op.f("ck_animals_visits_range"),
        "animals",
        "'0001-01-01 00:00:00+00' <= ALL (visits) AND '10000-01-01 00:00:00+00' > ALL (visits)",
    )
    op.create_check_constraint(op.f("ck_animals_visits_size"), "animals", "octet_length(visits::text) <= 4000000")
    op.create_check_constraint(
        op.f("ck_animals_weights_items"),
        "animals",
        "cardinality(weights) <= 10000 AND array_position(weights, NULL) IS NULL",
    )
    op.create_check_constraint(
        op.f("ck_animals_weights_range"), "animals", "'-Infinity' < ALL (weights) AND 'Infinity' > ALL (weights)"
    )
    op.create_check_constraint(op.f("ck_animals_weights_size"), "animals", "octet_length(weights::text) <= 4000000")
