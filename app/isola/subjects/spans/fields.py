"""What the API has of spans besides their columns: the bytes to sign, and the statistics of the timeline."""

from typing import Annotated, Any

import strawberry

from isola.api.access import requires
from isola.api.declared import extend
from isola.api.fields import computed
from isola.api.request import Info
from isola.api.scalars import BigInt, Date, DateTime
from isola.subjects.permissions import Permission
from isola.subjects.spans import Span, SpanType, Visibility, statistics
from isola.subjects.spans.signatures import SIGNED, InexpressibleError, canonical


def _canonical(span: strawberry.Parent[dict[str, Any]], info: Info) -> str | None:
    if span["replay_from_id"] is not None and span["author_id"] != info.context.context.principal.user_id:
        # Others may not be allowed to see the origin.
        return None
    try:
        return canonical(span).decode()
    except InexpressibleError:
        return None


@extend(Span)
class SpanFields:
    canonical_json: str | None = computed(
        *SIGNED,
        description="What is signed: the span in canonical JSON, RFC 8785. Null if it has numbers that are not exact "
        "in 64-bit floating point, and of a replay for all but its author.",
    )(_canonical)


@strawberry.type(description="The spans of one type.", directives=[requires(Permission.SPAN_READ)])
class SpansOfType:
    type: SpanType = strawberry.field(description="The type.")
    spans: int = strawberry.field(description="The number of spans of this type.")


@strawberry.type(description="The spans of one visibility.", directives=[requires(Permission.SPAN_READ)])
class SpansOfVisibility:
    visibility: Visibility = strawberry.field(description="The visibility.")
    spans: int = strawberry.field(description="The number of spans with this visibility.")


@strawberry.type(description="The spans of one day.", directives=[requires(Permission.SPAN_READ)])
class SpansOfDay:
    day: Date = strawberry.field(description="The day, in UTC.")
    spans: int = strawberry.field(description="The number of spans of this day.")


@strawberry.type(
    description="Statistics of the spans of a period that the caller may read.",
    directives=[requires(Permission.SPAN_READ)],
)
class TenantStats:
    spans: int = strawberry.field(description="The number of spans.")
    by_type: list[SpansOfType] = strawberry.field(description="The types that occur, in the order of the enum.")
    by_visibility: list[SpansOfVisibility] = strawberry.field(
        description="The visibilities that occur, in the order of the enum."
    )
    by_day: list[SpansOfDay] = strawberry.field(description="The days in UTC that have spans, in order.")
    active_users: int = strawberry.field(description="The number of their distinct authors.")
    replays: int = strawberry.field(description="The number of replays of spans that the caller may read.")
    storage_bytes: BigInt = strawberry.field(description="The size of their titles, payloads and metadata.")


async def _stats(
    info: Info,
    from_: Annotated[DateTime, strawberry.argument(name="from", description="The beginning of the period.")],
    to: Annotated[DateTime, strawberry.argument(description="The end of the period, which is not part of it.")],
) -> TenantStats | None:
    async with info.context.context.transaction(read_only=True) as work:
        found = await statistics.of_time(work, from_, to)
    return TenantStats(
        spans=found.spans,
        # Fields of mapped enums read names, as statements return them.
        by_type=[
            SpansOfType(type=each.name, spans=found.by_type[each])  # type: ignore[arg-type]  # see above
            for each in SpanType
            if each in found.by_type
        ],
        by_visibility=[
            SpansOfVisibility(visibility=each.name, spans=found.by_visibility[each])  # type: ignore[arg-type]  # as above
            for each in Visibility
            if each in found.by_visibility
        ],
        by_day=[SpansOfDay(day=Date(day), spans=count) for day, count in sorted(found.by_day.items())],
        active_users=found.active_users,
        replays=found.replays,
        storage_bytes=BigInt(found.bytes),
    )


@strawberry.type
class SpanQueries:
    tenant_stats: TenantStats | None = strawberry.field(
        resolver=_stats,
        description="Statistics of the spans in a half-open period of at most 366 days.",
        directives=[requires(Permission.SPAN_READ)],
    )
