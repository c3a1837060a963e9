"""The SQL of the groups of a connection: how many of its rows there are of each value of a column."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import ColumnElement, FromClause, Subquery, Text, func, literal_column, select

from isola.query import json_text
from isola.query.json_text import Part as Json
from isola.query.read_plan import Constant, Grouped, enum_names

if TYPE_CHECKING:
    from isola.query.statement import Writer

MOST = 100
"""The most groups: those with the most rows."""


class Counted(Protocol):
    """The rows to count: a scan, and the conditions on its rows."""

    @property
    def scan(self) -> FromClause: ...
    @property
    def conditions(self) -> Sequence[ColumnElement[bool]]: ...


def written(writer: "Writer", selected: Sequence[Grouped | Constant], rows: Callable[[], Counted]) -> list[Json]:
    """The JSON of the field ``groups``. ``rows`` makes a new scan of all rows that satisfy the filter."""
    return json_text.object_of(
        [
            (each.key, [f'"{each.text}"'] if isinstance(each, Constant) else _listed(writer, each, rows()))
            for each in selected
        ]
    )


def _listed(writer: "Writer", grouped: Grouped, rows: Counted) -> list[Json]:
    """The groups with the most rows first, and by their value; NULL is a group, after others of its size."""
    scan, of = rows.scan, grouped.value.value.of
    value = scan.c[of] if isinstance(of, str) else writer.expression(of, scan)
    each = select(value.label("value")).select_from(scan).where(*rows.conditions).correlate_except(scan)
    values = each.subquery(f"values_{scan.description}")
    number = func.count()
    counted = (
        select(values.c.value, number.label("number"))
        .group_by(values.c.value)
        .order_by(number.desc(), values.c.value)
        .limit(literal_column(str(MOST)))
        .subquery(f"groups_{scan.description}")
    )
    item = json_text.object_of([(key, _part(grouped, name, counted)) for key, name in grouped.parts])
    listed = func.string_agg(json_text.joined(item), literal_column("','"), type_=Text)
    text = select(writer.budget.list(listed, grouped.value.place)).select_from(counted)
    return ["[", text.correlate_except(counted).scalar_subquery(), "]"]


def _part(grouped: Grouped, name: str, counted: Subquery) -> list[Json]:
    leaf, value = grouped.value, counted.c.value
    match name:
        case "value":
            names = enum_names(leaf.type)
            json = json_text.leaf(value, leaf.type, listed=False, prefix=leaf.value.prefix, names=names)
            return [json_text.or_null(value, json, nullable=True)]
        case "count":
            number: ColumnElement[Any] = counted.c.number
            return [number]
    return [f'"{grouped.group}"']
