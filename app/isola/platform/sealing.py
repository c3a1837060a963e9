"""Seals committed log entries: numbers them in commit order, and chains them by hashes.

Every server does so, one at a time: see migrations/control/0001_sealing.sql. Writers do not wait for it. Sealed
entries are a feed without gaps, which clients can follow from any number on.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import BigInteger, Uuid, column, func, select

from isola.database.transactions import Database, Transaction
from isola.platform.background import repeating
from isola.subjects.audit import audit_log

log = structlog.get_logger()

INTERVAL = 0.1
"""Seconds between two runs."""
AT_ONCE = 10_000
"""Entries that a run seals at most, plus the rest of the last statement."""
ALARM = 10.0
"""Seconds that entries may wait before an error is logged."""

# The oldest entry that waits, and what delays it: transactions that are about to commit.
LAG = """
SELECT jsonb_build_object(
    'seconds', coalesce(extract(epoch FROM clock_timestamp() - min(at)), 0)::float,
    'entries', coalesce(sum(cardinality(ids)), 0),
    'committing', (SELECT coalesce(jsonb_agg(pid), '[]') FROM control.committing())
)
FROM control.audit_pending
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the seal is behind.

    ``seconds`` is how long the oldest entry has waited, ``entries`` how many wait, and ``committing`` the PostgreSQL
    processes that are about to commit, for which the sealer waits.
    """

    seconds: float
    entries: int
    committing: Sequence[int]


async def seal(control: Database) -> int | None:
    """Seal committed entries; how many. None if another server is sealing, or commits must be waited for."""
    async with control.unbound() as transaction:
        sealed: int | None = await transaction.value("SELECT control.seal($1)", AT_ONCE)
    return sealed


async def lag(control: Database) -> Lag:
    """How far the seal is behind."""
    async with control.unbound() as transaction:
        return Lag(**await transaction.value(LAG))


class Sealer:
    """A server's sealing task: seals regularly, and logs an error where entries wait for too long."""

    def __init__(self, control: Database, alarm: float = ALARM) -> None:
        self._control = control
        self._alarm = alarm
        self._alarmed = False
        self._looked_at = -math.inf

    async def turn(self) -> None:
        """Seal until nothing is left. Where that is not possible, check how long entries have waited.

        Some may be left in any case, those of a log that cannot be continued: so it also checks now and then.
        """
        while sealed := await seal(self._control):
            if sealed < AT_ONCE:
                break
        if sealed is None or self._alarmed or time.monotonic() - self._looked_at > self._alarm:
            self._looked_at = time.monotonic()
            await self._complain()

    async def _complain(self) -> None:
        behind = await lag(self._control)
        if behind.seconds > self._alarm and not self._alarmed:
            log.error(
                "entries of audit logs are not sealed",
                seconds=round(behind.seconds),
                entries=behind.entries,
                committing=behind.committing,
            )
        self._alarmed = behind.seconds > self._alarm


def sealing(control: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Seals committed entries every ``interval`` seconds, as long as the context is open."""
    return repeating(Sealer(control).turn, interval, "the audit logs cannot be sealed")


async def follow(work: Transaction, after: int, most: int = 1000) -> Sequence[Mapping[str, Any]]:
    """The entries of the bound tenant's log after the number ``after``, at most ``most``, in order.

    Values of rows that the transaction's user may not see are null, unless it proves isola.platform.audit.WHOLE.
    Each also has its ``number``. Numbers start at 1, have no gaps, and never change. Committed entries are sealed a
    moment later: a reader that continues from the last number it got misses none.
    """
    feed = func.isola.feed(after, most).table_valued(column("number", BigInteger), column("id", Uuid))
    entries = select(feed.c.number, *audit_log.columns).join(feed, feed.c.id == audit_log.c.id)
    return await work.rows(entries.order_by(feed.c.number))
