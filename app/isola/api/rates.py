"""Counts what the operations of a caller use of their tenant's rates. See isola.platform.rates."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from uuid import UUID

from graphql.execution.values import VariableValues

from isola.api.context import Context
from isola.errors import RateExceeded, RateLimited
from isola.gcra import SECOND, Buckets, Flow, Use
from isola.platform.rates import BYTES, DOCUMENTS, REQUESTS, ROWS, Key, Limited, Rates, subject_of
from isola.query.compiler import Reading
from isola.query.read_plan import coerced


class Limiter(Protocol):
    """Keeps the buckets. The keys are of the type ``Key``."""

    async def take(self, uses: Sequence[Use]) -> tuple[Use, int] | None:
        """See ``Buckets.take``. Raises Unavailable."""
        ...

    async def put(self, use: Use) -> None:
        """See ``Buckets.put``. Raises nothing."""
        ...

    def left(self, key: Key, flow: Flow) -> int:
        """The units for which there is room, as far as this server knows. Negative if too many were used."""
        ...


class OfProcess:
    """Limits this process alone, exactly."""

    def __init__(self, buckets: Buckets | None = None) -> None:
        self._buckets = buckets or Buckets()

    async def take(self, uses: Sequence[Use]) -> tuple[Use, int] | None:
        return self._buckets.take(uses)

    async def put(self, use: Use) -> None:
        self._buckets.put(use)

    def left(self, key: Key, flow: Flow) -> int:
        return self._buckets.left(key, flow)


@dataclass(frozen=True, slots=True)
class Account:
    """Who is charged: a user, or a key, of a tenant with rates."""

    tenant: UUID
    user: UUID
    rates: Rates

    def key(self, limited: Limited) -> Key:
        return Key(self.tenant, limited.name, limited.rate.seconds, self.user if limited.of_user else None)


class Shown(NamedTuple):
    """The headers ``RateLimit`` and ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers-10."""

    left: str
    policy: str


def account(context: object) -> Account | None:
    """Who is charged for a request; None for nobody. Staff do not use what their tenants pay for."""
    if not isinstance(context, Context):
        return None
    principal = context.principal
    agreed = principal.tenant.entitlements.rates
    if agreed is None or principal.grant is not None:
        return None
    return Account(principal.tenant.id, principal.user_id, agreed.now())


class Charging:
    """Charges accounts. Most methods raise RateLimited, and Unavailable if the use cannot be counted at the moment."""

    def __init__(self, limiter: Limiter | None = None) -> None:
        self._limiter = limiter or OfProcess()

    async def request(self, account: Account) -> None:
        """Charge a request, before anything is done for it."""
        # Bytes are charged later: here it is only whether too many were sent before.
        await self._take(account, {REQUESTS: 1, BYTES: 0})

    async def document(self, account: Account) -> None:
        """Charge a new document, before it is parsed."""
        await self._take(account, {DOCUMENTS: 1})

    async def operation(self, account: Account, readings: Iterable[Reading], values: VariableValues) -> None:
        """Charge what an operation may cost, and its fields, before it is executed."""
        rates = account.rates
        if rates.counts_fields or ROWS in rates.by_counts:
            await self._take(account, _used(readings, values))

    async def answer(self, account: Account, size: int) -> None:
        """Charge the bytes of a response. Later requests wait until they are paid. Raises nothing."""
        for each in account.rates.by_counts.get(BYTES, ()):
            await self._limiter.put(Use(account.key(each), each.flow, size))

    def shown(self, account: Account) -> Shown:
        """What is left of all rates."""
        items = []
        for each in account.rates.all:
            left = self._limiter.left(account.key(each), each.flow)
            full = math.ceil((each.rate.most - left) * each.rate.seconds / each.rate.most)
            items.append(f'"{each.name}";r={max(left, 0)};t={full}')
        return Shown(", ".join(items), account.rates.policy)

    async def _take(self, account: Account, used: Mapping[str, int]) -> None:
        limited = [each for counts in used for each in account.rates.by_counts.get(counts, ())]
        if not limited:
            return
        refused = await self._limiter.take([Use(account.key(each), each.flow, used[each.counts]) for each in limited])
        if refused is not None:
            use, wait = refused
            [found] = [each for each in limited if account.key(each) == use.key]
            raise self._refusal(use, found, wait)

    def _refusal(self, use: Use, limited: Limited, wait: int) -> RateLimited:
        rate = limited.rate
        left = max(self._limiter.left(use.key, use.flow), 0)  # type: ignore[arg-type]  # a Key
        exceeded = RateExceeded(limited.name, rate.most, rate.seconds, left)
        limit = f"{limited.name}: the limit is {rate.most} per {rate.period}"
        if use.units > rate.most:
            return RateLimited(f"{limit}; this needs {use.units} at once", None, exceeded)
        return RateLimited(limit, math.ceil(wait / SECOND), exceeded)


def _used(readings: Iterable[Reading], values: VariableValues) -> Mapping[str, int]:
    used: Counter[str] = Counter()
    for reading in readings:
        items = _items(reading, values)
        used[ROWS] += max(reading.cost, items)
        for needs in _needs(reading):
            used.update(dict.fromkeys(needs, items))
    return used


def _needs(reading: Reading) -> Iterable[set[str]]:
    """What each root field that is not refused needs: permissions, and their subjects."""
    plan = reading.plan
    by_root = {key: set(required) for key, required in plan.required.items() if key not in reading.refused}
    for index, choices in plan.found:
        if (needed := by_root.get(plan.sites[index].root)) is not None:
            needed.update(*(choices[type_] for type_ in reading.shapes[index].types))
    for needed in by_root.values():
        # Features have no colon.
        permissions = {need for need in needed if ":" in need}
        yield permissions | {subject_of(need) for need in permissions}


def _items(reading: Reading, values: VariableValues) -> int:
    """How many inputs a mutation's field has; 1 for a field without a list of them."""
    if reading.plan.called is None or reading.refused:
        return 1
    definition, place = reading.plan.called
    given = coerced(definition, place.node, values).get("input")
    items = given.get("items") if isinstance(given, Mapping) else None
    return max(len(items), 1) if isinstance(items, list) else 1
