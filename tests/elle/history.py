"""What clients did and what came of it."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    """It was refused, and must have had no effect."""
    UNKNOWN = "unknown"
    """Nobody was told: it may have happened or not."""


@dataclass(frozen=True, slots=True)
class Key:
    """A list that is appended to. Of one that is not ``ordered``, reads tell what is in it but not in which order."""

    name: str
    ordered: bool = True


@dataclass(frozen=True, slots=True)
class Append:
    """``value`` is appended to a list only once in a history."""

    key: Key
    value: str


@dataclass(frozen=True, slots=True)
class Read:
    key: Key
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Operation:
    """One transaction: first what it appended, then what it read, all of it by one statement.

    ``began`` and ``ended`` are in seconds by the client's clock; one that nobody saw end ends never.
    """

    tenant: str
    began: float
    outcome: Outcome
    appends: tuple[Append, ...] = ()
    reads: tuple[Read, ...] = ()
    ended: float = inf
