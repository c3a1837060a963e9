"""A connection pool that prevents one tenant from blocking the others.

Transactions that find no free connection wait in a queue per tenant, served round-robin. No tenant can hold all
connections, so slow statements of one leave room for the others. Only a pool of a single connection cannot reserve
one.

A transaction prefers a connection that has served its home, where its statements are planned already. If all of those
are busy, it waits for one of them for some milliseconds, and then takes any other ("delay scheduling", Zaharia et al.
2010). It holds a place meanwhile, and never waits like this while others queue for a place. See docs/decisions/0018.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass

import asyncpg
import structlog

from isola.database.connection import Connection
from isola.errors import Unavailable

log = structlog.get_logger()

# One of every five connections is out of reach of a tenant that has the others; of fewer than five, one as well.
KEPT = 5
# The maximum number of waiting transactions of one tenant, per connection: more would time out anyway.
WAITING = 50
# A connection that was idle for this many seconds is closed: a proxy or firewall may have dropped it.
IDLE = 300.0
# A session's memory grows with the tables it has used: by about this many bytes over a new one before it is replaced.
GROWTH = 44 * 1024 * 1024
# The uses after which a connection is replaced in any case: the session may also grow in ways not measured here.
USES = 50_000
# The wait for a connection with the home is this multiple of the usual transaction time, within these bounds in
# seconds, and behind at most this many other waiters.
PATIENCE, LEAST_PATIENCE, MOST_PATIENCE = 4, 0.002, 0.05
WAITING_FOR_ONE = 2
# Of this many transactions that get a connection without their home, one adds the home to it. So a busy home
# comes to be known by several connections, while others do not spread over all of them.
LENT = 4
# The weight of each transaction in the moving average of transaction times.
LATEST = 1 / 32


@dataclass(frozen=True, slots=True)
class Usage:
    """What a pool has at this moment, in connections; ``waiting`` transactions wait for one.

    ``refused`` is the number of transactions since the start that got none.
    """

    size: int
    busy: int
    idle: int
    waiting: int
    refused: int


class Link:
    """A connection, and its usage."""

    __slots__ = ("connection", "home", "idle_since", "is_lent", "kept", "lent_at", "uses", "waiters")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.kept = connection.kept
        self.home: Hashable = None
        """The home that it serves, or served last."""
        self.idle_since = 0.0
        self.is_lent = False
        """Whether it serves a home that other connections know: it then keeps no statements of that home."""
        self.lent_at = 0.0
        self.uses = 0
        self.waiters: deque[asyncio.Future[bool]] = deque()
        """Waiters for this connection; the result is whether they got it."""


class _Queue(dict[asyncio.Future[None], None]):
    """The waiters of one tenant, in order of arrival."""

    def __init__(self, home: Hashable) -> None:
        super().__init__()
        self.home = home
        self.skipped = 0


class Pool:
    """At most ``size`` connections, each opened by ``connect`` when it is first needed."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Link]],
        size: int,
        wait: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._wait = wait
        self._free = size
        self._size = size
        self._most = max(1, size - max(1, size // KEPT))
        self._queue_length = size * WAITING
        self._held: Counter[Hashable] = Counter()
        # Queues in the order of their turns. A waiter leaves its queue when it is served and when it gives up.
        self._queues: OrderedDict[Hashable, _Queue] = OrderedDict()
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._usual = LEAST_PATIENCE / PATIENCE
        self._lent = 0
        self._refused = 0
        self._closing: asyncio.Future[None] | None = None

    @property
    def usage(self) -> Usage:
        waiting = sum(map(len, self._queues.values()))
        return Usage(self._size, self._size - self._free, len(self._idle), waiting, self._refused)

    async def borrow(self, group: Hashable, home: Hashable = None, *, fresh: bool = False) -> Link:
        """A connection, to be given back. ``group`` is the tenant whose turn counts; None is not limited.

        ``home`` is where its statements will run: connections keep prepared statements per home. A ``fresh`` connection
        replaces an idle one. Raises Unavailable when none is free in time, and what ``connect`` raises.
        """
        if self._closing:
            raise Unavailable("the server is stopping")
        if self._free and self._may_have(group):
            self._take(group)
        else:
            await self._turn(group, home)
        try:
            if fresh and self._idle:
                self._discard(self._idle.pop(0))
            link = await self._connected() if fresh else self._idle_for(home)
            is_lent = False
            # A home that all connections which know it are serving at this moment needs one more of them.
            if link is None and not self._is_alone(home):
                if (busy := self._soon_for(home)) is not None and await self._handed(busy):
                    link = busy
                else:
                    is_lent = self._is_to_lend()
            link = link or self._idle_with_room() or await self._connected()
        except BaseException:
            self._leave(group)
            raise
        link.lent_at = self._clock()
        link.home, link.is_lent = home, is_lent
        return link

    def release(self, link: Link, group: Hashable, *, clean: bool) -> None:
        """Return a connection to the pool if it is clean; discard it otherwise."""
        link.uses += 1
        # Limits the weight of very long transactions.
        took = min(self._clock() - link.lent_at, self._usual / LATEST)
        self._usual += (took - self._usual) * LATEST
        if clean and link.uses < USES and not self._closing and not link.connection.is_closed():
            if link.kept.bytes > GROWTH:
                log.info("a connection reached its memory limit and is replaced", uses=link.uses, bytes=link.kept.bytes)
                self._discard(link)
            else:
                self._offer(link)
        else:
            self._discard(link)
        self._leave(group)

    async def close(self) -> None:
        """Close idle connections now and others when they are given back; after ``wait`` seconds, all that are left."""
        self._closing = asyncio.get_running_loop().create_future()
        for queue in self._queues.values():
            for waiter in queue:
                if not waiter.done():
                    waiter.set_exception(Unavailable("the server is stopping"))
        for link in self._idle:
            self._links.discard(link)
            with suppress(OSError, asyncpg.InterfaceError, asyncpg.PostgresError, TimeoutError):
                await link.connection.close(timeout=self._wait)
        if self._links:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing, self._wait)
        for link in list(self._links):
            self._discard(link)

    def _idle_for(self, home: Hashable) -> Link | None:
        """An idle connection that knows the home, the most recently used first, so that surplus ones expire."""
        for link in reversed(self._idle):
            if home in link.kept.homes and self._take_out(link):
                return link
        return None

    def _idle_with_room(self) -> Link | None:
        """The idle connection that has grown the least, so that homes spread evenly over connections."""
        while self._idle:
            link = min(reversed(self._idle), key=lambda each: each.kept.bytes)
            if self._take_out(link):
                return link
        return None

    def _take_out(self, link: Link) -> bool:
        """Remove a connection from the idle ones; whether it is still usable."""
        self._idle.remove(link)
        if link.idle_since >= self._clock() - IDLE and not link.connection.is_closed():
            return True
        self._discard(link)
        return False

    def _is_alone(self, home: Hashable) -> bool:
        """Whether no connection that knows the home serves another one: it then waits for itself alone."""
        return all(link.home == home for link in self._links if home in link.kept.homes)

    def _is_to_lend(self) -> bool:
        """Whether a connection new to a home should keep nothing of it, since other connections know it."""
        self._lent += 1
        return self._lent % LENT != 0

    async def _connected(self) -> Link:
        if self._closing:
            raise Unavailable("the server is stopping")
        link = await self._connect()
        self._links.add(link)
        return link

    @property
    def _patience(self) -> float:
        """The seconds that a transaction waits for a connection that knows its home."""
        return min(MOST_PATIENCE, max(LEAST_PATIENCE, PATIENCE * self._usual))

    def _soon_for(self, home: Hashable) -> Link | None:
        """A busy connection that knows the home and is expected back soon: recently lent, with few waiters.

        None while others queue for a place: a waiter here would hold a place without using it.
        """
        if self._queues and not self._free:
            return None
        since = self._clock() - self._patience
        found = [
            link
            for link in self._links
            if home in link.kept.homes and link.lent_at > since and len(link.waiters) < WAITING_FOR_ONE
        ]
        return min(found, key=lambda each: (len(each.waiters), each.lent_at), default=None)

    async def _handed(self, link: Link) -> bool:
        """Wait briefly for a connection; whether it was handed over."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        link.waiters.append(waiter)
        timer = loop.call_later(self._patience, _settle, waiter)
        try:
            is_handed = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.result():
                self._offer(link)
            raise
        else:
            return is_handed
        finally:
            timer.cancel()
            with suppress(ValueError):
                link.waiters.remove(waiter)

    def _offer(self, link: Link) -> None:
        """Hand a connection to its first waiter, or make it idle."""
        while link.waiters:
            waiter = link.waiters.popleft()
            if not waiter.done():
                link.lent_at = self._clock()
                waiter.set_result(True)
                return
        link.idle_since = self._clock()
        self._idle.append(link)

    def _may_have(self, group: Hashable) -> bool:
        return group is None or self._held[group] < self._most

    def _take(self, group: Hashable) -> None:
        self._free -= 1
        self._held[group] += 1

    def _leave(self, group: Hashable) -> None:
        """Free a place, and give it to the next waiter."""
        self._free += 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]
        found = self._next()
        if found is None:
            return
        waiting, queue = found
        waiter = next(each for each in queue if not each.done())
        queue.skipped = 0
        self._take(waiting)
        self._forget(waiting, waiter)
        waiter.set_result(None)
        if waiting in self._queues:
            self._queues.move_to_end(waiting)

    def _next(self) -> tuple[Hashable, _Queue] | None:
        """The next queue: the first, unless idle connections know the home of a later one and not that of the first.

        A queue can be skipped as many times as there are connections. None if no waiter may have a place.
        """
        passed: list[tuple[Hashable, _Queue]] = []
        for waiting, queue in self._queues.items():
            # A cancelled waiter stays here until its task runs again.
            if not self._may_have(waiting) or all(waiter.done() for waiter in queue):
                continue
            if queue.skipped >= self._size or self._suits(queue.home):
                for _, other in passed:
                    other.skipped += 1
                return waiting, queue
            passed.append((waiting, queue))
        return passed[0] if passed else None

    def _suits(self, home: Hashable) -> bool:
        """Whether an idle connection knows the home, or no connection at all does."""
        if any(home in link.kept.homes for link in self._idle):
            return True
        return not any(home in link.kept.homes for link in self._links)

    def _forget(self, group: Hashable, waiter: asyncio.Future[None]) -> None:
        """Remove a waiter from its queue, if it still is in it, and the queue if it is empty."""
        queue = self._queues.get(group)
        if queue is None:
            return
        queue.pop(waiter, None)
        if not queue:
            self._queues.pop(group, None)

    async def _turn(self, group: Hashable, home: Hashable) -> None:
        queue = self._queues.setdefault(group, _Queue(home))
        if group is not None and len(queue) >= self._queue_length:
            self._refused += 1
            raise Unavailable("too many requests are waiting for the database")
        waiter = asyncio.get_running_loop().create_future()
        queue[waiter] = None
        if not self._free:
            for link in self._links:
                _settle(*link.waiters)
        try:
            async with asyncio.timeout(self._wait):
                await waiter
        except BaseException as error:
            self._forget(group, waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave(group)  # it was given a place at the moment when it was cancelled
            if isinstance(error, TimeoutError):
                self._refused += 1
                raise Unavailable(f"the database gave no connection within {self._wait:g} s") from error
            raise

    def _discard(self, link: Link) -> None:
        self._links.discard(link)
        _settle(*link.waiters)
        with suppress(asyncpg.InterfaceError, OSError):
            link.connection.terminate()
        if self._closing and not self._links and not self._closing.done():
            self._closing.set_result(None)


def _settle(*waiters: asyncio.Future[bool]) -> None:
    """End the wait for one connection."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(False)
