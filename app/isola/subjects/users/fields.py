import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.declared import extend
from isola.api.fields import many, mapped, one
from isola.api.request import Info, payload
from isola.query.identifiers import decode
from isola.query.mapping import Parameters
from isola.subjects import roles
from isola.subjects.organizations import Organization, memberships
from isola.subjects.permissions import Permission
from isola.subjects.roles import Role, user_roles
from isola.subjects.users import User

PREFIX = User.declaration.prefix


@extend(User)
class UserFields:
    roles: Connection[Role] = many(through=(user_roles, "user_id", "role_id"), description="In the order of creation.")
    organizations: Connection[Organization] = many(
        through=(memberships, "user_id", "organization_id"), description="In the order of creation."
    )


@strawberry.input
class DisableUserInput:
    id: strawberry.ID


@mapped(Parameters({"user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DisableUserPayload:
    user: User = one("user_id")


@strawberry.input
class EnableUserInput:
    id: strawberry.ID


@mapped(Parameters({"user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class EnableUserPayload:
    user: User = one("user_id")


@strawberry.type
class UserMutations:
    @mutation(requires(Permission.USER_MANAGE), "Disable one user: nothing of theirs is accepted any more.")
    async def disable_user(self, info: Info, input: DisableUserInput) -> DisableUserPayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await roles.disable(work, info.context.actor, key)
            return await payload(DisableUserPayload, info, work, user_id=key)

    @mutation(requires(Permission.USER_MANAGE), "Enable one user who was disabled.")
    async def enable_user(self, info: Info, input: EnableUserInput) -> EnableUserPayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await roles.enable(work, info.context.actor, key)
            return await payload(EnableUserPayload, info, work, user_id=key)
