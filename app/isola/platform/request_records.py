"""Records of requests, and their sums by tenant and hour: see docs/metrics.md.

A batch of records and the sums that it changes are stored by one statement, so the sums agree with the records at every
moment, and nothing has to be counted again. Hours begin in UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    bindparam,
    cast,
    func,
    select,
)

from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.platform.tenants import metadata, tenants
from isola.query.documents import MAX_LABEL
from isola.subjects.metadata import indexed_text, moment
from isola.subjects.work import Work

KEPT_DAYS = 30
"""Days that the sums are kept."""
MAX_DAYS = 31
"""Days of one question."""
AT_ONCE = 10_000
"""Rows that one statement deletes at most: none holds locks for long."""
PASSES = 100
"""Statements of a pass at most, for each table."""
MAX_OPERATION = MAX_LABEL
MAX_CODE = 50
MAX_MEMBER = 100

request_records = Table(
    "request_records",
    metadata,
    # No key and no foreign key: each record would pay for them.
    moment("at", default=None),
    Column("tenant_id", Uuid, nullable=False),
    Column("user_id", Uuid, nullable=False),
    indexed_text("kind", MAX_CODE),
    # Its name, or the beginning of the digest of its document.
    indexed_text("operation", MAX_OPERATION),
    # The names of its root fields, sorted, with blanks between them.
    Column("fields", Text, nullable=False),
    indexed_text("code", MAX_CODE),
    Column("microseconds", BigInteger, nullable=False),
    Column("objects", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Index(None, "tenant_id", "at"),
    # Rows are stored in the order of time, so it has some entries only, and finds the oldest.
    Index(None, "at", postgresql_using="brin"),
)

hourly_metrics = Table(
    "hourly_metrics",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    moment("hour", primary_key=True, default=None),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("users", BigInteger, nullable=False),
    Column("fields", BigInteger, nullable=False),
    Column("objects", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("microseconds", BigInteger, nullable=False),
    # The last that was measured in the hour: see isola.platform.storage.
    Column("storage", BigInteger),
    Index(None, "hour"),
)

# Whom and what an hour has, to count each once. They are deleted a day later.
hourly_members = Table(
    "hourly_members",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    moment("hour", primary_key=True, default=None),
    # user or field
    indexed_text("kind", MAX_CODE, primary_key=True),
    indexed_text("member", MAX_MEMBER, primary_key=True),
    Index(None, "hour"),
)


class Record(NamedTuple):
    """One request. ``at`` is when it ended, in seconds since 1970."""

    at: float
    tenant: UUID
    user: UUID
    kind: str
    operation: str
    fields: str
    code: str
    microseconds: int
    objects: int
    bytes: int


class Member(NamedTuple):
    """A user or a root field that an hour has. ``hour`` is in seconds since 1970."""

    tenant: UUID
    hour: int
    kind: str
    name: str


class Sum(NamedTuple):
    """What records of an hour add to it."""

    tenant: UUID
    hour: int
    requests: int
    errors: int
    objects: int
    bytes: int
    microseconds: int


@dataclass(frozen=True, slots=True)
class Hour:
    """The requests of a tenant in one hour. ``users`` and ``fields`` are counted once each.

    ``storage`` is what the tenant stored when it was last measured in that hour, in bytes; None if it was not.
    """

    hour: datetime
    requests: int
    errors: int
    users: int
    fields: int
    objects: int
    bytes: int
    microseconds: int
    storage: int | None


_NUMBERS = tuple(field.name for field in fields(Hour) if field.name != "hour")
_ADDED = [name for name in _NUMBERS if name not in {"users", "fields", "storage"}]


async def store(control: Database, records: Sequence[Record], members: Sequence[Member], sums: Sequence[Sum]) -> None:
    """Store records, the sums that they add, and members that may be new.

    ``members`` and ``sums`` are sorted, so that servers cannot deadlock. What is of tenants that were deleted meanwhile
    is left out. Raises Unavailable.
    """
    async with control.unbound() as work:
        await work.value(_STORE, list({each.tenant for each in sums}), *_columns(records, Record))
        await work.value(_ADD, *_columns(members, Member), *_columns(sums, Sum))


def _columns(rows: Sequence[tuple[Any, ...]], kind: Any) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in kind._fields]


async def forget(control: Database, days: int, most: int = AT_ONCE) -> int:
    """Delete records that are older than this, old sums, and members of hours that are over; how many rows."""
    deleted = 0
    for statement, kept in (
        (_OLD_RECORDS, timedelta(days=days)),
        (_OLD_SUMS, timedelta(days=KEPT_DAYS)),
        (_OLD_MEMBERS, timedelta(days=1)),
    ):
        for _ in range(PASSES):
            async with control.unbound() as work:
                count: int = await work.value(statement, kept, most)
            deleted += count
            if count < most:
                break
    return deleted


async def own_hours(work: Work, start: datetime, end: datetime) -> Sequence[Hour]:
    """The hours of the bound tenant that begin from ``start`` until before ``end``, in order.

    They have requests, or the storage was measured in them.

    Raises BadUserInput.
    """
    if end <= start:
        raise BadUserInput("to: expected a moment after from", "to")
    if end - start > timedelta(days=MAX_DAYS):
        raise BadUserInput(f"to: expected at most {MAX_DAYS} days after from", "to")
    return [Hour(**row) for row in await work.rows(_OWN, {"start": start, "end": end})]


async def hours(control: Database, tenant: UUID, start: datetime, end: datetime) -> Sequence[Hour]:
    """The same of any tenant, for staff. Raises Unavailable."""
    async with control.unbound() as work:
        return [Hour(**row) for row in await work.rows(_OF_TENANT, {"tenant": tenant, "start": start, "end": end})]


async def latest(control: Database, tenant: UUID, first: int) -> Sequence[Mapping[str, Any]]:
    """The latest records of a tenant. Raises Unavailable."""
    newest = request_records.c.at.desc()
    query = select(request_records).where(request_records.c.tenant_id == tenant).order_by(newest).limit(first)
    async with control.unbound() as work:
        return await work.rows(query)


async def totals(control: Database, start: datetime, end: datetime, first: int) -> Sequence[Mapping[str, Any]]:
    """The sums of all tenants with requests in a time, those with most requests first. Raises Unavailable."""
    async with control.unbound() as work:
        return await work.rows(_TOTALS.limit(first), {"start": start, "end": end})


_STORE = """
INSERT INTO control.request_records
    (at, tenant_id, user_id, kind, operation, fields, code, microseconds, objects, bytes)
SELECT to_timestamp(r.at), r.tenant_id, r.user_id, r.kind, r.operation, r.fields, r.code, r.microseconds, r.objects,
    r.bytes
FROM unnest(
    $2::float8[], $3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bigint[], $10::int[],
    $11::int[]
) r (at, tenant_id, user_id, kind, operation, fields, code, microseconds, objects, bytes)
WHERE r.tenant_id IN (SELECT id FROM control.tenants WHERE id = ANY ($1::uuid[]) AND status <> 'deleted')
"""
_ADD = """
WITH joined AS (
    INSERT INTO control.hourly_members (tenant_id, hour, kind, member)
    SELECT m.tenant_id, to_timestamp(m.hour), m.kind, m.member
    FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[])
        WITH ORDINALITY m (tenant_id, hour, kind, member, place)
    JOIN control.tenants t ON t.id = m.tenant_id AND t.status <> 'deleted'
    ORDER BY m.place
    ON CONFLICT DO NOTHING
    RETURNING tenant_id, hour, kind
),
counted AS (
    SELECT tenant_id, hour, count(*) FILTER (WHERE kind = 'user') AS users,
        count(*) FILTER (WHERE kind = 'field') AS fields
    FROM joined GROUP BY tenant_id, hour
)
INSERT INTO control.hourly_metrics AS h
    (tenant_id, hour, requests, errors, users, fields, objects, bytes, microseconds)
SELECT s.tenant_id, to_timestamp(s.hour), s.requests, s.errors, coalesce(c.users, 0), coalesce(c.fields, 0), s.objects,
    s.bytes, s.microseconds
FROM unnest($5::uuid[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[])
    WITH ORDINALITY s (tenant_id, hour, requests, errors, objects, bytes, microseconds, place)
JOIN control.tenants t ON t.id = s.tenant_id AND t.status <> 'deleted'
LEFT JOIN counted c ON c.tenant_id = s.tenant_id AND c.hour = to_timestamp(s.hour)
ORDER BY s.place
ON CONFLICT (tenant_id, hour) DO UPDATE SET
    requests = h.requests + excluded.requests,
    errors = h.errors + excluded.errors,
    users = h.users + excluded.users,
    fields = h.fields + excluded.fields,
    objects = h.objects + excluded.objects,
    bytes = h.bytes + excluded.bytes,
    microseconds = h.microseconds + excluded.microseconds
"""


def _old(table: str, column: str) -> str:
    return f"""
WITH old AS (
    DELETE FROM control.{table} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM control.{table} WHERE {column} < now() - $1::interval LIMIT $2
    ))
    RETURNING 1
)
SELECT count(*) FROM old
"""


_OLD_RECORDS = _old("request_records", "at")
_OLD_SUMS = _old("hourly_metrics", "hour")
_OLD_MEMBERS = _old("hourly_members", "hour")

_PERIOD = bindparam("start", type_=DateTime(timezone=True)), bindparam("end", type_=DateTime(timezone=True))
_METRICS = func.isola.tenant_metrics(*_PERIOD).table_valued("hour", *_NUMBERS)
_OWN = select(_METRICS).order_by(_METRICS.c.hour)
_IN_TIME = (hourly_metrics.c.hour >= _PERIOD[0], hourly_metrics.c.hour < _PERIOD[1])
_TOTALS = (
    select(
        tenants.c.slug,
        tenants.c.plan,
        *(cast(func.sum(hourly_metrics.c[name]), BigInteger).label(name) for name in _ADDED),
        func.max(hourly_metrics.c.users).label("users"),
        func.max(hourly_metrics.c.storage).label("storage"),
    )
    .join(tenants, tenants.c.id == hourly_metrics.c.tenant_id)
    .where(*_IN_TIME)
    .group_by(tenants.c.id)
    .order_by(func.sum(hourly_metrics.c.requests).desc(), tenants.c.slug)
)
_OF_TENANT = (
    select(hourly_metrics.c.hour, *(hourly_metrics.c[name] for name in _NUMBERS))
    .where(hourly_metrics.c.tenant_id == bindparam("tenant", type_=Uuid()), *_IN_TIME)
    .order_by(hourly_metrics.c.hour)
)
