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

    The creator of a cache registers ``invalidate`` for the relevant changes with ``Changes.listen``.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        size: int,
        ttl: float = math.inf,
        group_of: Callable[[Key], Hashable] | None = None,
    ) -> None:
        """``group_of`` says which group a key belongs to, for ``invalidate_group``."""
        self._changes = changes
        self._group_of = group_of
        self._invalidated_groups: dict[Hashable, int] = {}
        """For each invalidated group, the count of group invalidations at that time."""
        self._invalidations = 0
        self._size = size
        self._ttl = ttl
        self._entries: OrderedDict[Key, tuple[float, Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key) -> Value | Missing:
        """The cached value of ``key``; MISSING where there is none, or where it cannot be trusted now."""
        entry = self._entries.get(key)
        if entry is None:
            return MISSING
        now = time.monotonic()
        if now >= entry[0] or self._is_invalidated(key, entry[2]):
            del self._entries[key]
            return MISSING
        if now >= self._changes.fresh_until:
            return MISSING
        self._entries.move_to_end(key)
        return entry[1]

    async def get_or_fetch(self, key: Key, fetch: Callable[[], Awaitable[Value]]) -> Value:
        """The cached value of ``key``, or else what ``ask`` returns, cached from now on. Raises what ``ask`` raises."""
        cached = self.get(key)
        if cached is not MISSING:
            return cached
        epoch, requested_at = self._changes.epoch, time.monotonic()
        value = await fetch()
        self.put(key, value, epoch, requested_at)
        return value

    def put(self, key: Key, value: Value, epoch: int, requested_at: float) -> None:
        """Cache an answer. ``epoch`` and ``asked_at`` (``time.monotonic()``) are from before the query was sent."""
        if epoch != self._changes.epoch or not self._ttl:
            return
        self._entries[key] = (requested_at + self._ttl, value, self._invalidations)
        self._entries.move_to_end(key)
        if len(self._entries) > self._size:
            self._entries.popitem(last=False)

    def invalidate(self, key: Key | None) -> None:
        """Invalidate one answer; all of them when ``key`` is None."""
        if key is None:
            self._entries.clear()
            self._invalidated_groups.clear()
        else:
            self._entries.pop(key, None)

    def forget(self, _: object = None) -> None:
        """Invalidate all answers."""
        self.invalidate(None)

    def invalidate_group(self, group: Hashable) -> None:
        """Invalidate all answers of a group, in constant time."""
        self._invalidations += 1
        self._invalidated_groups[group] = self._invalidations

    def _is_invalidated(self, key: Key, invalidations: int) -> bool:
        if self._group_of is None or not self._invalidated_groups:
            return False
        return self._invalidated_groups.get(self._group_of(key), 0) > invalidations
