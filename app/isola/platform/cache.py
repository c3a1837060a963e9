"""A cache of database answers, invalidated by changes."""

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from enum import Enum
from typing import Final, Generic, Literal, TypeAlias, TypeVar

from isola.platform.changes import Changes

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Missing(Enum):
    MISSING = "missing"


Missing: TypeAlias = Literal[_Missing.MISSING]
MISSING: Final = _Missing.MISSING


class Cache(Generic[Key, Value]):
    """At most ``size`` answers (LRU), each for ``ttl`` seconds, and none that may have changed without notice.

    The creator of a cache registers ``forget`` for the relevant changes with ``Changes.listen``.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        size: int,
        ttl: float = math.inf,
        group_of: Callable[[Key], Hashable] | None = None,
    ) -> None:
        """``group_of`` says which group a key belongs to, for ``forget_group``."""
        self._changes = changes
        self._group_of = group_of
        self._forgotten: dict[Hashable, int] = {}
        """For each invalidated group, the count of group invalidations at that time."""
        self._forgets = 0
        self._size = size
        self._ttl = ttl
        self._known: OrderedDict[Key, tuple[float, Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: Key) -> Value | Missing:
        """The cached value of ``key``; MISSING where there is none, or where it cannot be trusted now."""
        entry = self._known.get(key)
        if entry is None:
            return MISSING
        now = time.monotonic()
        if now >= entry[0] or self._of_forgotten(key, entry[2]):
            del self._known[key]
            return MISSING
        if now >= self._changes.fresh_until:
            return MISSING
        self._known.move_to_end(key)
        return entry[1]

    async def learn(self, key: Key, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The cached value of ``key``, or else what ``ask`` returns, cached from now on. Raises what ``ask`` raises."""
        known = self.get(key)
        if known is not MISSING:
            return known
        epoch, asked_at = self._changes.epoch, time.monotonic()
        value = await ask()
        self.put(key, value, epoch, asked_at)
        return value

    def put(self, key: Key, value: Value, epoch: int, asked_at: float) -> None:
        """Cache an answer. ``epoch`` and ``asked_at`` (``time.monotonic()``) are from before the query was sent."""
        if epoch != self._changes.epoch or not self._ttl:
            return
        self._known[key] = (asked_at + self._ttl, value, self._forgets)
        self._known.move_to_end(key)
        if len(self._known) > self._size:
            self._known.popitem(last=False)

    def forget(self, key: Key | None) -> None:
        """Invalidate one answer; all of them when ``key`` is None."""
        if key is None:
            self._known.clear()
            self._forgotten.clear()
        else:
            self._known.pop(key, None)

    def forget_group(self, group: Hashable) -> None:
        """Invalidate all answers of a group, in constant time."""
        self._forgets += 1
        self._forgotten[group] = self._forgets

    def _of_forgotten(self, key: Key, forgets: int) -> bool:
        if self._group_of is None or not self._forgotten:
            return False
        return self._forgotten.get(self._group_of(key), 0) > forgets
