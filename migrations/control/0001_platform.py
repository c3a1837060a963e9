"""The platform's own tables, and the functions that bound transactions may call. Each function is defined once."""

from collections.abc import Sequence
from pathlib import Path

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0001"
down_revision = None

CHANGE_KINDS = ("domain", "key", "plan", "revocation", "role", "settings", "tenant", "user")
# Two random UUIDs hold 244 random bits.
FOR_CURSORS = """
INSERT INTO control.secrets (name, value)
VALUES ('cursors', uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
"""
FOR_BINDINGS = """
INSERT INTO control.binding_key ("inner", "outer")
VALUES (
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())
)
"""
# The platform's own tables that count towards quotas. Those in homes are declared: see app/isola/platform/registry.py.
COUNTED = """
INSERT INTO control.counted (quota, relation, tenant_column, counts) VALUES
    ('api_keys', 'api_keys', 'tenant_id', '{live}'),
    ('domains', 'domains', 'tenant_id', NULL),
    ('shares', 'shares', 'owner_id', 'rule_id IS NULL AND {live} AND {in_partnership}'),
    ('shares', 'share_rules', 'owner_id', '{live_rule} AND {in_partnership}')
""".format(
    live_rule="ended_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())",
    live="revoked_at IS NULL AND (expires_at IS NULL OR expires_at > statement_timestamp())",
    in_partnership="(partnership_id = owner_id OR EXISTS (SELECT FROM control.partners p WHERE p.id = partnership_id))",
)
UNLIMITED = "INSERT INTO control.plans (name, title) VALUES ('unlimited', 'Unlimited')"
# Plans to begin with, for the operator to change or delete. Their limits are for the subject in examples/agents; where
# that is not installed, they limit nothing.
OFFERED = """
INSERT INTO control.plans
    (name, title, price, currency, period, quotas, limits, rates, features, listed, retention) VALUES
    ('free', 'Free', 0, 'USD', 'month', '{"agents": 3, "storage": 1000000000}',
     '{"executions": 1000}', '{"requests": "10/minute"}',
     '{}', true, '{"spans": 7, "executions": 7, "log": 7}'),
    ('starter', 'Starter', 99, 'USD', 'month', '{"agents": 10, "storage": 10000000000}',
     '{"executions": 10000}', '{"requests": "50/minute"}',
     '{audit-logs,custom-patterns,data-export}', true, '{"spans": 30, "executions": 30, "log": 30}'),
    ('professional', 'Professional', 499, 'USD', 'month', '{"agents": 50, "storage": 100000000000}',
     '{"executions": 100000}',
     '{"requests": "200/minute"}',
     '{advanced-analytics,audit-logs,custom-patterns,data-export,priority-support,single-sign-on}', true,
     '{"spans": 90, "executions": 90, "log": 90}'),
    ('enterprise', 'Enterprise', NULL, NULL, NULL, '{}', '{}', '{}', NULL, true,
     '{"spans": 365, "executions": 365, "log": 365}')
"""
# The platform's log uses an id that no tenant has.
HEAD_OF_PLATFORM = "INSERT INTO control.audit_heads (tenant_id) VALUES ('00000000-0000-0000-0000-000000000000')"
# What the log has of a webhook's URL.
ORIGIN = "substring(url from '^[a-z]+://[^/?#]+')"
DAYS_OF_PLAN = "retention @@ '!exists($.* ? (@.type() != \"number\" || @ < 1 || @ > 36500 || @ != @.floor()))'"
OPEN_ORDERS = sa.text("state IN ('waiting', 'running')")


def upgrade(op: Operations) -> None:
    functions(op, "identifiers", "answers")
    plans(op)
    directory(op)
    secrets(op)
    functions(op, "binding", "hierarchy")
    partnerships(op)
    shares(op)
    functions(op, "family_shares", "sharing", "share_rules", "share_comments", "received_rows", "families")
    domains_and_api_keys(op)
    functions(op, "domains", "api_keys", "partnerships")
    changes_and_sessions(op)
    functions(op, "changes", "revocations")
    access_grants(op)
    functions(op, "access")
    memberships(op)
    functions(op, "memberships")
    log(op)
    tickets(op)
    first_answers(op)
    invitations(op)
    webhooks(op)
    federation(op)
    usage(op)
    metrics(op)
    incidents(op)
    functions(op, "audit", "sealing", "platform_log", "sign_ins", "quotas", "features", "watchdog", "tickets")
    functions(op, "storage", "usage", "rates", "timeline", "words", "retention")
    functions(op, "idempotency", "invitations", "webhooks", "federation", "metrics", "incidents")
    orders(op)


def functions(op: Operations, *names: str) -> None:
    for name in names:
        op.execute(Path(__file__).with_name(f"0001_{name}.sql").read_text())


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str, *, default: str | None = None, nullable: bool = False) -> sa.Column[object]:
    server_default = sa.text(default) if default else None
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable, server_default=server_default)


def create_table(
    op: Operations, name: str, *items: sa.Column[object] | sa.Constraint, prefixes: Sequence[str] = ()
) -> None:
    """Create a table of the platform, with a check for each timestamp column that must be finite."""
    moments = [item.name for item in items if isinstance(item, sa.Column) and isinstance(item.type, sa.DateTime)]
    checks = (
        sa.CheckConstraint(
            f"{moment} >= '0001-01-01 00:00:00+00' AND {moment} < '10000-01-01 00:00:00+00'", name=f"{moment}_range"
        )
        for moment in moments
        if moment != "until"
    )
    op.create_table(name, *items, *checks, schema="control", prefixes=list(prefixes))


def length(column: str, most: int) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"length({column}) BETWEEN 0 AND {most}", name=f"{column}_length")


def tenant(*, on_delete: str | None = None, primary_key: bool = False) -> sa.Column[object]:
    key = sa.ForeignKey("control.tenants.id", ondelete=on_delete)
    return sa.Column("tenant_id", sa.Uuid, key, nullable=False, primary_key=primary_key)


def overrides(op: Operations, kind: str, most: int, value: sa.Column[object], *rules: sa.CheckConstraint) -> None:
    create_table(
        op,
        f"{kind}_overrides",
        tenant(primary_key=True),
        sa.Column(kind, sa.Text, primary_key=True),
        value,
        sa.Column("reason", sa.Text, nullable=False),
        moment("created_at", default="now()"),
        moment("ends_at", nullable=True),
        length(kind, most),
        *rules,
        sa.CheckConstraint("length(reason) BETWEEN 1 AND 500", name="reason_length"),
    )


def plans(op: Operations) -> None:
    create_table(
        op,
        "plans",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("price", sa.Numeric),
        sa.Column("currency", sa.Text),
        sa.Column("period", sa.Text),
        sa.Column("quotas", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("limits", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("rates", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("retention", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("features", ARRAY(sa.Text)),
        sa.Column("listed", sa.Boolean, nullable=False, server_default=sa.text("false")),
        moment("created_at", default="now()"),
        moment("retired_at", nullable=True),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="name"),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name="title_length"),
        sa.CheckConstraint("num_nonnulls(price, currency, period) IN (0, 3)", name="price_complete"),
        sa.CheckConstraint("price >= 0 AND price < 1e12 AND scale(price) <= 3", name="price_range"),
        sa.CheckConstraint("currency ~ '^[A-Z]{3}$'", name="currency"),
        sa.CheckConstraint("period IN ('month', 'year')", name="period"),
        sa.CheckConstraint("jsonb_typeof(quotas) = 'object'", name="quotas_object"),
        sa.CheckConstraint("jsonb_typeof(limits) = 'object'", name="limits_object"),
        sa.CheckConstraint("jsonb_typeof(rates) = 'object'", name="rates_object"),
        sa.CheckConstraint("jsonb_typeof(retention) = 'object'", name="retention_object"),
        sa.CheckConstraint(DAYS_OF_PLAN, name="retention_days"),
    )
    op.execute(UNLIMITED)
    op.execute(OFFERED)
    # Unlogged: the counts need not survive a crash, as they can be made again.
    create_table(
        op,
        "quota_bounds",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("quota", sa.Text, primary_key=True),
        sa.Column("at_most", sa.BigInteger, nullable=False),
        length("quota", 100),
        prefixes=["UNLOGGED"],
    )
    # Rows that serialize transactions which add rows that count towards a quota.
    create_table(op, "quota_turns", sa.Column("tenant_id", sa.Uuid, primary_key=True), prefixes=["UNLOGGED"])
    create_table(
        op,
        "counted",
        sa.Column("quota", sa.Text, primary_key=True),
        sa.Column("relation", sa.Text, primary_key=True),
        sa.Column("tenant_column", sa.Text),
        sa.Column("counts", sa.Text),
        length("quota", 100),
        length("relation", 63),
    )
    op.execute(COUNTED)
    # Filled from the declarations: see app/isola/platform/registry.py.
    create_table(
        op,
        "meters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("period", sa.Text, nullable=False),
        sa.Column("property", sa.Text),
        length("name", 63),
        sa.CheckConstraint("kind IN ('sum', 'count', 'maximum', 'unique')", name="kind"),
        sa.CheckConstraint("period IN ('hour', 'day', 'month')", name="period"),
        sa.CheckConstraint("(kind = 'unique') = (property IS NOT NULL)", name="property"),
    )
    create_table(
        op,
        "kept",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("moment", sa.Text, nullable=False),
        length("name", 63),
        sa.CheckConstraint("name <> 'log'", name="name"),
    )
    # The rows that a transaction deletes because the tenant's plan does not keep them any more, by subject. Each row is
    # deleted before its transaction ends.
    create_table(
        op,
        "expiring",
        sa.Column("transaction", sa.Text, primary_key=True),
        sa.Column("rows", JSONB, nullable=False, server_default=sa.text("'{}'")),
        length("transaction", 20),
        prefixes=["UNLOGGED"],
    )
    create_table(
        op,
        "applications",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("revision", sa.Text, nullable=False),
        length("name", 63),
    )


def directory(op: Operations) -> None:
    create_table(
        op,
        "tenants",
        identifier(),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False, server_default=sa.text("'active'")),
        sa.Column("settings", JSONB, nullable=False, server_default=sa.text("'{}'")),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("home", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        moment("created_at", default="now()"),
        moment("deleted_at", nullable=True),
        sa.Column("slug_reused", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("parent_id", sa.Uuid, sa.ForeignKey("control.tenants.id")),
        sa.Column("child_key", sa.Uuid),
        moment("child_since", nullable=True),
        sa.Column(
            "plan", sa.Text, sa.ForeignKey("control.plans.name"), nullable=False, server_default=sa.text("'unlimited'")
        ),
        sa.Column("moving_to", sa.Text),
        moment("moved_at", nullable=True),
        sa.Column("remote", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("logged_reads", sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        sa.CheckConstraint("slug ~ '^[a-z][a-z0-9-]{0,61}[a-z0-9]$'", name="slug"),
        sa.CheckConstraint("status IN ('active', 'suspended', 'deleted')", name="status"),
        sa.CheckConstraint("home IS NOT NULL OR status = 'deleted'", name="home"),
        sa.CheckConstraint("NOT remote OR parent_id IS NULL", name="remote_alone"),
        sa.CheckConstraint("cardinality(logged_reads) <= 200", name="logged_reads"),
    )
    op.create_index(
        None, "tenants", ["slug"], unique=True, schema="control", postgresql_where=sa.text("status <> 'deleted'")
    )
    op.create_index(None, "tenants", ["parent_id"], schema="control")
    op.create_index(None, "tenants", ["moved_at"], schema="control", postgresql_where=sa.text("moved_at IS NOT NULL"))
    # The database reads at_most until ends_at, and the plan's limit from then on: see 0001_quotas.sql.
    for kind, most in (("quota", 100), ("meter", 63)):
        at_most = sa.CheckConstraint("at_most >= 0", name="at_most")
        overrides(op, kind, most, sa.Column("at_most", sa.BigInteger), at_most)
    # Read with the tenant's entry: see control.entitlements() in 0001_features.sql.
    overrides(op, "feature", 63, sa.Column("given", sa.Boolean, nullable=False))
    form = sa.CheckConstraint("value ~ '^[1-9][0-9]*/(second|minute|hour|day)$'", name="value")
    overrides(op, "rate", 100, sa.Column("value", sa.Text), form)
    days = sa.CheckConstraint("days BETWEEN 1 AND 36500", name="days")
    overrides(op, "retention", 63, sa.Column("days", sa.Integer), days)
    # Unlogged, and without a foreign key: see isola.platform.leases.
    create_table(
        op,
        "rate_levels",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("rate", sa.Text, primary_key=True),
        sa.Column("seconds", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("level", sa.Numeric, nullable=False),
        moment("at"),
        moment("empty_at"),
        length("rate", 100),
        prefixes=["UNLOGGED"],
    )


def secrets(op: Operations) -> None:
    create_table(
        op,
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.LargeBinary, nullable=False),
        length("name", 100),
    )
    op.execute(FOR_CURSORS)
    create_table(
        op,
        "binding_key",
        sa.Column("inner", sa.LargeBinary, nullable=False),
        sa.Column("outer", sa.LargeBinary, nullable=False),
        sa.Column("moved", sa.ARRAY(sa.Uuid), nullable=False, server_default=sa.text("'{}'")),
    )
    op.execute(FOR_BINDINGS)


def partnerships(op: Operations) -> None:
    # No foreign key to the tenant of the slug: an offer takes the same locks whether there is one or not.
    create_table(
        op,
        "partnership_offers",
        identifier(),
        tenant(),
        sa.Column("partner_slug", sa.Text, nullable=False),
        sa.Column("partner_id", sa.Uuid, nullable=False),
        sa.Column("offered_by", sa.Uuid),
        moment("offered_at", default="now()"),
        sa.UniqueConstraint("tenant_id", "partner_slug"),
        sa.CheckConstraint("length(partner_slug) BETWEEN 2 AND 63", name="partner_slug_length"),
        sa.CheckConstraint("tenant_id <> partner_id", name="with_another"),
    )
    op.create_index(None, "partnership_offers", ["partner_id", "tenant_id"], schema="control")
    create_table(
        op,
        "partnership_declines",
        tenant(primary_key=True),
        sa.Column("offerer_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), primary_key=True),
        sa.Column("offerer_slug", sa.Text, nullable=False),
        sa.Column("offer_id", sa.Uuid, nullable=False),
        sa.Column("declined_by", sa.Uuid),
        moment("declined_at", default="now()"),
        sa.CheckConstraint("length(offerer_slug) BETWEEN 2 AND 63", name="offerer_slug_length"),
    )
    op.create_index(None, "partnership_declines", ["offerer_id"], schema="control")
    create_table(
        op,
        "partners",
        tenant(primary_key=True),
        sa.Column("partner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), primary_key=True),
        sa.Column("partner_slug", sa.Text, nullable=False),
        sa.Column("id", sa.Uuid, nullable=False),
        moment("offered_at"),
        moment("accepted_at", default="now()"),
        sa.Column("by_domain", sa.Text),
        sa.CheckConstraint("length(partner_slug) BETWEEN 2 AND 63", name="partner_slug_length"),
        length("by_domain", 253),
        sa.CheckConstraint("tenant_id <> partner_id", name="with_another"),
    )
    op.create_index(None, "partners", ["id"], schema="control")
    op.create_index(None, "partners", ["partner_id"], schema="control")
    create_table(
        op,
        "tenant_blocks",
        identifier(),
        tenant(),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("blocked_id", sa.Uuid, nullable=False),
        sa.Column("blocked_by", sa.Uuid),
        moment("blocked_at", default="now()"),
        sa.UniqueConstraint("tenant_id", "slug"),
        sa.CheckConstraint("length(slug) BETWEEN 2 AND 63", name="slug_length"),
    )
    op.create_index(None, "tenant_blocks", ["tenant_id", "blocked_id"], schema="control")
    create_table(
        op,
        "partner_domains",
        identifier(),
        tenant(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("added_by", sa.Uuid),
        moment("added_at", default="now()"),
        sa.UniqueConstraint("tenant_id", "name"),
        sa.CheckConstraint("name = lower(name)", name="name_lower"),
        length("name", 253),
    )


def shares(op: Operations) -> None:
    # Filled from the declarations of tables: see app/isola/platform/registry.py.
    create_table(
        op,
        "subjects",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("relation", sa.Text, nullable=False),
        sa.Column("shared", ARRAY(sa.Text), nullable=False),
        sa.Column("restricted", sa.Boolean, nullable=False, server_default=sa.text("true")),
        length("name", 63),
    )
    create_table(
        op,
        "shares",
        identifier(),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("row_id", sa.Uuid, nullable=False),
        sa.Column("grantee_slug", sa.Text),
        sa.Column("grantee_id", sa.Uuid, sa.ForeignKey("control.tenants.id")),
        sa.Column("partnership_id", sa.Uuid, nullable=False),
        sa.Column("granted_by", sa.Uuid),
        moment("granted_at", default="now()"),
        moment("expires_at", nullable=True),
        moment("revoked_at", nullable=True),
        sa.Column("lapsed", sa.Boolean, nullable=False, server_default=sa.text("false")),
        sa.Column("fields", ARRAY(sa.Text), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("access", sa.Text, nullable=False, server_default=sa.text("'read'")),
        sa.Column("rule_id", sa.Uuid),
        length("subject", 63),
        sa.CheckConstraint("access IN ('read', 'comment')", name="access"),
        sa.CheckConstraint("access = 'read' OR partnership_id <> owner_id", name="children_read"),
        sa.CheckConstraint("length(grantee_slug) BETWEEN 2 AND 63", name="grantee_slug_length"),
        sa.CheckConstraint("owner_id <> grantee_id", name="with_another"),
        sa.CheckConstraint(
            "num_nulls(grantee_slug, grantee_id) = CASE WHEN partnership_id = owner_id THEN 2 ELSE 0 END",
            name="with_partner_or_children",
        ),
        sa.CheckConstraint("cardinality(fields) > 0", name="grants_something"),
        sa.CheckConstraint("length(note) BETWEEN 1 AND 500", name="note_length"),
    )
    live = sa.text("revoked_at IS NULL")
    op.create_index(
        None,
        "shares",
        ["row_id", "owner_id", "subject", "partnership_id", "rule_id"],
        unique=True,
        schema="control",
        postgresql_where=live,
        postgresql_nulls_not_distinct=True,
    )
    op.create_index(
        None,
        "shares",
        ["rule_id", "row_id"],
        schema="control",
        postgresql_where=sa.text("revoked_at IS NULL AND rule_id IS NOT NULL"),
    )
    op.create_index(
        None,
        "shares",
        ["partnership_id", "owner_id", "granted_at", "id"],
        schema="control",
        postgresql_where=sa.text("revoked_at IS NULL AND NOT lapsed"),
        postgresql_include=["expires_at"],
    )
    op.create_index(None, "shares", ["grantee_id", "owner_id", "row_id"], schema="control")
    # By which an owner reads its own shares.
    within = (["granted_by", "granted_at"], ["grantee_slug", "granted_at"])
    for leading in ([], ["granted_at"], ["expires_at"], *within):
        op.create_index(
            None,
            "shares",
            ["owner_id", *leading, "id"],
            schema="control",
            postgresql_where=sa.text("revoked_at IS NULL AND NOT lapsed"),
        )
    op.create_index(
        None,
        "shares",
        ["expires_at"],
        schema="control",
        postgresql_where=sa.text("revoked_at IS NULL AND NOT lapsed AND expires_at IS NOT NULL"),
    )
    create_table(
        op,
        "share_rules",
        identifier(),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("grantee_slug", sa.Text, nullable=False),
        sa.Column("grantee_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("partnership_id", sa.Uuid, nullable=False),
        sa.Column("granted_by", sa.Uuid),
        moment("granted_at", default="now()"),
        moment("expires_at", nullable=True),
        moment("ended_at", nullable=True),
        sa.Column("fields", ARRAY(sa.Text), nullable=False),
        sa.Column("note", sa.Text),
        sa.Column("access", sa.Text, nullable=False, server_default=sa.text("'read'")),
        sa.Column("filter", JSONB, nullable=False),
        sa.Column("condition", JSONB, nullable=False),
        sa.Column("columns", ARRAY(sa.Text), nullable=False),
        length("subject", 63),
        sa.CheckConstraint("access IN ('read', 'comment')", name="access"),
        sa.CheckConstraint("length(grantee_slug) BETWEEN 2 AND 63", name="grantee_slug_length"),
        sa.CheckConstraint("owner_id <> grantee_id", name="with_another"),
        sa.CheckConstraint("cardinality(fields) > 0", name="grants_something"),
        sa.CheckConstraint("length(note) BETWEEN 1 AND 500", name="note_length"),
    )
    op.create_index(
        None,
        "share_rules",
        ["owner_id", "subject"],
        schema="control",
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    create_table(
        op,
        "share_comments",
        identifier(),
        sa.Column("share_id", sa.Uuid, nullable=False),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("grantee_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("by_owner", sa.Boolean, nullable=False),
        sa.Column("author_id", sa.Uuid),
        sa.Column("text", sa.Text, nullable=False),
        moment("created_at", default="now()"),
        sa.CheckConstraint("owner_id <> grantee_id", name="with_another"),
        sa.CheckConstraint("length(text) BETWEEN 1 AND 2000", name="text_length"),
    )
    for columns in (["share_id", "by_owner", "id"], ["owner_id"], ["grantee_id"]):
        op.create_index(None, "share_comments", columns, schema="control")
    create_table(
        op,
        "received_shares",
        sa.Column("id", sa.Uuid, primary_key=True),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("grantee_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("partnership_id", sa.Uuid, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("row_id", sa.Uuid, nullable=False),
        sa.Column("rule_id", sa.Uuid),
        sa.Column("granted_by", sa.Uuid),
        moment("expires_at", nullable=True),
    )
    for columns in (["row_id"], ["owner_id"], ["grantee_id"]):
        op.create_index(None, "received_shares", columns, schema="control")
    create_table(op, "disabled_users", tenant(primary_key=True), sa.Column("user_id", sa.Uuid, primary_key=True))
    create_table(
        op,
        "share_notices",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("old", JSONB),
        sa.Column("new", JSONB),
    )


def domains_and_api_keys(op: Operations) -> None:
    create_table(
        op,
        "domains",
        identifier(),
        tenant(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("challenge", sa.Text, nullable=False),
        moment("challenge_expires_at"),
        moment("proven_at", nullable=True),
        moment("created_at", default="now()"),
        moment("verified_at", nullable=True),
        sa.UniqueConstraint("tenant_id", "name"),
        sa.CheckConstraint("name = lower(name)", name="name_lower"),
        length("name", 253),
    )
    op.create_index(
        None, "domains", ["name"], unique=True, schema="control", postgresql_where=sa.text("verified_at IS NOT NULL")
    )
    create_table(
        op,
        "api_keys",
        identifier(),
        tenant(),
        sa.Column("prefix", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("permissions", ARRAY(sa.Text), nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("created_by", sa.Uuid, nullable=False),
        moment("created_at", default="now()"),
        moment("expires_at", nullable=True),
        moment("last_used_at", nullable=True),
        moment("revoked_at", nullable=True),
        sa.UniqueConstraint("prefix"),
        length("prefix", 100),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
        sa.CheckConstraint("length(digest) = 32", name="digest_length"),
    )
    op.create_index(None, "api_keys", ["tenant_id", "id"], schema="control")


def changes_and_sessions(op: Operations) -> None:
    create_table(
        op,
        "changes",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column(
            "transaction", sa.BigInteger, nullable=False, server_default=sa.text("pg_current_xact_id()::text::bigint")
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("key", sa.Text, nullable=False),
        sa.CheckConstraint(f"kind IN ({', '.join(repr(kind) for kind in CHANGE_KINDS)})", name="kind"),
        sa.CheckConstraint("length(key) <= 2000", name="key_length"),
    )
    op.create_index(None, "changes", ["transaction"], schema="control")
    create_table(
        op,
        "revocations",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False, server_default=sa.text("'infinity'")),
        sa.CheckConstraint("octet_length(key) <= 2600", name="key_length"),
    )
    op.create_index(None, "revocations", ["until"], schema="control", postgresql_where=sa.text("until < 'infinity'"))
    create_table(
        op,
        "sign_outs",
        tenant(primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Uuid, nullable=False),
        moment("not_before"),
        length("subject", 400),
    )
    create_table(
        op,
        "sessions",
        identifier(),
        tenant(),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("user_id", sa.Uuid),
        moment("created_at", default="now()"),
        moment("expires_at"),
        moment("ended_at", nullable=True),
        sa.Column("ended_for", sa.Text),
        sa.Column("user_agent", sa.Text),
        length("user_agent", 200),
        sa.Column("address", sa.Text),
        length("address", 64),
        sa.CheckConstraint("ended_for IN ('reuse', 'revocation', 'sign_out')", name="ended_for"),
        sa.CheckConstraint("ended_at IS NULL OR ended_for IS NOT NULL", name="ended"),
    )
    op.create_index(None, "sessions", ["expires_at"], schema="control")
    op.create_index(
        None, "sessions", ["tenant_id", "user_id"], schema="control", postgresql_where=sa.text("ended_at IS NULL")
    )
    op.create_index(None, "sessions", ["created_at"], schema="control", postgresql_where=sa.text("user_id IS NULL"))
    op.create_index(None, "sessions", ["tenant_id"], schema="control", postgresql_where=sa.text("ended_at IS NOT NULL"))
    create_table(
        op,
        "refusals",
        tenant(primary_key=True),
        sa.Column("reason", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("user_agent", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        moment("first_at", default="now()"),
        moment("last_at", default="now()"),
        moment("due_at"),
        length("reason", 100),
        length("address", 64),
        length("user_agent", 200),
    )
    op.create_index(None, "refusals", ["due_at"], schema="control")
    create_table(
        op,
        "reads",
        tenant(primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("reader_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        moment("first_at", default="now()"),
        moment("last_at", default="now()"),
        moment("due_at"),
        length("subject", 63),
        sa.CheckConstraint("kind IN ('child', 'family', 'share')", name="kind"),
    )
    op.create_index(None, "reads", ["due_at"], schema="control")
    create_table(
        op,
        "logged_reads",
        tenant(primary_key=True),
        sa.Column("user_id", sa.Uuid, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("operation", sa.Text, primary_key=True),
        sa.Column("address", sa.Text, primary_key=True),
        sa.Column("user_agent", sa.Text, primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        moment("first_at", default="now()"),
        moment("last_at", default="now()"),
        moment("due_at"),
        length("subject", 63),
        length("operation", 100),
        length("address", 64),
        length("user_agent", 200),
    )
    op.create_index(None, "logged_reads", ["due_at"], schema="control")
    create_table(
        op,
        "refresh_tokens",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("session_id", sa.Uuid, sa.ForeignKey("control.sessions.id", ondelete="CASCADE"), nullable=False),
        moment("expires_at"),
        moment("used_at", nullable=True),
    )
    op.create_index(None, "refresh_tokens", ["session_id"], schema="control")


def access_grants(op: Operations) -> None:
    create_table(
        op,
        "access_grants",
        identifier(),
        tenant(),
        sa.Column("staff", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        moment("granted_at", default="now()"),
        moment("expires_at"),
        moment("ended_at", nullable=True),
        sa.CheckConstraint("length(reason) BETWEEN 10 AND 500", name="reason_length"),
        sa.CheckConstraint("expires_at <= granted_at + interval '8 hours'", name="at_most_8_hours"),
    )
    op.create_index(None, "access_grants", ["tenant_id", "id"], schema="control")


def memberships(op: Operations) -> None:
    create_table(
        op,
        "memberships",
        sa.Column("subject", sa.Text, primary_key=True),
        tenant(on_delete="CASCADE", primary_key=True),
        length("subject", 400),
    )
    op.create_index(None, "memberships", ["tenant_id"], schema="control")


def tickets(op: Operations) -> None:
    create_table(
        op,
        "tickets",
        identifier(),
        tenant(),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("permissions", sa.ARRAY(sa.Text), nullable=False),
        sa.Column("roles", sa.Text, nullable=False),
        sa.Column("proved", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Uuid),
        sa.Column("backend", sa.Integer),
        sa.Column("on_behalf_of", sa.Text),
        moment("issued_at", default="now()"),
        moment("expires_at"),
        moment("used_at", nullable=True),
        # The transaction that the ticket binds: see isola.this_transaction().
        sa.Column("used_by", sa.Text),
        length("used_by", 100),
        sa.CheckConstraint("length(digest) = 32", name="digest_length"),
        sa.UniqueConstraint("digest"),
        sa.UniqueConstraint("used_by"),
    )
    op.create_index(None, "tickets", ["tenant_id", "user_id"], schema="control")


def first_answers(op: Operations) -> None:
    # No foreign keys: each write would pay for them. Only a function writes rows.
    create_table(
        op,
        "first_answers",
        # HMAC-SHA-256 of the tenant, the user and the key.
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("place", sa.Integer, primary_key=True),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        # SHA-256.
        sa.Column("request", sa.LargeBinary, nullable=False),
        sa.Column("permissions", sa.Text, nullable=False),
        sa.Column("refusal", sa.Boolean, nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        moment("kept_at", default="now()"),
    )
    op.create_index(None, "first_answers", ["kept_at"], schema="control")


def invitations(op: Operations) -> None:
    create_table(
        op,
        "invitations",
        identifier(),
        tenant(),
        sa.Column("email", sa.Text, nullable=False),
        sa.Column("role_ids", ARRAY(sa.Uuid), nullable=False),
        sa.Column("organization_id", sa.Uuid),
        sa.Column("invited_by", sa.Uuid, nullable=False),
        # SHA-256 of the token; none until it is sent.
        sa.Column("digest", sa.LargeBinary),
        moment("created_at", default="now()"),
        moment("expires_at"),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=sa.text("0")),
        moment("next_attempt_at", nullable=True),
        moment("sent_at", nullable=True),
        moment("failed_at", nullable=True),
        moment("accepted_at", nullable=True),
        sa.Column("accepted_by", sa.Uuid),
        moment("revoked_at", nullable=True),
        length("email", 320),
        sa.CheckConstraint("length(digest) = 32", name="digest_length"),
        sa.CheckConstraint("cardinality(role_ids) <= 100", name="role_ids_length"),
        sa.UniqueConstraint("digest"),
    )
    op.create_index(None, "invitations", ["tenant_id", "id"], schema="control")
    op.create_index(None, "invitations", ["expires_at"], schema="control")
    op.create_index(
        None,
        "invitations",
        ["next_attempt_at"],
        schema="control",
        postgresql_where=sa.text("next_attempt_at IS NOT NULL"),
    )


def incidents(op: Operations) -> None:
    create_table(
        op,
        "incidents",
        identifier(),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
        moment("opened_at", default="now()"),
        moment("closed_at", nullable=True),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 200", name="title_length"),
        sa.CheckConstraint("severity IN ('low', 'medium', 'high', 'critical')", name="severity"),
    )
    incident = "control.incidents.id"
    create_table(
        op,
        "incident_notes",
        identifier(),
        sa.Column("incident_id", sa.Uuid, sa.ForeignKey(incident), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("entries", ARRAY(sa.Uuid), nullable=False),
        sa.Column("shown", sa.Boolean, nullable=False),
        sa.Column("noted_by", sa.Text, nullable=False),
        moment("noted_at", default="now()"),
        sa.CheckConstraint("length(text) BETWEEN 1 AND 4000", name="text_length"),
        sa.CheckConstraint("cardinality(entries) <= 100", name="entries"),
    )
    op.create_index(None, "incident_notes", ["incident_id", "id"], schema="control")
    create_table(
        op,
        "incident_tenants",
        tenant(primary_key=True),
        sa.Column("incident_id", sa.Uuid, sa.ForeignKey(incident), primary_key=True),
        sa.Column("shown", sa.Boolean, nullable=False, server_default=sa.text("false")),
    )
    op.create_index(None, "incident_tenants", ["incident_id"], schema="control")


def webhooks(op: Operations) -> None:
    create_table(
        op,
        "webhooks",
        identifier(),
        tenant(),
        sa.Column("kind", sa.Text, nullable=False, server_default=sa.text("'webhook'")),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, sa.Computed(ORIGIN, persisted=True)),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("events", ARRAY(sa.Text), nullable=False),
        # The secret is derived from it: see app/isola/webhooks/signing.py.
        sa.Column("secret_id", sa.Uuid, nullable=False, server_default=sa.text("gen_random_uuid()")),
        moment("secret_changed_at", default="now()"),
        sa.Column("former_secret_id", sa.Uuid),
        moment("former_secret_until", nullable=True),
        # A secret of somebody else's, encrypted: see app/isola/webhooks/sealing.py.
        sa.Column("sealed", sa.LargeBinary, nullable=False, server_default=sa.text("''")),
        sa.Column("template", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("enabled", sa.Boolean, nullable=False, server_default=sa.text("true")),
        sa.Column("created_by", sa.Uuid),
        moment("created_at", default="now()"),
        moment("updated_at", default="now()"),
        moment("replayed_at", nullable=True),
        # The number of the last entry that was delivered, or that needs not be.
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        moment("succeeded_at", nullable=True),
        # The attempts to deliver the next event.
        sa.Column("failures", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("failure", sa.Text),
        moment("next_attempt_at", nullable=True),
        sa.Column("lease", sa.Uuid),
        moment("leased_until", nullable=True),
        length("url", 2000),
        length("description", 200),
        sa.CheckConstraint("cardinality(events) BETWEEN 1 AND 100", name="events_length"),
        length("failure", 100),
        sa.CheckConstraint("kind IN ('webhook', 'posthog', 'slack')", name="kind_values"),
        sa.CheckConstraint("octet_length(sealed) <= 4000 AND (kind = 'webhook') = (sealed = '')", name="sealed_kind"),
        sa.CheckConstraint("length(template) <= 300 AND (kind = 'slack') = (template <> '')", name="template_kind"),
    )
    op.create_index(None, "webhooks", ["tenant_id", "id"], schema="control")
    create_table(
        op,
        "dead_letters",
        identifier(),
        tenant(),
        sa.Column("webhook_id", sa.Uuid, sa.ForeignKey("control.webhooks.id", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("entry_id", sa.Uuid, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        moment("died_at", default="now()"),
        length("action", 100),
        length("failure", 100),
    )
    op.create_index(None, "dead_letters", ["webhook_id", "id"], schema="control")
    op.create_index(None, "dead_letters", ["tenant_id"], schema="control")
    create_table(
        op,
        "connector_events",
        identifier(),
        tenant(),
        sa.Column("webhook_id", sa.Uuid, sa.ForeignKey("control.webhooks.id", ondelete="CASCADE"), nullable=False),
        # That of the request, among those of the webhook.
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("first_entry", sa.BigInteger, nullable=False),
        sa.Column("last_entry", sa.BigInteger, nullable=False),
        sa.Column("entries", sa.Integer, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("bytes", sa.Integer, nullable=False),
        moment("at", default="now()"),
        length("failure", 100),
    )
    op.create_index(None, "connector_events", ["webhook_id", "number"], unique=True, schema="control")
    op.create_index(None, "connector_events", ["tenant_id"], schema="control")


def metrics(op: Operations) -> None:
    create_table(
        op,
        "request_records",
        moment("at"),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("user_id", sa.Uuid, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("operation", sa.Text, nullable=False),
        sa.Column("fields", sa.Text, nullable=False),
        sa.Column("code", sa.Text, nullable=False),
        sa.Column("microseconds", sa.BigInteger, nullable=False),
        sa.Column("objects", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        length("kind", 50),
        length("operation", 100),
        length("code", 50),
    )
    op.create_index(None, "request_records", ["tenant_id", "at"], schema="control")
    create_table(
        op,
        "storage",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("bytes", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("most", sa.BigInteger),
        sa.Column("entries", sa.BigInteger),
        moment("measured_at", nullable=True),
        moment("due_at", default="now()"),
        sa.Column("warned", sa.Integer, nullable=False, server_default=sa.text("0")),
    )
    op.create_index(None, "request_records", ["at"], schema="control", postgresql_using="brin")
    figures = ("requests", "errors", "users", "fields", "objects", "bytes", "microseconds")
    create_table(
        op,
        "hourly_metrics",
        tenant(primary_key=True),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in figures),
        sa.Column("storage", sa.BigInteger),
    )
    op.create_index(None, "hourly_metrics", ["hour"], schema="control")
    create_table(
        op,
        "hourly_members",
        tenant(primary_key=True),
        sa.Column("hour", sa.DateTime(timezone=True), primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("member", sa.Text, primary_key=True),
        length("kind", 50),
        length("member", 100),
    )
    op.create_index(None, "hourly_members", ["hour"], schema="control")


def federation(op: Operations) -> None:
    create_table(
        op,
        "remote_partners",
        tenant(primary_key=True),
        sa.Column("owner_id", sa.Uuid, sa.ForeignKey("control.tenants.id"), nullable=False),
        sa.Column("installation", sa.Text, nullable=False),
        sa.Column("remote_id", sa.Uuid, nullable=False),
        sa.Column("partnership_id", sa.Uuid, unique=True),
        sa.Column("key", JSONB),
        sa.Column("pinned_by", sa.Uuid),
        moment("pinned_at", nullable=True),
        length("installation", 255),
        sa.UniqueConstraint("owner_id", "installation", "remote_id"),
        sa.CheckConstraint("octet_length(key::text) <= 4000", name="key_length"),
        sa.CheckConstraint("(partnership_id IS NULL) = (key IS NULL)", name="pinned"),
    )
    create_table(
        op,
        "remote_tokens",
        tenant(primary_key=True),
        sa.Column("id", sa.Uuid, primary_key=True),
        moment("expires_at"),
    )
    op.create_index(None, "remote_tokens", ["expires_at"], schema="control")
    create_table(
        op,
        "remote_owners",
        identifier(),
        tenant(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("installation", sa.Text, nullable=False),
        sa.Column("partnership_id", sa.Uuid, nullable=False),
        sa.Column("added_by", sa.Uuid),
        moment("added_at", default="now()"),
        length("name", 200),
        length("installation", 255),
        sa.UniqueConstraint("tenant_id", "installation", "partnership_id"),
    )


def usage(op: Operations) -> None:
    create_table(
        op,
        "usage",
        identifier(),
        tenant(),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        moment("starts_at"),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("events", sa.BigInteger, nullable=False),
        sa.Column("late", sa.BigInteger, nullable=False),
        sa.Column("warned", sa.Integer, nullable=False, server_default=sa.text("0")),
        moment("changed_at", default="now()"),
        length("meter", 63),
        length("customer", 200),
        sa.UniqueConstraint("tenant_id", "meter", "customer", "starts_at"),
    )
    # Updated by each event: without a place in the page, each update would write to the index as well.
    op.execute("ALTER TABLE control.usage SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0)")
    create_table(
        op,
        "usage_events",
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("customer", sa.Text),
        moment("at"),
        moment("recorded_at", default="now()"),
        sa.Column("quantity", sa.BigInteger, nullable=False),
        sa.Column("properties", JSONB, nullable=False),
        length("meter", 63),
        length("customer", 200),
    )
    op.create_index(None, "usage_events", ["tenant_id", "meter", "at"], schema="control")
    create_table(
        op,
        "usage_keys",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    create_table(
        op,
        "usage_values",
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("meter", sa.Text, nullable=False),
        sa.Column("customer", sa.Text, nullable=False),
        moment("starts_at"),
        sa.Column("value", sa.LargeBinary, nullable=False),
        length("meter", 63),
        length("customer", 200),
        sa.UniqueConstraint("tenant_id", "meter", "customer", "starts_at", "value"),
    )


def log(op: Operations) -> None:
    create_table(
        op,
        "audit_heads",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("entries", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("hash", sa.LargeBinary, nullable=False, server_default=sa.text(r"'\x'")),
    )
    op.execute(HEAD_OF_PLATFORM)
    # Committed but unsealed entries: those of each statement, and its place in commit order.
    op.execute("CREATE SEQUENCE control.audit_places")
    create_table(
        op,
        "audit_pending",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("transaction", sa.Text, nullable=False, server_default=sa.text("pg_current_xact_id()::text")),
        sa.Column("tenant_id", sa.Uuid, nullable=False),
        sa.Column("home", sa.Text, nullable=False),
        sa.Column("place", sa.BigInteger),
        moment("at", default="now()"),
        sa.Column("quota", sa.Text),
        sa.Column("added", sa.BigInteger),
        sa.Column("ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("hashes", sa.ARRAY(sa.LargeBinary), nullable=False),
        sa.CheckConstraint("cardinality(ids) = cardinality(hashes)", name="hashes"),
    )
    # Each row is updated once and deleted soon after.
    op.execute("ALTER TABLE control.audit_pending SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0)")
    create_table(
        op,
        "audit_seals",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        # The number of the first entry; the others are numbered consecutively.
        sa.Column("first", sa.BigInteger, primary_key=True),
        sa.Column("ids", sa.ARRAY(sa.Uuid), nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    # What was cut off the beginning of a log: see isola.cut_log() in 0001_retention.sql.
    create_table(
        op,
        "audit_checkpoints",
        sa.Column("tenant_id", sa.Uuid, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("hash", sa.LargeBinary, nullable=False, server_default=sa.text(r"'\x'")),
        moment("at", default="now()"),
    )
    # The platform's log is chained by the same functions as a tenant's: see 0001_audit.sql.
    create_table(
        op,
        "audit_entries",
        identifier(),
        moment("at", default="now()"),
        sa.Column("actor", sa.Text),
        sa.Column("on_behalf_of", sa.Text),
        sa.Column("request", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("old", JSONB),
        sa.Column("new", JSONB),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        length("actor", 400),
        length("action", 100),
        length("object", 400),
    )
    for column in ("at", "actor", "action", "object"):
        op.create_index(None, "audit_entries", [column, "id"], schema="control")
    create_table(
        op,
        "interventions",
        identifier(),
        tenant(),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("request", sa.Text),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("object", sa.Text, nullable=False),
        sa.Column("new", JSONB),
        moment("announced_at", default="now()"),
        moment("done_at", nullable=True),
    )
    op.create_index(None, "interventions", ["tenant_id"], schema="control")


def orders(op: Operations) -> None:
    create_table(
        op,
        "orders",
        identifier(),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("tenant_id", sa.Uuid, nullable=False, server_default=sa.text("isola.uuid_v7()")),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("strategy", sa.Text, nullable=False),
        sa.Column("name", sa.Text),
        sa.Column("parent", sa.Text),
        sa.Column("plan", sa.Text),
        sa.Column("ordered_by", sa.Text, nullable=False),
        sa.Column("request", sa.Text),
        moment("ordered_at", default="now()"),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'waiting'")),
        sa.Column("message", sa.Text),
        moment("finished_at", nullable=True),
        sa.CheckConstraint("kind IN ('create', 'move')", name="kind"),
        length("slug", 63),
        sa.CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="state"),
        sa.CheckConstraint("(state IN ('waiting', 'running')) = (finished_at IS NULL)", name="finished"),
    )
    # At most one open order per tenant, and per slug.
    op.create_index(None, "orders", ["tenant_id"], unique=True, schema="control", postgresql_where=OPEN_ORDERS)
    op.create_index(None, "orders", ["slug"], unique=True, schema="control", postgresql_where=OPEN_ORDERS)
    op.create_index(None, "orders", ["state", "id"], schema="control")
