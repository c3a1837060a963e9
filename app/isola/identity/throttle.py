"""Rate limits."""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from isola.errors import RateLimited


class Throttle:
    """For each key, ``burst`` attempts at once, and after that one every ``interval`` seconds.

    At most ``size`` keys are stored (LRU). ``clock`` gives seconds. Each process counts separately.
    """

    def __init__(
        self, *, burst: int, interval: float, size: int = 100_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._span = burst * interval
        self._interval = interval
        self._size = size
        self._clock = clock
        # When each key will have all its attempts again.
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable) -> None:
        """Use one attempt. Raises RateLimited, with the time until the next, when none is left."""
        now = self._clock()
        full_at = max(self._full_at.get(key, now), now) + self._interval
        if (wait := full_at - now - self._span) > 0:
            raise RateLimited("too many attempts: try again later", math.ceil(wait))
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._size:
            self._full_at.popitem(last=False)

    def forgive(self, key: Hashable) -> None:
        """Restore all attempts of a key."""
        self._full_at.pop(key, None)
