from typing import TYPE_CHECKING, Annotated

import strawberry
from sqlalchemy import BigInteger, Column, DateTime as Timestamp, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from app.api.access import PUBLIC, mutation, requires
from app.api.connections import Connection, Node
from app.api.fields import many, mapped, one, part, typed_id
from app.api.request import Info, payload
from app.api.scalars import DateTime
from app.api.spans import RESOURCE
from app.api.tenants import Tenant
from app.api.users import User
from app.domain import shares
from app.domain.permissions import Permission
from app.query.identifiers import decode
from app.query.mapping import Function, Parameters

if TYPE_CHECKING:
    from app.api.resources import Resource

PREFIX = "shr"


def shares_of(resource: str) -> Function:
    """The live shares of one of the tenant's own resources, by the column that holds its key."""
    return Function(
        "isola.shares_of",
        (
            Column("id", Uuid, nullable=False),
            Column("resource_id", Uuid, nullable=False),
            Column("grantee_slug", Text, nullable=False),
            Column("grantee_name", Text, nullable=False),
            Column("granted_by", Uuid),
            Column("granted_at", Timestamp(timezone=True), nullable=False),
            Column("expires_at", Timestamp(timezone=True)),
        ),
        (resource,),
    )


shares_received = Function(
    "isola.shares_received",
    (
        Column("id", Uuid, nullable=False),
        Column("owner_slug", Text, nullable=False),
        Column("owner_name", Text, nullable=False),
        Column("granted_at", Timestamp(timezone=True), nullable=False),
        Column("expires_at", Timestamp(timezone=True)),
    ),
)

shared_resource = Function(
    "isola.shared_resource",
    (
        Column("id", Uuid, nullable=False),
        Column("name", Text, nullable=False),
        Column("kind", Text),
        Column("data", JSONB, nullable=False),
        Column("size_bytes", BigInteger, nullable=False),
        Column("created_at", Timestamp(timezone=True), nullable=False),
        Column("updated_at", Timestamp(timezone=True), nullable=False),
    ),
    ("id",),
)


@mapped(shares_of("id"))
@strawberry.type(
    description="A partner's right to read a resource of the caller's tenant.",
    directives=[requires(Permission.SHARE_READ)],
)
class Share:
    id: strawberry.ID = typed_id(PREFIX)
    resource_id: strawberry.ID = typed_id(RESOURCE, "resource_id")
    resource: Annotated["Resource", strawberry.lazy("app.api.resources")] = one("resource_id")
    grantee: Tenant = part(slug="grantee_slug", name="grantee_name")
    granted_by: User | None = one("granted_by")
    granted_at: DateTime
    expires_at: DateTime | None


@mapped(shares_received, prefix=PREFIX, order=(("granted_at", True), ("id", True)))
@strawberry.type(
    description="A resource of another tenant that the caller's tenant may read.",
    directives=[requires(Permission.SHARE_READ)],
)
class SharedResource(Node):
    id: strawberry.ID = typed_id(PREFIX)
    resource: Annotated["Resource", strawberry.lazy("app.api.resources")] = one(
        source=shared_resource,
        plain="what hangs off a shared resource is not shared",
        description="Only its values: owner, spans and shares are refused.",
    )
    owner: Tenant = part(slug="owner_slug", name="owner_name")
    granted_at: DateTime
    expires_at: DateTime | None


@strawberry.type
class ShareQueries:
    shared_with_me: Connection[SharedResource] = many(
        backward=False,
        description="What other tenants share with the caller's; newest first.",
        access=requires(Permission.SHARE_READ),
    )


@strawberry.input
class ShareResourceInput:
    resource_id: strawberry.ID
    grantee: str = strawberry.field(description="The slug of the tenant that is to read it.")
    expires_at: DateTime | None = None


@mapped(Parameters({"share_id": Uuid(), "resource_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class ShareResourcePayload:
    share: Share = one("share_id", source=shares_of("resource_id"))


@strawberry.input
class RevokeShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeSharePayload:
    revoked_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.type
class ShareMutations:
    @mutation(requires(Permission.SHARE_WRITE))
    async def share_resource(self, info: Info, input: ShareResourceInput) -> ShareResourcePayload:
        resource = decode(input.resource_id, RESOURCE, "resourceId")
        async with info.context.transaction() as work:
            key = await shares.grant(work, info.context.actor, resource, input.grantee, input.expires_at)
            return await payload(ShareResourcePayload, info, work, share_id=key, resource_id=resource)

    @mutation(requires(Permission.SHARE_WRITE))
    async def revoke_share(self, info: Info, input: RevokeShareInput) -> RevokeSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.revoke(work, info.context.actor, share)
            return await payload(RevokeSharePayload, info, work, share_id=share)
