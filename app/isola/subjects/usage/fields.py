from collections.abc import Mapping
from enum import Enum
from typing import Annotated, cast

import strawberry
from sqlalchemy import BigInteger, Boolean, Column, DateTime as Timestamp, Integer, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import expression, many, mapped
from isola.api.request import Info, payload
from isola.api.scalars import JSON, BigInt, DateTime, DateTimeFilter, OrderDirection, StringFilter
from isola.errors import BadUserInput
from isola.platform.plans import MOST
from isola.query.mapping import Function, Parameters
from isola.subjects import document, usage
from isola.subjects.operations import each, items_of
from isola.subjects.permissions import Permission

READ, WRITE = requires(Permission.USAGE_READ), requires(Permission.USAGE_WRITE)

every_counter = Function(
    "isola.usage",
    (
        Column("id", Uuid, nullable=False),
        Column("meter", Text, nullable=False),
        Column("customer", Text),
        Column("starts_at", Timestamp(timezone=True), nullable=False),
        Column("ends_at", Timestamp(timezone=True), nullable=False),
        Column("quantity", BigInteger, nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("late_events", BigInteger, nullable=False),
        Column("changed_at", Timestamp(timezone=True), nullable=False),
        Column("forecast", BigInteger),
        Column("allowed", BigInteger),
    ),
)


@mapped(every_counter, order=(("starts_at", True), ("id", True)))
@strawberry.type(description="What was used of a meter in a period.", directives=[READ])
class Usage:
    meter: str = strawberry.field(description="The name of the meter.")
    customer: str | None = strawberry.field(
        description="The customer of the tenant; null for all that the tenant used, with and without a customer."
    )
    starts_at: DateTime = strawberry.field(description="The beginning of the period, in UTC.")
    ends_at: DateTime = strawberry.field(description="The end of the period.")
    quantity: BigInt = strawberry.field(description="What was used, as the kind of the meter adds it up.")
    events: BigInt = strawberry.field(description="The number of events.")
    late_events: BigInt = strawberry.field(description="The number of events that came after the period had ended.")
    changed_at: DateTime = strawberry.field(description="When the last event came.")
    forecast: BigInt | None = strawberry.field(
        description="What will have been used at the end of the period if it goes on like that, for sums and counts; "
        "null in the first hundredth of a period."
    )
    limit: BigInt | None = expression(
        lambda row: row["allowed"],
        "The limit of a present period: the tenant's, or that of the customer's tier; null if there is none.",
    )


@strawberry.input(description="Conditions are combined with AND; null is refused.")
class UsageFilter:
    meter: StringFilter | None = strawberry.UNSET
    customer: StringFilter | None = strawberry.UNSET
    starts_at: DateTimeFilter | None = strawberry.UNSET
    and_: list["UsageFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["UsageFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "UsageFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class UsageOrderField(Enum):
    STARTS_AT = "starts_at"
    QUANTITY = "quantity"


@strawberry.input
class UsageOrder:
    field: UsageOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type(description="Whether an amount is within the limit of a meter.", directives=[READ])
class UsageCheck:
    allowed: bool = strawberry.field(
        description="Whether it is at the moment, for the tenant and for the customer, if one is given. Others may use "
        "what is left before it is consumed."
    )
    used: BigInt = strawberry.field(description="What the tenant has used in the present period.")
    limit: BigInt | None = strawberry.field(description="The most in a period; null if there is no limit.")
    remaining: BigInt | None = strawberry.field(description="What is left; null if there is no limit.")
    resets_at: DateTime = strawberry.field(description="When the next period begins.")
    used_by_customer: BigInt | None = strawberry.field(
        description="What the customer has used in the present period; null if none is given."
    )
    customer_limit: BigInt | None = strawberry.field(
        description="The most in a period by the customer's tier; null if there is no limit."
    )
    customer_remaining: BigInt | None = strawberry.field(
        description="What is left for the customer by their tier; null if there is no limit."
    )


async def _check(
    info: Info,
    meter: Annotated[str, strawberry.argument(description="The name of the meter.")],
    amount: Annotated[BigInt, strawberry.argument(description="The quantity that is to be used.")] = cast("BigInt", 1),  # noqa: B008  a default of the schema
    customer: Annotated[
        str | None, strawberry.argument(description="A customer of the tenant, whose limit holds as well.")
    ] = None,
) -> UsageCheck:
    if not 1 <= amount <= MOST:
        raise BadUserInput(f"amount: expected 1 to {MOST}", "amount")
    document.check("customer", customer)
    async with info.context.context.transaction(read_only=True) as work:
        found = await usage.allowance(work, meter)
        of = None if customer is None else await usage.allowance_of_customer(work, meter, customer, found)
    return UsageCheck(
        allowed=found.admits(amount) and (of is None or of.admits(amount)),
        used=BigInt(found.used),
        limit=_big(found.limit),
        remaining=_big(found.remaining),
        resets_at=DateTime(found.resets_at),
        used_by_customer=_big(of.used if of else None),
        customer_limit=_big(of.limit if of else None),
        customer_remaining=_big(of.remaining if of else None),
    )


def _big(number: int | None) -> BigInt | None:
    return None if number is None else BigInt(number)


@strawberry.type
class UsageQueries:
    usage: Connection[Usage] | None = many(
        source=every_counter,
        filter=UsageFilter,
        order=UsageOrder,
        description="What was used, by meter, period and customer, in the last 400 days; the latest periods first.",
        access=READ,
    )
    check_usage: UsageCheck | None = strawberry.field(
        resolver=_check,
        directives=[READ],
        description="Whether an amount of a meter is within the limits of the tenant and of the customer now. It takes "
        "nothing.",
    )


@strawberry.input(description="A use of a meter.")
class UsageEventInput:
    meter: str = strawberry.field(description="The name of the meter.")
    quantity: BigInt = strawberry.field(
        default=cast("BigInt", 1), description="From 1 to 2^53 - 1; 1 for meters of the kinds COUNT and UNIQUE."
    )
    customer: str | None = strawberry.field(
        default=None,
        description="The customer of the tenant who used it: 1 to 200 characters, none of them control characters.",
    )
    properties: JSON | None = strawberry.field(
        default=None,
        description="An object of at most 2,000 bytes. A meter of the kind UNIQUE counts the values of one property.",
    )
    at: DateTime | None = strawberry.field(
        default=None, description="When it was used: at most 35 days ago and 5 minutes ahead; by default now."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="The event is counted once for ever under this key, of 1 to 255 characters."
    )


WITHIN_LIMIT = (
    "Refuse with QUOTA_EXCEEDED what exceeds the limit of the tenant or of the customer. Otherwise, it is counted all "
    "the same."
)


@strawberry.input
class RecordUsageInput(UsageEventInput):
    within_limit: bool = strawberry.field(default=False, description=WITHIN_LIMIT)


@strawberry.input
class RecordUsageBatchInput:
    events: list[UsageEventInput] = strawberry.field(description="1 to 1,000 events. All are counted, or none.")
    within_limit: bool = strawberry.field(default=False, description=WITHIN_LIMIT)


@mapped(Parameters({"counted": Boolean()}))
@strawberry.type(directives=[PUBLIC])
class RecordUsagePayload:
    counted: bool = strawberry.field(description="Whether it was counted: not if its key was used before.")


@mapped(Parameters({"counted": Integer()}))
@strawberry.type(directives=[PUBLIC])
class RecordUsageBatchPayload:
    counted: int = strawberry.field(description="How many events were counted: not those whose keys were used before.")


def _event(given: UsageEventInput) -> usage.Event:
    if given.properties is not None and not isinstance(given.properties, Mapping):
        raise BadUserInput("properties: expected an object", "properties")
    if given.properties:
        document.check("properties", given.properties)
    return usage.Event(
        given.meter, given.quantity, given.customer, given.at, given.idempotency_key, given.properties or {}
    )


@strawberry.type
class UsageMutations:
    @mutation(WRITE, "Count a use of a meter.")
    async def record_usage(self, info: Info, input: RecordUsageInput) -> RecordUsagePayload:
        event = _event(input)
        async with info.context.transaction() as work:
            counted = await usage.record(work, [event], within_limit=input.within_limit)
            return await payload(RecordUsagePayload, info, work, counted=counted > 0)

    @mutation(WRITE, "Count uses of meters in one transaction.")
    async def record_usage_batch(self, info: Info, input: RecordUsageBatchInput) -> RecordUsageBatchPayload:
        with items_of("events"):
            events = each(input.events[: usage.MAX_EVENTS + 1], _event)
            async with info.context.transaction() as work:
                counted = await usage.record(work, events, within_limit=input.within_limit)
                return await payload(RecordUsageBatchPayload, info, work, counted=counted)
