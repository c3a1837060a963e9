"""The tenants below the caller's, for those who may see them."""

from enum import Enum, StrEnum

import strawberry
from sqlalchemy import Column, Integer, Text, Uuid

from isola.api.access import requires
from isola.api.enums import described_enum
from isola.api.fields import mapped
from isola.api.scalars import IntFilter, OrderDirection, StringFilter
from isola.query.mapping import Function
from isola.subjects.permissions import Permission

every_descendant = Function(
    "isola.descendants",
    (
        Column("id", Uuid, nullable=False),
        Column("slug", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("depth", Integer, nullable=False),
        Column("parent_slug", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("plan", Text, nullable=False),
    ),
)


@described_enum
class DescendantStatus(StrEnum):
    """Whether requests to a descendant are served.

    ACTIVE: They are.
    SUSPENDED: It is suspended, or a tenant between it and the caller's is.
    """

    ACTIVE = "active"
    SUSPENDED = "suspended"


@mapped(every_descendant, order=(("slug", False),))
@strawberry.type(
    description="A tenant below the tenant of the request, at any depth.",
    directives=[requires(Permission.FAMILY_READ)],
)
class Descendant:
    slug: str = strawberry.field(description="The unique name in addresses.")
    name: str = strawberry.field(description="The name to show.")
    depth: int = strawberry.field(description="The number of levels below the tenant of the request, from 1.")
    parent_slug: str = strawberry.field(
        description="The slug of the tenant directly above: a descendant, or the tenant of the request."
    )
    status: DescendantStatus = strawberry.field(description="Whether its requests are served.")
    plan: str = strawberry.field(description="The name of its plan.")


@strawberry.input
class DescendantStatusFilter:
    eq: DescendantStatus | None = strawberry.UNSET
    in_: list[DescendantStatus] | None = strawberry.field(name="in", default=strawberry.UNSET)
    is_null: bool | None = strawberry.UNSET


@strawberry.input(description="Conditions are combined with AND; null is refused.")
class DescendantFilter:
    slug: StringFilter | None = strawberry.UNSET
    name: StringFilter | None = strawberry.UNSET
    depth: IntFilter | None = strawberry.UNSET  # type: ignore[valid-type]  # made at run time
    parent_slug: StringFilter | None = strawberry.UNSET
    status: DescendantStatusFilter | None = strawberry.UNSET
    plan: StringFilter | None = strawberry.UNSET
    and_: list["DescendantFilter"] | None = strawberry.field(name="and", default=strawberry.UNSET)
    or_: list["DescendantFilter"] | None = strawberry.field(name="or", default=strawberry.UNSET)
    not_: "DescendantFilter | None" = strawberry.field(name="not", default=strawberry.UNSET)


@strawberry.enum
class DescendantOrderField(Enum):
    SLUG = "slug"
    NAME = "name"
    DEPTH = "depth"


@strawberry.input
class DescendantOrder:
    field: DescendantOrderField
    direction: OrderDirection = OrderDirection.ASC
