"""Flags and branding."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic.operations import Operations

revision = "0006"
down_revision = "0005"

COLOURS = {"primary": "#1f4e8c", "secondary": "#5b6b7f", "background": "#ffffff", "text": "#1a1a1a"}
LOGO = "^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?(/[A-Za-z0-9._~%!$&*+,;=:@/?-]*)?$"


def identifier() -> sa.Column[object]:
    return sa.Column("id", sa.Uuid, primary_key=True, server_default=sa.text("isola.uuid_v7()"))


def moment(name: str) -> Sequence[sa.Column[object] | sa.Constraint]:
    in_range = f"{name} >= '0001-01-01 00:00:00+00' AND {name} < '10000-01-01 00:00:00+00'"
    return (
        sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.CheckConstraint(in_range, name=f"{name}_range"),
    )


def text(name: str, least: int, most: int, default: str | None = None) -> Sequence[sa.Column[object] | sa.Constraint]:
    given = None if default is None else sa.text(f"'{default}'")
    return (
        sa.Column(name, sa.Text, nullable=False, server_default=given),
        sa.CheckConstraint(f"length({name}) BETWEEN {least} AND {most}", name=f"{name}_length"),
    )


def triggers(table: str, subject: str, prefix: str) -> Sequence[str]:
    return [
        f"CREATE TRIGGER audit_{event} AFTER {event} ON {table} REFERENCING {rows} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION isola.audit('{subject}', '{{}}', '{prefix}', 'id')"
        for event, rows in (
            ("insert", "NEW TABLE AS new_rows"),
            ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("delete", "OLD TABLE AS old_rows"),
        )
    ]


def upgrade(op: Operations) -> None:
    op.create_table(
        "flags",
        identifier(),
        *text("name", 1, 63),
        *text("description", 0, 1000, ""),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'off'")),
        sa.Column("percentage", sa.Integer, nullable=False, server_default=sa.text("0")),
        *moment("created_at"),
        *moment("updated_at"),
        sa.CheckConstraint("name ~ '^[a-z][a-z0-9]*([._-][a-z0-9]+)*$'", name="name_form"),
        sa.CheckConstraint("state IN ('off', 'on', 'percentage')", name="state"),
        sa.CheckConstraint("percentage BETWEEN 0 AND 100", name="percentage_range"),
        sa.UniqueConstraint("name"),
    )
    op.create_index(None, "flags", ["created_at", "id"])
    op.create_table(
        "branding_versions",
        identifier(),
        sa.Column("name", sa.Text),
        sa.CheckConstraint("length(name) BETWEEN 1 AND 100", name="name_length"),
        *(each for name, colour in COLOURS.items() for each in text(f"{name}_colour", 0, 7, colour)),
        *(sa.CheckConstraint(f"{name}_colour ~ '^#[0-9a-f]{{6}}$'", name=f"{name}_colour_form") for name in COLOURS),
        sa.Column("logo", sa.Text),
        sa.CheckConstraint("length(logo) BETWEEN 0 AND 500", name="logo_length"),
        sa.CheckConstraint(f"logo ~ '{LOGO}'", name="logo_form"),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("changed_by_id", sa.Uuid, sa.ForeignKey("users.id", deferrable=True), nullable=False),
        sa.Column("previous_id", sa.Uuid, sa.ForeignKey("branding_versions.id", ondelete="SET NULL", deferrable=True)),
        *moment("created_at"),
        sa.CheckConstraint("number >= 1", name="number_range"),
        sa.UniqueConstraint("number"),
    )
    for column in ("changed_by_id", "previous_id"):
        op.create_index(None, "branding_versions", [column, "number", "id"])
    op.create_index(None, "branding_versions", ["created_at", "id"])
    for statement in (*triggers("flags", "flag", "flg_"), *triggers("branding_versions", "branding", "bnd_")):
        op.execute(statement)
