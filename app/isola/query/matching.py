"""Filters that the database evaluates for rows as they are written: comparisons of a subject's own columns.

They are read like the filters of lists, and mean the same: see isola.query.conditions.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, TypeAlias

from sqlalchemy import Date, DateTime, Float, Integer, Numeric, Table
from sqlalchemy.types import TypeEngine

from isola.errors import BadUserInput
from isola.query.arguments import Condition, read_filter
from isola.query.limits import Limits
from isola.query.mapping import Comparison, Filter, Related, Searched

MAX_BYTES = 16_384
"""The most bytes of a condition."""
MAX_DEPTH = 10
"""How deeply ``and``, ``or`` and ``not`` can be nested."""
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
OPERATORS = frozenset({"eq", "in", "gt", "gte", "lt", "lte", "startsWith", "contains", "isNull"})

Written: TypeAlias = list[Any]
"""A condition as isola.matches() takes it: see migrations/control/0001_share_rules.sql."""


class Matching(NamedTuple):
    """A condition, and the columns that it compares."""

    condition: Written
    columns: Sequence[str]


def read_matching(table: Table, filter_: Filter, arguments: Mapping[str, Any], path: str = "filter") -> Matching:
    """Read a filter. Raises BadUserInput, naming what cannot be compared, and for a filter without a comparison."""
    _refuse_unfit(filter_, arguments, path)
    condition, values = read_filter(filter_, arguments, path, Limits())
    left = iter(values)
    written = _written(table, condition, left)
    columns = sorted(set(_columns(condition)))
    if len(str(written).encode()) > MAX_BYTES:
        raise BadUserInput(f"{path}: expected at most {MAX_BYTES} bytes", path)
    return Matching(written, columns)


def _refuse_unfit(filter_: Filter, arguments: Mapping[str, Any] | None, path: str, depth: int = 0) -> None:
    """Raise BadUserInput for what only reads can compare. A null is left to the reader of filters."""
    if depth > MAX_DEPTH:
        raise BadUserInput(f"{path}: expected at most {MAX_DEPTH} levels of and, or and not", path)
    if arguments is None:
        return
    if not arguments:
        raise BadUserInput(f"{path}: expected a comparison; {{id: {{isNull: false}}}} is for all objects", path)
    for name, value in arguments.items():
        inner = f"{path}.{name}"
        if name == "not":
            _refuse_unfit(filter_, value, inner, depth + 1)
        elif name in {"and", "or"}:
            if value is not None and not value:
                raise BadUserInput(f"{inner}: expected at least one condition", inner)
            for index, each in enumerate(value or ()):
                _refuse_unfit(filter_, each, f"{inner}.{index}", depth + 1)
        else:
            _refuse_unfit_field(filter_[name], value, inner)


def _refuse_unfit_field(compared: Comparison | Related | Searched, value: Mapping[str, Any] | None, path: str) -> None:
    name = path.rpartition(".")[2]
    if not isinstance(compared, Comparison) or compared.document or compared.of or compared.visible:
        raise BadUserInput(f"{path}: {name} cannot be compared in a rule: expected columns of the object itself", path)
    if value is not None and not value:
        raise BadUserInput(f"{path}: expected a comparison", path)
    for operator in value or ():
        if operator not in OPERATORS:
            where = f"{path}.{operator}"
            expected = ", ".join(sorted(OPERATORS))
            raise BadUserInput(f"{where}: {operator} cannot be used in a rule: expected some of {expected}", where)


def _written(table: Table, condition: Condition, values: Iterator[Any]) -> Written:
    kind = condition[0]
    if kind in {"and", "or"}:
        return [kind, [_written(table, each, values) for each in condition[1]]]
    if kind == "not":
        return [kind, _written(table, condition[1], values)]
    _, column, operator = condition
    if operator in {"isNull", "isNotNull"}:
        return ["test", column, operator, None, None]
    value = next(values)
    if operator == "startsWith":
        # Its prefix, with what follows for indexes.
        value = value[0]
    elif operator == "contains":
        # A pattern of LIKE, which begins with a wildcard unless the operator was startsWith.
        operator = "contains" if value.startswith("%") else "startsWith"
        value = _ESCAPED.sub(r"\1", value.removeprefix("%")[:-1])
    return ["test", column, operator, _type(table.c[column].type), _texts(value)]


def _texts(value: Any) -> Any:
    if isinstance(value, list):
        return [_texts(each) for each in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, date) else str(value)


def _type(of: TypeEngine[Any]) -> str:
    for name, types in (("float", Float), ("number", (Integer, Numeric)), ("time", DateTime), ("date", Date)):
        if isinstance(of, types):
            return name
    return "text"


def _columns(condition: Condition) -> Iterator[str]:
    match condition:
        case ("and" | "or", parts):
            for each in parts:
                yield from _columns(each)
        case ("not", part):
            yield from _columns(part)
        case (_, column, _):
            yield column
