"""Rates: how much a tenant, and each of its users and keys, may do in a period. They come with its directory entry.

``requests`` counts operations; ``documents`` those that are new, and have to be parsed; ``rows`` what an operation may
cost at most, as the limit of a request counts it; ``bytes`` what responses have. Other names are a permission, such as
``agent:execute``, or its part before the colon: they count the root fields that need it, and in lists of inputs each
item. With ``user.`` before it, a rate is that of each user and each key. See docs/rates.md.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Self
from uuid import UUID

from isola.errors import BadUserInput
from isola.gcra import SECOND, Flow
from isola.subjects.permissions import all_permissions

REQUESTS, DOCUMENTS, ROWS, BYTES = "requests", "documents", "rows", "bytes"
OF_USER = "user."
MAX_NAME = 100
MOST = 10**15 - 1
"""The largest rate: the largest integer in HTTP's structured fields (RFC 9651)."""
FORM = f"expected a whole number from 1 to {MOST} and a period (second, minute, hour or day), such as 50/minute"
_WRITTEN = re.compile(r"(?P<most>[1-9][0-9]{0,14})/(?P<period>second|minute|hour|day)", re.ASCII)


class RatePeriod(StrEnum):
    """A period of a rate.

    SECOND: One second.
    MINUTE: One minute.
    HOUR: One hour.
    DAY: 24 hours.
    """

    SECOND = "second"
    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


SECONDS = {RatePeriod.SECOND: 1, RatePeriod.MINUTE: 60, RatePeriod.HOUR: 3600, RatePeriod.DAY: 86400}


@dataclass(frozen=True, slots=True)
class Rate:
    """``most`` at once, and as many again in each period after that."""

    most: int
    period: RatePeriod

    @classmethod
    def parse(cls, text: str) -> Self:
        """A rate as ``str`` writes it. Raises BadUserInput."""
        found = _WRITTEN.fullmatch(text)
        if found is None:
            raise BadUserInput(f"rates: {FORM}", "rates", value=text)
        return cls(int(found["most"]), RatePeriod(found["period"]))

    @classmethod
    def of(cls, most: int, period: RatePeriod) -> Self:
        """A rate of its parts. Raises BadUserInput if the number is invalid."""
        return cls.parse(f"{most}/{period}")

    @property
    def seconds(self) -> int:
        return SECONDS[self.period]

    def __str__(self) -> str:
        return f"{self.most}/{self.period}"


def check(names: Collection[str]) -> None:
    """Raise BadUserInput for the name of a rate that counts nothing here."""
    known = counted()
    for name in names:
        if name.removeprefix(OF_USER) not in known:
            general = f"{REQUESTS}, {DOCUMENTS}, {ROWS}, {BYTES}"
            raise BadUserInput(
                f"rates: expected {general}, a permission or its part before the colon, or {OF_USER} and one of these",
                "rates",
                value=name,
            )


def counted() -> frozenset[str]:
    """What a rate can count."""
    permissions = all_permissions()
    return frozenset({REQUESTS, DOCUMENTS, ROWS, BYTES, *permissions, *map(subject_of, permissions)})


def subject_of(permission: str) -> str:
    return permission.partition(":")[0]


class Key(NamedTuple):
    """Whose use of which rate. Without a ``user``, that of the whole tenant."""

    tenant: UUID
    rate: str
    seconds: int
    user: UUID | None


class Limited(NamedTuple):
    """A rate of a tenant. ``counts`` is its name without ``user.``; ``flow`` the same in nanoseconds."""

    name: str
    counts: str
    of_user: bool
    rate: Rate
    flow: Flow


class Rates:
    """The rates of a tenant at a moment; ``by_counts`` are those that count the same."""

    __slots__ = ("all", "by_counts", "counts_fields", "policy")

    def __init__(self, rates: Mapping[str, Rate]) -> None:
        self.all = tuple(_limited(name, rate) for name, rate in sorted(rates.items()))
        by_counts: dict[str, list[Limited]] = {}
        for each in self.all:
            by_counts.setdefault(each.counts, []).append(each)
        self.by_counts: Mapping[str, Sequence[Limited]] = by_counts
        self.counts_fields = not by_counts.keys() <= {REQUESTS, DOCUMENTS, ROWS, BYTES}
        """Whether any depends on what the fields of an operation need."""
        self.policy = ", ".join(f'"{each.name}";q={each.rate.most};w={each.rate.seconds}' for each in self.all)
        """The header ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers-10."""


def _limited(name: str, rate: Rate) -> Limited:
    counts = name.removeprefix(OF_USER)
    return Limited(name, counts, counts != name, rate, Flow(rate.most, rate.seconds * SECOND))


@dataclass(frozen=True, slots=True)
class RateOverride:
    """The rate that a tenant has until ``ends_at`` instead of its plan's; None for none."""

    name: str
    rate: Rate | None
    ends_at: datetime | None


class Agreed:
    """The rates of a tenant's plan, with its overrides, which end by the clock of this server."""

    __slots__ = ("_fixed", "_overrides", "_plan")

    def __init__(self, plan: Mapping[str, Rate], overrides: Iterable[RateOverride] = ()) -> None:
        self._plan = plan
        self._overrides = tuple(overrides)
        self._fixed = None if any(each.ends_at for each in self._overrides) else self.at(datetime.now(UTC))

    def at(self, moment: datetime) -> Rates:
        """The rates at a moment."""
        rates: dict[str, Rate | None] = dict(self._plan)
        for each in self._overrides:
            if each.ends_at is None or moment < each.ends_at:
                rates[each.name] = each.rate
        return Rates({name: rate for name, rate in rates.items() if rate is not None})

    def now(self) -> Rates:
        """The rates now."""
        return self.at(datetime.now(UTC)) if self._fixed is None else self._fixed

    @classmethod
    def read(cls, plan: Mapping[str, str], overrides: Iterable[Sequence[Any]]) -> Self | None:
        """From the result of control.entitlements(); None if there are neither rates nor overrides."""
        known = [
            RateOverride(name, None if rate is None else Rate.parse(rate), end and datetime.fromisoformat(end))
            for name, rate, end in overrides
        ]
        return cls(parsed(plan), known) if plan or known else None


def parsed(rates: Mapping[str, str]) -> Mapping[str, Rate]:
    """Rates as tables store them."""
    return {name: Rate.parse(text) for name, text in sorted(rates.items())}
