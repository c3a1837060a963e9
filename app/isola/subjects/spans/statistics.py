"""Statistics of the timeline: of the spans that the caller may see, and of no others."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cache

from sqlalchemy import (
    BigInteger,
    Date,
    DateTime,
    Select,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    literal_column,
    null,
    select,
    union_all,
)

from isola.errors import BadUserInput
from isola.subjects.spans import SpanType, Visibility, spans
from isola.subjects.work import Work

MAX_DAYS = 366


@dataclass(slots=True)
class Statistics:
    """Of the spans that were made in a time and that a user may see.

    ``replays`` are those whose origin they may see as well; ``bytes`` is the size of titles, payloads and metadata.
    """

    spans: int = 0
    by_type: Counter[SpanType] = field(default_factory=Counter)
    by_visibility: Counter[Visibility] = field(default_factory=Counter)
    by_day: Counter[date] = field(default_factory=Counter)
    active_users: int = 0
    replays: int = 0
    bytes: int = 0


async def of_time(work: Work, start: datetime, end: datetime) -> Statistics:
    """The statistics from ``start`` until before ``end``; days are in UTC. Raises BadUserInput."""
    if end <= start:
        raise BadUserInput("to: expected a moment after from", "to")
    if end - start > timedelta(days=MAX_DAYS):
        raise BadUserInput(f"to: expected at most {MAX_DAYS} days after from", "to")
    result = Statistics()
    for row in await work.rows(_statement(), {"start": start, "end": end}):
        if row["type"] is None:
            result.active_users = row["spans"]
            continue
        result.spans += row["spans"]
        result.by_type[SpanType(row["type"])] += row["spans"]
        result.by_visibility[Visibility(row["visibility"])] += row["spans"]
        result.by_day[row["day"]] += row["spans"]
        result.replays += row["replays"]
        result.bytes += row["bytes"]
    return result


def _cells() -> Select[tuple[object, ...]]:
    """The spans by type, visibility and day in UTC, with their number, replays and size."""
    origin = spans.alias("origin")
    visible = exists().where(origin.c.id == spans.c.replay_from_id)
    is_replay = case((and_(spans.c.replay_from_id.is_not(None), visible), literal_column("1")))
    size = sum(
        (func.octet_length(cast(spans.c[name], spans.c.title.type)) for name in ("payload", "metadata")),
        start=func.octet_length(spans.c.title),
    )
    kinds = (spans.c.type, spans.c.visibility, cast(func.timezone(literal_column("'UTC'"), spans.c.created_at), Date))
    figures = (
        func.count().label("spans"),
        func.count(is_replay).label("replays"),
        cast(func.sum(size), BigInteger).label("bytes"),
    )
    return select(*kinds[:2], kinds[2].label("day"), *figures).group_by(*kinds)


def daily() -> Select[tuple[object, ...]]:
    """The query of the view ``tenant_stats``: the same of all days, with the number of distinct authors."""
    return _cells().add_columns(func.count(spans.c.author_id.distinct()).label("active_users"))


@cache
def _statement() -> Select[tuple[object, ...]]:
    """A row for each type, visibility and day; and one with the number of authors."""
    moment = DateTime(timezone=True)
    within = (
        spans.c.created_at >= bindparam("start", type_=moment),
        spans.c.created_at < bindparam("end", type_=moment),
    )
    cells = _cells().add_columns(spans.c.author_id).where(*within).group_by(spans.c.author_id).cte("cells")
    totals = [cast(func.sum(cells.c[name]), BigInteger).label(name) for name in ("spans", "replays", "bytes")]
    kinds = (cells.c.type, cells.c.visibility, cells.c.day)
    counted = select(*kinds, *totals).group_by(*kinds)
    authors = cast(func.count(cells.c.author_id.distinct()), BigInteger)
    return select(union_all(counted, select(null(), null(), null(), authors, null(), null())).subquery())
