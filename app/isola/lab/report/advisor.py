"""Recommends a strategy for given needs: estimates from measurements, exceeded limits, and extrapolations."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isola.errors import OperatorError
from isola.lab.report import units
from isola.lab.report.aspects import REQUESTS, Aspect, Limit, chosen
from isola.lab.report.results import Results, strategies
from isola.lab.report.slices import TENANTS, Slice, better, dimensions, main_cut

SLIGHT = 1.1
"""Strategies that are closer than this in a respect are even in it."""
AMPLE = 2.0
"""Who serves this many times the requests that are wanted need not serve more."""
RESERVED = 0.5
"""The share of memory that is left to shared buffers and to the system's cache."""


@dataclass(frozen=True, slots=True)
class Needs:
    """The requirements for a strategy.

    ``rows`` are a tenant's in its largest table, ``tables`` those of a tenant, ``qps`` requests a second of all
    tenants. ``connections`` and ``memory_bytes`` are PostgreSQL's. A migration of all tenants may take ``bearable_s``.
    """

    tenants: int
    rows: int | None = None
    tables: int | None = None
    qps: float | None = None
    connections: int | None = None
    memory_bytes: float | None = None
    bearable_s: float = 3600

    def sizes(self) -> Mapping[str, float]:
        """The needs by the names of the lab's dimensions."""
        found = {
            TENANTS: self.tenants,
            "rows": self.rows,
            "tables": self.tables,
            "connections": self.connections,
            "rate_per_s": self.qps,
        }
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure for one strategy. ``beyond``: by how many times each need is outside of what was measured, if it is."""

    strategy: str
    value: float
    beyond: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Weighed:
    """One respect: the estimate for each strategy, which one is clearly ahead, and which fail."""

    aspect: Aspect
    estimates: Sequence[Estimate]
    ahead: str | None
    by: float
    broken: Mapping[str, str]

    @property
    def is_close(self) -> bool:
        """Whether the figures are so close that no strategy would be ahead, however little noise there is."""
        return self.by < SLIGHT


@dataclass(frozen=True, slots=True)
class Advice:
    """``strategy`` is the recommendation; None if measurements do not distinguish them, or all fail.

    ``unmeasured`` are the needs that the results say nothing about, so that no strategy is out because of them.
    """

    needs: Needs
    strategy: str | None
    reasons: Sequence[str]
    weighed: Sequence[Weighed]
    extrapolated: Sequence[str]
    unmeasured: Sequence[str]


def advise(results: Results, needs: Needs) -> Advice:
    """Compare the measured strategies for the needs.

    One that fails a need is out. Of the others, the one that serves requests for less is better, unless all serve many
    times what is wanted; then the one that is ahead in more respects. Raises OperatorError where the results have fewer
    than two strategies.
    """
    names = strategies(results)
    if len(names) < 2:  # noqa: PLR2004  one leaves nothing to choose
        raise OperatorError("expected results of two strategies or more: there is nothing to choose from")
    weighed = [one for aspect in chosen(results) if (one := _weighed(results, needs, aspect, names)) is not None]
    broken = {name: reason for one in weighed for name, reason in one.broken.items()}
    left = [name for name in names if name not in broken]
    out = [f"{name} is out: {reason}" for name, reason in broken.items()]
    strategy, why = _recommended(needs, weighed, left)
    extrapolated, unmeasured = _extrapolated(results, needs, weighed), _unmeasured(needs, weighed)
    return Advice(needs, strategy, [*out, *why], weighed, extrapolated, unmeasured)


def _weighed(results: Results, needs: Needs, aspect: Aspect, names: Sequence[str]) -> Weighed | None:
    slices = _nearest(results, aspect, needs)
    estimates = [one for name in names if (one := _estimate(results, needs, aspect, slices, name)) is not None]
    if len(estimates) < 2:  # noqa: PLR2004  with one there is nothing to weigh
        return None
    ranked = sorted(estimates, key=lambda one: one.value, reverse=units.more_is_better(aspect.value))
    best, second = ranked[:2]
    by = max(best.value, second.value) / min(best.value, second.value) if min(best.value, second.value) > 0 else 1.0
    sure = by >= SLIGHT and _sure(results, needs, aspect, slices, best.strategy, second.strategy)
    broken = {one.strategy: why for one in estimates if (why := _broken(needs, aspect, one))}
    return Weighed(aspect, estimates, best.strategy if sure else None, by, broken)


def _nearest(results: Results, aspect: Aspect, needs: Needs) -> Sequence[Slice]:
    """The slices nearest to the needs in all dimensions; the longest of several.

    A cut of one point shows no trend, and is taken only where there is no other.
    """
    cuts = [cut for cut in main_cut(results, aspect.scenario, aspect.regardless) if aspect.holds(cut.rest)]
    cuts = [cut for cut in cuts if len(cut.points) > 1] or cuts
    if not cuts:
        return []
    wanted = needs.sizes()

    def distance(cut: Slice) -> tuple[float, int]:
        off = (_times(float(value), wanted[name]) for name, value in cut.counted if name in wanted)
        return math.fsum(map(math.log, off)), -len(cut.points)

    best = min(cuts, key=distance)
    return [cut for cut in cuts if cut.counted == best.counted and len(cut.points) == len(best.points)]


def _estimate(
    results: Results, needs: Needs, aspect: Aspect, slices: Sequence[Slice], strategy: str
) -> Estimate | None:
    medians: dict[float, list[float]] = {}
    for cut in slices:
        for size, summary in cut.summaries(results, strategy, aspect.value).items():
            medians.setdefault(size, []).append(summary.median)
    known = {
        size: statistics.geometric_mean(found) if min(found) > 0 else statistics.fmean(found)
        for size, found in medians.items()
        if len(found) == len(slices)
    }
    if not known:
        return None
    wanted = needs.sizes()
    dimension = slices[0].dimension
    beyond = {}
    for name, value in wanted.items():
        measured = list(known) if name == dimension else _measured(results, aspect, name)
        if measured and not min(measured) <= value <= max(measured):
            beyond[name] = min(_times(value, max(measured)), _times(value, min(measured)))
    # What the needs say nothing of is taken at its largest.
    return Estimate(strategy, interpolated(known, wanted.get(dimension, max(known))), beyond)


def _measured(results: Results, aspect: Aspect, name: str) -> Sequence[float]:
    return [value for value in dimensions(results, aspect.scenario).get(name, ()) if isinstance(value, int)]


def interpolated(known: Mapping[float, float], at: float) -> float:
    """The value at a size: on the line, in logarithms, between the sizes on either side, or through the last two.

    A single size stands for all. Where a value is zero, that of the nearest size is taken.
    """
    sizes = sorted(known)
    if len(sizes) == 1 or min(known.values()) <= 0 or sizes[0] <= 0:
        return known[min(sizes, key=lambda size: abs(size - at))]
    right = min(max(1, sum(size < at for size in sizes)), len(sizes) - 1)
    low, high = sizes[right - 1], sizes[right]
    share = math.log(at / low) / math.log(high / low)
    return math.exp(math.log(known[low]) + share * math.log(known[high] / known[low]))


def _sure(results: Results, needs: Needs, aspect: Aspect, slices: Sequence[Slice], best: str, second: str) -> bool:
    """Whether the difference exceeds the noise at the nearest measured size."""
    ratios = better(results, slices, aspect.value, best, second)
    if not ratios:
        return False
    at = needs.sizes().get(slices[0].dimension, max(ratios))
    ratio = ratios[min(ratios, key=lambda size: _times(size, at))]
    return ratio.differs and ratio.value > 1


def _broken(needs: Needs, aspect: Aspect, one: Estimate) -> str | None:
    said = units.figure(aspect.value, one.value)
    match aspect.limit:
        case Limit.REQUESTS if needs.qps is not None and one.value < needs.qps:
            return f"it serves {said} on the machine that was measured, of {units.number(needs.qps)} wanted"
        case Limit.MEMORY if needs.memory_bytes is not None and needs.connections is not None:
            all_of_them = one.value * needs.connections
            if all_of_them > needs.memory_bytes * (1 - RESERVED):
                return (
                    f"{needs.connections} connections that have met all tenants hold {units.size(all_of_them)}, more "
                    f"than {1 - RESERVED:.0%} of {units.size(needs.memory_bytes)}"
                )
        case Limit.MIGRATION:
            seconds = units.seconds(aspect.value, one.value)
            if seconds > needs.bearable_s:
                return f"{aspect.label[0].lower()}{aspect.label[1:]} takes {said}"
    return None


def _recommended(needs: Needs, weighed: Sequence[Weighed], left: Sequence[str]) -> tuple[str | None, list[str]]:
    if not left:
        return None, ["no strategy that was measured meets these needs"]
    if len(left) == 1:
        return left[0], [f"{left[0]} meets these needs", *_against(weighed, left[0])]
    ample = _ample(needs, weighed)
    deciding = [one for one in weighed if one.ahead in left and one.aspect.scenario not in ample]
    for one in deciding:
        if one.aspect.group == REQUESTS and not ample:
            return str(one.ahead), [
                _explained(one),
                *_for(deciding, str(one.ahead), one),
                *_against(weighed, str(one.ahead)),
            ]
    counts = {name: sum(one.ahead == name for one in deciding) for name in left}
    most = max(counts.values())
    best = [name for name, count in counts.items() if count == most]
    reasons = [f"all serve {AMPLE:g} times the requests that are wanted, or more"] if ample else []
    if len(best) != 1:
        return None, [
            *reasons,
            "nothing that was measured sets them apart: " + _tally(counts),
            *map(_explained, deciding),
        ]
    reasons.append(f"it is ahead in more respects: {_tally(counts)}")
    return best[0], [*reasons, *_for(deciding, best[0]), *_against(weighed, best[0])]


def _ample(needs: Needs, weighed: Sequence[Weighed]) -> set[str]:
    """Scenarios under full load, where every strategy does so much more than is wanted that load will not be full."""
    wanted = needs.qps
    return {
        one.aspect.scenario
        for one in weighed
        if one.aspect.limit is Limit.REQUESTS
        and wanted is not None
        and all(each.value >= AMPLE * wanted for each in one.estimates)
    }


def _tally(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} in {count}" for name, count in counts.items())


def _for(weighed: Sequence[Weighed], strategy: str, but: Weighed | None = None) -> list[str]:
    return [_explained(one) for one in weighed if one.ahead == strategy and one is not but]


def _against(weighed: Sequence[Weighed], strategy: str) -> list[str]:
    return [f"against it: {_explained(one)}" for one in weighed if one.ahead not in (None, strategy)]


def _explained(one: Weighed) -> str:
    figures = ", ".join(f"{each.strategy} {units.figure(one.aspect.value, each.value)}" for each in one.estimates)
    return f"{one.aspect.label}: {one.ahead} is ahead by {units.factor(one.by)} ({figures})"


def _extrapolated(results: Results, needs: Needs, weighed: Sequence[Weighed]) -> list[str]:
    """The needs outside of the measured range: by which factor, and in which respects."""
    found: dict[tuple[str, float], list[str]] = {}
    for one in weighed:
        for name, times in max((each.beyond for each in one.estimates), key=len).items():
            found.setdefault((name, times), []).append(one.aspect.label)
    wanted = needs.sizes()
    known = {name for scenario in results.scenarios for name in dimensions(results, scenario)}
    # Requests a second play their part without it, by what each strategy serves at most.
    missing = [name for name in wanted if name not in {*known, "rate_per_s"}]
    return [
        *(
            f"{wanted[name]:,.0f} {units.dimension(name)} is {units.number(times)} times outside of what was measured: "
            + "; ".join(of)
            for (name, times), of in found.items()
        ),
        *(f"the number of {name} plays no part: nothing was measured by it" for name in missing),
    ]


def _unmeasured(needs: Needs, weighed: Sequence[Weighed]) -> list[str]:
    """The limits that could not be compared with a figure, each with the scenario that measures it."""
    asked = {
        Limit.REQUESTS: (needs.qps, "whether a strategy serves so many requests a second: the scenario `read`"),
        Limit.MEMORY: (needs.connections, "whether so many connections fit into memory: the scenario `memory`"),
        Limit.MIGRATION: (needs.bearable_s, "how long a migration of all tenants takes: the scenario `provisioning`"),
    }
    compared = {one.aspect.limit for one in weighed}
    return [description for limit, (value, description) in asked.items() if value is not None and limit not in compared]


def _times(one: float, other: float) -> float:
    return max(one, other) / max(min(one, other), 1e-9)
