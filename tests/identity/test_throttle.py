import pytest

from isola.errors import RateLimited
from isola.gcra import SECOND
from isola.identity.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> int:
        return round(self.now * SECOND)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def taken(throttle: Throttle, key: str, tries: int) -> int:
    """How many of the tries were allowed."""
    for number in range(tries):
        try:
            throttle.take(key)
        except RateLimited:
            return number
    return tries


def test_a_burst_of_attempts_is_allowed_and_then_one_per_interval(clock: Clock) -> None:
    throttle = Throttle(burst=3, interval=10, clock=clock)
    assert taken(throttle, "ada", 10) == 3
    assert taken(throttle, "ada", 1) == 0
    clock.now += 10
    assert taken(throttle, "ada", 10) == 1
    clock.now += 20
    assert taken(throttle, "ada", 10) == 2
    clock.now += 1000
    assert taken(throttle, "ada", 10) == 3


def test_refused_requests_do_not_use_quotas(clock: Clock) -> None:
    throttle = Throttle(burst=1, interval=10, clock=clock)
    for _ in range(5):
        taken(throttle, "ada", 10)
        clock.now += 1
    clock.now += 5
    assert taken(throttle, "ada", 10) == 1


def test_keys_are_throttled_separately(clock: Clock) -> None:
    throttle = Throttle(burst=2, interval=10, clock=clock)
    assert taken(throttle, "ada", 10) == 2
    assert taken(throttle, "grace", 10) == 2


def test_a_reset_key_has_all_attempts_again(clock: Clock) -> None:
    throttle = Throttle(burst=2, interval=10, clock=clock)
    assert taken(throttle, "ada", 10) == 2
    throttle.forgive("ada")
    throttle.forgive("nobody")
    assert taken(throttle, "ada", 10) == 2


def test_a_flood_of_keys_does_not_fill_the_memory(clock: Clock) -> None:
    throttle = Throttle(burst=1, interval=10, size=3, clock=clock)
    for number in range(100):
        throttle.take(str(number))
        assert len(throttle._buckets) <= 3
    assert taken(throttle, "99", 1) == 0
