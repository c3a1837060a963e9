"""The generic cell rate algorithm (ITU-T I.371), as a leaky bucket, in whole numbers: no decision depends on rounding.

A bucket has a capacity of ``most`` units and leaks as many in each period. What finds no room is refused, and adds
nothing. In a bucket, a unit is as many parts as the period has nanoseconds, so ``most`` parts leak in a nanosecond.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

SECOND = 1_000_000_000


class Flow(NamedTuple):
    """``most`` units at once, and as many in each ``period`` of nanoseconds after that."""

    most: int
    period: int

    @property
    def capacity(self) -> int:
        return self.most * self.period


class Use(NamedTuple):
    """``units`` to be taken from the bucket of a key."""

    key: Hashable
    flow: Flow
    units: int = 1


class _Bucket:
    """``level`` is in parts, at time ``at``."""

    __slots__ = ("at", "level")

    def __init__(self, at: int) -> None:
        self.level = 0
        self.at = at


class Buckets:
    """The buckets of one process, at most ``size`` (LRU). ``clock`` returns nanoseconds, and never goes back."""

    def __init__(self, *, size: int = 100_000, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._size = size
        self._clock = clock
        self._buckets: OrderedDict[Hashable, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, uses: Sequence[Use]) -> tuple[Use, int] | None:
        """Take all, or nothing if there is no room for one of them: then that, and the nanoseconds until there is.

        Of several, the one that has to wait longest. What exceeds the capacity waits as if it did not.
        """
        refused, longest = None, 0
        now = self._clock()
        for use in uses:
            wait = self._wait(use, now)
            if wait > longest:
                refused, longest = use, wait
        if refused is not None:
            return refused, longest
        for use in uses:
            self._add(use, now)
        return None

    def put(self, use: Use) -> None:
        """Take units whether there is room or not: later ones wait for them."""
        self._add(use, self._clock())

    def left(self, key: Hashable, flow: Flow) -> int:
        """The units for which there is room."""
        return (flow.capacity - self._level(key, flow, self._clock())) // flow.period

    def empty(self, key: Hashable) -> None:
        self._buckets.pop(key, None)

    def _wait(self, use: Use, now: int) -> int:
        _, (most, period), units = use
        excess = self._level(use.key, use.flow, now) + (units - most) * period
        return -(-excess // most)

    def _level(self, key: Hashable, flow: Flow, now: int) -> int:
        bucket = self._buckets.get(key)
        return 0 if bucket is None else max(bucket.level - (now - bucket.at) * flow.most, 0)

    def _add(self, use: Use, now: int) -> None:
        key, flow, units = use
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(now)
            if len(self._buckets) > self._size:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
            bucket.level = max(bucket.level - (now - bucket.at) * flow.most, 0)
            bucket.at = now
        bucket.level += units * flow.period
