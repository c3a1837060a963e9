"""Tiers that a tenant sells to its own customers, and the customers that have them: see docs/metering.md.

The database enforces the caps of a customer's tier as it enforces the limits of the tenant: see
migrations/control/0001_usage.sql. Features of a tier are names of the tenant's own; nothing here withholds them.
"""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from isola.errors import BadUserInput, Conflict
from isola.subjects import JSON, Many, Subject, column, features, many, meters, names, reference
from isola.subjects.actor import Actor
from isola.subjects.prices import PlanPeriod
from isola.subjects.table import MAX_SAFE_INTEGER
from isola.subjects.usage import CONTROL_CHARACTERS, MAX_CUSTOMER
from isola.subjects.work import Work

MAX_NAME = 100
MAX_PRICE = Decimal("999999999999.999")
MAX_CAPS = 50
MAX_FEATURES = 100
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)


class Tier(Subject, name="tier", prefix="tir"):
    """What the tenant sells to its customers: a price, caps of their use, and features."""

    name: str = column(max_length=MAX_NAME, min_length=1, unique=True)
    price: Decimal | None = column(
        digits=15,
        scale=3,
        minimum=0,
        maximum=MAX_PRICE,
        description="The amount for a period. It is shown; nothing charges it.",
    )
    currency: str | None = column(
        min_length=3, max_length=3, description="The currency of the price, by its code in ISO 4217."
    )
    period: PlanPeriod | None = column(description="What the price is for.")
    usage_caps: JSON = column(
        default=dict,
        description="The most that a customer may use of meters in their periods, by the names of the meters, such as "
        f'{{"executions": 1000}}: at most {MAX_CAPS}, from 1 to 2^53 - 1.',
    )
    feature_entitlements: list[str] = column(
        default=list,
        description=f"Names of features, of the tenant's choice: at most {MAX_FEATURES}, of words of a-z and 0-9 with "
        "hyphens between them.",
    )
    customers: Many["TierCustomer"] = many("tier", description="The customers who have it.")

    checks = {  # noqa: RUF012  the form of declarations
        "price_complete": "num_nonnulls(price, currency, period) IN (0, 3)",
        "currency": "currency ~ '^[A-Z]{3}$'",
        "usage_caps_values": "jsonb_typeof(usage_caps) = 'object' AND NOT jsonb_path_exists(usage_caps, 'strict $.* ? "
        f"(@.type() != \"number\" || @ < 1 || @ > {MAX_SAFE_INTEGER} || @ != @.floor())', '{{}}', true)",
        "usage_caps_number": "jsonb_array_length(jsonb_path_query_array(usage_caps, '$.keyvalue()', '{}', true)) "
        f"<= {MAX_CAPS}",
        "feature_entitlements_number": f"cardinality(feature_entitlements) <= {MAX_FEATURES}",
        "feature_entitlements_form": "feature_entitlements::text ~ "
        f"""'^[{{](([a-z0-9-]{{1,{features.MAX_NAME}}}|"null")(,|[}}]$))*[}}]?$'""",
    }
    samples = {  # noqa: RUF012  the form of declarations
        "price": lambda random, _: Decimal(random.randint(0, 10**6)) / 1000,
        "currency": lambda random, row: None if row["price"] is None else random.choice(("EUR", "USD")),
        "period": lambda random, row: None if row["price"] is None else random.choice(list(PlanPeriod)),
        "usage_caps": lambda random, _: {"executions": random.randint(1, 10**6)},
        "feature_entitlements": lambda random, _: random.sample(["export", "single-sign-on", "support"], 2),
    }

    async def before_create(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """Names are visible, prices complete, caps of known meters."""
        self.name = names.checked("name", self.name, MAX_NAME)
        _check_price(self.price, self.currency, self.period)
        _check_caps(self.usage_caps)
        _check_features(self.feature_entitlements)

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:  # noqa: ARG002  as above
        """The same rules, for the row as it will be."""
        if "name" in changes:
            changes["name"] = names.checked("name", changes["name"], MAX_NAME)
        _check_price(*(changes.get(each, getattr(self, each)) for each in ("price", "currency", "period")))
        if "usage_caps" in changes:
            _check_caps(changes["usage_caps"])
        if "feature_entitlements" in changes:
            _check_features(changes["feature_entitlements"])

    async def before_delete(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """A tier that customers have stays."""
        if await TierCustomer.find(work, TierCustomer.table.c.tier_id == self.id, most=1):
            raise Conflict("customers have this tier: expected them to have another one, or none, first")


class TierCustomer(
    Subject, name="tier_customer", prefix="cus", permissions={"read": "tier:read", "write": "tier:write"}
):
    """A customer of the tenant, with the tier that they have. Other customers have no caps and no features."""

    name: str = column(
        max_length=MAX_CUSTOMER, min_length=1, unique=True, description="The customer, as in recordUsage."
    )
    tier: Tier = reference(grouped=True)

    checks = {"name_form": r"name !~ '[\u0001-\u001F\u007F-\u009F]'"}  # noqa: RUF012  the form of declarations
    samples = {  # noqa: RUF012  the form of declarations
        "name": lambda random, _: f"customer-{random.getrandbits(64):x}",
    }

    async def before_create(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """A customer is named as in events."""
        _check_customer(self.name)

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:  # noqa: ARG002  as above
        """The same."""
        if "name" in changes:
            _check_customer(changes["name"])


async def is_entitled(work: Work, customer: str, feature: str) -> bool:
    """Whether the tier of a customer has a feature: not without a tier."""
    found = await TierCustomer.find(work, TierCustomer.table.c.name == customer, most=1)
    if not found:
        return False
    tier = await Tier.get(work, found[0].tier.id)
    return feature in tier.feature_entitlements


def _check_price(price: Decimal | None, currency: str | None, period: PlanPeriod | None) -> None:
    if len({each is None for each in (price, currency, period)}) > 1:
        raise BadUserInput("price: expected price, currency and period, or none of them", "price")
    if currency is not None and not _CURRENCY.fullmatch(currency):
        raise BadUserInput("currency: expected a code of three capitals, such as USD", "currency")


def _check_caps(caps: Any) -> None:
    if not isinstance(caps, Mapping):
        raise BadUserInput("usageCaps: expected an object, by names of meters", "usageCaps")
    if len(caps) > MAX_CAPS:
        raise BadUserInput(f"usageCaps: expected at most {MAX_CAPS} caps", "usageCaps")
    if caps.keys() - meters.known().keys():
        raise BadUserInput(f"usageCaps: expected names of meters: {', '.join(sorted(meters.known()))}", "usageCaps")
    if not all(type(each) is int and 1 <= each <= MAX_SAFE_INTEGER for each in caps.values()):
        raise BadUserInput(f"usageCaps: expected integers from 1 to {MAX_SAFE_INTEGER}", "usageCaps")


def _check_features(named: Sequence[str]) -> None:
    field = "featureEntitlements"
    if len(named) > MAX_FEATURES:
        raise BadUserInput(f"{field}: expected at most {MAX_FEATURES} features", field)
    if not all(map(features.is_name, named)):
        expected = f"expected words of a-z and 0-9 with hyphens between them, of at most {features.MAX_NAME} characters"
        raise BadUserInput(f"{field}: {expected}", field)
    if len(set(named)) < len(named):
        raise BadUserInput(f"{field}: expected each feature once", field)


def _check_customer(name: str) -> None:
    if CONTROL_CHARACTERS.search(name):
        raise BadUserInput("name: expected no control characters", "name")
