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
    Date,
    DateTime,
    Float,
    Index,
    Integer,
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
from sqlalchemy.types import TypeEngine

from isola.subjects import visibility
from isola.subjects.metadata import Audited, Counted, Row, Visible, identifier, indexed_text, metadata, moment
from isola.subjects.visibility import VIEWER

OF_PLATFORM = (
    "access",
    "api_key",
    "domain",
    "feature_override",
    "family_read",
    "invitation",
    "meter_override",
    "partner_domain",
    "partnership",
    "partnership_decline",
    "partnership_offer",
    "quota_override",
    "rate_override",
    "read_log",
    "received_share",
    "refusal",
    "remote_owner",
    "remote_partner",
    "remote_token",
    "retention",
    "retention_override",
    "row_read",
    "session",
    "share",
    "share_comment",
    "share_read",
    "share_rule",
    "sign_out",
    "tenant",
    "tenant_block",
    "ticket",
    "usage_warning",
    "webhook",
)
"""The log's names for a tenant's objects in the control plane: see migrations/control."""

MAX_ACTOR = 400
MAX_ACTION = 100
MAX_OBJECT = 400
# The most parts of a key that isola.audit() accepts.
MAX_KEY = 2

SHORT = (Boolean, Date, DateTime, Float, Integer, Uuid)
"""Types whose values the log has as they are: they are never so long that it has their hash."""

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

audit_visibility = Table(
    audit_log.name,
    MetaData(),
    Column("id", Uuid, primary_key=True),
    Column("old_visible", Boolean, nullable=False),
    Column("new_visible", Boolean, nullable=False),
)
"""Further columns of the view: whether the visibility rule admits the user to the row as it was before and after the
change, whatever has happened to it since."""


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
    visible = [_visible(entry.c, name, known).label(f"{name}_visible") for name in ("old", "new")]
    entries = select(*columns, *values, *shown, *visible).subquery("entries")
    row = entries.c
    whole = and_(row.old_shown, row.new_shown)
    return select(
        *(row[column.name] for column in columns),
        case((row.old_shown, row.old)).label("old"),
        case((row.new_shown, row.new)).label("new"),
        case((whole, row.hash)).label("hash"),
        not_(whole).label("withheld"),
        row.old_visible,
        row.new_visible,
    )


def _visible(entry: Row, values: str, tables: Sequence[Table]) -> ColumnElement[bool]:
    """Whether the rule of the table admits the user to the row with the values of an entry. False if there are none."""
    cases: list[tuple[ColumnElement[bool], ColumnElement[bool]]] = []
    for table in tables:
        audited: Audited | None = table.info.get("audited")
        rule = visibility.rule_of(table)
        if audited is not None and rule is not None:
            cases.append((_of_table(entry, audited), _admitted(entry, values, table, rule)))
        elif audited is not None and visibility.hidden_ends(table):
            cases.append((_of_table(entry, audited), false()))
    admitted = func.coalesce(case(*cases, else_=_is_known(entry, tables)), false(), type_=Boolean)
    return and_(entry[values].is_not(None), or_(VIEWER.may(visibility.WHOLE_LOG), admitted))


def _admitted(entry: Row, values: str, table: Table, rule: Visible) -> ColumnElement[bool]:
    """Whether the rule of a table admits the user to the row with the values of an entry.

    Not if the entry lacks a column that the rule reads, which had another name then, or has only the hash of its value:
    a rule with a negation, or for rows without a value, would admit everybody.
    """
    names = visibility.deciding(table)
    row = entry[values]
    complete = row.op("?&", return_type=Boolean())(literal_column(f"'{_array(names)}'::text[]"))
    whole = {name: _is_whole(row, name) for name in names if not isinstance(table.c[name].type, SHORT)}
    then = {name: _stored(row, table.c[name]) for name in names}
    # A hash has not the form of every type.
    then |= {name: case((is_whole, then[name])) for name, is_whole in whole.items()}
    return and_(complete, *whole.values(), rule(then, VIEWER))


def _is_whole(row: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether a logged row has the value of a column, and not its hash."""
    hashed: ColumnElement[Any] = literal_column("'{sha256,size}'::text[]")
    return not_(_field(row, "->", name, JSONB()).op("?&", return_type=Boolean())(hashed))


def _stored(row: ColumnElement[Any], column: Column[Any]) -> ColumnElement[Any]:
    """The value of a column in a logged row, with the type of the column."""
    if isinstance(column.type, ARRAY):
        elements = func.jsonb_array_elements_text(_field(row, "->", column.name, JSONB())).column_valued("element")
        is_array = func.jsonb_typeof(_field(row, "->", column.name, JSONB())) == literal_column("'array'")
        return case((is_array, cast(func.array(select(elements).scalar_subquery()), column.type)))
    return cast(_field(row, "->>", column.name, Text()), column.type)


def _field(row: ColumnElement[Any], operator: str, name: str, of_type: TypeEngine[Any]) -> ColumnElement[Any]:
    return row.op(operator, return_type=of_type)(literal_column(f"'{name}'", Text()))


def _is_known(entry: Row, tables: Sequence[Table]) -> ColumnElement[bool]:
    """Whether the subject of an entry is known here: one of an application not installed here may have a rule, too."""
    subjects: list[ColumnElement[str]] = [literal_column(f"'{name}'") for name in _subjects(tables)]
    return _subject(entry).in_(subjects)


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
            now = table.alias()
            row = cast(func.substr(entry["object"], literal_column(str(len(prefix) + 1))), table.c[key].type)
            visible_now = exists().where(now.c[key] == row)
            deleted = entry["action"] == literal_column(f"'{audited.subject}:delete'")
            cases.append(
                (_of_table(entry, audited), and_(_admitted(entry, values, table, rule), or_(deleted, visible_now)))
            )
        elif audited is not None and (ends := visibility.hidden_ends(table)):
            visible = [
                exists().where(other.c.id == cast(entry[values].op("->>")(literal_column(f"'{name}'")), Uuid))
                for name, other in ends
            ]
            cases.append((_of_table(entry, audited), and_(*visible)))
    # Default deny: values of unknown subjects are hidden.
    known = func.coalesce(case(*cases, else_=_is_known(entry, tables)), false(), type_=Boolean)
    return or_(VIEWER.may(visibility.WHOLE_LOG), known)


def subjects_of_log() -> Sequence[str]:
    """What actions can be about: the log's names of the platform's objects and of all audited subjects."""
    return _subjects(metadata.sorted_tables)


def subjects_of_rows() -> Sequence[str]:
    """The log's names of all audited subjects: reads of these can be logged."""
    return _audited(metadata.sorted_tables)


def _subjects(tables: Sequence[Table]) -> Sequence[str]:
    """The log's names of the platform's objects and of the subjects with these tables."""
    return sorted({*OF_PLATFORM, *_audited(tables)})


def _audited(tables: Sequence[Table]) -> Sequence[str]:
    audited: list[Audited] = [table.info["audited"] for table in tables if "audited" in table.info]
    return sorted({each.subject for each in audited})


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
