"""The audit log: who changed what and when, with the values before and after.

The database writes it, by triggers on every table that declares ``audited``. So every change has an entry and every
entry belongs to a change, however the change was made. Each entry has a hash of its contents, and is numbered and
chained shortly after its commit: see docs/audit.md.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal_column,
    or_,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.subjects.metadata import Audited, Counted, Row, Viewer, Visible, identifier, indexed_text, metadata, moment

OF_PLATFORM = (
    "access",
    "api_key",
    "domain",
    "refusal",
    "session",
    "share",
    "share_answer",
    "sign_out",
    "tenant",
)
"""The log's names for a tenant's objects in the control plane: see migrations/control."""

MAX_ACTOR = 400
MAX_ACTION = 100
MAX_OBJECT = 400
# The most parts of a key that isola.audit() accepts.
MAX_KEY = 2

audit_entries = Table(
    "audit_entries",
    metadata,
    identifier(),
    moment("at"),
    # A user's typed id, or another actor. None if no user was authenticated: commands, and first sign-ins.
    indexed_text("actor", MAX_ACTOR, nullable=True),
    Column("on_behalf_of", Text),
    Column("request", Text),
    # ``subject:create``, ``subject:update`` or ``subject:delete``.
    indexed_text("action", MAX_ACTION),
    # Typed ids; two of them, separated by a slash, for a row with a key of two columns.
    indexed_text("object", MAX_OBJECT),
    # The changed columns; all columns of a new or deleted row. Null if there is no old or no new row.
    Column("old", JSONB),
    Column("new", JSONB),
    Column("hash", LargeBinary, nullable=False),
    Index(None, "at", "id"),
    Index(None, "actor", "id"),
    Index(None, "action", "id"),
    Index(None, "object", "id"),
    # Tenant traffic has only the right to read it.
    info={"read_only": True},
)


def shown(entry: Row, values: str, viewer: Viewer) -> ColumnElement[bool]:
    """Whether a user may see the values of an entry, in its column ``values``, which is ``old`` or ``new``.

    If the table has a visibility rule, the user must be able to see the row both as it was then and as it is now. Of a
    deleted row, only the last state is visible. The values of a pair are visible to users who can see both rows.
    """
    cases = []
    for table in metadata.sorted_tables:
        audited: Audited | None = table.info.get("audited")
        rule: Visible | None = table.info.get("visible")
        if audited is not None and rule is not None:
            [(key, prefix)] = audited.key.items()
            then = {
                column.name: cast(entry[values].op("->>")(literal_column(f"'{column.name}'")), column.type)
                for column in table.columns
                if column.name in _deciding(table)
            }
            now = table.alias()
            row = cast(func.substr(entry["object"], literal_column(str(len(prefix) + 1))), table.c[key].type)
            visible_now = exists().where(now.c[key] == row, rule(now.c, viewer))
            deleted = entry["action"] == literal_column(f"'{audited.subject}:delete'")
            cases.append((_of_table(entry, audited), and_(rule(then, viewer), or_(deleted, visible_now))))
        elif audited is not None and (ends := _hidden_ends(table)):
            visible = [
                exists().where(
                    other.c.id == cast(entry[values].op("->>")(literal_column(f"'{name}'")), Uuid), of(other.c, viewer)
                )
                for name, other, of in ends
            ]
            cases.append((_of_table(entry, audited), and_(*visible)))
    # Default deny: values of unknown subjects are hidden, as applications not installed here may have rules, too.
    subjects: list[ColumnElement[str]] = [literal_column(f"'{name}'") for name in _subjects()]
    return func.coalesce(case(*cases, else_=_subject(entry).in_(subjects)), false(), type_=Boolean)


def _subjects() -> Sequence[str]:
    """The log's names of all known subjects."""
    tables: list[Audited] = [table.info["audited"] for table in metadata.tables.values() if "audited" in table.info]
    return sorted({*OF_PLATFORM, *(each.subject for each in tables)})


def _subject(entry: Row) -> ColumnElement[str]:
    return func.split_part(entry["action"], literal_column("':'"), literal_column("1"), type_=Text)


def _of_table(entry: Row, audited: Audited) -> ColumnElement[bool]:
    return _subject(entry) == literal_column(f"'{audited.subject}'")


def _hidden_ends(table: Table) -> Sequence[tuple[str, FromClause, Visible]]:
    """The columns of a table of pairs that reference tables with visibility rules, with those tables and rules."""
    return [
        (column.name, key.column.table.alias(), key.column.table.info["visible"])
        for column in table.primary_key.columns
        for key in column.foreign_keys
        if "visible" in key.column.table.info
    ]


def _deciding(table: Table) -> Sequence[str]:
    """The columns that the visibility rule reads, sorted. Every entry about a row of the table has them."""
    rule: Visible | None = table.info.get("visible")
    if rule is None:
        return ()
    probe = _Asked(table)
    rule(probe, Viewer(bindparam("viewer", type_=Uuid()), bindparam("permissions", type_=ARRAY(Text()))))
    return sorted(probe.names)


class _Asked:
    """A row that records which of its columns are read."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        self.names.add(name)
        return self._table.c[name]


def triggers(table: Table) -> Sequence[str]:
    """The statements that create the audit triggers of a table."""
    audited: Audited | None = table.info.get("audited")
    if audited is None:
        return []
    counted: Counted | None = table.info.get("counted")
    deciding = _deciding(table)
    arguments = [audited.subject, _array(audited.left_out)]
    arguments += [part for column, prefix in audited.key.items() for part in (prefix, column)]
    if deciding or counted is not None:
        arguments += [""] * (2 + 2 * MAX_KEY - len(arguments))
        arguments.append(_array(deciding))
    if counted is not None:
        if set(counted.columns) & set(audited.left_out):
            raise ValueError(f"{table.name}: expected the columns that decide whether a row counts to be logged")
        arguments += [counted.quota, _array(counted.columns)]
    listed = ", ".join(f"'{argument}'" for argument in arguments)
    return [
        f"CREATE TRIGGER audit_{event} AFTER {event} ON {table.name} REFERENCING {rows} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION isola.audit({listed})"
        for event, rows in (
            ("insert", "NEW TABLE AS new_rows"),
            ("update", "OLD TABLE AS old_rows NEW TABLE AS new_rows"),
            ("delete", "OLD TABLE AS old_rows"),
        )
    ]


def _array(names: Sequence[str]) -> str:
    return f"{{{','.join(names)}}}"
