"""Buckets decide exactly, whatever the rate and the moment."""

from fractions import Fraction

from hypothesis import given, strategies as st

from isola.gcra import SECOND, Buckets, Flow, Use


@given(
    st.integers(1, 10**15),
    st.sampled_from([1, 60, 3600, 86400]),
    st.lists(st.tuples(st.integers(0, 10**14), st.integers(0, 50)), max_size=30),
)
def test_units_are_taken_as_long_as_there_is_room(most: int, seconds: int, attempts: list[tuple[int, int]]) -> None:
    """Compared with the same rule in fractions of units."""
    now = 0
    flow = Flow(most, seconds * SECOND)
    buckets = Buckets(clock=lambda: now)
    level = Fraction(0)
    for pause, units in attempts:
        now += pause
        level = max(level - Fraction(pause * most, flow.period), Fraction(0))
        refused = buckets.take([Use("key", flow, units)])
        assert (refused is None) == (level + units <= most)
        if refused is None:
            level += units
        else:
            _, wait = refused
            # A nanosecond earlier there is still no room.
            assert level - Fraction(wait * most, flow.period) + units <= most
            assert level - Fraction((wait - 1) * most, flow.period) + units > most
        assert buckets.left("key", flow) == (most - level) // 1


def test_all_units_are_taken_or_none() -> None:
    buckets = Buckets(clock=lambda: 0)
    much, little = Use("much", Flow(9, SECOND)), Use("little", Flow(2, SECOND))
    assert [buckets.take([much, little]) for _ in range(2)] == [None, None]
    assert buckets.take([much, little]) == (little, SECOND // 2)
    assert (buckets.left("much", much.flow), buckets.left("little", little.flow)) == (7, 0)


def test_what_is_put_in_a_full_bucket_is_waited_for() -> None:
    now = 0
    buckets = Buckets(clock=lambda: now)
    flow = Flow(10, SECOND)
    buckets.put(Use("key", flow, 25))
    assert buckets.left("key", flow) == -15
    assert buckets.take([Use("key", flow, 0)]) == (Use("key", flow, 0), 15 * SECOND // 10)
    now += 15 * SECOND // 10
    assert buckets.take([Use("key", flow, 0)]) is None
