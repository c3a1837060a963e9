"""Keyset pagination: conditions on the sort keys of a row that an index on the keys can serve.

NULL sorts as in PostgreSQL by default, as if larger than every value; for ``flipped`` columns, as if smaller.
"""

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, tuple_
from sqlalchemy.sql.elements import UnaryExpression

from isola.query.mapping import Order


def inverse(order: Order) -> Order:
    return tuple((column, not descending) for column, descending in order)


def ordered(
    columns: Sequence[ColumnElement[Any]], order: Order, flipped: Collection[str] = ()
) -> list[UnaryExpression[Any]]:
    made = []
    for column, (name, descending) in zip(columns, order, strict=True):
        key = column.desc() if descending else column.asc()
        if name in flipped:
            key = key.nulls_last() if descending else key.nulls_first()
        made.append(key)
    return made


def beyond(
    columns: Sequence[ColumnElement[Any]],
    nullable: Sequence[bool],
    order: Order,
    keys: Sequence[ColumnElement[Any] | None],
    flipped: Collection[str] = (),
    *,
    inclusive: bool = False,
) -> list[ColumnElement[bool]]:
    """The rows after the row with these keys (None for a NULL), as ranges that do not overlap.

    In each range, the first column is NULL in all rows or in none. ``inclusive`` includes the row itself. The last key
    must be unique and not nullable.
    """
    directions = {descending for _, descending in order}
    nulls_first = [descending != (name in flipped) for name, descending in order]
    values = [key for key in keys if key is not None]
    if len(directions) == 1 and len(values) == len(keys):
        descending = directions.pop()
        left, right = tuple_(*columns), tuple_(*values)
        strict, loose = (left < right, left <= right) if descending else (left > right, left >= right)
        ranges: list[ColumnElement[bool]] = [loose if inclusive else strict]
        # A row comparison excludes NULLs; that is correct if they come before.
        after = [each and not first for each, first in zip(nullable, nulls_first, strict=True)]
        return ranges + _nulls_after(columns, after, values)
    ranges = []
    equal: list[ColumnElement[bool]] = []
    last = len(columns) - 1
    for index, (column, key, (_, descending)) in enumerate(zip(columns, keys, order, strict=True)):
        if key is None:
            if nulls_first[index]:
                ranges.append(and_(*equal, column.is_not(None)))
            equal.append(column.is_(None))
            continue
        take_equal = inclusive and index == last
        further = (
            (column <= key if take_equal else column < key)
            if descending
            else (column >= key if take_equal else column > key)
        )
        ranges.append(and_(*equal, further))
        if nullable[index] and not nulls_first[index]:
            ranges.append(and_(*equal, column.is_(None)))
        equal.append(column == key)
    return ranges


def _nulls_after(
    columns: Sequence[ColumnElement[Any]], after: Sequence[bool], keys: Sequence[ColumnElement[Any]]
) -> list[ColumnElement[bool]]:
    """The rows with a NULL in a column where NULLs come after, and with equal keys before it."""
    equal = [column == key for column, key in zip(columns, keys, strict=True)]
    return [and_(*equal[:index], columns[index].is_(None)) for index in range(len(columns)) if after[index]]
