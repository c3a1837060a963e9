from collections.abc import Sequence

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, DateTime
from isola.errors import BadUserInput
from isola.platform import plans


@strawberry.type(description="How many of something a plan allows.", directives=[STAFF])
class Quota:
    name: QuotaName
    limit: BigInt


@strawberry.input(description="How many of something a plan is to allow.")
class QuotaInput:
    name: QuotaName
    limit: BigInt | None = strawberry.field(default=None, description="As many as there may be; null for no limit.")


@strawberry.type(description="How much of everything a tenant may have.", directives=[STAFF])
class Plan:
    name: str
    title: str
    quotas: list[Quota] = strawberry.field(description="By name. What is not here has no limit.")
    created_at: DateTime
    retired_at: DateTime | None = strawberry.field(description="Since when it is given to no further tenant.")


@strawberry.type
class PlanQueries:
    @answered("All plans by name, those that are retired as well.")
    async def plans(self, info: Info) -> list[Plan]:
        return [_plan(each) for each in await plans.every(info.context.control)]


@strawberry.type
class PlanMutations:
    @answered("Make a plan. What is left out of its quotas has no limit.")
    async def create_plan(self, info: Info, name: str, title: str, quotas: list[QuotaInput]) -> Plan:
        context = info.context
        limits = {quota: most for quota, most in _limits_by_name(quotas).items() if most is not None}
        return _plan(await plans.create(context.control, context.author, name=name, title=title, quotas=limits))

    @answered("Change a plan for all tenants that have it. What is left out stays; what they have stays, too.")
    async def change_plan(
        self, info: Info, name: str, title: str | None = None, quotas: list[QuotaInput] | None = None
    ) -> Plan:
        context = info.context
        limits = _limits_by_name(quotas or [])
        return _plan(await plans.change(context.control, context.author, name, title=title, quotas=limits))

    @answered("Give a plan to no further tenant. Those that have it keep it.")
    async def retire_plan(self, info: Info, name: str) -> Plan:
        return _plan(await plans.retire(info.context.control, info.context.author, name))


def _limits_by_name(inputs: Sequence[QuotaInput]) -> dict[str, int | None]:
    limits: dict[str, int | None] = {each.name.value: each.limit for each in inputs}
    if len(limits) < len(inputs):
        raise BadUserInput("quotas: expected each name once", "quotas")
    return limits


def _plan(plan: plans.Plan) -> Plan:
    # A quota of an application that is no longer installed has no name here.
    known = set(QuotaName)
    return Plan(
        name=plan.name,
        title=plan.title,
        quotas=[
            Quota(name=QuotaName(name), limit=BigInt(most))
            for name, most in sorted(plan.quotas.items())
            if name in known
        ],
        created_at=DateTime(plan.created_at),
        retired_at=moment(plan.retired_at),
    )
