from enum import Enum
from typing import TYPE_CHECKING, Annotated

import strawberry

from app.api.connections import Connection, Node
from app.api.fields import compared_id, many, mapped, typed_id
from app.api.scalars import DateTime, DateTimeFilter, IDFilter, OrderDirection, StringFilter
from app.domain.organizations import memberships
from app.domain.users import users

if TYPE_CHECKING:
    from app.api.organizations import Organization

PREFIX = "usr"


@mapped(users, prefix=PREFIX)
@strawberry.type
class User(Node):
    id: strawberry.ID = typed_id(PREFIX)
    name: str
    email: str | None
    created_at: DateTime
    organizations: Connection[Annotated["Organization", strawberry.lazy("app.api.organizations")]] = many(
        through=(memberships, "user_id", "organization_id"), description="In the order of their creation."
    )


@strawberry.input(description="All conditions given have to hold; null is refused.")
class UserFilter:
    id: IDFilter | None = compared_id(PREFIX)
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
    users: Connection[User] = many(
        filter=UserFilter, order=UserOrder, description="The users of the tenant; by default in the order of creation."
    )
