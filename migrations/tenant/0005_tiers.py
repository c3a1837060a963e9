"""Tiers that tenants sell to their customers, and the customers who have them."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0005"
down_revision = "0004"


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def in_range(moment: str) -> sa.CheckConstraint:
    condition = f"{moment} >= '0001-01-01 00:00:00+00' AND {moment} < '10000-01-01 00:00:00+00'"
    return sa.CheckConstraint(condition, name=f"{moment}_range")


def triggers(table: str, *arguments: str) -> Sequence[str]:
    quoted = ", ".join(f"'{argument}'" for argument in arguments)
    return [
        f"CREATE TRIGGER audit_{event} AFTER {event} ON {table} REFERENCING {rows} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION isola.audit({quoted})"
        for event, rows in (
            ("insert", "NEW TABLE AS new_rows"),
            ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("delete", "OLD TABLE AS old_rows"),
        )
    ]


def upgrade(op: Operations) -> None:
    op.create_table(
        "tiers",
        identifier(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("price", sa.Numeric(15, 3)),
        sa.Column("currency", sa.Text),
        sa.Column("period", sa.Text),
        sa.Column("usage_caps", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("feature_entitlements", sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        moment("created_at"),
        moment("updated_at"),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        sa.CheckConstraint("num_nonnulls(price, currency, period) IN (0, 3)", name="price_complete"),
        sa.CheckConstraint("price BETWEEN 0 AND 999999999999.999", name="price_range"),
        sa.CheckConstraint("length(currency) BETWEEN 3 AND 3", name="currency_length"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        sa.CheckConstraint("period IN ('month', 'year')", name="period"),
        sa.CheckConstraint(
            "octet_length(usage_caps::text) <= least(4194304, 10 * pg_column_size(usage_caps #> '{}') + 100)",
            name="usage_caps_size",
        ),
        sa.CheckConstraint(
            "jsonb_typeof(usage_caps) = 'object' AND NOT jsonb_path_exists(usage_caps, 'strict $.* ? "
            "(@.type() != \"number\" || @ < 1 || @ > 9007199254740991 || @ != @.floor())', '{}', true)",
            name="usage_caps_values",
        ),
        sa.CheckConstraint(
            "jsonb_array_length(jsonb_path_query_array(usage_caps, '$.keyvalue()', '{}', true)) <= 50",
            name="usage_caps_number",
        ),
        sa.CheckConstraint(
            "cardinality(feature_entitlements) <= 10000 AND array_position(feature_entitlements, NULL) IS NULL",
            name="feature_entitlements_items",
        ),
        sa.CheckConstraint("octet_length(feature_entitlements::text) <= 4000000", name="feature_entitlements_size"),
        sa.CheckConstraint("cardinality(feature_entitlements) <= 100", name="feature_entitlements_number"),
        sa.CheckConstraint(
            """feature_entitlements::text ~ '^[{](([a-z0-9-]{1,63}|"null")(,|[}]$))*[}]?$'""",
            name="feature_entitlements_form",
        ),
        in_range("created_at"),
        in_range("updated_at"),
    )
    op.create_index(None, "tiers", ["created_at", "id"])
    op.create_table(
        "tier_customers",
        identifier(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("tier_id", sa.Uuid, sa.ForeignKey("tiers.id", deferrable=True), nullable=False),
        moment("created_at"),
        moment("updated_at"),
        sa.UniqueConstraint("name"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        sa.CheckConstraint(r"name !~ '[\u0001-\u001F\u007F-\u009F]'", name="name_form"),
        in_range("created_at"),
        in_range("updated_at"),
    )
    for column in ("tier_id", "created_at"):
        op.create_index(None, "tier_customers", [column, "id"])
    for statement in (
        *triggers("tiers", "tier", "{}", "tir_", "id"),
        *triggers("tier_customers", "tier_customer", "{}", "cus_", "id"),
    ):
        op.execute(statement)
