"""API keys. Tenants read and write them through the functions of the schema ``isola`` only."""

import asyncio
import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import partial
from types import TracebackType
from typing import Self
from uuid import UUID

import structlog
from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    bindparam,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import ARRAY

from isola.database.transactions import Database
from isola.errors import NotFound, Refusal
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.platform_log import Action, Author, announce, intervene
from isola.platform.tenants import Tenant, metadata
from isola.subjects.metadata import identifier, indexed_text, moment
from isola.subjects.permissions import all_permissions

log = structlog.get_logger()

MAX_CACHED = 10_000
USE_WRITTEN_EVERY = 60.0
"""Minimum seconds between two updates of a key's last use, by one server."""

api_keys = Table(
    "api_keys",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # The public part of a key, which identifies it.
    indexed_text("prefix", 100),
    # Of the whole key. Slow hashes are for human passwords: 160 random bits cannot be searched to any relevant extent,
    # and every request pays for the hash.
    Column("digest", LargeBinary, nullable=False),
    Column("name", Text, nullable=False),
    Column("permissions", ARRAY(Text), nullable=False),
    # The machine, and the creator of the key: users of the tenant.
    Column("user_id", Uuid, nullable=False),
    Column("created_by", Uuid, nullable=False),
    moment("created_at"),
    moment("expires_at", nullable=True, default=None),
    moment("last_used_at", nullable=True, default=None),
    moment("revoked_at", nullable=True, default=None),
    UniqueConstraint("prefix"),
    CheckConstraint("length(name) BETWEEN 1 AND 200", name="name_length"),
    CheckConstraint("length(digest) = 32", name="digest_length"),
    Index(None, "tenant_id", "id"),
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. ``tenant`` is the text of the tenant's id; ``expires_at`` is in seconds since 1970."""

    id: UUID
    tenant: str
    digest: bytes = field(repr=False)
    permissions: frozenset[str]
    user_id: UUID
    created_by: UUID
    expires_at: float
    revoked: bool


@dataclass(frozen=True, slots=True)
class Listed:
    """The displayable attributes of a key."""

    prefix: str
    name: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


async def of(control: Database, tenant: Tenant) -> Sequence[Listed]:
    """The keys of a tenant, including revoked ones, oldest first."""
    question = select(*_LISTED).where(api_keys.c.tenant_id == tenant.id).order_by(api_keys.c.id)
    async with control.unbound() as transaction:
        return [Listed(**row) for row in await transaction.rows(question)]


async def revoke(control: Database, tenants: Database, tenant: Tenant, prefix: str, by: Author) -> Listed:
    """Revoke a key of a tenant as an administrator of the platform; recorded in the tenant's log and the platform's.

    A revoked key stays revoked. Raises NotFound, and Forbidden while the tenant is suspended.
    """
    mine = (api_keys.c.tenant_id == tenant.id) & (api_keys.c.prefix == prefix)
    async with control.unbound() as transaction:
        rows = await transaction.rows(select(api_keys.c.id, *_LISTED).where(mine))
    if not rows:
        raise NotFound("the tenant has no such API key")
    key = dict(rows[0]).pop("id")
    if rows[0]["revoked_at"] is None:
        intervention = await announce(control, by, Action.API_KEY_REVOKE, tenant, {"prefix": prefix})
        async with tenants.transaction(tenant, about=by.attribution) as work:
            await work.scalar(select(func.isola.revoke_api_key(key)))
            await intervene(work, intervention)
    async with control.unbound() as transaction:
        [row] = await transaction.rows(select(*_LISTED).where(mine))
    return Listed(**row)


_LISTED = tuple(api_keys.c[each.name] for each in fields(Listed))


class ApiKeys:
    """Looks keys up, and records when they were used.

    Answers are cached until they change, ``ttl`` seconds at most. Leaving the context waits until pending updates are
    written.
    """

    def __init__(self, control: Database, changes: Changes, ttl: float) -> None:
        self._control = control
        self._cache: Cache[str, ApiKey | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        # Evicted together with the key: at worst the last use is written once more.
        self._write_at: dict[UUID, float] = {}
        self._used: set[UUID] = set()
        self._writing: asyncio.Task[None] | None = None
        changes.listen(Kind.KEY, self._invalidate)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writing is not None:
            with suppress(asyncio.CancelledError):
                await self._writing

    async def find(self, prefix: str) -> ApiKey | None:
        """The key with this prefix, also if it is revoked; None if there is none. Raises Unavailable."""
        cached = self._cache.get(prefix)
        return cached if cached is not MISSING else await self._cache.get_or_fetch(prefix, partial(self._fetch, prefix))

    def used(self, key: ApiKey) -> None:
        """Record that a key was used now, at most once a minute. Does not block."""
        now = time.monotonic()
        if now < self._write_at.get(key.id, 0.0):
            return
        if len(self._write_at) >= MAX_CACHED:
            self._write_at.clear()
        self._write_at[key.id] = now + USE_WRITTEN_EVERY
        self._used.add(key.id)
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def _fetch(self, prefix: str) -> ApiKey | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"wanted": prefix})
        if not rows:
            return None
        row = dict(rows[0])
        expires_at = row.pop("expires_at")
        return ApiKey(
            tenant=str(row.pop("tenant_id")),
            permissions=all_permissions() & set(row.pop("permissions")),
            revoked=row.pop("revoked_at") is not None,
            expires_at=math.inf if expires_at is None else expires_at.timestamp(),
            **row,
        )

    async def _write(self) -> None:
        while self._used:
            used, self._used = sorted(self._used), set()
            try:
                async with self._control.unbound() as transaction:
                    await transaction.value(_WRITE, used, USE_WRITTEN_EVERY)
            except Refusal as refusal:
                log.warning("the last use of API keys cannot be stored", reason=refusal.code)

    def _invalidate(self, key: str | None) -> None:
        # Changes announced from inside a tenant have its id as a prefix.
        self._cache.invalidate(key and key.rpartition("/")[2])


_FOUND = ("id", "tenant_id", "digest", "permissions", "user_id", "created_by", "expires_at", "revoked_at")
_FIND = select(*(api_keys.c[name] for name in _FOUND)).where(api_keys.c.prefix == bindparam("wanted"))
# Another server may have written it a moment ago.
_WRITE = """
UPDATE control.api_keys SET last_used_at = now()
WHERE id = ANY ($1) AND (last_used_at IS NULL OR last_used_at <= now() - $2 * interval '1 second')
"""
