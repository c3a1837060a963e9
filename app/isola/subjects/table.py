"""The tenant-blind tables of a subject and of its pairs."""

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from inspect import signature
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column as SqlColumn,
    Computed,
    DateTime,
    ForeignKey,
    Index,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.types import TypeEngine

from isola import exact_json
from isola.subjects.declaration import UNSET, Column, Declaration, Member, Reference, now, today
from isola.subjects.folding import folded_check, folded_column
from isola.subjects.metadata import (
    MAX_DOCUMENT_BYTES,
    Audited,
    Counted,
    Visible,
    identifier,
    json_document,
    metadata,
    moment,
    quoted,
    verbatim,
)
from isola.subjects.search import Words
from isola.subjects.types import KINDS, BigInt

MAX_SAFE_INTEGER = 2**53 - 1
MAX_TEXT = 1_000_000
"""The default maximum length of texts."""
DIGITS, SCALE = 30, 10
"""The default maximum of digits of a decimal, and of those after the point."""
MAX_ITEMS = 10_000
"""The most items of a list."""


def table_of(declaration: Declaration) -> Table:
    """The table of a subject; also makes the tables of its pairs. Its rules are in its ``info``."""
    subject = declaration.subject
    columns = [_column(each) for each in declaration.columns]
    folded = [
        folded_column(each.folded, each.column, nullable=each.annotation.optional)
        for each in declaration.columns
        if each.folded
    ]
    ordered = [column for each in declaration.columns for column in _sorted(each)]
    left_out = (
        *(each.column for each in declaration.columns if not each.is_logged),
        *(each.name for each in (*folded, *ordered)),
    )
    table = Table(
        declaration.plural,
        metadata,
        identifier(),
        *columns,
        *folded,
        *ordered,
        *(moment(name) for name in declaration.times),
        *(check for each in declaration.columns for check in _checks(each)),
        *(CheckConstraint(verbatim(condition), name=name) for name, condition in subject.checks.items()),
        *(
            UniqueConstraint(each.column, name=_unique_name(declaration, each))
            for each in declaration.columns
            if isinstance(each.declared, Column | Reference) and each.declared.unique
        ),
        *(UniqueConstraint(*map(declaration.column_of, names)) for names in subject.unique_together),
        *_indexes(declaration),
        info={"audited": Audited(declaration.name, {"id": f"{declaration.prefix}_"}, left_out)},
    )
    if declaration.counted:
        table.info["counted"] = _counted(declaration)
    if declaration.consumes is not None:
        table.info["consumes"] = declaration.consumes
    if declaration.kept is not None:
        table.info["kept"] = declaration.kept
    if declaration.consumed_by is not None:
        table.info["consumed_by"] = declaration.column_of(declaration.consumed_by)
    if subject.shared:
        table.info["shared_columns"] = declaration.shared
        table.info["shared_order"] = [name for name in declaration.ordered_by if name in declaration.shared]
    if subject.visible is not None:
        table.info["visible"] = visible_to(subject.visible)
    if subject.searched:
        table.info["words"] = _words(declaration)
    for pairs in declaration.pairs:
        pairs_table(declaration, pairs)
    return table


def _words(declaration: Declaration) -> Words:
    """The words of a subject's rows, in a table of their own, which the database itself writes."""
    key = f"{declaration.name}_id"
    table = Table(
        declaration.table_of_words,
        metadata,
        SqlColumn(key, Uuid, ForeignKey(f"{declaration.plural}.id", ondelete="CASCADE"), primary_key=True),
        # Sorted by code points in any database: so an index serves prefixes.
        SqlColumn("word", Text(collation="C"), primary_key=True),
        # Without the id of the row: PostgreSQL stores equal keys of an index once.
        Index(None, "word"),
        info={"readable": None},
    )
    return Words(table, key, declaration.subject.searched_as, declaration.searched)


def pairs_table(declaration: Declaration, member: Member) -> Table:
    """The table of a many-to-many relation: ``agents_patterns`` for the attribute ``patterns`` of agents."""
    name = f"{declaration.plural}_{member.name}"
    if name in metadata.tables:
        return metadata.tables[name]
    other = member.target.declaration
    near, far = pair_columns(declaration, member)
    key = {near: f"{declaration.prefix}_"}
    if declaration.subject.visible is None and member.target.visible is None:
        key[far] = f"/{other.prefix}_"
    # With a visibility rule, the pair is visible to users who see both rows: the log can hide values, but no object.
    return Table(
        name,
        metadata,
        SqlColumn(near, Uuid, ForeignKey(f"{declaration.plural}.id", ondelete="CASCADE"), primary_key=True),
        SqlColumn(far, Uuid, ForeignKey(f"{other.plural}.id", ondelete="CASCADE"), primary_key=True),
        moment("created_at"),
        Index(None, far, near),
        info={"audited": Audited(f"{declaration.name}_{member.name}", key)},
    )


def pair_columns(declaration: Declaration, member: Member) -> tuple[str, str]:
    """The columns of a table of pairs: the reference to the subject, and the reference to the other one."""
    other = member.target.declaration
    near, far = f"{declaration.name}_id", f"{other.name}_id"
    return (near, far) if near != far else (near, f"other_{far}")


def visible_to(rule: Any) -> Visible:
    """A subject's rule of who sees a row, whether it asks for permissions or not."""
    if len(signature(rule).parameters) <= len(("row", "user")):
        return lambda row, viewer: rule(row, viewer.id)
    return lambda row, viewer: rule(row, viewer.id, viewer.may)


def _counted(declaration: Declaration) -> Counted:
    if not isinstance(declaration.counted, str):
        return Counted(declaration.plural)
    columns = [each.column for each in declaration.columns if re.search(rf"\b{each.column}\b", declaration.counted)]
    return Counted(declaration.plural, declaration.counted, columns)


def _unique_name(declaration: Declaration, member: Member) -> str | None:
    rule = getattr(member.declared, "unique", False)
    return f"uq_{declaration.plural}_{rule}" if isinstance(rule, str) else None


def _column(member: Member) -> SqlColumn[Any]:
    declared, optional = member.declared, member.annotation.optional
    if isinstance(declared, Reference):
        target = member.target.declaration
        action = None if declared.on_delete == "restrict" else declared.on_delete.upper()
        # Deferrable: rows with cyclic references are written one by one, checked at the end: see docs/applications.md.
        key = ForeignKey(f"{target.plural}.id", ondelete=action, deferrable=True)
        return SqlColumn(member.column, Uuid, key, nullable=optional)
    if not isinstance(declared, Column):
        raise TypeError(f"{member.name} has no column")
    if _sql_name(member) == "JSON":
        most = MAX_DOCUMENT_BYTES if declared.max_bytes is None else declared.max_bytes
        return json_document(member.column, _document(declared), nullable=optional, most=most)
    default = _default(declared)
    return SqlColumn(
        member.column,
        _sql(member),
        nullable=optional,
        server_default=None if default is None else text(verbatim(default)),
        info={"bounds": (declared.minimum, declared.maximum)}
        | ({} if declared.max_length is None else {"longest": declared.max_length})
        | ({"languages": member.sorted} if member.sorted else {}),
    )


def _sorted(member: Member) -> Iterator[SqlColumn[Any]]:
    """The same text, sorted by the rules of each language. PostgreSQL ships these collations, if it has ICU."""
    for language, name in member.sorted.items():
        same = Computed(quoted(member.column), persisted=True)
        yield SqlColumn(name, Text(collation=collation_of(language)), same, nullable=member.annotation.optional)


def collation_of(language: str) -> str:
    return f"{language}-x-icu"


def _sql_name(member: Member) -> str:
    kind = member.annotation.kind
    return kind.graphql if kind and not member.annotation.listed else ""


def _sql(member: Member) -> TypeEngine[Any]:
    annotation, declared = member.annotation, member.declared
    kind = annotation.kind
    if kind is None or not isinstance(declared, Column):
        raise TypeError(f"{member.name} has no type")
    if annotation.listed:
        return ARRAY(Text() if annotation.enum else _scalar(KINDS[annotation.type].sql, declared))
    return _scalar(kind.sql, declared)


def _scalar(sql: type[TypeEngine[Any]], declared: Column) -> TypeEngine[Any]:
    if sql is DateTime:
        return DateTime(timezone=True)
    if sql is Numeric:
        return Numeric(*precision(declared))
    return sql()


def _checks(member: Member) -> Iterator[CheckConstraint]:
    """The check constraints on a column's values."""
    declared, annotation, name = member.declared, member.annotation, member.column
    in_sql = quoted(name)
    if not isinstance(declared, Column):
        return
    if member.folded:
        yield folded_check(member.folded)
    if annotation.listed:
        yield CheckConstraint(
            f"cardinality({in_sql}) <= {MAX_ITEMS} AND array_position({in_sql}, NULL) IS NULL", name=f"{name}_items"
        )
        yield CheckConstraint(f"octet_length({in_sql}::text) <= {4 * MAX_TEXT}", name=f"{name}_size")
    if annotation.enum:
        values = ", ".join(_literal(each.value) for each in annotation.enum)
        among = f"<@ ARRAY[{values}]" if annotation.listed else f"IN ({values})"
        yield CheckConstraint(verbatim(f"{in_sql} {among}"), name=name)
    elif annotation.listed:
        if condition := _range_of_items(in_sql, annotation.type):
            yield CheckConstraint(condition, name=f"{name}_range")
    elif annotation.type is str:
        most = MAX_TEXT if declared.max_length is None else declared.max_length
        yield CheckConstraint(f"length({in_sql}) BETWEEN {declared.min_length} AND {most}", name=f"{name}_length")
    elif condition := _range(in_sql, annotation.type, declared):
        yield CheckConstraint(condition, name=f"{name}_range")


def precision(declared: Column) -> tuple[int, int]:
    """The most digits of a decimal, and the most of them after the point."""
    if declared.digits is None:
        return DIGITS, SCALE
    return declared.digits, declared.scale or 0


def bounds(type_: Any, declared: Column) -> tuple[Any, Any]:
    """The least and the largest value of a column; None if there is no limit."""
    least, most = declared.minimum, declared.maximum
    if type_ == BigInt:
        return -MAX_SAFE_INTEGER if least is None else least, MAX_SAFE_INTEGER if most is None else most
    return least, most


def _range(name: str, type_: Any, declared: Column) -> str | None:
    least, most = bounds(type_, declared)
    conditions = []
    if least is not None and most is not None:
        conditions.append(f"{name} BETWEEN {_literal(least)} AND {_literal(most)}")
    elif least is not None:
        conditions.append(f"{name} >= {_literal(least)}")
    elif most is not None:
        conditions.append(f"{name} <= {_literal(most)}")
    if type_ is datetime:
        conditions.append(f"{name} >= '0001-01-01 00:00:00+00' AND {name} < '10000-01-01 00:00:00+00'")
    elif type_ is date:
        conditions.append(f"{name} BETWEEN '0001-01-01' AND '9999-12-31'")
    elif type_ is float:
        # JSON has only finite numbers.
        conditions.append(f"{name} > '-Infinity' AND {name} < 'Infinity'")
    return " AND ".join(conditions) or None


def _range_of_items(name: str, type_: Any) -> str | None:
    """The condition that all items have a form in JSON; None if every value of the type has one."""
    if type_ == BigInt:
        return f"{-MAX_SAFE_INTEGER} <= ALL ({name}) AND {MAX_SAFE_INTEGER} >= ALL ({name})"
    if type_ is datetime:
        return f"'0001-01-01 00:00:00+00' <= ALL ({name}) AND '10000-01-01 00:00:00+00' > ALL ({name})"
    if type_ is date:
        return f"'0001-01-01' <= ALL ({name}) AND '9999-12-31' >= ALL ({name})"
    if type_ is Decimal:
        return f"'NaN' <> ALL ({name})"
    return f"'-Infinity' < ALL ({name}) AND 'Infinity' > ALL ({name})" if type_ is float else None


_IN_SQL: Mapping[object, str] = MappingProxyType({now: "now()", today: "(now() AT TIME ZONE 'UTC')::date"})
"""Defaults that the database computes for each row."""


def _default(declared: Column) -> str | None:
    """A column's default in SQL; None if there is none."""
    if callable(declared.default) and declared.default in _IN_SQL:
        return _IN_SQL[declared.default]
    value = None if declared.default is UNSET else declared.initial
    return None if value is None else _literal(value)


def _document(declared: Column) -> str | None:
    value = None if declared.default is UNSET else declared.initial
    return None if value is None else _literal(exact_json.dumps(value))


def _literal(value: Any) -> str:
    match value:
        case bool() | int() | float() | Decimal() if not isinstance(value, Enum):
            return _plain(value)
        case list():
            # An untyped literal takes the type of the column.
            items = (_plain(each).replace("\\", r"\\").replace('"', r"\"") for each in value)
            return _quoted("{" + ",".join(f'"{each}"' for each in items) + "}")
    return _quoted(_plain(value))


def _plain(value: Any) -> str:
    match value:
        case Enum():
            return str(value.value)
        case bool():
            return str(value).lower()
        case date():
            return value.isoformat()
    return str(value)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _indexes(declaration: Declaration) -> Iterator[Index]:
    order = [column for column, _ in declaration.order if column != "id"]
    unique = {each.column for each in declaration.columns if getattr(each.declared, "unique", False)}
    for each in declaration.columns:
        if isinstance(each.declared, Reference):
            # The rows that reference a row are listed in the subject's default order.
            yield Index(None, each.column, *(name for name in order if name != each.column), "id")
        elif isinstance(each.declared, Column) and each.declared.index and each.column not in unique:
            yield Index(None, each.column, "id")
        if each.folded:
            yield Index(None, each.folded, "id")
        for name in each.sorted.values():
            yield Index(None, name, "id")
    yield Index(None, "created_at", "id")
    for names in declaration.subject.indexes:
        yield Index(None, *map(declaration.column_of, names))
