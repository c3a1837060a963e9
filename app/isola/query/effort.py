"""Rate-limits the CPU time that each user causes by new documents, plans and statements.

All requests share one thread. A cached document costs microseconds of it; a new one can cost a hundred milliseconds.
So each user, mostly a tenant, has a time budget. A user who exceeds it has to wait; other users do not.
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

# The most accounts that are kept. An account with its full budget is dropped.
_ACCOUNTS = 10_000


class _Account:
    """``left``: the seconds of budget that a user had left at time ``at``; negative values are debt."""

    __slots__ = ("at", "left", "turns")

    def __init__(self, left: float, at: float) -> None:
        self.left = left
        self.at = at
        self.turns = asyncio.Lock()


class Effort:
    """A token bucket for each user: ``rate`` seconds of work per second, up to ``burst`` at once.

    A request waits ``longest`` seconds at most. ``clock`` returns seconds.
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
        # One thread: large work runs one piece after the other, and the GIL switches to the event loop in between.
        self._thread = ThreadPoolExecutor(1, "effort")

    async def turn(self, user: Hashable) -> None:
        """Wait until a user is out of debt. Raises RateLimited if that takes too long."""
        # Most users have a full budget and so no account.
        while (account := self._accounts.get(user)) is not None and (wait := self._debt(user, account)) > 0:
            if wait > self._longest:
                raise _too_much(wait)
            await asyncio.sleep(wait)

    def now(self, user: Hashable, work: Callable[[], Result]) -> Result:
        """Do work for a user immediately. Raises what ``work`` raises."""
        began = time.thread_time()
        try:
            return work()
        finally:
            self._charge(user, time.thread_time() - began)

    async def spend(self, user: Hashable, work: Callable[[], Result], *, large: bool) -> Result:
        """Do work for a user, one piece at a time. ``large`` work runs in a thread and does not block other requests.

        Raises RateLimited if the user is in debt when the work's turn comes, and what ``work`` raises.
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
            # A user whose request was cancelled meanwhile is charged as well.
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
    message = "too many new documents: send constant documents, and changing values in variables"
    return RateLimited(message, math.ceil(wait))
