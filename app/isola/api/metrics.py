from datetime import timedelta
from typing import Annotated

import strawberry

from isola.api.access import requires
from isola.api.request import Info
from isola.api.scalars import BigInt, DateTime
from isola.platform import request_records
from isola.platform.request_records import Hour
from isola.subjects.permissions import Permission

READ = requires(Permission.PLAN_READ)
_REQUESTS = "Requests over HTTP by users and machines of the tenant, whatever their outcome."
_ERRORS = "Those with an error in the response."
_OBJECTS = "JSON objects in the responses: about the rows that were read."
_BYTES = "Bytes of the bodies of the responses, before compression."
_DURATION = "The sum of the durations of the requests, in milliseconds."


@strawberry.type(description="The requests in a tenant in one hour.", directives=[READ])
class HourlyMetrics:
    hour: DateTime = strawberry.field(description="The beginning of the hour, in UTC.")
    requests: BigInt = strawberry.field(description=_REQUESTS)
    errors: BigInt = strawberry.field(description=_ERRORS)
    users: BigInt = strawberry.field(description="The number of different users and machines that made them.")
    fields: BigInt = strawberry.field(description="The number of different root fields, such as resources, in them.")
    objects: BigInt = strawberry.field(description=_OBJECTS)
    bytes: BigInt = strawberry.field(description=_BYTES)
    milliseconds: BigInt = strawberry.field(description=_DURATION)
    storage: BigInt | None = strawberry.field(
        description="What the tenant stored when it was last measured in this hour, in bytes; null if it was not."
    )


@strawberry.type(description="The requests in a tenant in a period.", directives=[READ])
class TenantMetrics:
    requests: BigInt = strawberry.field(description=_REQUESTS)
    errors: BigInt = strawberry.field(description=_ERRORS)
    objects: BigInt = strawberry.field(description=_OBJECTS)
    bytes: BigInt = strawberry.field(description=_BYTES)
    milliseconds: BigInt = strawberry.field(description=_DURATION)
    hours: list[HourlyMetrics] = strawberry.field(
        description="The hours that have requests, or in which the storage was measured, in order."
    )


async def _metrics(
    info: Info,
    from_: Annotated[
        DateTime, strawberry.argument(name="from", description="The beginning: hours that begin from then on count.")
    ],
    to: Annotated[DateTime, strawberry.argument(description="The end: hours that begin before it count.")],
) -> TenantMetrics | None:
    async with info.context.context.transaction(read_only=True) as work:
        found = await request_records.own_hours(work, from_, to)
    return TenantMetrics(
        requests=BigInt(sum(each.requests for each in found)),
        errors=BigInt(sum(each.errors for each in found)),
        objects=BigInt(sum(each.objects for each in found)),
        bytes=BigInt(sum(each.bytes for each in found)),
        milliseconds=BigInt(_milliseconds(sum(each.microseconds for each in found))),
        hours=[_hour(each) for each in found],
    )


def _hour(found: Hour) -> HourlyMetrics:
    return HourlyMetrics(
        hour=DateTime(found.hour),
        requests=BigInt(found.requests),
        errors=BigInt(found.errors),
        users=BigInt(found.users),
        fields=BigInt(found.fields),
        objects=BigInt(found.objects),
        bytes=BigInt(found.bytes),
        milliseconds=BigInt(_milliseconds(found.microseconds)),
        storage=None if found.storage is None else BigInt(found.storage),
    )


def _milliseconds(microseconds: int) -> int:
    return timedelta(microseconds=microseconds) // timedelta(milliseconds=1)


@strawberry.type
class MetricsQueries:
    tenant_metrics: TenantMetrics | None = strawberry.field(
        resolver=_metrics,
        description="The requests in the tenant, by hour, in a period of at most 31 days. They are kept for 30 days, "
        "if the server records requests; the latest are there after a second.",
        directives=[READ],
    )
