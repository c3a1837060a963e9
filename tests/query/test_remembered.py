"""The shared cache: bounded in bytes, and no caller evicts the entries that others use."""

from collections.abc import Hashable

from hypothesis import given, strategies as st

from isola.query.remembered import Remembered

MOST = 100_000


def flood(remembered: Remembered[Hashable, str], user: str, *, size: int = 5_000, count: int = 200) -> None:
    for index in range(count):
        remembered.put((user, index), "flood", size, user)


def test_who_brings_something_new_each_time_drives_out_what_they_brought() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("a's", "of a", 10_000, "a")
    remembered.put("b's", "of b", 10_000, "b")
    flood(remembered, "c")
    assert remembered.get("a's", "a") == "of a"
    assert remembered.get("b's", "b") == "of b"
    assert remembered.get(("c", 199), "c") == "flood"
    assert remembered.get(("c", 0), "c") is None
    assert remembered.bytes <= MOST


def test_what_others_use_stays_whoever_brought_it() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("everybody's", "shared", 10_000, "c")
    assert remembered.get("everybody's", "a") == "shared"
    flood(remembered, "c")
    assert remembered.get("everybody's", "a") == "shared"


def test_to_use_what_others_brought_does_not_drive_it_out() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("a's", "of a", 10_000, "a")
    for _ in range(10):
        assert remembered.get("a's", "c") == "of a"
    flood(remembered, "c")
    assert remembered.get("a's", "a") == "of a"


def test_the_last_used_of_ones_own_stays() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("first", "kept", 5_000, "a")
    for index in range(100):
        remembered.put(index, "new", 5_000, "a")
        assert remembered.get("first", "a") == "kept"
    assert len(remembered) == MOST // 5_300


def test_what_is_too_large_for_its_room_is_not_kept() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("a's", "of a", 10_000, "a")
    assert remembered.put("large", "returned", MOST, "c") == "returned"
    assert remembered.get("large", "c") is None
    assert remembered.get("a's", "a") == "of a"


def test_a_key_that_is_put_again_has_the_new_value_and_its_size() -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    remembered.put("key", "old", 10_000, "a")
    remembered.get("key", "b")
    remembered.put("key", "new", 1_000, "a")
    assert remembered.get("key", "b") == "new"
    assert remembered.bytes < 2_000


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9), st.integers(0, 3), st.integers(0, 20_000)), max_size=200))
def test_bytes_are_within_their_bound_whatever_is_done(steps: list[tuple[bool, int, int, int]]) -> None:
    remembered: Remembered[Hashable, str] = Remembered(MOST)
    for puts, key, user, size in steps:
        if puts:
            remembered.put(key, "value", size, user)
        else:
            remembered.get(key, user)
        assert 0 <= remembered.bytes <= MOST
    assert len(remembered) <= 10
