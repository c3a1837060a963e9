"""Finds the row of a batch that violates a unique constraint: the database names only the constraint."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Table, UniqueConstraint, and_, or_, select

from isola.subjects.work import Work

Row: TypeAlias = Mapping[str, Any]


async def conflicting(work: Work, table: Table, rule: str, rows: Sequence[Row]) -> int | None:
    """The index of the row that violated the constraint with the columns ``rule``, in a transaction that failed.

    It has the values of an earlier one, or of a row of the table. None if there is no such row, or none any more.
    """
    columns = _columns(table, rule)
    # A null is equal to nothing.
    keys = {index: key for index, row in enumerate(rows) if None not in (key := tuple(row[name] for name in columns))}
    if not columns or not keys:
        return None
    repeated = _repeated(keys)
    return await _existing(work, table, columns, keys) if repeated is None else repeated


def _columns(table: Table, rule: str) -> Sequence[str]:
    for each in table.constraints:
        if isinstance(each, UniqueConstraint) and each.name == f"uq_{table.name}_{rule}":
            return [column.name for column in each.columns]
    return []


def _repeated(keys: Mapping[int, tuple[Any, ...]]) -> int | None:
    seen: set[tuple[Any, ...]] = set()
    for index, key in keys.items():
        if key in seen:
            return index
        seen.add(key)
    return None


async def _existing(
    work: Work, table: Table, columns: Sequence[str], keys: Mapping[int, tuple[Any, ...]]
) -> int | None:
    conditions = [
        and_(*(table.c[name] == value for name, value in zip(columns, key, strict=True))) for key in keys.values()
    ]
    found = await work.rows(select(*(table.c[name] for name in columns)).where(or_(*conditions)))
    there = {tuple(row[name] for name in columns) for row in found}
    return next((index for index, key in keys.items() if key in there), None)
