"""Statistics of repeated rounds.

Times spread by factors rather than by amounts, so differences are ratios, and are worked out on logarithms. Rounds of
one run alternate between the subjects, so two subjects are compared round by round: what slowed the machine for a while
slowed both. Two runs share no rounds and are compared as wholes. Both go by Student's t distribution, as Georges,
Buytaert and Eeckhout advise for few repetitions ("Statistically rigorous Java performance evaluation", OOPSLA 2007). A
test by permutations would suppose less, but of five rounds it cannot give less than p = 0.06, however clear they are.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

CONFIDENCE = 0.95
# Two runs of the same code differ by this much when the machine does: what it was doing, where its memory lay.
DRIFT = 0.05


@dataclass(frozen=True, slots=True)
class Summary:
    """The rounds of one subject at one point."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        return cls(statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of two figures, with its 95 % confidence interval.

    One round alone says nothing of its noise: then ``low`` is 0 and ``high`` infinite.
    """

    value: float
    low: float
    high: float
    rounds: int

    @property
    def differs(self) -> bool:
        """Whether the difference is more than noise."""
        return self.low > 1 or self.high < 1

    @property
    def inverse(self) -> "Ratio":
        return Ratio(1 / self.value, 1 / self.high, math.inf if self.low == 0 else 1 / self.low, self.rounds)


def paired(numerators: Mapping[int, float], denominators: Mapping[int, float]) -> Ratio | None:
    """The ratio of two subjects from their values by round, over the rounds that both have.

    None without such a round, or where a value is not above zero.
    """
    rounds = sorted(numerators.keys() & denominators.keys())
    pairs = [(numerators[each], denominators[each]) for each in rounds]
    if not pairs or min(map(min, pairs)) <= 0:
        return None
    logs = [math.log(numerator / denominator) for numerator, denominator in pairs]
    middle = statistics.fmean(logs)
    if len(logs) == 1:
        return Ratio(math.exp(middle), 0, math.inf, 1)
    reach = quantile(CONFIDENCE, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(middle), math.exp(middle - reach), math.exp(middle + reach), len(logs))


@dataclass(frozen=True, slots=True)
class Change:
    """The ratio between the rounds of two runs, and its p-value."""

    ratio: float
    probability: float


def changed(runs: Sequence[tuple[Sequence[float], Sequence[float]]], drift: float = DRIFT) -> Change | None:
    """Whether a second run differs from a first by more than ``drift``, on average over several things measured.

    Each item of ``runs`` has the rounds of one thing before and after. Welch's test against a least effect: with one
    item it is the ordinary one. None where any has fewer than two rounds in a run, or a value that is not above zero.
    """
    if not runs or any(len(rounds) < 2 or min(rounds) <= 0 for pair in runs for rounds in pair):  # noqa: PLR2004  one round has no spread
        return None
    logs = [[[math.log(value) for value in rounds] for rounds in pair] for pair in runs]
    difference = statistics.fmean(statistics.fmean(after) - statistics.fmean(before) for before, after in logs)
    ratio = math.exp(difference)
    beyond = abs(difference) - math.log1p(drift)
    if beyond <= 0:
        return Change(ratio, 1)
    parts = [(statistics.variance(one) / len(one), len(one) - 1) for pair in logs for one in pair]
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Change(ratio, 0)
    # Satterthwaite's degrees of freedom, rounded down, which errs on the side of chance.
    freedom = max(1, math.floor(variance**2 / sum(part**2 / free for part, free in parts)))
    return Change(ratio, (1 - within(beyond * len(runs) / math.sqrt(variance), freedom)) / 2)


def discoveries(probabilities: Sequence[float], false: float = 0.01) -> list[bool]:
    """Which of many comparisons found something, so that no more than ``false`` of the finds are chance.

    Benjamini and Hochberg, "Controlling the false discovery rate" (1995). Where there is nothing to be found, the
    chance of any find is ``false``.
    """
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    found = 0
    for rank, index in enumerate(order, start=1):
        if probabilities[index] <= false * rank / len(order):
            found = rank
    chosen = set(order[:found])
    return [index in chosen for index in range(len(probabilities))]


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where along a dimension the ratio of two subjects passes 1: at ``at``, between the measured ``low`` and ``high``.

    ``rises`` where it is below 1 before and above 1 after.
    """

    at: float
    low: float
    high: float
    rises: bool


def crossovers(ratios: Mapping[float, Ratio]) -> list[Crossover]:
    """Where the ratio passes 1 between sizes at which the difference is more than noise.

    ``at`` is interpolated on logarithms of size and ratio. Sizes whose difference is noise between two opposite ones
    widen the range that it lies in; before the first and after the last that differs nothing is said.
    """
    sure = [(size, math.log(ratio.value)) for size, ratio in sorted(ratios.items()) if ratio.differs and size > 0]
    found = []
    for (size, value), (next_size, next_value) in pairwise(sure):
        if (value < 0) != (next_value < 0):
            share = value / (value - next_value)
            at = math.exp(math.log(size) + share * (math.log(next_size) - math.log(size)))
            found.append(Crossover(at, size, next_size, rises=value < 0))
    return found


def slope(points: Mapping[float, float]) -> float | None:
    """By which power values grow with size: 0 not at all, 1 in proportion. None with fewer than two sizes.

    Of the line through the logarithms, by least squares.
    """
    logs = [(math.log(size), math.log(value)) for size, value in points.items() if size > 0 and value > 0]
    if len({x for x, _ in logs}) < 2:  # noqa: PLR2004  a line needs two points
        return None
    xs, ys = zip(*logs, strict=True)
    return statistics.linear_regression(xs, ys).slope


def within(t: float, freedom: int) -> float:
    """The probability that Student's t lies within ±t: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan2(t, math.sqrt(freedom))
    cosine = math.cos(angle)
    odd = freedom % 2
    term = cosine if odd else 1.0
    total = 0.0
    for step in range(freedom // 2):
        total += term
        lower = 2 * step + 1 + odd
        term *= cosine**2 * lower / (lower + 1)
    if odd:
        return (angle + math.sin(angle) * total) * 2 / math.pi
    return math.sin(angle) * total


def quantile(probability: float, freedom: int) -> float:
    """The t within ±which Student's t lies with the probability."""
    low, high = 0.0, 1.0
    while within(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if within(middle, freedom) < probability else (low, middle)
    return high
