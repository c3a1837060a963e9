"""Rate limits of attempts by who has no credential yet."""

import math
import time
from collections.abc import Callable, Hashable

from isola.errors import RateLimited
from isola.gcra import SECOND, Buckets, Flow, Use


class Throttle:
    """For each key, ``burst`` attempts at once, and after that one every ``interval`` seconds.

    At most ``size`` keys are stored (LRU). ``clock`` gives nanoseconds. Each process counts separately.
    """

    def __init__(
        self, *, burst: int, interval: float, size: int = 100_000, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._flow = Flow(burst, burst * round(interval * SECOND))
        self._buckets = Buckets(size=size, clock=clock)

    def take(self, key: Hashable) -> None:
        """Use one attempt. Raises RateLimited, with the time until the next, when none is left."""
        if (refused := self._buckets.take([Use(key, self._flow)])) is not None:
            raise RateLimited("too many attempts: try again later", math.ceil(refused[1] / SECOND))

    def forgive(self, key: Hashable) -> None:
        """Restore all attempts of a key."""
        self._buckets.empty(key)
