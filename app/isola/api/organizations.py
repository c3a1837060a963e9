from enum import Enum

import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import compared_id, many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from isola.api.users import PREFIX as USER, User
from isola.domain import organizations
from isola.domain.organizations import memberships
from isola.domain.permissions import Permission
from isola.query.identifiers import decode
from isola.query.mapping import Parameters

PREFIX = "org"


@mapped(organizations.organizations, prefix=PREFIX)
@strawberry.type(description="A group of users inside a tenant.", directives=[requires(Permission.ORGANIZATION_READ)])
class Organization(Node):
    id: strawberry.ID = typed_id(PREFIX)
    name: str
    created_at: DateTime
    members: Connection[User] = many(
        through=(memberships, "organization_id", "user_id"), description="In the order of their creation."
    )


@strawberry.input(description="All conditions given have to hold; null is refused.")
class OrganizationFilter:
    id: IDFilter | None = compared_id(PREFIX)
    name: StringFilter | None = strawberry.UNSET
    created_at: DateTimeFilter | None = strawberry.UNSET
    and_: list["OrganizationFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["OrganizationFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "OrganizationFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class OrganizationOrderField(Enum):
    ID = "id"
    NAME = "name"
    CREATED_AT = "created_at"


@strawberry.input
class OrganizationOrder:
    field: OrganizationOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class OrganizationQueries:
    organizations: Connection[Organization] | None = many(
        filter=OrganizationFilter,
        order=OrganizationOrder,
        description="By default in the order of creation.",
        access=requires(Permission.ORGANIZATION_READ),
    )


@strawberry.input
class CreateOrganizationInput:
    name: str


@mapped(Parameters({"organization_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CreateOrganizationPayload:
    organization: Organization = one("organization_id")


@strawberry.input
class AddMemberInput:
    organization_id: strawberry.ID
    user_id: strawberry.ID


@mapped(Parameters({"organization_id": Uuid(), "user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class AddMemberPayload:
    organization: Organization = one("organization_id")
    user: User = one("user_id")


@strawberry.input
class RemoveMemberInput:
    organization_id: strawberry.ID
    user_id: strawberry.ID


@mapped(Parameters({"organization_id": Uuid(), "user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RemoveMemberPayload:
    organization: Organization = one("organization_id")
    user: User = one("user_id")


@strawberry.type
class OrganizationMutations:
    @mutation(requires(Permission.ORGANIZATION_MANAGE))
    async def create_organization(self, info: Info, input: CreateOrganizationInput) -> CreateOrganizationPayload:
        async with info.context.transaction() as work:
            key = await organizations.create(work, info.context.actor, name=input.name)
            return await payload(CreateOrganizationPayload, info, work, organization_id=key)

    @mutation(requires(Permission.ORGANIZATION_MANAGE))
    async def add_member(self, info: Info, input: AddMemberInput) -> AddMemberPayload:
        organization = decode(input.organization_id, PREFIX, "organizationId")
        user = decode(input.user_id, USER, "userId")
        async with info.context.transaction() as work:
            await organizations.add_member(work, info.context.actor, organization, user)
            return await payload(AddMemberPayload, info, work, organization_id=organization, user_id=user)

    @mutation(requires(Permission.ORGANIZATION_MANAGE))
    async def remove_member(self, info: Info, input: RemoveMemberInput) -> RemoveMemberPayload:
        organization = decode(input.organization_id, PREFIX, "organizationId")
        user = decode(input.user_id, USER, "userId")
        async with info.context.transaction() as work:
            await organizations.remove_member(work, info.context.actor, organization, user)
            return await payload(RemoveMemberPayload, info, work, organization_id=organization, user_id=user)
