"""The operations of clients and their results."""

from dataclasses import dataclass
from enum import StrEnum
from math import inf


class Outcome(StrEnum):
    OK = "ok"
    FAILED = "failed"
    """It was refused, and must have had no effect."""
    UNKNOWN = "unknown"
    """The client got no response: it may have happened or not."""


@dataclass(frozen=True, slots=True)
class Key:
    """A list that clients append to. If it is not ``ordered``, reads return its values but not their order."""

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
    """One transaction: first its appends, then its reads, all of them by one statement.

    ``began`` and ``ended`` are in seconds by the client's clock; without an observed end, it never ends.
    """

    tenant: str
    began: float
    outcome: Outcome
    appends: tuple[Append, ...] = ()
    reads: tuple[Read, ...] = ()
    ended: float = inf
