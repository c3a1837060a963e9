from collections.abc import Mapping, Sequence
from typing import Literal, TypeVar

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.enums import described_enum
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, DateTime, Decimal
from isola.errors import BadUserInput
from isola.platform import plans, rates as plan_rates
from isola.platform.rates import RatePeriod
from isola.subjects.prices import PlanPeriod, Price

Most = TypeVar("Most")

described_enum(PlanPeriod)
described_enum(RatePeriod)


@strawberry.type(description="A quota of a plan.", directives=[STAFF])
class Quota:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt = strawberry.field(description="The limit.")


@strawberry.input(description="A quota to set in a plan.")
class QuotaInput:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt | None = strawberry.field(default=None, description="The limit; null for none.")


@strawberry.type(description="A limit of a plan for what a meter measures in a period.", directives=[STAFF])
class Limit:
    meter: str = strawberry.field(description="The name of the meter.")
    limit: BigInt = strawberry.field(description="The most in a period.")


@strawberry.input(description="A meter's limit to set in a plan.")
class LimitInput:
    meter: str = strawberry.field(description="The name of the meter.")
    limit: BigInt | None = strawberry.field(default=None, description="The most in a period; null for no limit.")


@strawberry.type(description="A rate of a plan.", directives=[STAFF])
class Rate:
    name: str = strawberry.field(description="What is counted; with `user.` before it, of each user and each key.")
    limit: BigInt = strawberry.field(description="The limit in a period.")
    period: RatePeriod = strawberry.field(description="The period of the limit.")


@strawberry.input(description="A rate to set in a plan.")
class RateInput:
    name: str = strawberry.field(description="What is counted; with `user.` before it, of each user and each key.")
    limit: BigInt | None = strawberry.field(default=None, description="The limit in a period; null for none.")
    period: RatePeriod = strawberry.field(default=RatePeriod.MINUTE, description="The period of the limit.")


@strawberry.type(description="For how long a plan keeps something.", directives=[STAFF])
class Retention:
    subject: str = strawberry.field(description="What is kept: `log`, or a subject in the plural, such as `spans`.")
    days: int = strawberry.field(description="The days after which it is deleted.")


@strawberry.input(description="For how long a plan is to keep something.")
class RetentionInput:
    subject: str = strawberry.field(description="What is kept: `log`, or a subject in the plural, such as `spans`.")
    days: int | None = strawberry.field(default=None, description="The days; null for ever.")


@strawberry.input(description="What a plan costs.")
class PriceInput:
    amount: Decimal = strawberry.field(description="The amount, with at most 12 digits and 3 decimals.")
    currency: str = strawberry.field(description="The currency, by its code in ISO 4217.")
    period: PlanPeriod = strawberry.field(description="What the amount is for.")


@strawberry.type(
    description="What tenants pay, their quotas, limits, rates, retention and features.", directives=[STAFF]
)
class Plan:
    name: str = strawberry.field(description="The unique name.")
    title: str = strawberry.field(description="The name to show.")
    price: Decimal | None = strawberry.field(description="The amount for a period. Null if the plan has no price.")
    currency: str | None = strawberry.field(description="The currency of the price, by its code in ISO 4217.")
    period: PlanPeriod | None = strawberry.field(description="What the price is for.")
    quotas: list[Quota] = strawberry.field(description="By name. A missing name has no limit.")
    limits: list[Limit] = strawberry.field(description="Limits of meters, by name. A missing meter has no limit.")
    rates: list[Rate] = strawberry.field(description="By name. A missing name has no limit.")
    retention: list[Retention] = strawberry.field(description="By subject. What is missing is kept for ever.")
    features: list[str] | None = strawberry.field(description="The features, by name; null for all.")
    listed: bool = strawberry.field(description="Whether tenants that lack a feature are told that this plan has it.")
    created_at: DateTime
    retired_at: DateTime | None = strawberry.field(description="When the plan was retired.")


@strawberry.type
class PlanQueries:
    @answered("All plans by name, including retired ones.")
    async def plans(self, info: Info) -> list[Plan]:
        return [_plan(each) for each in await plans.every(info.context.control)]


@strawberry.type
class PlanMutations:
    @answered(
        "Create a plan. What it has no quota, limit or rate for is not limited, and without retention kept for ever."
    )
    async def create_plan(
        self,
        info: Info,
        name: str,
        title: str,
        quotas: list[QuotaInput],
        price: PriceInput | None = None,
        features: list[str] | None = None,
        listed: bool = False,  # noqa: FBT001, FBT002  clients name their arguments
        limits: list[LimitInput] | None = None,
        rates: list[RateInput] | None = None,
        retention: list[RetentionInput] | None = None,
    ) -> Plan:
        context = info.context
        made = await plans.create(
            context.control,
            context.author,
            name=name,
            title=title,
            quotas=_set(_quotas_by_name(quotas)),
            limits=_set(_limits_by_name(limits or [])),
            price=_price(price),
            features=features,
            listed=listed,
            rates=_set(_rates_by_name(rates or [])),
            retention=_set(_days_by_subject(retention or [])),
        )
        return _plan(made)

    @answered(
        "Change a plan for all tenants that have it. What is omitted stays, and so does data that its retention keeps."
    )
    async def change_plan(
        self,
        info: Info,
        name: str,
        title: str | None = None,
        quotas: list[QuotaInput] | None = None,
        price: PriceInput | None = strawberry.UNSET,
        features: list[str] | None = strawberry.UNSET,
        listed: bool | None = None,  # noqa: FBT001  as above
        limits: list[LimitInput] | None = None,
        rates: list[RateInput] | None = None,
        retention: list[RetentionInput] | None = None,
    ) -> Plan:
        context = info.context
        paid: Price | Literal["unchanged"] | None = "unchanged" if price is strawberry.UNSET else _price(price)
        changed = await plans.change(
            context.control,
            context.author,
            name,
            title=title,
            quotas=_quotas_by_name(quotas or []),
            limits=_limits_by_name(limits or []),
            price=paid,
            features="unchanged" if features is strawberry.UNSET else features,
            listed=listed,
            rates=_rates_by_name(rates or []),
            retention=_days_by_subject(retention or []),
        )
        return _plan(changed)

    @answered("Retire a plan: no other tenant can get it. Tenants that have it keep it.")
    async def retire_plan(self, info: Info, name: str) -> Plan:
        return _plan(await plans.retire(info.context.control, info.context.author, name))

    @answered("Delete a plan that no tenant has or had. Returns its name.")
    async def delete_plan(self, info: Info, name: str) -> str:
        await plans.remove(info.context.control, info.context.author, name)
        return name


def _quotas_by_name(inputs: Sequence[QuotaInput]) -> dict[str, int | None]:
    return _once("quotas", [(each.name.value, each.limit) for each in inputs])


def _limits_by_name(inputs: Sequence[LimitInput]) -> dict[str, int | None]:
    return _once("limits", [(each.meter, each.limit) for each in inputs])


def _rates_by_name(inputs: Sequence[RateInput]) -> dict[str, plan_rates.Rate | None]:
    of = plan_rates.Rate.of
    return _once("rates", [(each.name, None if each.limit is None else of(each.limit, each.period)) for each in inputs])


def _days_by_subject(inputs: Sequence[RetentionInput]) -> dict[str, int | None]:
    return _once("retention", [(each.subject, each.days) for each in inputs])


def _once(field: str, pairs: Sequence[tuple[str, Most]]) -> dict[str, Most]:
    limits = dict(pairs)
    if len(limits) < len(pairs):
        raise BadUserInput(f"{field}: expected each name once", field)
    return limits


def _set(limits: Mapping[str, Most | None]) -> dict[str, Most]:
    return {name: most for name, most in limits.items() if most is not None}


def _price(given: PriceInput | None) -> Price | None:
    return None if given is None else Price.of(given.amount, given.currency, given.period)


def _plan(plan: plans.Plan) -> Plan:
    # A quota of an application that is no longer installed has no name here.
    names = set(QuotaName)
    return Plan(
        name=plan.name,
        title=plan.title,
        price=None if plan.price is None else Decimal(plan.price.amount),
        currency=None if plan.price is None else plan.price.currency,
        period=None if plan.price is None else plan.price.period,
        quotas=[
            Quota(name=QuotaName(name), limit=BigInt(most))
            for name, most in sorted(plan.quotas.items())
            if name in names
        ],
        limits=[Limit(meter=name, limit=BigInt(most)) for name, most in sorted(plan.limits.items())],
        rates=[
            Rate(name=name, limit=BigInt(each.most), period=each.period) for name, each in sorted(plan.rates.items())
        ],
        retention=[Retention(subject=name, days=days) for name, days in sorted(plan.retention.items())],
        features=None if plan.features is None else list(plan.features),
        listed=plan.listed,
        created_at=DateTime(plan.created_at),
        retired_at=moment(plan.retired_at),
    )
