import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.declared import extend
from isola.api.fields import many, mapped, one
from isola.api.request import Info, payload
from isola.query.identifiers import decode
from isola.query.mapping import Parameters
from isola.subjects import organizations
from isola.subjects.organizations import Organization, memberships
from isola.subjects.permissions import Permission
from isola.subjects.users import User

PREFIX, USER = Organization.declaration.prefix, User.declaration.prefix


@extend(Organization)
class OrganizationFields:
    members: Connection[User] = many(
        through=(memberships, "organization_id", "user_id"), description="In the order of creation."
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
    @mutation(requires(Permission.ORGANIZATION_MANAGE), "Create one organization.")
    async def create_organization(self, info: Info, input: CreateOrganizationInput) -> CreateOrganizationPayload:
        async with info.context.transaction() as work:
            key = await organizations.create(work, info.context.actor, name=input.name)
            return await payload(CreateOrganizationPayload, info, work, organization_id=key)

    @mutation(requires(Permission.ORGANIZATION_MANAGE), "Add a user to an organization.")
    async def add_member(self, info: Info, input: AddMemberInput) -> AddMemberPayload:
        organization = decode(input.organization_id, PREFIX, "organizationId")
        user = decode(input.user_id, USER, "userId")
        async with info.context.transaction() as work:
            await organizations.add_member(work, info.context.actor, organization, user)
            return await payload(AddMemberPayload, info, work, organization_id=organization, user_id=user)

    @mutation(requires(Permission.ORGANIZATION_MANAGE), "Remove a user from an organization.")
    async def remove_member(self, info: Info, input: RemoveMemberInput) -> RemoveMemberPayload:
        organization = decode(input.organization_id, PREFIX, "organizationId")
        user = decode(input.user_id, USER, "userId")
        async with info.context.transaction() as work:
            await organizations.remove_member(work, info.context.actor, organization, user)
            return await payload(RemoveMemberPayload, info, work, organization_id=organization, user_id=user)
