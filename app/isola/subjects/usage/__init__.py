"""What tenants use: events of meters, which the database counts. See docs/metering.md."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, BigInteger, Boolean, DateTime, Text, bindparam, func, select
from sqlalchemy.dialects.postgresql import JSONB

from isola.errors import BadUserInput, NotFound, Refusal
from isola.subjects.meters import MeterKind
from isola.subjects.work import Work

MAX_EVENTS = 1000
"""The most events of a call. The functions of the database have the same figures."""
MAX_CUSTOMER = 200
CONTROL_CHARACTERS = re.compile("[\x01-\x1f\x7f-\x9f]")
"""What the name of a customer does not contain."""
MAX_KEY = 255


@dataclass(frozen=True, slots=True)
class Event:
    """A use of ``meter``, of one of the tenant's customers if there is one, now if there is no moment.

    An event with a ``key`` is counted once for ever.
    """

    meter: str
    quantity: int = 1
    customer: str | None = None
    at: datetime | None = None
    key: str | None = None
    properties: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Allowance:
    """What a tenant or one of its customers has used of a meter in the present period.

    ``limit`` is the tenant's, or that of the customer's tier; None if there is none.
    """

    used: int
    limit: int | None
    resets_at: datetime
    kind: MeterKind

    @property
    def remaining(self) -> int | None:
        """What is left; None without a limit."""
        return None if self.limit is None else max(self.limit - self.used, 0)

    def admits(self, amount: int) -> bool:
        """Whether an amount is within the limit at present. Only ``consume`` tells whether it still is later."""
        if self.limit is None:
            return True
        return (amount if self.kind is MeterKind.MAXIMUM else self.used + amount) <= self.limit


async def record(work: Work, events: Sequence[Event], *, within_limit: bool = False) -> int:
    """Count events, and return how many were not counted before.

    ``within_limit``: refuse what exceeds a limit of the tenant or of a customer, with the whole transaction. Raises
    BadUserInput and Conflict with the index and the field of the wrong event, and QuotaExceeded.
    """
    if not 1 <= len(events) <= MAX_EVENTS:
        raise BadUserInput(f"events: expected 1 to {MAX_EVENTS} events", "events")
    values = {
        "meters": [each.meter for each in events],
        "quantities": [each.quantity for each in events],
        "customers": [each.customer for each in events],
        "moments": [each.at for each in events],
        "keys": [each.key for each in events],
        "properties": [each.properties for each in events],
        "within_limit": within_limit,
    }
    # The database refuses the whole call.
    async with work.savepoint():
        counted: int = await work.scalar(_RECORD, values)
    return counted


async def consume(
    work: Work,
    meter: str,
    quantity: int = 1,
    *,
    key: str | None = None,
    customer: str | None = None,
    properties: Mapping[str, Any] | None = None,
) -> bool:
    """Count a use within the limits of the tenant and of the customer, in the transaction of the work that it is for.

    So neither exists without the other. Returns whether it was counted: not if its ``key`` was used before. Raises
    QuotaExceeded, BadUserInput and Conflict.
    """
    event = Event(meter, quantity, customer=customer, key=key, properties=properties)
    try:
        return await record(work, [event], within_limit=True) > 0
    except Refusal as refusal:
        refusal.index = None
        raise


async def allowance(work: Work, meter: str) -> Allowance:
    """What is left of a meter. Raises NotFound for an unknown one."""
    rows = await work.rows(_ALLOWANCE, {"meter": meter})
    if not rows:
        raise NotFound("there is no such meter", "meter", value=meter)
    [row] = rows
    return Allowance(row["used"], row["allowed"], row["resets_at"], MeterKind(row["kind"]))


async def allowance_of_customer(work: Work, meter: str, customer: str, whole: Allowance) -> Allowance:
    """What is left of a meter for a customer of the tenant, by its tier. ``whole`` is the tenant's."""
    [row] = await work.rows(_USED_BY_CUSTOMER, {"meter": meter, "customer": customer})
    return Allowance(row["used"], row["allowed"], whole.resets_at, whole.kind)


def _given(name: str, type_: Any) -> Any:
    return bindparam(name, type_=type_)


_RECORD = select(
    func.isola.record_usage(
        _given("meters", ARRAY(Text)),
        _given("quantities", ARRAY(BigInteger)),
        _given("customers", ARRAY(Text)),
        _given("moments", ARRAY(DateTime(timezone=True))),
        _given("keys", ARRAY(Text)),
        _given("properties", ARRAY(JSONB(none_as_null=True))),
        _given("within_limit", Boolean()),
    )
)
_LIMITS = func.isola.limits().table_valued("id", "kind", "allowed", "used", "resets_at")
_ALLOWANCE = select(_LIMITS.c.kind, _LIMITS.c.allowed, _LIMITS.c.used, _LIMITS.c.resets_at).where(
    _LIMITS.c.id == bindparam("meter", type_=Text())
)
_USED_BY_CUSTOMER = select(
    func.isola.customer_usage(bindparam("meter", type_=Text()), bindparam("customer", type_=Text())).table_valued(
        "used", "allowed"
    )
)
