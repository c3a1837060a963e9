"""The audit log: who changed what and when, with the values before and after.

The database writes it, by triggers on every table that declares ``audited``. So every change has an entry and every
entry belongs to a change, however the change was made. Each entry has a hash of its contents, and is numbered and
chained shortly after its commit: see docs/audit.md.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Index,
    LargeBinary,
    MetaData,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    exists,
    false,
    func,
    literal_column,
    not_,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.subjects import visibility
from isola.subjects.metadata import Audited, Counted, Row, identifier, indexed_text, metadata, moment
from isola.subjects.visibility import VIEWER

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

READABLE = ("id", "at", "actor", "on_behalf_of", "request", "action", "object")
"""The columns of the log that tenant traffic reads directly. The others contain, or depend on, the values of rows."""

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
    info={"readable": READABLE},
)


audit_log = Table(
    "audit_log",
    MetaData(),
    *(column._copy() for column in audit_entries.columns),  # noqa: SLF001  no public method copies one
    Column("withheld", Boolean, nullable=False),
)
"""The log as the proved user may read it: a view in every home. ``withheld``: values are left out."""


def masked(further: Sequence[str] = (), tables: Sequence[Table] | None = None) -> Select[Any]:
    """The query of the view: values of a row that the proved user may not see are null, and the hash of such an entry.

    A hash of values that can be guessed would reveal them. ``further`` are columns that a strategy has added. Entries
    about others than ``tables`` are withheld; by default, these are all.
    """
    known = metadata.sorted_tables if tables is None else tables
    entry = audit_entries.alias("entry")
    columns = [
        *(entry.c[name] for name in READABLE),
        *(literal_column(f"entry.{name}").label(name) for name in further),
    ]
    values = [entry.c[name] for name in ("old", "new", "hash")]
    shown = [
        or_(entry.c[name].is_(None), _shown(entry.c, name, known)).label(f"{name}_shown") for name in ("old", "new")
    ]
    entries = select(*columns, *values, *shown).subquery("entries")
    row = entries.c
    whole = and_(row.old_shown, row.new_shown)
    return select(
        *(row[column.name] for column in columns),
        case((row.old_shown, row.old)).label("old"),
        case((row.new_shown, row.new)).label("new"),
        case((whole, row.hash)).label("hash"),
        not_(whole).label("withheld"),
    )


def _shown(entry: Row, values: str, tables: Sequence[Table]) -> ColumnElement[bool]:
    """Whether the proved user may see the values of an entry, in its column ``values``, which is ``old`` or ``new``.

    If the table has a visibility rule, the user must be able to see the row both as it was then and as it is now. Of a
    deleted row, only the last state is visible. The values of a pair are visible to users who can see both rows.
    Policies decide which rows can be found now.
    """
    cases = []
    for table in tables:
        audited: Audited | None = table.info.get("audited")
        rule = visibility.rule_of(table)
        if audited is not None and rule is not None:
            [(key, prefix)] = audited.key.items()
            then = {
                name: cast(entry[values].op("->>")(literal_column(f"'{name}'")), table.c[name].type)
                for name in visibility.deciding(table)
            }
            now = table.alias()
            row = cast(func.substr(entry["object"], literal_column(str(len(prefix) + 1))), table.c[key].type)
            visible_now = exists().where(now.c[key] == row)
            deleted = entry["action"] == literal_column(f"'{audited.subject}:delete'")
            cases.append((_of_table(entry, audited), and_(rule(then, VIEWER), or_(deleted, visible_now))))
        elif audited is not None and (ends := visibility.hidden_ends(table)):
            visible = [
                exists().where(other.c.id == cast(entry[values].op("->>")(literal_column(f"'{name}'")), Uuid))
                for name, other in ends
            ]
            cases.append((_of_table(entry, audited), and_(*visible)))
    # Default deny: values of unknown subjects are hidden, as applications not installed here may have rules, too.
    subjects: list[ColumnElement[str]] = [literal_column(f"'{name}'") for name in _subjects(tables)]
    known = func.coalesce(case(*cases, else_=_subject(entry).in_(subjects)), false(), type_=Boolean)
    return or_(VIEWER.may(visibility.WHOLE_LOG), known)


def _subjects(tables: Sequence[Table]) -> Sequence[str]:
    """The log's names of the platform's objects and of the subjects with these tables."""
    audited: list[Audited] = [table.info["audited"] for table in tables if "audited" in table.info]
    return sorted({*OF_PLATFORM, *(each.subject for each in audited)})


def _subject(entry: Row) -> ColumnElement[str]:
    return func.split_part(entry["action"], literal_column("':'"), literal_column("1"), type_=Text)


def _of_table(entry: Row, audited: Audited) -> ColumnElement[bool]:
    return _subject(entry) == literal_column(f"'{audited.subject}'")


def triggers(table: Table) -> Sequence[str]:
    """The statements that create the audit triggers of a table."""
    audited: Audited | None = table.info.get("audited")
    if audited is None:
        return []
    counted: Counted | None = table.info.get("counted")
    deciding = visibility.deciding(table)
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
