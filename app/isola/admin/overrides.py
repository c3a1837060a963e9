from typing import Annotated, Any

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.quota_names import QuotaName
from isola.api.scalars import BigInt, DateTime
from isola.platform import overrides, provisioning
from isola.platform.overrides import Kind, Override
from isola.platform.rates import Rate, RatePeriod


@strawberry.type(description="A limit of one tenant, instead of its plan's.", directives=[STAFF])
class QuotaOverride:
    name: QuotaName = strawberry.field(description="What is limited.")
    limit: BigInt | None = strawberry.field(description="The limit; null for none.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


@strawberry.type(description="A limit of a meter for one tenant, instead of its plan's.", directives=[STAFF])
class LimitOverride:
    meter: str = strawberry.field(description="The name of the meter.")
    limit: BigInt | None = strawberry.field(description="The most in a period; null for no limit.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


@strawberry.type(description="A feature that one tenant has or has not, whatever its plan says.", directives=[STAFF])
class FeatureOverride:
    name: str = strawberry.field(description="The name of the feature.")
    given: bool = strawberry.field(description="Whether the tenant has it.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


@strawberry.type(description="A rate of one tenant, instead of its plan's.", directives=[STAFF])
class RateOverride:
    name: str = strawberry.field(description="What is counted.")
    limit: BigInt | None = strawberry.field(description="The limit in a period; null for none.")
    period: RatePeriod | None = strawberry.field(description="The period of the limit.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


@strawberry.type(
    description="For how long something of one tenant is kept, whatever its plan says.", directives=[STAFF]
)
class RetentionOverride:
    subject: str = strawberry.field(description="What is kept: `log`, or a subject in the plural, such as `spans`.")
    days: int | None = strawberry.field(description="The days after which it is deleted; null for never.")
    reason: str = strawberry.field(description="The reason, which the tenant sees in its log.")
    created_at: DateTime
    until: DateTime | None = strawberry.field(description="Its end; null if it ends with its removal.")
    ended: bool = strawberry.field(description="Whether its end has passed.")


Until = Annotated[
    DateTime | None, strawberry.argument(description="When the override ends; by default when it is removed.")
]


@strawberry.type
class OverrideQueries:
    @answered("The overrides of a tenant's quotas by name, including those that have ended and were not removed.")
    async def quota_overrides(self, info: Info, slug: str) -> list[QuotaOverride]:
        # A quota of an application that is no longer installed has no name here.
        return [_quota(each) for each in await _every(info, slug, Kind.QUOTA) if each.name in set(QuotaName)]

    @answered("The overrides of a tenant's limits by meter, including those that have ended and were not removed.")
    async def limit_overrides(self, info: Info, slug: str) -> list[LimitOverride]:
        return [_limit(each) for each in await _every(info, slug, Kind.METER)]

    @answered("The overrides of a tenant's features by name, including those that have ended and were not removed.")
    async def feature_overrides(self, info: Info, slug: str) -> list[FeatureOverride]:
        return [_feature(each) for each in await _every(info, slug, Kind.FEATURE)]

    @answered("The overrides of a tenant's rates by name, including those that have ended and were not removed.")
    async def rate_overrides(self, info: Info, slug: str) -> list[RateOverride]:
        return [_rate(each) for each in await _every(info, slug, Kind.RATE)]

    @answered("The overrides of a tenant's retention by subject, including those that have ended and were not removed.")
    async def retention_overrides(self, info: Info, slug: str) -> list[RetentionOverride]:
        return [_retention(each) for each in await _every(info, slug, Kind.RETENTION)]


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
        until: Until = None,
    ) -> QuotaOverride:
        return _quota(await _put(info, slug, Kind.QUOTA, quota.value, limit, reason, until))

    @answered("End an override: the limit of the plan applies again. Returns the name of the quota.")
    async def end_quota_override(self, info: Info, slug: str, quota: QuotaName) -> QuotaName:
        await _remove(info, slug, Kind.QUOTA, quota.value)
        return quota

    @answered("Give a tenant a meter's limit instead of its plan's or its last override's, from the next use on.")
    async def override_limit(
        self,
        info: Info,
        slug: str,
        meter: str,
        reason: str,
        limit: BigInt | None = None,
        until: Until = None,
    ) -> LimitOverride:
        return _limit(await _put(info, slug, Kind.METER, meter, limit, reason, until))

    @answered("End an override: the limit of the plan applies again. Returns the name of the meter.")
    async def end_limit_override(self, info: Info, slug: str, meter: str) -> str:
        return await _remove(info, slug, Kind.METER, meter)

    @answered("Give a tenant a feature or take it away, whatever its plan or its last override says.")
    async def override_feature(
        self,
        info: Info,
        slug: str,
        feature: str,
        given: bool,  # noqa: FBT001  clients name their arguments
        reason: str,
        until: Until = None,
    ) -> FeatureOverride:
        return _feature(await _put(info, slug, Kind.FEATURE, feature, given, reason, until))

    @answered("End an override: what the plan says of the feature applies again. Returns its name.")
    async def end_feature_override(self, info: Info, slug: str, feature: str) -> str:
        return await _remove(info, slug, Kind.FEATURE, feature)

    @answered("Give a tenant a rate instead of its plan's, or instead of its last override; without a limit, none.")
    async def override_rate(
        self,
        info: Info,
        slug: str,
        rate: str,
        reason: str,
        limit: BigInt | None = None,
        period: RatePeriod = RatePeriod.MINUTE,
        until: Until = None,
    ) -> RateOverride:
        value = None if limit is None else Rate.of(limit, period)
        return _rate(await _put(info, slug, Kind.RATE, rate, value, reason, until))

    @answered("End an override: what the plan says of the rate applies again. Returns its name.")
    async def end_rate_override(self, info: Info, slug: str, rate: str) -> str:
        return await _remove(info, slug, Kind.RATE, rate)

    @answered(
        "Keep something of a tenant for other days than its plan or its last override says; without days, for ever."
    )
    async def override_retention(
        self,
        info: Info,
        slug: str,
        subject: str,
        reason: str,
        days: int | None = None,
        until: Until = None,
    ) -> RetentionOverride:
        return _retention(await _put(info, slug, Kind.RETENTION, subject, days, reason, until))

    @answered("End an override: the plan says again for how long the subject is kept. Returns its name.")
    async def end_retention_override(self, info: Info, slug: str, subject: str) -> str:
        return await _remove(info, slug, Kind.RETENTION, subject)


async def _every(info: Info, slug: str, kind: Kind) -> list[Override]:
    control = info.context.control
    found = await overrides.every(control, await provisioning.named(control, slug))
    return [each for each in found if each.kind is kind]


async def _put(
    info: Info, slug: str, kind: Kind, name: str, value: int | Rate | None, reason: str, until: DateTime | None
) -> Override:
    control, author = info.context.control, info.context.author
    tenant = await provisioning.named(control, slug)
    return await overrides.put(control, author, tenant, kind, name, value=value, reason=reason, ends_at=until)


async def _remove(info: Info, slug: str, kind: Kind, name: str) -> str:
    control, author = info.context.control, info.context.author
    await overrides.remove(control, author, await provisioning.named(control, slug), name, kind)
    return name


def _quota(override: Override) -> QuotaOverride:
    return QuotaOverride(name=QuotaName(override.name), limit=_most(override), **_facts(override))


def _limit(override: Override) -> LimitOverride:
    return LimitOverride(meter=override.name, limit=_most(override), **_facts(override))


def _feature(override: Override) -> FeatureOverride:
    return FeatureOverride(name=override.name, given=bool(override.value), **_facts(override))


def _rate(override: Override) -> RateOverride:
    rate = None if override.value is None else Rate.parse(str(override.value))
    limit, period = (None, None) if rate is None else (BigInt(rate.most), rate.period)
    return RateOverride(name=override.name, limit=limit, period=period, **_facts(override))


def _retention(override: Override) -> RetentionOverride:
    days = None if override.value is None else int(override.value)
    return RetentionOverride(subject=override.name, days=days, **_facts(override))


def _most(override: Override) -> BigInt | None:
    return None if override.value is None else BigInt(int(override.value))


def _facts(override: Override) -> dict[str, Any]:
    """What all overrides have."""
    return {
        "reason": override.reason,
        "created_at": DateTime(override.created_at),
        "until": moment(override.ends_at),
        "ended": override.ended,
    }
