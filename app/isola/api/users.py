from enum import Enum
from typing import TYPE_CHECKING, Annotated

import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import compared_id, many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.roles import Role
from isola.api.scalars import DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from isola.domain import roles
from isola.domain.organizations import memberships
from isola.domain.permissions import Permission
from isola.domain.roles import user_roles
from isola.domain.users import Kind, users
from isola.query.identifiers import decode
from isola.query.mapping import Parameters

if TYPE_CHECKING:
    from isola.api.organizations import Organization

PREFIX = "usr"

strawberry.enum(
    Kind,
    name="UserKind",
    description=(
        "What a user is: a person of the tenant's own, a machine that calls with an API key, the platform's staff, "
        "or somebody who acts from a tenant above."
    ),
)


@mapped(users, prefix=PREFIX)
@strawberry.type(directives=[requires(Permission.USER_READ)])
class User(Node):
    id: strawberry.ID = typed_id(PREFIX)
    kind: Kind
    name: str
    email: str | None = strawberry.field(
        description="In lower case, as verified by who named it. Several users can have the same."
    )
    created_at: DateTime
    disabled_at: DateTime | None = strawberry.field(description="From then on, whatever they ask is refused.")
    roles: Connection[Role] = many(
        through=(user_roles, "user_id", "role_id"), description="In the order of their creation."
    )
    organizations: Connection[Annotated["Organization", strawberry.lazy("isola.api.organizations")]] = many(
        through=(memberships, "user_id", "organization_id"), description="In the order of their creation."
    )


@strawberry.input
class UserKindFilter:
    eq: Kind | None = strawberry.UNSET
    in_: list[Kind] | None = strawberry.field(name="in", default=strawberry.UNSET)


@strawberry.input(description="All conditions given have to hold; null is refused.")
class UserFilter:
    id: IDFilter | None = compared_id(PREFIX)
    kind: UserKindFilter | None = strawberry.UNSET
    name: StringFilter | None = strawberry.UNSET
    email: StringFilter | None = strawberry.UNSET
    created_at: DateTimeFilter | None = strawberry.UNSET
    and_: list["UserFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["UserFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "UserFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class UserOrderField(Enum):
    ID = "id"
    NAME = "name"
    EMAIL = "email"
    CREATED_AT = "created_at"


@strawberry.input
class UserOrder:
    field: UserOrderField
    direction: OrderDirection = OrderDirection.ASC


@strawberry.type
class UserQueries:
    users: Connection[User] | None = many(
        filter=UserFilter,
        order=UserOrder,
        description="The users of the tenant; by default in the order of creation.",
        access=requires(Permission.USER_READ),
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
    @mutation(requires(Permission.USER_MANAGE))
    async def disable_user(self, info: Info, input: DisableUserInput) -> DisableUserPayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await roles.disable(work, info.context.actor, key)
            return await payload(DisableUserPayload, info, work, user_id=key)

    @mutation(requires(Permission.USER_MANAGE))
    async def enable_user(self, info: Info, input: EnableUserInput) -> EnableUserPayload:
        key = decode(input.id, PREFIX, "id")
        async with info.context.transaction() as work:
            await roles.enable(work, info.context.actor, key)
            return await payload(EnableUserPayload, info, work, user_id=key)
