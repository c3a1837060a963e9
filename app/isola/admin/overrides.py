from typing import Annotated

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, DateTime
from isola.platform import overrides, provisioning


@strawberry.type(description="A limit of one tenant, instead of its plan's.", directives=[STAFF])
class QuotaOverride:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt | None = strawberry.field(description="The limit; null for none.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


@strawberry.type
class OverrideQueries:
    @answered("The overrides of a tenant by name, including those that have ended and were not removed.")
    async def quota_overrides(self, info: Info, slug: str) -> list[QuotaOverride]:
        control = info.context.control
        found = await overrides.every(control, await provisioning.named(control, slug))
        # A quota of an application that is no longer installed has no name here.
        return [_override(each) for each in found if each.quota in set(QuotaName)]


@strawberry.type
class OverrideMutations:
    @answered("Give a tenant a limit instead of its plan's, or instead of its last override. Existing data stays.")
    async def override_quota(
        self,
        info: Info,
        slug: str,
        quota: QuotaName,
        reason: str,
        limit: BigInt | None = None,
        until: Annotated[
            DateTime | None, strawberry.argument(description="When the override ends; by default when it is removed.")
        ] = None,
    ) -> QuotaOverride:
        control, author = info.context.control, info.context.author
        tenant = await provisioning.named(control, slug)
        made = await overrides.put(control, author, tenant, quota.value, limit, reason=reason, ends_at=until)
        return _override(made)

    @answered("End an override: the limit of the plan applies again. Returns the name of the quota.")
    async def end_quota_override(self, info: Info, slug: str, quota: QuotaName) -> QuotaName:
        control, author = info.context.control, info.context.author
        await overrides.remove(control, author, await provisioning.named(control, slug), quota.value)
        return quota


def _override(override: overrides.Override) -> QuotaOverride:
    return QuotaOverride(
        name=QuotaName(override.quota),
        limit=None if override.at_most is None else BigInt(override.at_most),
        reason=override.reason,
        created_at=DateTime(override.created_at),
        until=moment(override.ends_at),
        ended=override.ended,
    )
