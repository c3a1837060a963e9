"""Converts the metrics that Prometheus gets to those of OTLP, so that nothing is counted twice."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

from opentelemetry.sdk.metrics import export as otlp
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric
from prometheus_client.samples import Sample

_CUMULATIVE = otlp.AggregationTemporality.CUMULATIVE
_INFINITE = "+Inf"


def converted(
    families: Iterable[Metric], resource: Resource, scope: InstrumentationScope, began: int, now: int
) -> otlp.MetricsData:
    """The families as of ``now``, counted since ``began``: nanoseconds since 1970."""
    metrics = [
        otlp.Metric(each.name, each.documentation, each.unit, _data(each, began, now))
        for each in families
        if each.samples
    ]
    return otlp.MetricsData([otlp.ResourceMetrics(resource, [otlp.ScopeMetrics(scope, metrics, "")], "")])


def _data(family: Metric, began: int, now: int) -> otlp.DataT:
    match family.type:
        case "counter":
            counted = [each for each in family.samples if each.name.endswith("_total")]
            return otlp.Sum(_points(counted, began, now), _CUMULATIVE, is_monotonic=True)
        case "histogram":
            return otlp.Histogram(_distributions(family, began, now), _CUMULATIVE)
    return otlp.Gauge(_points(family.samples, began, now))


def _points(samples: Iterable[Sample], began: int, now: int) -> list[otlp.NumberDataPoint]:
    return [otlp.NumberDataPoint(each.labels, began, now, float(each.value)) for each in samples]


def _distributions(family: Metric, began: int, now: int) -> list[otlp.HistogramDataPoint]:
    buckets: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
        if sample.name.endswith("_bucket"):
            buckets.setdefault(labels, {})[sample.labels["le"]] = sample.value
        elif sample.name.endswith("_sum"):
            sums[labels] = sample.value
    return [_distribution(dict(labels), found, sums[labels], began, now) for labels, found in buckets.items()]


def _distribution(
    labels: Mapping[str, str], cumulative: Mapping[str, float], total: float, began: int, now: int
) -> otlp.HistogramDataPoint:
    """``cumulative`` are the numbers of values up to each bound; OTLP has those between two bounds."""
    return otlp.HistogramDataPoint(
        labels,
        began,
        now,
        count=round(cumulative[_INFINITE]),
        sum=total,
        bucket_counts=[round(more - less) for less, more in pairwise((0.0, *cumulative.values()))],
        explicit_bounds=[float(bound) for bound in cumulative if bound != _INFINITE],
        min=None,  # type: ignore[arg-type]  # optional in OTLP, and not known
        max=None,  # type: ignore[arg-type]  # as above
    )
