"""Rates of several servers: each leases units from the buckets that the database keeps, and hands them out.

A unit is in the bucket from the moment at which it is leased, so all servers together never lease more than the rate.
A lease ends after a twentieth of the period: what was leased before a period and is used in it is at most 5 % of the
rate, however many servers there are. What is left then is lost, to nobody's advantage, so a server leases more than it
needs only as long as it uses that up. A refusal is remembered until there is room, and costs the database nothing.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import Column, Integer, Numeric, Table, Uuid

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.gcra import Flow, Use
from isola.platform.background import repeating
from isola.platform.rates import MAX_NAME, Key
from isola.platform.tenants import metadata
from isola.subjects.metadata import indexed_text, moment

log = structlog.get_logger()

NOBODY = UUID(int=0)
INTERVAL = 60.0
"""Seconds between two times at which empty buckets are deleted."""
AT_ONCE = 2000
"""Buckets that one statement deletes at most: none holds locks for long."""
_ENDS_AFTER = 20
_AHEAD = 10
"""A lease has at most this part of the limit more than was asked for."""

# Unlogged: after a crash, all tenants have their whole rates again. No foreign key: each lease would pay for it.
rate_levels = Table(
    "rate_levels",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    indexed_text("rate", MAX_NAME, primary_key=True),
    Column("seconds", Integer, primary_key=True, autoincrement=False),
    # The zero UUID for the whole tenant.
    Column("user_id", Uuid, primary_key=True),
    # As in isola.gcra: parts of a unit, at a time.
    Column("level", Numeric, nullable=False),
    moment("at", default=None),
    moment("empty_at", default=None),
    prefixes=["UNLOGGED"],
)

_LEASE = "SELECT granted || ' ' || room || ' ' || wait FROM control.lease_rate($1, $2, $3, $4, $5, $6, $7, $8)"
_EMPTY = """
WITH emptied AS (
    DELETE FROM control.rate_levels WHERE (tenant_id, rate, seconds, user_id) IN (
        SELECT tenant_id, rate, seconds, user_id FROM control.rate_levels
        WHERE empty_at < now() - interval '1 second' LIMIT $1 FOR UPDATE SKIP LOCKED
    )
    RETURNING seconds
)
SELECT count(*) FROM emptied
"""


class _Lease:
    """``units`` until ``until``; negative if more were used. ``room`` is what the bucket had left at ``asked_at``."""

    __slots__ = ("ahead", "asked_at", "lock", "most", "refused", "refused_until", "room", "units", "until")

    def __init__(self, most: int) -> None:
        self.units = self.until = self.refused = self.refused_until = self.asked_at = 0
        self.most = self.room = most
        self.ahead = 1
        self.lock = asyncio.Lock()

    def keep_to(self, most: int) -> None:
        """If the rate is another one now, what was refused may have room, and what is held may be too much."""
        if most == self.most:
            return
        if most < self.most:
            self.until = 0
        self.refused_until = 0
        self.room += most - self.most
        self.most = most


class Leases:
    """The leases of this server, at most ``size`` (LRU). ``clock`` returns nanoseconds, and never goes back."""

    def __init__(self, control: Database, *, size: int = 50_000, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._control = control
        self._size = size
        self._clock = clock
        self._leases: OrderedDict[Hashable, _Lease] = OrderedDict()

    async def take(self, uses: Sequence[Use]) -> tuple[Use, int] | None:
        """Take all, or nothing if there is no room for one of them: then that, and the nanoseconds until there is.

        Raises Unavailable.
        """
        taken: list[Use] = []
        refused = None
        try:
            for use in uses:
                if wait := await self._take(use):
                    refused = use, wait
                    break
                taken.append(use)
            else:
                taken = []
        finally:
            # Also if the request was cancelled.
            for use in taken:
                self._lease(use).units += use.units
        return refused

    async def put(self, use: Use) -> None:
        """Take units whether there is room or not: later ones wait for them. Raises nothing."""
        lease = self._lease(use)
        lease.units -= use.units
        if lease.units < 0:
            try:
                async with lease.lock:
                    if lease.units < 0:
                        await self._renew(lease, use._replace(units=0))
            except Refusal as refusal:
                # They stay owed.
                log.warning("the use of a rate cannot be stored", reason=refusal.code)

    def left(self, key: Hashable, flow: Flow) -> int:
        """The units for which there is room, as far as this server knows."""
        lease = self._leases.get(key)
        if lease is None:
            return flow.most
        lease.keep_to(flow.most)
        now = self._clock()
        held = lease.units if now < lease.until else min(lease.units, 0)
        return min(held + lease.room + (now - lease.asked_at) * flow.most // flow.period, flow.most)

    async def _take(self, use: Use) -> int:
        """Take units; the nanoseconds to wait if there is no room."""
        lease = self._lease(use)
        decided = self._decide(lease, use)
        if decided is not None:
            return decided
        async with lease.lock:
            decided = self._decide(lease, use)
            return await self._renew(lease, use) if decided is None else decided

    def _decide(self, lease: _Lease, use: Use) -> int | None:
        """Decide without the database, if that is possible."""
        now = self._clock()
        if now < lease.refused_until and use.units >= lease.refused:
            return lease.refused_until - now
        if now < lease.until and 0 <= lease.units >= use.units:
            lease.units -= use.units
            return 0
        return None

    async def _renew(self, lease: _Lease, use: Use) -> int:
        """Lease units, perhaps some more, and take them; the nanoseconds to wait if there is no room."""
        key, flow, units = use
        now = self._clock()
        is_current = now < lease.until
        lease.ahead = min(lease.ahead * 2, max(flow.most // _AHEAD, 1)) if is_current else 1
        held, owed = max(lease.units, 0) if is_current else 0, max(-lease.units, 0)
        # Others must not take what is held while the database is asked.
        lease.units = min(lease.units, 0)
        needed = max(units - held, 0)
        try:
            granted, room, wait = await self._ask(key, flow, owed, needed, max(needed, lease.ahead))
        except BaseException:
            lease.units += held
            raise
        lease.units += owed + held + granted
        lease.room, lease.asked_at = room, now
        if wait:
            lease.refused, lease.refused_until = units, self._clock() + wait
        else:
            lease.until = now + flow.period // _ENDS_AFTER
            lease.units -= units
        return wait

    async def _ask(self, key: Hashable, flow: Flow, owed: int, needed: int, wanted: int) -> tuple[int, int, int]:
        """See control.lease_rate()."""
        if not isinstance(key, Key):
            raise TypeError("expected the key of a rate")
        whose = key.tenant, key.rate, key.seconds, key.user or NOBODY
        async with self._control.unbound() as work:
            text: str = await work.value(_LEASE, *whose, flow.most, owed, needed, wanted)
        granted, room, wait = map(int, text.split())
        return granted, room, wait

    def _lease(self, use: Use) -> _Lease:
        lease = self._leases.get(use.key)
        if lease is None:
            lease = self._leases[use.key] = _Lease(use.flow.most)
            if len(self._leases) > self._size:
                self._leases.popitem(last=False)
        else:
            self._leases.move_to_end(use.key)
            lease.keep_to(use.flow.most)
        return lease


async def empty(control: Database, most: int = AT_ONCE) -> int:
    """Delete buckets that are empty, and return how many. Raises Unavailable."""
    async with control.unbound() as work:
        deleted: int = await work.value(_EMPTY, most)
    return deleted


def emptying(control: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Deletes empty buckets every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(empty, control), interval, "the buckets of rates cannot be deleted")
