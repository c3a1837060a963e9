"""Which conclusions noisy figures allow, and which not."""

import math
import random
from collections.abc import Mapping

import pytest

from isola.lab.report.statistics import (
    Ratio,
    changed,
    crossovers,
    discoveries,
    paired,
    quantile,
    within,
)

# A table of Student's t: within ±t by degrees of freedom, with 95 %.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 30: 2.042, 120: 1.980}


def noisy(chance: random.Random, value: float, rounds: int = 5, noise: float = 0.03) -> list[float]:
    return [value * math.exp(chance.gauss(0, noise)) for _ in range(rounds)]


def numbered(values: list[float]) -> Mapping[int, float]:
    return dict(enumerate(values))


def sure(value: float) -> Ratio:
    return Ratio(value, value * 0.99, value * 1.01, 5)


def unsure(value: float) -> Ratio:
    return Ratio(value, 0.8, 1.25, 5)


@pytest.mark.parametrize(("freedom", "t"), STUDENT.items())
def test_students_distribution_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert quantile(0.95, freedom) == pytest.approx(t, abs=5e-4)
    assert within(t, freedom) == pytest.approx(0.95, abs=2e-4)


def test_a_slow_round_affects_both_subjects_and_not_their_ratio() -> None:
    load = [1.0, 3.0, 1.2, 2.0, 5.0]
    ratio = paired(numbered([120 * each for each in load]), numbered([100 * each for each in load]))
    assert ratio is not None
    assert ratio.differs
    assert ratio.value == pytest.approx(1.2)
    assert ratio.inverse.value == pytest.approx(1 / 1.2)
    assert ratio.inverse.high == pytest.approx(1 / ratio.low)


def test_equal_subjects_differ_about_as_often_as_the_confidence_level_implies() -> None:
    chance = random.Random(7)  # noqa: S311  noise is no secret
    ratios = [paired(numbered(noisy(chance, 100)), numbered(noisy(chance, 100))) for _ in range(1000)]
    assert sum(ratio is not None and ratio.differs for ratio in ratios) == pytest.approx(50, abs=20)


def test_only_common_rounds_are_compared_and_a_single_one_gives_no_interval() -> None:
    one = paired({1: 200.0, 2: 900.0}, {0: 1.0, 1: 100.0})
    assert one is not None
    assert one.value == pytest.approx(2.0)
    assert (one.low, one.high, one.rounds) == (0, math.inf, 1)
    assert not one.differs
    assert not one.inverse.differs
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: 0.0}, {0: 1.0}) is None


def test_a_planted_slow_down_of_a_fifth_is_found_and_none_is_not() -> None:
    for seed in range(100):
        chance = random.Random(seed)  # noqa: S311  noise is no secret
        before = noisy(chance, 100)
        slowed, same = changed([(before, noisy(chance, 120))]), changed([(before, noisy(chance, 100))])
        assert slowed is not None
        assert same is not None
        assert slowed.ratio == pytest.approx(1.2, rel=0.1)
        assert slowed.probability < 0.05
        assert same.probability > 0.01


def test_a_drift_that_two_runs_of_the_same_code_may_have_is_no_change() -> None:
    chance = random.Random(1)  # noqa: S311  noise is no secret
    drifted = changed([(noisy(chance, 100, noise=0.001), noisy(chance, 104, noise=0.001)) for _ in range(20)])
    assert drifted is not None
    assert drifted.probability == 1


def test_combined_measurements_reveal_a_change_that_single_ones_do_not() -> None:
    chance = random.Random(3)  # noqa: S311  noise is no secret
    runs = [(noisy(chance, 100, noise=0.1), noisy(chance, 120, noise=0.1)) for _ in range(12)]
    alone = [change.probability for run in runs if (change := changed([run])) is not None]
    together = changed(runs)
    assert together is not None
    assert together.probability < min(alone)


def test_without_two_rounds_or_with_zeros_no_change_is_reported() -> None:
    assert changed([]) is None
    assert changed([([1.0], [1.0, 2.0])]) is None
    assert changed([([1.0, 0.0], [1.0, 2.0])]) is None
    exact = changed([([1.0, 1.0], [2.0, 2.0])])
    assert exact is not None
    assert exact.probability == 0


def test_of_many_comparisons_chance_alone_finds_nothing() -> None:
    chance = random.Random(11)  # noqa: S311  noise is no secret
    probabilities = [chance.random() for _ in range(300)]
    assert min(probabilities) < 0.01
    assert not any(discoveries(probabilities))
    assert discoveries([*probabilities, 1e-6]) == [*[False] * 300, True]
    assert discoveries([]) == []


def test_a_crossover_lies_between_the_sizes_at_which_opposite_sides_are_ahead() -> None:
    (crossing,) = crossovers({10: sure(0.5), 100: sure(0.5), 1000: sure(2.0)})
    assert (crossing.low, crossing.high, crossing.rises) == (100, 1000, True)
    assert crossing.at == pytest.approx(math.sqrt(100 * 1000))


def test_noise_between_two_sides_widens_where_they_cross() -> None:
    (crossing,) = crossovers({10: sure(1.5), 100: unsure(0.9), 1000: sure(0.5)})
    assert (crossing.low, crossing.high, crossing.rises) == (10, 1000, False)


@pytest.mark.parametrize(
    "ratios",
    [{10: sure(2.0), 100: sure(1.1)}, {10: unsure(0.9), 100: sure(1.5)}, {10: sure(0.5), 100: unsure(1.2)}, {}],
)
def test_without_significant_differences_on_both_sides_there_is_no_crossover(ratios: Mapping[float, Ratio]) -> None:
    assert crossovers(ratios) == []
