"""How much of the server's time goes into what it has not seen before: documents, plans, statements.

All requests share one thread. What is known costs microseconds of it; a new document can cost a hundred milliseconds.
So each user of that time, a tenant mostly, has a share. What was taken beyond it is waited for, by the same user alone.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from isola.errors import RateLimited

Result = TypeVar("Result")

# Users who are remembered. Who has all that one can have need not be.
_ACCOUNTS = 10_000


class _Account:
    """``left`` are the seconds that a user had left at the time ``at``; less than none is debt."""

    __slots__ = ("at", "left", "turns")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.turns = asyncio.Lock()


class Effort:
    """For each user ``rate`` seconds of work a second, and up to ``burst`` at once. ``clock`` gives seconds.

    ``longest`` is how many seconds a request waits at most.
    """

    def __init__(
        self,
        *,
        rate: float = 0.1,
        burst: float = 1.0,
        longest: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate
        self._burst = burst
        self._longest = longest
        self._clock = clock
        self._accounts: OrderedDict[Hashable, _Account] = OrderedDict()
        # One: what is large is done in turns, and Python lets others in between.
        self._thread = ThreadPoolExecutor(1, "effort")

    async def turn(self, user: Hashable) -> None:
        """Wait until a user is out of debt. Raises RateLimited where that takes too long."""
        # Of nearly everybody there is nothing to know.
        while (account := self._accounts.get(user)) is not None and (wait := self._debt(user, account)) > 0:
            if wait > self._longest:
                raise _too_much(wait)
            await asyncio.sleep(wait)

    def now(self, user: Hashable, work: Callable[[], Result]) -> Result:
        """Do work for a user at once. Raises what it raises."""
        began = time.thread_time()
        try:
            return work()
        finally:
            self._charge(user, time.thread_time() - began)

    async def spend(self, user: Hashable, work: Callable[[], Result], *, large: bool) -> Result:
        """Do work for a user, one piece after the other. Where it is ``large``, others are served meanwhile.

        Raises RateLimited when the user is in debt by then, and what ``work`` raises.
        """
        account = self._account(user)
        async with account.turns:
            if (wait := self._debt(user, account)) > 0:
                raise _too_much(wait)
            if not large:
                return self.now(user, work)
            return await self._apart(user, work)

    async def _apart(self, user: Hashable, work: Callable[[], Result]) -> Result:
        loop = asyncio.get_running_loop()
        began: list[float] = []

        def timed() -> Result:
            began.append(time.thread_time())
            try:
                return work()
            finally:
                began.append(time.thread_time())

        def done(_: Future[Result]) -> None:
            # Who has gone away meanwhile is charged, too.
            if len(began) > 1 and not loop.is_closed():
                loop.call_soon_threadsafe(self._charge, user, began[1] - began[0])

        submitted = self._thread.submit(timed)
        submitted.add_done_callback(done)
        return await asyncio.wrap_future(submitted)

    def _charge(self, user: Hashable, seconds: float) -> None:
        self._account(user).left -= seconds

    def _account(self, user: Hashable) -> _Account:
        account = self._accounts.get(user)
        if account is None:
            account = self._accounts[user] = _Account(self._burst, self._clock())
            if len(self._accounts) > _ACCOUNTS:
                self._accounts.popitem(last=False)
        return account

    def _debt(self, user: Hashable, account: _Account) -> float:
        """The seconds until a user is out of debt."""
        now = self._clock()
        account.left = min(account.left + (now - account.at) * self._rate, self._burst)
        account.at = now
        if account.left == self._burst and not account.turns.locked():
            self._accounts.pop(user, None)
        return max(-account.left, 0.0) / self._rate


def _too_much(wait: float) -> RateLimited:
    message = "too much that is new: send documents that stay the same, and what changes in variables"
    return RateLimited(message, math.ceil(wait))
