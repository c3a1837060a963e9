from collections.abc import Sequence

import strawberry
from sqlalchemy import ARRAY, BigInteger, Column, ColumnElement, DateTime, Integer, Numeric, Text, func, literal_column

from isola.api import scalars
from isola.api.access import requires
from isola.api.connections import Connection
from isola.api.enums import described_enum
from isola.api.fields import expression, many, mapped
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, Decimal
from isola.platform.rates import RatePeriod
from isola.query.mapping import Function, Row
from isola.subjects import features, quotas
from isola.subjects.meters import MeterKind, MeterPeriod
from isola.subjects.permissions import Permission
from isola.subjects.prices import PlanPeriod

own_plan = Function(
    "isola.plan",
    (
        Column("name", Text, nullable=False),
        Column("title", Text, nullable=False),
        Column("price", Numeric),
        Column("currency", Text),
        Column("period", Text),
    ),
)


def _is_known(quota: Row) -> ColumnElement[bool]:
    """Whether the schema has a name for a quota. It has none if the declaring application is not installed here."""
    return quota["id"].in_([literal_column(f"'{name}'", Text()) for name in quotas.names()])


own_quotas = Function(
    "isola.quotas",
    (
        Column("id", Text, nullable=False),
        Column("allowed", BigInteger),
        Column("until", DateTime(timezone=True)),
        Column("measured_at", DateTime(timezone=True)),
    ),
    when=_is_known,
)


own_rates = Function(
    "isola.plan_rates",
    (
        Column("id", Text, nullable=False),
        Column("allowed", BigInteger, nullable=False),
        Column("period", Text, nullable=False),
        Column("until", DateTime(timezone=True)),
    ),
)


def _name(quota: Row) -> ColumnElement[str]:
    return quota["id"]


def _limit(quota: Row) -> ColumnElement[int]:
    return quota["allowed"]


def _used(quota: Row) -> ColumnElement[int]:
    return func.isola.used(quota["id"], type_=BigInteger())


# Their names are words with hyphens: see isola.subjects.features.
_KNOWN = ", ".join(f"'{name}'" for name in sorted(features.known()))


def _features(_: Row) -> ColumnElement[Sequence[str]]:
    return func.isola.plan_features(literal_column(f"ARRAY[{_KNOWN}]", ARRAY(Text)), type_=ARRAY(Text))


@mapped(own_quotas)
@strawberry.type(description="A limit of the tenant, and its use.", directives=[requires(Permission.PLAN_READ)])
class Quota:
    name: QuotaName = expression(_name, "What is limited.")
    limit: BigInt | None = expression(_limit, "Null if there is no limit.")
    until: scalars.DateTime | None = strawberry.field(
        description="When the limit ends that the tenant has instead of the plan's."
    )
    used: BigInt = expression(_used, "The current number. It can exceed the limit, which only prevents additions.")
    measured_at: scalars.DateTime | None = strawberry.field(
        description="When `used` was measured; null if it is counted now, or was never measured."
    )


own_limits = Function(
    "isola.limits",
    (
        Column("id", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("period", Text, nullable=False),
        Column("allowed", BigInteger),
        Column("until", DateTime(timezone=True)),
        Column("used", BigInteger, nullable=False),
        Column("resets_at", DateTime(timezone=True), nullable=False),
    ),
)

described_enum(PlanPeriod)
described_enum(RatePeriod)
described_enum(MeterKind)
described_enum(MeterPeriod)


@mapped(own_limits)
@strawberry.type(description="A meter, and its limit for the tenant.", directives=[requires(Permission.PLAN_READ)])
class Limit:
    meter: str = expression(_name, "The name of the meter.")
    kind: MeterKind = strawberry.field(description="How events are added up.")
    period: MeterPeriod = strawberry.field(description="The period of the limit.")
    limit: BigInt | None = expression(_limit, "The most in a period; null if there is no limit.")
    until: scalars.DateTime | None = strawberry.field(
        description="When the limit ends that the tenant has instead of the plan's."
    )
    used: BigInt = strawberry.field(description="What was used in the present period. It can exceed the limit.")
    resets_at: scalars.DateTime = strawberry.field(description="When the next period begins.")


@mapped(own_rates)
@strawberry.type(description="How much may be done in a period.", directives=[requires(Permission.PLAN_READ)])
class Rate:
    name: str = expression(_name, "What is counted; with `user.` before it, of each user and each key.")
    limit: BigInt = expression(_limit, "The limit: as much at once, and as much in each period after that.")
    period: RatePeriod = strawberry.field(description="The period of the limit.")
    until: scalars.DateTime | None = strawberry.field(
        description="When the rate ends that the tenant has instead of the plan's."
    )


own_retention = Function(
    "isola.retention",
    (Column("id", Text, nullable=False), Column("days", Integer), Column("until", DateTime(timezone=True))),
)


@mapped(own_retention)
@strawberry.type(description="For how long something is kept.", directives=[requires(Permission.PLAN_READ)])
class Retention:
    subject: str = expression(_name, "What is kept: `log`, or a subject in the plural, such as `spans`.")
    days: int | None = strawberry.field(description="The days after which it is deleted; null if it is kept for ever.")
    until: scalars.DateTime | None = strawberry.field(
        description="When the days end that the tenant has instead of the plan's."
    )


@mapped(own_plan, order=(("name", False),))
@strawberry.type(
    description="What the tenant pays, its quotas, limits, rates, retention and features.",
    directives=[requires(Permission.PLAN_READ)],
)
class Plan:
    name: str = strawberry.field(description="The unique name.")
    title: str = strawberry.field(description="The name to show.")
    price: Decimal | None = strawberry.field(description="The amount for a period. Null if the plan has no price.")
    currency: str | None = strawberry.field(description="The currency of the price, by its code in ISO 4217.")
    period: PlanPeriod | None = strawberry.field(description="What the price is for.")
    features: list[str] = expression(_features, "The features that the tenant has, of its plan and by overrides.")
    rates: Connection[Rate] = many(source=own_rates, backward=False, description="All rates, by name.")
    quotas: Connection[Quota] = many(source=own_quotas, backward=False, description="All quotas, by name.")
    retention: Connection[Retention] = many(
        source=own_retention, backward=False, description="What is kept for a time, by name, and for how long."
    )
    limits: Connection[Limit] = many(
        source=own_limits, backward=False, description="All meters with their limits, by name."
    )
