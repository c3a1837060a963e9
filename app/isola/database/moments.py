"""Codecs for dates and moments.

asyncpg's own write the first and the last value that Python has as ``-infinity`` and ``infinity``. So a date of
9999-12-31, which many databases have for "without an end", would be another value in the database and in every
comparison.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType
from typing import Any

_DAY_0 = date(2000, 1, 1).toordinal()
_MOMENT_0 = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LAST_DAY, _LAST_MICROSECOND = 2**31 - 1, 2**63 - 1
"""PostgreSQL's ``infinity`` of each type; ``-infinity`` is one less than its negative."""


def _write_date(value: date) -> tuple[int]:
    return (value.toordinal() - _DAY_0,)


def _read_date(value: tuple[int]) -> date:
    if value[0] == _LAST_DAY:
        return date.max
    return date.min if value[0] == -_LAST_DAY - 1 else date.fromordinal(value[0] + _DAY_0)


def _write_moment(value: datetime) -> tuple[int]:
    return ((value - _MOMENT_0) // _MICROSECOND,)


def _read_moment(value: tuple[int]) -> datetime:
    if value[0] == _LAST_MICROSECOND:
        return datetime.max.replace(tzinfo=UTC)
    if value[0] == -_LAST_MICROSECOND - 1:
        return datetime.min.replace(tzinfo=UTC)
    return _MOMENT_0 + timedelta(microseconds=value[0])


CODECS: Mapping[str, tuple[Callable[[Any], tuple[int]], Callable[[Any], Any]]] = MappingProxyType(
    {"date": (_write_date, _read_date), "timestamptz": (_write_moment, _read_moment)}
)
"""How values are written and read, by the name of their type: what PostgreSQL counts, in a tuple."""
