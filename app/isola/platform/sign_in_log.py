"""Records events of sign-ins for the tenant's log: refusals, counted, and ended sessions; and what other tenants do.

That is reads by tenants above and by partners, reads of subjects that a tenant has chosen, and grants, changes and ends
of shares that the tenant receives.

A session begins in the transaction that writes its log entry. Other events must not wait for the tenant's home, and can
happen while it is not writable. So the control plane stores them, and every server polls every few seconds for events
to copy into a log. However many there are, a tenant's log gets one entry a minute for each reason of refusals and each
of its first clients, and for each tenant above and subject of reads, and each user, operation, client and subject of
chosen ones; and one a second for each partner and subject.

Where only the request names the tenant, the name is resolved when the counts are written, so the response to the
client reveals nothing about it.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import NamedTuple, Self, TypeAlias, TypeVar
from uuid import UUID

import structlog
from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, Table, Text, Uuid, func, or_, select

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform.clients import MAX_ADDRESS, MAX_USER_AGENT, UNKNOWN, Client, current
from isola.platform.request_records import MAX_OPERATION
from isola.platform.sessions import sessions
from isola.platform.shares import MAX_SUBJECT, share_notices
from isola.platform.tenants import ENTRY, STATUS, Status, Tenant, entry, metadata, tenants
from isola.subjects.metadata import indexed_text, moment

log = structlog.get_logger()

INTERVAL = 5.0
"""Seconds between two polls for events to copy into a log."""
STORED_AFTER = 1.0
"""Seconds after which reads of shared rows are stored."""
_AT_ONCE = 100  # tenants per poll: a flood of refusals does not block other writers
_COUNTED = 10_000  # names between two polls: bounds the memory that a flood of invented names can take
CLIENTS = 10
"""Clients of one reason that a minute's entries tell apart: bounds the entries that a flood can cause."""
_NAME = re.compile(r"[A-Za-z0-9.-]{2,253}", re.ASCII)


class Reason(StrEnum):
    """Why a request that names a known tenant was refused."""

    ATTEMPTS = "attempts"
    CODE = "code"
    DISABLED_USER = "disabled_user"
    EXPIRED_KEY = "expired_key"
    EXPIRED_TOKEN = "expired_token"  # noqa: S105  a reason
    FORMER_TENANT = "former_tenant"
    INVITATION = "invitation"
    KEY = "key"
    OTHER_TENANT = "other_tenant"
    PASSWORD = "password"  # noqa: S105  a reason
    REFRESH_TOKEN = "refresh_token"  # noqa: S105  a reason
    REVOKED_KEY = "revoked_key"
    REVOKED_TOKEN = "revoked_token"  # noqa: S105  a reason
    SUSPENDED_TENANT = "suspended_tenant"
    TOKEN = "token"  # noqa: S105  a reason


MAX_REASON = 100

refusals = Table(
    "refusals",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    indexed_text("reason", MAX_REASON, primary_key=True),
    # The client; empty for those beyond the first of a minute.
    indexed_text("address", MAX_ADDRESS, primary_key=True),
    indexed_text("user_agent", MAX_USER_AGENT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    # The server's time of the first and the last refusal counted.
    moment("first_at"),
    moment("last_at"),
    # From then on they become a log entry, and later refusals start a new count.
    moment("due_at", default=None),
    Index(None, "due_at"),
)

# Reads by users of other tenants.
reads = Table(
    "reads",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    # ``family``: the reader is a tenant above; the log does not tell which. ``share``: it is a partner. ``child``: it
    # is a child, which reads what its parent shares with all of them.
    Column("kind", Text, primary_key=True),
    Column("reader_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    indexed_text("subject", MAX_SUBJECT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    # As for refusals.
    moment("first_at"),
    moment("last_at"),
    moment("due_at", default=None),
    CheckConstraint("kind IN ('child', 'family', 'share')", name="kind"),
    Index(None, "due_at"),
)

# Reads by users of the tenant itself, of the subjects that it has chosen.
logged_reads = Table(
    "logged_reads",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    Column("user_id", Uuid, primary_key=True),
    indexed_text("subject", MAX_SUBJECT, primary_key=True),
    indexed_text("operation", MAX_OPERATION, primary_key=True),
    indexed_text("address", MAX_ADDRESS, primary_key=True),
    indexed_text("user_agent", MAX_USER_AGENT, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    # As for refusals.
    moment("first_at"),
    moment("last_at"),
    moment("due_at", default=None),
    Index(None, "due_at"),
)


class LoggedRead(NamedTuple):
    """What an entry about reads of a tenant's own rows is about. The last two are empty if they are not known."""

    tenant: UUID
    user: UUID
    subject: str
    operation: str
    address: str
    user_agent: str


Key = TypeVar("Key")
Refuse: TypeAlias = Callable[[UUID | str, Reason], None]
"""Counts a refusal for the tenant that the request named: by id, or by slug, id or domain as text. Does not block;
names that match no tenant are not counted."""


class SignInLog:
    """Counts refusals and reads, and copies them and session ends to the logs, as long as it is entered as a context.

    Failed writes are retried. Counts of the last seconds before a crash are lost.
    """

    def __init__(self, control: Database, tenants: Database) -> None:
        self._control = control
        self._tenants = tenants
        self._refused: Counter[tuple[UUID | str, Reason, Client]] = Counter()
        self._clients: dict[tuple[UUID | str, Reason], set[Client]] = {}
        self._read: Counter[tuple[UUID, UUID, str]] = Counter()
        self._shared: Counter[tuple[UUID, str]] = Counter()
        self._logged: Counter[LoggedRead] = Counter()
        self._rows: Counter[LoggedRead] = Counter()
        self._woken = asyncio.Event()
        self._due = asyncio.Event()
        # Requests need the connections of the control plane.
        self._one_connection = asyncio.Lock()
        self._tasks: Sequence[asyncio.Task[None]] = ()
        self._failing = False

    async def __aenter__(self) -> Self:
        # Counts are stored in time, however long it takes to write to the logs.
        self._tasks = [
            asyncio.create_task(self._repeat(self._store, self._due)),
            asyncio.create_task(self._repeat(self._copy, self._woken)),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for work in (self._store, self._copy):
            await self._try_to(work)

    def refuse(self, tenant: UUID | str, reason: Reason) -> None:
        """Count a refusal: see ``Refuse``."""
        key = (tenant, reason)
        clients = self._clients.get(key)
        if clients is None:
            if isinstance(tenant, str) and (len(self._clients) >= _COUNTED or not _NAME.fullmatch(tenant)):
                return
            clients = self._clients[key] = set()
        client = current()
        if client not in clients:
            if len(clients) < CLIENTS:
                clients.add(client)
            else:
                client = UNKNOWN
        self._refused[tenant, reason, client] += 1

    def read(self, tenant: UUID, reader: UUID, subject: str) -> None:
        """Count a read of a subject's rows in a tenant by a user of a tenant above. Does not block."""
        self._read[tenant, reader, subject] += 1

    def read_shared(self, reader: UUID, shares: Iterable[str]) -> None:
        """Count a read of the row of each of these shares by the tenant that received it. Does not block."""
        if not self._shared:
            self._store_soon()
        self._shared.update((reader, share) for share in shares)

    def read_logged(self, tenant: UUID, user: UUID, operation: str, client: Client, rows: Mapping[str, int]) -> None:
        """Count a read of a tenant's own rows, by subject, whose reads it has in its log. Does not block."""
        if not self._logged:
            self._store_soon()
        for subject, number in rows.items():
            key = LoggedRead(tenant, user, subject, operation, *client)
            if key not in self._logged and len(self._logged) >= _COUNTED:
                # What clients choose must not fill the memory while nothing can be stored.
                key = LoggedRead(tenant, user, subject, "", *UNKNOWN)
            self._logged[key] += 1
            self._rows[key] += number

    def _store_soon(self) -> None:
        asyncio.get_running_loop().call_later(STORED_AFTER, self._due.set)

    def wake(self) -> None:
        """Poll at once for events to copy into a log: a session has ended."""
        self._woken.set()

    async def _repeat(self, work: Callable[[], Awaitable[None]], woken: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await woken.wait()
            woken.clear()
            await self._try_to(work)

    async def _store(self) -> None:
        await self._add(_COUNT_SHARED, self._shared, tuple)
        await self._store_logged()
        await self._add(_COUNT, self._refused, _named)
        self._clients.clear()
        await self._add(_COUNT_READS, self._read, tuple)

    async def _copy(self) -> None:
        for tenant in await self._pending():
            await carry(self._tenants, tenant)

    async def _try_to(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
            self._failing = False
        except Refusal as refusal:
            if not self._failing:
                log.warning("sign-ins cannot be stored", reason=refusal.code)
            self._failing = True
        except Exception:
            # If this task ended, nothing would be written again.
            log.exception("sign-ins cannot be stored")

    async def _add(self, statement: str, counted: "Counter[Key]", row: Callable[[Key], tuple[object, ...]]) -> None:
        """Add counts to those that are stored. They are counted again if that fails."""
        if not counted:
            return
        counts = counted.copy()
        counted.clear()
        rows = [(*row(key), count) for key, count in counts.items()]
        try:
            async with self._one_connection, self._control.unbound() as transaction:
                await transaction.value(statement, *(list(column) for column in zip(*rows, strict=True)))
        except BaseException:
            counted.update(counts)
            raise

    async def _store_logged(self) -> None:
        rows = self._rows.copy()
        self._rows.clear()
        try:
            await self._add(_COUNT_LOGGED, self._logged, lambda key: (*key, rows[key]))
        except BaseException:
            self._rows.update(rows)
            raise

    async def _pending(self) -> Sequence[Tenant]:
        async with self._one_connection, self._control.unbound() as transaction:
            return [entry(row) for row in await transaction.rows(_PENDING)]


async def carry(tenants: Database, tenant: Tenant) -> None:
    """Copy due events to a tenant's log. If that fails now, a server does it later."""
    try:
        async with tenants.transaction(tenant) as work:
            await work.scalar(_NOTE)
    except Refusal as refusal:
        log.warning("sign-ins are not copied to the tenant's log yet", tenant=str(tenant.id), reason=refusal.code)


def _named(key: tuple[UUID | str, Reason, Client]) -> tuple[object, ...]:
    name, reason, client = key
    return _identifier(name), str(name), reason.value, client.address, client.user_agent, CLIENTS


def _identifier(name: UUID | str) -> UUID | None:
    if isinstance(name, UUID):
        return name
    try:
        return UUID(name)
    except ValueError:
        return None


# Deleted tenants are left out. Sorted, so that servers cannot deadlock.
_COUNT = """
WITH refused AS (
    SELECT t.id AS tenant_id, reason, address, user_agent, most, sum(count) AS count
    FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::int[], $7::bigint[])
        counted (id, name, reason, address, user_agent, most, count)
    CROSS JOIN LATERAL (
        SELECT id FROM control.tenants WHERE tenants.id = counted.id AND status <> 'deleted'
        UNION SELECT id FROM control.tenants WHERE slug = counted.name AND status <> 'deleted'
        UNION SELECT tenant_id FROM control.domains WHERE name = counted.name AND verified_at IS NOT NULL
    ) t
    GROUP BY t.id, reason, address, user_agent, most
),
told AS (
    SELECT f.tenant_id, f.reason, f.address, f.user_agent, f.count, r.tenant_id IS NOT NULL OR f.most >= (
        SELECT count(*) FROM control.refusals o WHERE o.tenant_id = f.tenant_id AND o.reason = f.reason
    ) + row_number() OVER (
        PARTITION BY f.tenant_id, f.reason, r.tenant_id IS NULL ORDER BY f.address, f.user_agent
    ) AS apart
    FROM refused f LEFT JOIN control.refusals r
        ON (r.tenant_id, r.reason, r.address, r.user_agent) = (f.tenant_id, f.reason, f.address, f.user_agent)
)
INSERT INTO control.refusals AS r (tenant_id, reason, address, user_agent, count, due_at)
SELECT tenant_id, reason, CASE WHEN apart THEN address ELSE '' END, CASE WHEN apart THEN user_agent ELSE '' END,
    sum(count), now() + interval '1 minute'
FROM told
GROUP BY 1, 2, 3, 4
ORDER BY 1, 2, 3, 4
ON CONFLICT (tenant_id, reason, address, user_agent)
DO UPDATE SET count = r.count + excluded.count, last_at = excluded.last_at
"""
_COUNT_READS = """
INSERT INTO control.reads AS r (kind, tenant_id, reader_id, subject, count, due_at)
SELECT 'family', counted.*, now() + interval '1 minute'
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[]) counted (tenant_id, reader_id, subject, count)
JOIN control.tenants t ON t.id = counted.tenant_id AND t.status <> 'deleted'
JOIN control.tenants above ON above.id = counted.reader_id AND above.status <> 'deleted'
ORDER BY tenant_id, reader_id, subject
ON CONFLICT (tenant_id, kind, reader_id, subject)
DO UPDATE SET count = r.count + excluded.count, last_at = excluded.last_at
"""
_COUNT_LOGGED = """
INSERT INTO control.logged_reads AS r
    (tenant_id, user_id, subject, operation, address, user_agent, rows, count, due_at)
SELECT counted.*, now() + interval '1 minute'
FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::bigint[]
) counted (tenant_id, user_id, subject, operation, address, user_agent, rows, count)
JOIN control.tenants t ON t.id = counted.tenant_id AND t.status <> 'deleted'
ORDER BY tenant_id, user_id, subject, operation, address, user_agent
ON CONFLICT (tenant_id, user_id, subject, operation, address, user_agent)
DO UPDATE SET count = r.count + excluded.count, rows = r.rows + excluded.rows, last_at = excluded.last_at
"""
_COUNT_SHARED = """
INSERT INTO control.reads AS r (kind, tenant_id, reader_id, subject, count, due_at)
SELECT s.kind, s.owner_id, reader.id, s.subject, sum(counted.count), now() + interval '1 second'
FROM unnest($1::uuid[], $2::uuid[], $3::bigint[]) counted (reader, share, count)
JOIN control.tenants reader ON reader.id = counted.reader AND reader.status <> 'deleted'
CROSS JOIN LATERAL (
    SELECT 'share' AS kind, owner_id, subject FROM control.shares WHERE id = counted.share AND grantee_id = reader.id
    UNION ALL
    SELECT 'child', owner_id, subject FROM control.shares
    WHERE id = control.id_of_parent(counted.share, reader.child_key) AND partnership_id = reader.parent_id
) s
JOIN control.tenants t ON t.id = s.owner_id AND t.status <> 'deleted'
GROUP BY s.owner_id, s.kind, reader.id, s.subject
ORDER BY s.owner_id, s.kind, reader.id, s.subject
ON CONFLICT (tenant_id, kind, reader_id, subject)
DO UPDATE SET count = r.count + excluded.count, last_at = excluded.last_at
"""
# In random order: tenants whose logs cannot be written must not block the others for ever. Moving and suspended
# tenants wait.
_PENDING = (
    ENTRY.where(
        or_(
            tenants.c.id.in_(select(refusals.c.tenant_id).where(refusals.c.due_at <= func.now())),
            tenants.c.id.in_(select(reads.c.tenant_id).where(reads.c.due_at <= func.now())),
            tenants.c.id.in_(select(logged_reads.c.tenant_id).where(logged_reads.c.due_at <= func.now())),
            tenants.c.id.in_(select(sessions.c.tenant_id).where(sessions.c.ended_at.is_not(None))),
            tenants.c.id.in_(select(share_notices.c.tenant_id)),
        ),
        tenants.c.moving_to.is_(None),
        STATUS.in_([Status.ACTIVE.value]),
    )
    .order_by(func.random())
    .limit(_AT_ONCE)
)
_NOTE = select(func.isola.note_sign_ins())
