"""Maps figures to positions: linear from zero, or logarithmic if the range is too large for a linear chart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDE = 20.0
"""Figures that are further apart than this many times are drawn on a logarithmic scale."""
TICKS = 4
SIDES = (2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps figures from ``low`` to ``high`` to positions from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def of_values(values: Sequence[float], start: float, end: float) -> tuple[Scale, Sequence[float]]:
    """A scale for non-negative figures, and its ticks."""
    high = max(values, default=1.0) or 1.0
    above = [value for value in values if value > 0]
    if above and len(above) == len(values) and high / min(above) > WIDE:
        first, last = math.floor(math.log10(min(above))), math.ceil(math.log10(high))
        stride = math.ceil((last - first) / (TICKS + 1))
        return Scale(10.0**first, 10.0**last, start, end, logarithmic=True), [
            10.0**power for power in range(first, last + 1, stride)
        ]
    step = _round_step(high / TICKS)
    count = math.ceil(high / step - 1e-9)
    return Scale(0, step * count, start, end), [step * each for each in range(count + 1)]


def of_sizes(sizes: Sequence[float], start: float, end: float) -> Scale:
    """A logarithmic scale for measured sizes, which are chosen on such a scale. A single size is in the middle."""
    low, high = min(sizes), max(sizes)
    if low == high:
        return Scale(low - 1, low + 1, start, end)
    if low <= 0:
        return Scale(low, high, start, end)
    return Scale(low, high, start, end, logarithmic=True)


def of_ratios(ratios: Sequence[float], start: float, end: float) -> tuple[Scale, Sequence[float]]:
    """A symmetric scale with 1 in the middle, and its ticks."""
    furthest = max([2.0, *(max(ratio, 1 / ratio) for ratio in ratios)])
    edge = next((side for side in SIDES if side >= furthest), furthest)
    between = [side for side in SIDES if side < edge]
    # On each side, one tick besides the edge, halfway.
    inner = [min(between, key=lambda side: abs(side * side - edge))] if between else []
    sides = [*inner, edge]
    return Scale(1 / edge, edge, start, end, logarithmic=True), [*(1 / side for side in reversed(sides)), 1.0, *sides]


def _round_step(step: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(step))
    return next(power * each for each in (1.0, 2.0, 2.5, 5.0, 10.0) if power * each >= step * (1 - 1e-9))
