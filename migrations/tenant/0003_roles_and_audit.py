"""Roles, their assignment to users, and the audit log."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic.operations import Operations
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

# How the log names the rows of each table: a subject, and a prefix and a column for each of at most two parts of the
# key. Then come the columns that every entry contains, and the quota that the rows count towards, with the columns that
# decide whether a row counts.
AUDITED = {
    "users": ("user", "usr_", "id", "", "", "{}", "users", "{seen_at,disabled_at}"),
    "organizations": ("organization", "org_", "id"),
    "memberships": ("membership", "org_", "organization_id", "/usr_", "user_id"),
    "resources": ("resource", "res_", "id", "", "", "{}", "resources", "{}"),
    "signing_keys": ("signing_key", "sgk_", "id"),
    "spans": ("span", "spn_", "id", "", "", "{author_id,organization_id,type,visibility}"),
    "roles": ("role", "rol_", "id"),
    "user_roles": ("user_role", "usr_", "user_id", "/rol_", "role_id"),
}


# What the log leaves out: columns for comparing names, and the origins of spans, which a reader may not see.
LEFT_OUT = {"organizations": "{name_key,name_folded}", "roles": "{name_key}", "spans": "{replay_from_id}"}


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def in_range(moment: str) -> str:
    return f"{moment} >= '0001-01-01 00:00:00+00' AND {moment} < '10000-01-01 00:00:00+00'"


def moment(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()"))


def create_table(op: Operations, name: str, *items: sa.Column[object] | sa.Constraint) -> None:
    """Create a table, with a range check for each timestamp column."""
    moments = [item.name for item in items if isinstance(item, sa.Column) and isinstance(item.type, sa.DateTime)]
    checks = (sa.CheckConstraint(in_range(moment), name=f"{moment}_range") for moment in moments)
    op.create_table(name, *items, *checks)


def length(column: str, most: int) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"length({column}) BETWEEN 0 AND {most}", name=f"{column}_length")


def triggers(table: str, subject: str, *key: str) -> Sequence[str]:
    arguments = ", ".join(f"'{argument}'" for argument in (subject, LEFT_OUT.get(table, "{}"), *key))
    return [
        f"CREATE TRIGGER audit_{event} AFTER {event} ON {table} REFERENCING {rows} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION isola.audit({arguments})"
        for event, rows in (
            ("insert", "NEW TABLE AS new_rows"),
            ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("delete", "OLD TABLE AS old_rows"),
        )
    ]


def upgrade(op: Operations) -> None:
    op.add_column("users", sa.Column("kind", sa.Text, nullable=False, server_default=sa.text("'person'")))
    op.create_check_constraint("kind", "users", "kind IN ('person', 'machine', 'staff', 'parent')")
    for name in ("seen_at", "disabled_at"):
        op.add_column("users", sa.Column(name, sa.DateTime(timezone=True)))
        op.create_check_constraint(f"{name}_range", "users", in_range(name))
    create_table(
        op,
        "roles",
        identifier(),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("name_key", sa.Text, nullable=False),
        sa.Column("permissions", sa.ARRAY(sa.Text), nullable=False, server_default=sa.text("'{}'")),
        moment("created_at"),
        sa.UniqueConstraint("name_key", name="uq_roles_name"),
        sa.CheckConstraint("length(name_key) BETWEEN 1 AND 300", name="name_key_length"),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        sa.CheckConstraint(
            "cardinality(permissions) <= 10000 AND array_position(permissions, NULL) IS NULL", name="permissions_items"
        ),
        sa.CheckConstraint("octet_length(permissions::text) <= 4000000", name="permissions_size"),
    )
    for column in ("name", "created_at"):
        op.create_index(None, "roles", [column, "id"])
    create_table(
        op,
        "user_roles",
        sa.Column("user_id", sa.Uuid, sa.ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("role_id", sa.Uuid, sa.ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
        moment("given_at"),
    )
    op.create_index(None, "user_roles", ["role_id", "user_id"])
    create_table(
        op,
        "audit_entries",
        identifier(),
        moment("at"),
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
        op.create_index(None, "audit_entries", [column, "id"])
    for table, arguments in AUDITED.items():
        for statement in triggers(table, *arguments):
            op.execute(statement)
