"""Cache invalidation across servers: a change to cached data is announced, and every server receives it.

A change is announced by a row, in the transaction that makes it. Each server polls for new rows once a second. Rows
become visible in another order than they are written in, so it polls by transactions: for all rows of those that had
not ended at the previous poll. That is exact, needs no dedicated session, and so works behind PgBouncer.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import structlog
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Index,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    text,
)

from isola.database.transactions import Database, Transaction
from isola.errors import Refusal
from isola.platform.tenants import metadata

log = structlog.get_logger()

EFFECTIVE_WITHIN = 5.0
"""Seconds after its commit until a change is effective on every server that still responds."""

_TRUSTED_FOR = 4.0  # after the last successful poll
_PATIENCE = 2.5  # with a database that does not answer
_KEPT_FOR = 60.0
_MAX_KEY = 2000


class Kind(StrEnum):
    """What a change is about. The announcers and listeners of a kind define the format of its key."""

    DOMAIN = "domain"
    KEY = "key"
    PLAN = "plan"
    REVOCATION = "revocation"
    ROLE = "role"
    SETTINGS = "settings"
    TENANT = "tenant"
    USER = "user"


changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("transaction", BigInteger, nullable=False, server_default=text("pg_current_xact_id()::text::bigint")),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False),
    CheckConstraint(f"kind IN ({', '.join(repr(str(kind)) for kind in Kind)})", name="kind"),
    CheckConstraint(f"length(key) <= {_MAX_KEY}", name="key_length"),
    Index(None, "transaction"),
)

Invalidate = Callable[[str | None], None]
"""Invalidates the cached data of a key; of all keys when it is None. Raises nothing."""


async def announce(transaction: Transaction, kind: Kind, key: str) -> None:
    """Invalidate ``key`` in the caches of all servers, if and when this transaction of the control plane commits.

    A transaction inside a tenant calls ``isola.announce(kind, key)`` instead; listeners get ``<tenant's id>/<key>``.
    A change to a tenant's entry in the directory is announced automatically, by its id and its slug.
    """
    await transaction.execute(_ANNOUNCE, {"kind": kind, "key": key})


_ANNOUNCE = insert(changes)
# In a database that was restored elsewhere, rows may have transaction ids that are still in the future.
_ASK = text("""
    SELECT pg_snapshot_xmin(now_seen)::text::bigint AS horizon, id, kind, key
    FROM pg_current_snapshot() now_seen
    LEFT JOIN control.changes ON transaction >= :horizon AND transaction < pg_snapshot_xmax(now_seen)::text::bigint
""").bindparams(bindparam("horizon", type_=BigInteger))
_PRUNE = delete(changes).where(changes.c.transaction < bindparam("horizon", type_=BigInteger))


class Changes:
    """Receives changes as long as it is entered as a context, and says whether cached data can be trusted.

    ``epoch`` changes each time anything is invalidated. An answer to a query that was sent in one epoch and answered in
    another may already be out of date, and must not be cached.

    If the database did not answer for 4 seconds, ``fresh`` is False until it does: then no cached data may be used.
    ``isola.platform.cache.Cache`` enforces both.
    """

    def __init__(self, control: Database, interval: float = 1.0) -> None:
        """``control`` needs a connection that no other work keeps busy; ``interval`` is in seconds."""
        self._control = control
        self._interval = interval
        self._listeners: defaultdict[str, list[Invalidate]] = defaultdict(list)
        self._horizon: int | None = None
        self._processed: frozenset[int] = frozenset()
        self._polled_at = float("-inf")
        self._prune_at = float("-inf")
        self._prunable: int | None = None
        self._task: asyncio.Task[None] | None = None
        self.epoch = 0
        self.fresh_until = float("-inf")
        """By ``time.monotonic()``."""

    @property
    def fresh(self) -> bool:
        return time.monotonic() < self.fresh_until

    def listen(self, kind: Kind, invalidate: Invalidate) -> None:
        """Call ``invalidate`` with the key of every change of this kind."""
        self._listeners[kind].append(invalidate)

    async def __aenter__(self) -> Self:
        await self._try_poll()
        self._task = asyncio.create_task(self._poll_repeatedly())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.fresh_until = float("-inf")

    async def poll(self) -> None:
        """Read the changes since the last poll, and invalidate their keys. Raises Unavailable."""
        polled_at = time.monotonic()
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_ASK, {"horizon": self._horizon})
            if polled_at >= self._prune_at:
                await self._prune(transaction, polled_at, rows[0]["horizon"])
        self._invalidate(rows, polled_at)
        self._horizon = rows[0]["horizon"]
        self._polled_at = polled_at
        self.fresh_until = polled_at + _TRUSTED_FOR

    def _invalidate(self, rows: Sequence[Mapping[str, Any]], polled_at: float) -> None:
        if self._horizon is None or rows[0]["horizon"] < self._horizon or polled_at > self._polled_at + _KEPT_FOR / 2:
            # First poll, other database, or so long a pause that rows of changes may have been deleted.
            self._processed = frozenset()
            self.epoch += 1
            for invalidate in (each for listeners in self._listeners.values() for each in listeners):
                invalidate(None)
            return
        # While a long transaction is open, every poll returns all rows written after it began.
        new = [row for row in rows if row["id"] is not None and row["id"] not in self._processed]
        self._processed = frozenset(row["id"] for row in rows)
        if new:
            self.epoch += 1
        for row in new:
            for invalidate in self._listeners[row["kind"]]:
                invalidate(row["key"])

    async def _prune(self, transaction: Transaction, now: float, horizon: int) -> None:
        """Delete rows that were visible to all at the last pruning: they were received, or never will be."""
        if self._prunable is not None:
            await transaction.execute(_PRUNE, {"horizon": self._prunable})
        self._prunable = horizon
        self._prune_at = now + _KEPT_FOR

    async def _poll_repeatedly(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._try_poll()

    async def _try_poll(self) -> None:
        was_fresh = self.fresh
        try:
            async with asyncio.timeout(_PATIENCE):
                await self.poll()
        except (Refusal, TimeoutError) as error:
            if was_fresh:
                log.warning("changes cannot be polled", error=type(error).__name__)
        except Exception:
            # If this task ended, no cached data would be trusted again.
            log.exception("changes cannot be polled")
