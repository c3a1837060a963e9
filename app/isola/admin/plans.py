from collections.abc import Sequence

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, DateTime
from isola.errors import BadUserInput
from isola.platform import plans


@strawberry.type(description="A quota of a plan.", directives=[STAFF])
class Quota:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt = strawberry.field(description="The limit.")


@strawberry.input(description="A quota to set in a plan.")
class QuotaInput:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt | None = strawberry.field(default=None, description="The limit; null for none.")


@strawberry.type(description="The quotas of tenants.", directives=[STAFF])
class Plan:
    name: str = strawberry.field(description="The unique name.")
    title: str = strawberry.field(description="The name to show.")
    quotas: list[Quota] = strawberry.field(description="By name. A missing name has no limit.")
    created_at: DateTime
    retired_at: DateTime | None = strawberry.field(description="When the plan was retired.")


@strawberry.type
class PlanQueries:
    @answered("All plans by name, including retired ones.")
    async def plans(self, info: Info) -> list[Plan]:
        return [_plan(each) for each in await plans.every(info.context.control)]


@strawberry.type
class PlanMutations:
    @answered("Create a plan. Without a quota for something, it has no limit.")
    async def create_plan(self, info: Info, name: str, title: str, quotas: list[QuotaInput]) -> Plan:
        context = info.context
        limits = {quota: most for quota, most in _limits_by_name(quotas).items() if most is not None}
        return _plan(await plans.create(context.control, context.author, name=name, title=title, quotas=limits))

    @answered("Change a plan for all tenants that have it. Omitted quotas and existing data stay.")
    async def change_plan(
        self, info: Info, name: str, title: str | None = None, quotas: list[QuotaInput] | None = None
    ) -> Plan:
        context = info.context
        limits = _limits_by_name(quotas or [])
        return _plan(await plans.change(context.control, context.author, name, title=title, quotas=limits))

    @answered("Retire a plan: no other tenant can get it. Tenants that have it keep it.")
    async def retire_plan(self, info: Info, name: str) -> Plan:
        return _plan(await plans.retire(info.context.control, info.context.author, name))


def _limits_by_name(inputs: Sequence[QuotaInput]) -> dict[str, int | None]:
    limits: dict[str, int | None] = {each.name.value: each.limit for each in inputs}
    if len(limits) < len(inputs):
        raise BadUserInput("quotas: expected each name once", "quotas")
    return limits


def _plan(plan: plans.Plan) -> Plan:
    # A quota of an application that is no longer installed has no name here.
    names = set(QuotaName)
    return Plan(
        name=plan.name,
        title=plan.title,
        quotas=[
            Quota(name=QuotaName(name), limit=BigInt(most))
            for name, most in sorted(plan.quotas.items())
            if name in names
        ],
        created_at=DateTime(plan.created_at),
        retired_at=moment(plan.retired_at),
    )
