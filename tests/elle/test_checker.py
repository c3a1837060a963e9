"""Each anomaly in a handwritten history is found and named correctly; without it nothing is found."""

from collections.abc import Sequence

import pytest

from tests.elle.checker import Kind, check
from tests.elle.history import Append, Key, Operation, Outcome, Read

LIST, OTHER, SET = Key("list"), Key("other"), Key("set", ordered=False)
FURTHER = Key("further", ordered=False)


def op(
    began: float,
    ended: float,
    *,
    appends: Sequence[tuple[Key, str]] = (),
    reads: Sequence[tuple[Key, str]] = (),
    outcome: Outcome = Outcome.OK,
    tenant: str = "a",
) -> Operation:
    """``reads`` give their values as the letters of a word."""
    return Operation(
        tenant,
        began,
        outcome,
        tuple(Append(key, value) for key, value in appends),
        tuple(Read(key, tuple(values)) for key, values in reads),
        ended,
    )


HEALTHY = {
    "one after the other": [
        op(0, 1, appends=[(LIST, "x")], reads=[(LIST, "x")]),
        op(2, 3, appends=[(LIST, "y")], reads=[(LIST, "xy")]),
        op(4, 5, reads=[(LIST, "xy"), (OTHER, "")]),
    ],
    "at once, neither sees the other": [
        op(0, 9, appends=[(SET, "x")], reads=[(SET, "x")]),
        op(0, 9, appends=[(SET, "y")], reads=[(SET, "y")]),
        op(10, 11, reads=[(SET, "yx")]),
    ],
    "an unacknowledged write happened": [
        op(0, float("inf"), appends=[(LIST, "x")], outcome=Outcome.UNKNOWN),
        op(5, 6, reads=[(LIST, "")]),
        op(7, 8, reads=[(LIST, "x")]),
    ],
    "an unacknowledged write did not happen": [
        op(0, float("inf"), appends=[(LIST, "x")], outcome=Outcome.UNKNOWN),
        op(5, 6, reads=[(LIST, "")]),
    ],
    "what was refused did not happen": [
        op(0, 1, appends=[(LIST, "x")], outcome=Outcome.FAILED),
        op(2, 3, reads=[(LIST, "")]),
    ],
    "reads while it is being written": [
        op(0, 9, appends=[(LIST, "x")]),
        op(1, 2, reads=[(LIST, "")]),
        op(3, 4, reads=[(LIST, "x")]),
    ],
}

PLANTED = {
    "two lists written in two orders": (
        Kind.G0,
        [
            op(0, 9, appends=[(LIST, "x"), (OTHER, "X")]),
            op(0, 9, appends=[(LIST, "y"), (OTHER, "Y")]),
            op(10, 11, reads=[(LIST, "xy"), (OTHER, "YX")]),
        ],
    ),
    "a read of what was rolled back": (
        Kind.G1A,
        [op(0, 1, appends=[(SET, "x")], outcome=Outcome.FAILED), op(2, 3, reads=[(SET, "x")])],
    ),
    "a read of half a transaction": (
        Kind.G1B,
        [op(0, 9, appends=[(LIST, "x"), (LIST, "y")]), op(1, 2, reads=[(LIST, "x")])],
    ),
    "each read what the other wrote": (
        Kind.G1C,
        [
            op(0, 9, appends=[(SET, "x")], reads=[(SET, "xy")]),
            op(0, 9, appends=[(SET, "y")], reads=[(SET, "xy")]),
        ],
    ),
    "one that was overwritten read what overwrote it": (
        Kind.G1C,
        [
            op(0, 9, appends=[(LIST, "x")], reads=[(OTHER, "Y")]),
            op(0, 9, appends=[(LIST, "y"), (OTHER, "Y")]),
            op(10, 11, reads=[(LIST, "xy")]),
        ],
    ),
    "two saw two writes in two orders": (
        Kind.SNAPSHOT,
        [
            op(0, 9, appends=[(SET, "x")]),
            op(0, 9, appends=[(FURTHER, "y")]),
            op(1, 8, reads=[(SET, "x"), (FURTHER, "")]),
            op(1, 8, reads=[(SET, ""), (FURTHER, "y")]),
        ],
    ),
    "a read that was two statements": (
        Kind.SNAPSHOT,
        [
            op(0, 9, appends=[(LIST, "x"), (OTHER, "y")]),
            op(1, 8, reads=[(LIST, "x"), (OTHER, "")]),
        ],
    ),
    "an answer out of a cache": (
        Kind.STALE,
        [
            op(0, 1, appends=[(LIST, "x")]),
            op(2, 3, reads=[(LIST, "")]),
            op(4, 5, reads=[(LIST, "x")]),
        ],
    ),
    "reads that go back in time": (
        Kind.STALE,
        [
            op(0, 99, appends=[(LIST, "x")]),
            op(1, 2, reads=[(LIST, "x")]),
            op(3, 4, reads=[(LIST, "")]),
            op(100, 101, reads=[(LIST, "x")]),
        ],
    ),
    "acknowledged and gone": (Kind.LOST, [op(0, 1, appends=[(SET, "x")]), op(2, 3, reads=[(SET, "")])]),
    "not there for its own transaction": (Kind.OWN, [op(0, 1, appends=[(SET, "x")], reads=[(SET, "")])]),
    "done twice": (Kind.DUPLICATE, [op(0, 1, appends=[(SET, "x")]), op(2, 3, reads=[(SET, "xx")])]),
    "two reads in two orders": (
        Kind.ORDER,
        [
            op(0, 1, appends=[(LIST, "x")]),
            op(0, 1, appends=[(LIST, "y")]),
            op(2, 3, reads=[(LIST, "xy")]),
            op(2, 3, reads=[(LIST, "yx")]),
        ],
    ),
    "out of nowhere": (Kind.GARBAGE, [op(0, 1, reads=[(SET, "x")])]),
    "out of another tenant's list": (
        Kind.CROSSTALK,
        [op(0, 1, appends=[(FURTHER, "x")], tenant="b"), op(2, 3, reads=[(SET, "x")])],
    ),
    "a list of another tenant's": (
        Kind.CROSSTALK,
        [op(0, 1, appends=[(SET, "x")], tenant="b"), op(2, 3, reads=[(SET, "x")])],
    ),
}


@pytest.mark.parametrize("history", HEALTHY.values(), ids=HEALTHY)
def test_what_is_promised_is_no_anomaly(history: Sequence[Operation]) -> None:
    assert check(history) == []


@pytest.mark.parametrize(("kind", "history"), PLANTED.values(), ids=PLANTED)
def test_what_is_planted_is_found(kind: Kind, history: Sequence[Operation]) -> None:
    assert kind in {anomaly.kind for anomaly in check(history)}
    assert all(anomaly.operations for anomaly in check(history))


def test_every_kind_is_seen_to_be_found() -> None:
    assert {kind for kind, _ in PLANTED.values()} == set(Kind)


def test_a_cycle_is_told_in_its_order() -> None:
    _, history = PLANTED["each read what the other wrote"]
    [cycle] = [anomaly for anomaly in check(history) if anomaly.kind is Kind.G1C]
    assert set(cycle.operations) == set(history)
    assert "G1c" in str(cycle)
