"""The log of what was done: who changed what, when, and what was there before.

The database writes it, by triggers on every table that declares what its rows are called there. So there is no change
without an entry and no entry without its change, whichever way the change came. Each entry has a hash over itself, and
is numbered and chained a moment after it has committed: see docs/audit.md.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
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

from isola.subjects.metadata import Audited, Counted, Row, Visible, identifier, indexed_text, metadata, moment

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
"""What the log calls what a tenant has in the control plane: see migrations/control."""

MAX_ACTOR = 400
MAX_ACTION = 100
MAX_OBJECT = 400
# Parts of a key that isola.audit() takes.
MAX_KEY = 2

audit_entries = Table(
    "audit_entries",
    metadata,
    identifier(),
    moment("at"),
    # A user's typed id, or what else acted. None where nobody was signed in: commands, and whoever comes in.
    indexed_text("actor", MAX_ACTOR, nullable=True),
    Column("on_behalf_of", Text),
    Column("request", Text),
    # ``subject:create``, ``subject:update`` or ``subject:delete``.
    indexed_text("action", MAX_ACTION),
    # Typed ids; of what is known by two, both with a slash between.
    indexed_text("object", MAX_OBJECT),
    # The columns that changed; of what was made or deleted, all. None where there was nothing, or is nothing now.
    Column("old", JSONB),
    Column("new", JSONB),
    Column("hash", LargeBinary, nullable=False),
    Index(None, "at", "id"),
    Index(None, "actor", "id"),
    Index(None, "action", "id"),
    Index(None, "object", "id"),
    # Rights on it go no further than reading.
    info={"read_only": True},
)


def shown(entry: Row, values: str, viewer: BindParameter[UUID]) -> ColumnElement[bool]:
    """Whether a user may see the values of an entry: what is in its column ``values``, which is ``old`` or ``new``.

    Where rows are not for everybody, whoever sees the values could see the row both as it was then and as it is now. Of
    one that was deleted nobody sees more than what it was in the end. A pair is for who can see both of its rows.
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
            seen = [
                exists().where(
                    other.c.id == cast(entry[values].op("->>")(literal_column(f"'{name}'")), Uuid), of(other.c, viewer)
                )
                for name, other, of in ends
            ]
            cases.append((_of_table(entry, audited), and_(*seen)))
    # What a rule cannot decide is not shown. An application that is not installed here may have rules, too.
    known: list[ColumnElement[str]] = [literal_column(f"'{name}'") for name in _subjects()]
    return func.coalesce(case(*cases, else_=_subject(entry).in_(known)), false(), type_=Boolean)


def _subjects() -> Sequence[str]:
    """What the log calls all that is known here."""
    tables: list[Audited] = [table.info["audited"] for table in metadata.tables.values() if "audited" in table.info]
    return sorted({*OF_PLATFORM, *(each.subject for each in tables)})


def _subject(entry: Row) -> ColumnElement[str]:
    return func.split_part(entry["action"], literal_column("':'"), literal_column("1"), type_=Text)


def _of_table(entry: Row, audited: Audited) -> ColumnElement[bool]:
    return _subject(entry) == literal_column(f"'{audited.subject}'")


def _hidden_ends(table: Table) -> Sequence[tuple[str, FromClause, Visible]]:
    """Of a table of pairs: the columns that refer to rows which are not for everybody, with their tables and rules."""
    return [
        (column.name, key.column.table.alias(), key.column.table.info["visible"])
        for column in table.primary_key.columns
        for key in column.foreign_keys
        if "visible" in key.column.table.info
    ]


def _deciding(table: Table) -> Sequence[str]:
    """The columns that decide who may see a row, sorted. Every entry about a row of the table has them."""
    rule: Visible | None = table.info.get("visible")
    if rule is None:
        return ()
    asked = _Asked(table)
    rule(asked, bindparam("viewer", type_=Uuid()))
    return sorted(asked.names)


class _Asked:
    """A row that remembers which of its columns were asked for."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> ColumnElement[Any]:
        self.names.add(name)
        return self._table.c[name]


def triggers(table: Table) -> Sequence[str]:
    """Statements that have every change of a table's rows noted."""
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
            raise ValueError(f"{table.name}: expected what decides whether a row counts not to be left out of the log")
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
