import strawberry
from sqlalchemy import BigInteger, Boolean, Column, DateTime as Timestamp, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.fields import many, mapped, one, part, typed_id
from isola.api.request import Info, given, payload
from isola.api.scalars import DateTime
from isola.api.tenants import Tenant
from isola.domain import shares
from isola.domain.permissions import Permission
from isola.domain.resources import Resource
from isola.domain.users import User
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters

PREFIX, RESOURCE = "shr", Resource.declaration.prefix


def shares_of(resource: str) -> Function:
    """The live shares of one of the tenant's own resources, by the column that holds its key."""
    return Function(
        "isola.shares_of",
        (
            Column("id", Uuid, nullable=False),
            Column("resource_id", Uuid, nullable=False),
            Column("grantee_slug", Text, nullable=False),
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
    one="isola.share_received",
    page="isola.page_of_shares_received",
)

share_offers = Function(
    "isola.share_offers",
    (
        Column("id", Uuid, nullable=False),
        Column("owner_slug", Text, nullable=False),
        Column("owner_name", Text, nullable=False),
        Column("offered_at", Timestamp(timezone=True), nullable=False),
        Column("accepted", Boolean),
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


@mapped(Parameters({"slug": Text()}))
@strawberry.type(
    description="Whom something is shared with. Whether there is such a tenant is not told.", directives=[PUBLIC]
)
class Grantee:
    slug: str


@mapped(shares_of("id"))
@strawberry.type(
    description="A partner's right to read a resource of the caller's tenant.",
    directives=[requires(Permission.SHARE_READ)],
)
class Share:
    id: strawberry.ID = typed_id(PREFIX)
    resource_id: strawberry.ID = typed_id(RESOURCE, "resource_id")
    resource: Resource = one("resource_id")
    grantee: Grantee = part(slug="grantee_slug")
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
    resource: Resource = one(
        source=shared_resource,
        plain="what hangs off a shared resource is not shared",
        description="Only its values: owner, spans and shares are refused.",
    )
    owner: Tenant = part(slug="owner_slug", name="owner_name")
    granted_at: DateTime
    expires_at: DateTime | None


@mapped(share_offers, order=(("offered_at", False), ("id", False)))
@strawberry.type(
    description="A tenant that shares something with the caller's, and what was said to that.",
    directives=[requires(Permission.SHARE_READ)],
)
class ShareOffer:
    id: strawberry.ID = typed_id(PREFIX)
    owner: Tenant = part(slug="owner_slug", name="owner_name")
    offered_at: DateTime
    accepted: bool | None = strawberry.field(description="Null until it is accepted or declined.")


@strawberry.type
class ShareQueries:
    shared_with_me: Connection[SharedResource] | None = many(
        backward=False,
        description="What other tenants share with the caller's, as far as that was accepted; newest first.",
        access=requires(Permission.SHARE_READ),
    )
    share_offers: Connection[ShareOffer] | None = many(
        source=share_offers,
        description="The tenants that share something with the caller's, each once.",
        access=requires(Permission.SHARE_READ),
    )


@strawberry.input
class ShareResourceInput:
    resource_id: strawberry.ID
    grantee: str = strawberry.field(
        description="The slug of the tenant that is to read it. The answer is the same if there is none."
    )
    expires_at: DateTime | None = strawberry.field(
        default=strawberry.UNSET,
        description="Null: until it is revoked. Left out, a share that is there keeps its end; a new one has none.",
    )


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


@strawberry.input
class AcceptShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class AcceptSharePayload:
    accepted_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.input
class DeclineShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DeclineSharePayload:
    declined_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.type
class ShareMutations:
    @mutation(requires(Permission.SHARE_WRITE))
    async def share_resource(self, info: Info, input: ShareResourceInput) -> ShareResourcePayload:
        values = given(input)
        resource = decode(values.pop("resource_id"), RESOURCE, "resourceId")
        async with info.context.transaction() as work:
            key = await shares.grant(work, info.context.actor, resource, **values)
            return await payload(ShareResourcePayload, info, work, share_id=key, resource_id=resource)

    @mutation(requires(Permission.SHARE_WRITE))
    async def revoke_share(self, info: Info, input: RevokeShareInput) -> RevokeSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.revoke(work, info.context.actor, share)
            return await payload(RevokeSharePayload, info, work, share_id=share)

    @mutation(
        requires(Permission.SHARE_MANAGE),
        "Takes what the owner of a share shares with the caller's tenant, now and later, into sharedWithMe.",
    )
    async def accept_share(self, info: Info, input: AcceptShareInput) -> AcceptSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.answer(work, info.context.actor, share, accepted=True)
            return await payload(AcceptSharePayload, info, work, share_id=share)

    @mutation(
        requires(Permission.SHARE_MANAGE),
        "Keeps what the owner of a share shares with the caller's tenant, now and later, out of sharedWithMe.",
    )
    async def decline_share(self, info: Info, input: DeclineShareInput) -> DeclineSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.answer(work, info.context.actor, share, accepted=False)
            return await payload(DeclineSharePayload, info, work, share_id=share)
