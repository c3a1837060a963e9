"""Counts and durations of requests, for Prometheus.

Labels have few values, whatever clients send: no tenant, no user, no name of an operation. A request adds to plain
dictionaries on the event loop, which takes a microsecond; samples are made when they are asked for.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric

from isola.api.observation import Observation

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the durations' buckets, in seconds."""
_LABELS = ("endpoint", "operation")
_NO_OPERATION = "none"


class Requests:
    """Observes requests, and collects what it has counted."""

    def __init__(self) -> None:
        self._ended: Counter[tuple[str, str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[tuple[str, str]] = Counter()
        self._buckets: dict[tuple[str, str], list[int]] = {}

    def observe(self, observation: Observation) -> None:
        operation = observation.operation
        kind = observation.endpoint, _NO_OPERATION if operation is None else operation.type.value
        self._ended[(*kind, observation.code)] += 1
        if observation.streamed:
            return
        self._bytes[kind] += observation.size
        self._seconds[kind] += observation.seconds  # type: ignore[assignment]  # a Counter can have floats
        buckets = self._buckets.get(kind)
        if buckets is None:
            buckets = self._buckets[kind] = [0] * (len(BOUNDS) + 1)
        buckets[bisect_left(BOUNDS, observation.seconds)] += 1

    def collect(self) -> Iterable[Metric]:
        ended = CounterMetricFamily(
            "isola_requests",
            "HTTP requests that have ended, by the code of the first error in the response",
            labels=(*_LABELS, "code"),
        )
        for ended_kind, count in self._ended.items():
            ended.add_metric(ended_kind, count)
        yield ended
        size = CounterMetricFamily(
            "isola_response_bytes", "Bytes of the bodies of responses, before compression", labels=_LABELS
        )
        for kind, total in self._bytes.items():
            size.add_metric(kind, total)
        yield size
        duration = HistogramMetricFamily(
            "isola_request_duration_seconds", "Time until the response was sent, without streams", labels=_LABELS
        )
        bounds = [*map(str, BOUNDS), "+Inf"]
        for kind, counts in self._buckets.items():
            cumulative = zip(bounds, map(float, accumulate(counts)), strict=True)
            duration.add_metric(kind, list(cumulative), self._seconds[kind])
        yield duration
