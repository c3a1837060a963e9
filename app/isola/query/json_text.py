"""Builds JSON as text with ``concat``: no limit on fields or length of names, and faster than the JSON functions.

(*Measured*, a list of 50 with owners: concat 0.26 ms, row_to_json 0.32 ms, json_build_object 0.35 ms.)
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias
from uuid import UUID

from graphql import GraphQLEnumType, GraphQLNamedType
from sqlalchemy import (
    ColumnElement,
    Date,
    DateTime,
    Float,
    Numeric,
    Text,
    Uuid,
    case,
    cast,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.types import TypeEngine

Part: TypeAlias = str | ColumnElement[Any]
"""Constant JSON text, or an expression that returns it. An expression that may be NULL must be of type text."""

_MOST_ARGUMENTS = 100

NULL: ColumnElement[str] = literal_column("'null'", Text())
VIOLATION = "\x01"
"""Marks a NULL where a value must not be NULL. It occurs in no JSON text: JSON escapes control characters."""

# Always six digits; to_json omits trailing zeros.
_MICROSECONDS = "'YYYY-MM-DD\"T\"HH24:MI:SS.US'"
_RAW = {"Int", "BigInt", "Float", "JSON"}


def constant(text: str) -> ColumnElement[str]:
    quoted = text.replace("'", "''")
    return literal_column(f"'{quoted}'", Text())


def joined(parts: Iterable[Part]) -> ColumnElement[str]:
    """All parts concatenated, in order. NULLs are skipped."""
    merged: list[Part] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        else:
            merged.append(part)
    expressions = [as_expression(part) for part in merged]
    while len(expressions) > _MOST_ARGUMENTS:
        expressions = [
            func.concat(*expressions[start : start + _MOST_ARGUMENTS], type_=Text)
            for start in range(0, len(expressions), _MOST_ARGUMENTS)
        ]
    return func.concat(*expressions, type_=Text)


def object_of(fields: Iterable[tuple[str, Sequence[Part]]]) -> list[Part]:
    parts: list[Part] = ["{"]
    for index, (key, value) in enumerate(fields):
        parts += [f"{',' if index else ''}{json.dumps(key)}:", *value]
    return [*parts, "}"]


def leaf(
    expression: ColumnElement[Any],
    type_: GraphQLNamedType,
    *,
    listed: bool,
    prefix: str | None,
    names: Mapping[str, str],
) -> list[Part]:
    """The JSON of a value that is not NULL. A value of variable length is a single part."""
    if listed:
        return [func.to_json(_each(expression, type_, prefix, names))]
    if prefix is not None:
        return [f'"{prefix}_', expression, '"']
    if isinstance(type_, GraphQLEnumType):
        return [case({value: constant(json.dumps(name)) for value, name in names.items()}, value=expression)]
    if type_.name == "DateTime":
        return ['"', _in_utc(expression), '+00:00"']
    if type_.name == "Decimal":
        return [func.to_json(cast(func.trim_scale(expression), Text))]
    return [expression if type_.name in _RAW else func.to_json(expression)]


def _in_utc(moment: ColumnElement[Any]) -> ColumnElement[str]:
    in_utc = func.timezone(literal_column("'UTC'"), moment)
    return func.to_char(in_utc, literal_column(_MICROSECONDS), type_=Text)


def _each(
    array: ColumnElement[Any], type_: GraphQLNamedType, prefix: str | None, names: Mapping[str, str]
) -> ColumnElement[Any]:
    """The array, its items converted to texts if PostgreSQL's own JSON of them would be wrong."""
    items = func.unnest(array).table_valued(column("item", getattr(array.type, "item_type", None))).render_derived()
    item = items.c.item
    text: ColumnElement[str]
    if prefix is not None:
        text = func.concat(constant(f"{prefix}_"), item, type_=Text)
    elif isinstance(type_, GraphQLEnumType):
        text = case({value: constant(name) for value, name in names.items()}, value=item)
    elif type_.name == "DateTime":
        text = func.concat(_in_utc(item), constant("+00:00"), type_=Text)
    elif type_.name == "Decimal":
        text = cast(func.trim_scale(item), Text)
    else:
        return array
    return case((array.is_not(None), func.array(select(text).select_from(items).scalar_subquery())))


def or_null(expression: ColumnElement[Any], parts: list[Part], *, nullable: bool) -> ColumnElement[str]:
    """The JSON of a value that can be NULL in SQL; ``nullable``: the schema allows null."""
    if len(parts) == 1:
        return present(cast(as_expression(parts[0]), Text), nullable=nullable)
    # concat ignores NULLs, so the NULL has to be tested first.
    return present(case((expression.is_not(None), joined(parts))), nullable=nullable)


def present(text: ColumnElement[str], *, nullable: bool) -> ColumnElement[str]:
    """JSON text that may be NULL, replaced by null, or by VIOLATION if null is not allowed."""
    return func.coalesce(text, NULL if nullable else func.chr(ord(VIOLATION)), type_=Text)


def read(value: Any, type_: TypeEngine[Any]) -> Any:
    """A column's value, converted from its parsed JSON."""
    if value is None:
        return None
    return next((read_as(value) for kind, read_as in _READ if isinstance(type_, kind)), value)


def compared(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type of a value to compare a column with: with the column's own type, a decimal would be rounded."""
    return Numeric() if isinstance(type_, Numeric) and not isinstance(type_, Float) else type_


_READ: Sequence[tuple[type[TypeEngine[Any]], Callable[[Any], Any]]] = (
    (Uuid, UUID),
    (DateTime, datetime.fromisoformat),
    (Date, date.fromisoformat),
    # Before Numeric: in SQLAlchemy, Float is a subclass of it.
    (Float, float),
    (Numeric, Decimal),
)


def as_expression(part: Part) -> ColumnElement[Any]:
    return constant(part) if isinstance(part, str) else part
