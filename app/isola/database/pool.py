"""Connections that are kept open, and handed out so that no tenant keeps the others waiting.

A tenant's transactions that find no connection free wait in a queue of their own, and the queues take turns. Part of
the connections is never one tenant's, so slow statements of one leave room for the others. Only a pool of a single
connection cannot keep one back.
"""

import asyncio
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress

import asyncpg

from isola.database.connection import Connection
from isola.errors import Unavailable

# Of each five connections one is kept from a tenant that has the others; of fewer than five, one as well.
KEPT = 5
# How many transactions of one tenant may wait, for each connection that there is: more would wait in vain.
WAITING = 50
# A connection that was idle for so many seconds is closed: what stands in between may have forgotten it.
IDLE = 300.0
# A session's memory grows with the tables that it has seen, and with many tenants that is many.
USES = 50_000


class Link:
    """A connection, and how it was used."""

    __slots__ = ("connection", "idle_since", "uses")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.idle_since = 0.0
        self.uses = 0


class Pool:
    """At most ``size`` connections, each opened by ``connect`` when it is first needed."""

    def __init__(self, connect: Callable[[], Awaitable[Link]], size: int, wait: float) -> None:
        self._connect = connect
        self._wait = wait
        self._free = size
        self._most = max(1, size - max(1, size // KEPT))
        self._queue_length = size * WAITING
        self._held: Counter[Hashable] = Counter()
        # Each queue in the order of arrival. A waiter leaves it when it is served and when it gives up.
        self._queues: OrderedDict[Hashable, dict[asyncio.Future[None], None]] = OrderedDict()
        self._idle: list[Link] = []
        self._links: set[Link] = set()
        self._closing: asyncio.Future[None] | None = None

    async def borrow(self, group: Hashable) -> Link:
        """A connection, to be given back. ``group`` is whose turn it is; None takes turns with nobody.

        Raises Unavailable when none is to be had in time, and what ``connect`` raises.
        """
        if self._closing:
            raise Unavailable("the server is stopping")
        if self._free and self._may_have(group):
            self._take(group)
        else:
            await self._turn(group)
        # The last used is the first to go out again: so those that are too many grow old.
        oldest_useful = time.monotonic() - IDLE
        while self._idle:
            link = self._idle.pop()
            if link.idle_since >= oldest_useful and not link.connection.is_closed():
                return link
            self._discard(link)
        try:
            link = await self._connect()
        except BaseException:
            self._leave(group)
            raise
        self._links.add(link)
        return link

    def give_back(self, link: Link, group: Hashable, *, clean: bool) -> None:
        """Let the next borrower have a connection if it is clean, and nobody otherwise."""
        link.uses += 1
        if clean and link.uses < USES and not self._closing and not link.connection.is_closed():
            link.idle_since = time.monotonic()
            self._idle.append(link)
        else:
            self._discard(link)
        self._leave(group)

    async def close(self) -> None:
        """Close what is idle now and the rest as it is given back; after ``wait`` seconds, all that is left."""
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

    def _may_have(self, group: Hashable) -> bool:
        return group is None or self._held[group] < self._most

    def _take(self, group: Hashable) -> None:
        self._free -= 1
        self._held[group] += 1

    def _leave(self, group: Hashable) -> None:
        """Free a place, and give it to whoever's turn it is."""
        self._free += 1
        self._held[group] -= 1
        if not self._held[group]:
            del self._held[group]
        for waiting, queue in self._queues.items():
            if not self._may_have(waiting):
                continue
            # One that has been cancelled is here until its task runs again.
            waiter = next((waiter for waiter in queue if not waiter.done()), None)
            if waiter is not None:
                self._take(waiting)
                self._forget(waiting, waiter)
                waiter.set_result(None)
                if waiting in self._queues:
                    self._queues.move_to_end(waiting)
                return

    def _forget(self, group: Hashable, waiter: asyncio.Future[None]) -> None:
        """Take a waiter out of its queue, if it still is in it, and the queue away with the last one."""
        queue = self._queues.get(group, {})
        queue.pop(waiter, None)
        if not queue:
            self._queues.pop(group, None)

    async def _turn(self, group: Hashable) -> None:
        queue = self._queues.setdefault(group, {})
        if group is not None and len(queue) >= self._queue_length:
            raise Unavailable("too many requests wait for the database already")
        waiter = asyncio.get_running_loop().create_future()
        queue[waiter] = None
        try:
            async with asyncio.timeout(self._wait):
                await waiter
        except BaseException as error:
            self._forget(group, waiter)
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._leave(group)  # it was given a place in the very moment in which it went away
            if isinstance(error, TimeoutError):
                raise Unavailable(f"the database gave no connection within {self._wait:g} s") from error
            raise

    def _discard(self, link: Link) -> None:
        self._links.discard(link)
        with suppress(asyncpg.InterfaceError, OSError):
            link.connection.terminate()
        if self._closing and not self._links and not self._closing.done():
            self._closing.set_result(None)
