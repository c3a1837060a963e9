"""Values with which a visibility rule hides a row, so that tests have something to look for."""

import re
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from itertools import islice, product
from typing import Any
from uuid import NAMESPACE_OID, uuid5

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    FromClause,
    Table,
    Uuid,
    cast,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
)

from isola.database.transactions import Transaction
from isola.subjects import visibility
from isola.subjects.metadata import Viewer

MAX_VARIANTS = 200
"""The most rows that are tried."""

Row = Mapping[str, Any]


async def hidden(work: Transaction, table: Table, tries: Sequence[Row]) -> AsyncGenerator[Row, None]:
    """Those of the rows, and of their variants, that the rule of the table hides from a user without permissions.

    Each costs a statement, so they are yielded as they are found.
    """
    rule = visibility.rule_of(table)
    if rule is None:
        return
    stranger = Viewer(literal(uuid5(NAMESPACE_OID, "stranger"), Uuid()), lambda _: false())
    for row in islice(varied(table, tries), MAX_VARIANTS):
        stored = _stored(table, row)
        if not await work.scalar(select(func.coalesce(rule(stored.c, stranger), false())).select_from(stored)):
            yield row


def is_of_users(table: Table) -> bool:
    """Whether the visibility rule of a table depends on the user, and not on the row alone."""
    rule = visibility.rule_of(table)
    nobody = Viewer(cast(null(), Uuid()), lambda _: false())
    return rule is not None and not rule(table.c, nobody).compare(rule(table.c, visibility.VIEWER))


def varied(table: Table, rows: Iterable[Row]) -> Iterator[Row]:
    """Rows, and those with other values in the columns that the visibility rule reads and that have few values."""
    columns = [table.c[name] for name in visibility.deciding(table) if table.c[name].computed is None]
    choices = {
        column.name: [False, True] if isinstance(column.type, Boolean) else allowed(column) for column in columns
    }
    choices = {name: values for name, values in choices.items() if values}
    for row in rows:
        yield row
        for chosen in product(*choices.values()):
            yield {**row, **dict(zip(choices, chosen, strict=True))}


def _stored(table: Table, row: Row) -> FromClause:
    """The values that a row will have once it is stored."""
    given = select(*(_value(each, row).label(each.name) for each in table.c if each.computed is None)).subquery()
    generated = [
        literal_column(str(each.computed.sqltext), each.type).label(each.name) for each in table.c if each.computed
    ]
    return select(given, *generated).subquery()


def _value(column: Column[Any], row: Row) -> ColumnElement[Any]:
    if column.name in row:
        return literal(row[column.name], column.type)
    default = column.server_default
    return cast(null() if default is None else literal_column(str(default.arg)), column.type)  # type: ignore[attr-defined]  # ours are all DefaultClause


def allowed(column: Column[Any]) -> Sequence[str]:
    """The texts that a check constraint allows in a column; none if no constraint lists texts.

    The longest list: other constraints can name some of the texts, as in ``kind = 'a' OR size > 0``.
    """
    listed = rf"\b{column.name}\"? (?:IN \(|= ANY \(ARRAY\[|= )('[^']*'(?:, '[^']*')*)"
    checks = {str(each.sqltext) for each in column.table.constraints if isinstance(each, CheckConstraint)}
    lists = [re.findall("'([^']*)'", found) for check in sorted(checks) for found in re.findall(listed, check)]
    return max(lists, key=len, default=[])
