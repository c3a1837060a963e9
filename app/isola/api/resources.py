from enum import Enum

import strawberry
from sqlalchemy import ColumnElement, Uuid, or_

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import by_id, compared_id, many, mapped, one, typed_id
from isola.api.request import Info, given, payload
from isola.api.scalars import (
    JSON,
    BigInt,
    BigIntFilter,
    DateTime,
    DateTimeFilter,
    IDFilter,
    OrderDirection,
    StringFilter,
)
from isola.api.shares import Share, shares_of
from isola.api.spans import Span, SpanFilter, SpanOrder
from isola.api.users import PREFIX as USER, User
from isola.domain import resources
from isola.domain.permissions import Permission
from isola.query.caller import may, user_id
from isola.query.identifiers import decode
from isola.query.mapping import Parameters, Row

PREFIX = "res"


def _may_see_shares(resource: Row) -> ColumnElement[bool]:
    return or_(resource["owner_id"] == user_id(), may("resource:manage"))


@mapped(resources.resources, prefix=PREFIX)
@strawberry.type(directives=[requires(Permission.RESOURCE_READ)])
class Resource(Node):
    id: strawberry.ID = typed_id(PREFIX)
    name: str
    kind: str | None
    data: JSON
    size_bytes: BigInt
    owner: User = one("owner_id")
    created_at: DateTime
    updated_at: DateTime
    shares: Connection[Share] = many(
        source=shares_of("id"),
        when=_may_see_shares,
        description="With whom it is shared; empty to all but its owner and those who may manage resources.",
    )
    spans: Connection[Span] = many(
        "resource_id",
        filter=SpanFilter,
        order=SpanOrder,
        description="The spans about it that the caller may see; by default newest first.",
    )


@strawberry.input(description="All conditions given have to hold; null is refused.")
class ResourceFilter:
    id: IDFilter | None = compared_id(PREFIX)
    name: StringFilter | None = strawberry.UNSET
    kind: StringFilter | None = strawberry.UNSET
    size_bytes: BigIntFilter | None = strawberry.UNSET
    owner_id: IDFilter | None = compared_id(USER)
    created_at: DateTimeFilter | None = strawberry.UNSET
    updated_at: DateTimeFilter | None = strawberry.UNSET
    and_: list["ResourceFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["ResourceFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "ResourceFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class ResourceOrderField(Enum):
    ID = "id"
    NAME = "name"
    KIND = "kind"
    SIZE_BYTES = "size_bytes"
    CREATED_AT = "created_at"
    UPDATED_AT = "updated_at"


@strawberry.input
class ResourceOrder:
    field: ResourceOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class ResourceQueries:
    resource: Resource | None = by_id(
        "Null when there is none with this id.", access=requires(Permission.RESOURCE_READ)
    )
    resources: Connection[Resource] | None = many(
        filter=ResourceFilter,
        order=ResourceOrder,
        description="By default in the order of creation.",
        access=requires(Permission.RESOURCE_READ),
    )


@strawberry.input
class CreateResourceInput:
    name: str
    data: JSON | None = strawberry.UNSET
    size_bytes: BigInt | None = strawberry.UNSET
    kind: str | None = strawberry.UNSET


@mapped(Parameters({"resource_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CreateResourcePayload:
    resource: Resource = one("resource_id")


@strawberry.input(description="What is left out keeps its value.")
class UpdateResourceInput:
    id: strawberry.ID
    name: str | None = strawberry.UNSET
    data: JSON | None = strawberry.UNSET
    size_bytes: BigInt | None = strawberry.UNSET
    kind: str | None = strawberry.UNSET


@mapped(Parameters({"resource_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class UpdateResourcePayload:
    resource: Resource = one("resource_id")


@strawberry.input
class DeleteResourceInput:
    id: strawberry.ID


@mapped(Parameters({"resource_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DeleteResourcePayload:
    deleted_id: strawberry.ID = typed_id(PREFIX, "resource_id")


@strawberry.type
class ResourceMutations:
    @mutation(requires(Permission.RESOURCE_WRITE))
    async def create_resource(self, info: Info, input: CreateResourceInput) -> CreateResourcePayload:
        async with info.context.transaction() as work:
            key = await resources.create(work, info.context.actor, **given(input))
            return await payload(CreateResourcePayload, info, work, resource_id=key)

    @mutation(requires(Permission.RESOURCE_WRITE))
    async def update_resource(self, info: Info, input: UpdateResourceInput) -> UpdateResourcePayload:
        changes = given(input)
        key = decode(changes.pop("id"), PREFIX, "id")
        async with info.context.transaction() as work:
            await resources.update(work, info.context.actor, key, **changes)
            return await payload(UpdateResourcePayload, info, work, resource_id=key)

    @mutation(requires(Permission.RESOURCE_WRITE))
    async def delete_resource(self, info: Info, input: DeleteResourceInput) -> DeleteResourcePayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await resources.delete(work, info.context.actor, key)
            return await payload(DeleteResourcePayload, info, work, resource_id=key)
