from enum import Enum
from typing import TYPE_CHECKING, Annotated

import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import compared_id, many, mapped, one, typed_id
from isola.api.organizations import PREFIX as ORGANIZATION, Organization
from isola.api.request import Info, payload
from isola.api.scalars import JSON, DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from isola.api.users import PREFIX as USER, User
from isola.domain import spans
from isola.domain.permissions import Permission
from isola.domain.spans import Visibility
from isola.query.identifiers import decode
from isola.query.mapping import Parameters

if TYPE_CHECKING:
    from isola.api.resources import Resource

PREFIX = "spn"
RESOURCE = "res"

strawberry.enum(Visibility, description="Who sees a span: its author, an organization, or everybody here.")


@mapped(spans.spans, prefix=PREFIX, order=(("created_at", True), ("id", True)))
@strawberry.type(description="An entry of the timeline.", directives=[requires(Permission.SPAN_READ)])
class Span(Node):
    id: strawberry.ID = typed_id(PREFIX)
    title: str
    payload: JSON
    author: User = one("author_id")
    resource: Annotated["Resource", strawberry.lazy("isola.api.resources")] | None = one("resource_id")
    organization: Organization | None = one("organization_id")
    visibility: Visibility
    created_at: DateTime


@strawberry.input
class VisibilityFilter:
    eq: Visibility | None = strawberry.UNSET
    in_: list[Visibility] | None = strawberry.field(name="in", default=strawberry.UNSET)


@strawberry.input(description="All conditions given have to hold; null is refused.")
class SpanFilter:
    id: IDFilter | None = compared_id(PREFIX)
    title: StringFilter | None = strawberry.UNSET
    author_id: IDFilter | None = compared_id(USER)
    resource_id: IDFilter | None = compared_id(RESOURCE)
    organization_id: IDFilter | None = compared_id(ORGANIZATION)
    visibility: VisibilityFilter | None = strawberry.UNSET
    created_at: DateTimeFilter | None = strawberry.UNSET
    and_: list["SpanFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["SpanFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "SpanFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class SpanOrderField(Enum):
    ID = "id"
    TITLE = "title"
    CREATED_AT = "created_at"


@strawberry.input
class SpanOrder:
    field: SpanOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class SpanQueries:
    timeline: Connection[Span] | None = many(
        filter=SpanFilter,
        order=SpanOrder,
        description="The spans that the caller may see; by default newest first.",
        access=requires(Permission.SPAN_READ),
    )


@strawberry.input
class CreateSpanInput:
    title: str
    payload: JSON | None = strawberry.UNSET
    resource_id: strawberry.ID | None = None
    organization_id: strawberry.ID | None = None
    visibility: Visibility = Visibility.PRIVATE


@mapped(Parameters({"span_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CreateSpanPayload:
    span: Span = one("span_id")


@strawberry.type
class SpanMutations:
    @mutation(requires(Permission.SPAN_WRITE))
    async def create_span(self, info: Info, input: CreateSpanInput) -> CreateSpanPayload:
        resource, organization = input.resource_id, input.organization_id
        async with info.context.transaction() as work:
            key = await spans.create(
                work,
                info.context.actor,
                title=input.title,
                payload={} if input.payload is strawberry.UNSET else input.payload,
                resource_id=None if resource is None else decode(resource, RESOURCE, "resourceId"),
                organization_id=(
                    None if organization is None else decode(organization, ORGANIZATION, "organizationId")
                ),
                visibility=input.visibility,
            )
            return await payload(CreateSpanPayload, info, work, span_id=key)
