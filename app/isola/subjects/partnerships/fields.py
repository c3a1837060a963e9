import strawberry
from sqlalchemy import Column, DateTime as Timestamp, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import many, mapped, one, part, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.api.tenants import Tenant
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects import partnerships
from isola.subjects.permissions import Permission

PREFIX = "prt"
ANY_SLUG = "The slug of another tenant. The answer is the same if no tenant has it."
MANAGE = requires(Permission.SHARE_MANAGE)
READ = requires(Permission.SHARE_READ)

every_partnership = Function(
    "isola.partnerships",
    (
        Column("id", Uuid, nullable=False),
        Column("slug", Text, nullable=False),
        Column("name", Text),
        Column("offered_at", Timestamp(timezone=True), nullable=False),
        Column("accepted_at", Timestamp(timezone=True)),
    ),
)

every_offer = Function(
    "isola.partnership_offers",
    (
        Column("id", Uuid, nullable=False),
        Column("offerer_slug", Text, nullable=False),
        Column("offerer_name", Text, nullable=False),
        Column("offered_at", Timestamp(timezone=True), nullable=False),
    ),
)

every_block = Function(
    "isola.blocked_tenants",
    (
        Column("id", Uuid, nullable=False),
        Column("slug", Text, nullable=False),
        Column("blocked_at", Timestamp(timezone=True), nullable=False),
    ),
)

every_domain = Function(
    "isola.partner_domains",
    (
        Column("id", Uuid, nullable=False),
        Column("name", Text, nullable=False),
        Column("added_at", Timestamp(timezone=True), nullable=False),
    ),
)


@mapped(every_partnership, order=(("offered_at", False), ("id", False)))
@strawberry.type(
    description="A partnership of the caller's tenant, or its offer of one. Partners can share with each other.",
    directives=[READ],
)
class Partnership:
    id: strawberry.ID = typed_id(PREFIX)
    slug: str = strawberry.field(description="The partner's slug; in an offer, as it was given.")
    name: str | None = strawberry.field(description="The partner's name; null until it accepts.")
    offered_at: DateTime
    accepted_at: DateTime | None = strawberry.field(description="Null until the partner accepts.")


@mapped(every_offer, order=(("offered_at", False), ("id", False)))
@strawberry.type(
    description="An offer of a partnership to the caller's tenant, which waits for an answer.", directives=[READ]
)
class PartnershipOffer:
    id: strawberry.ID = typed_id(PREFIX)
    tenant: Tenant = part(slug="offerer_slug", name="offerer_name", description="The tenant that offers it.")
    offered_at: DateTime


@mapped(every_block, order=(("slug", False), ("id", False)))
@strawberry.type(description="A slug whose tenant cannot offer a partnership to the caller's.", directives=[READ])
class BlockedTenant:
    slug: str = strawberry.field(description="The slug, as it was given.")
    blocked_at: DateTime


@mapped(every_domain, order=(("name", False), ("id", False)))
@strawberry.type(
    description="A domain. Offers from the tenant that has verified it are accepted at once.", directives=[READ]
)
class PartnerDomain:
    name: str = strawberry.field(description="The domain, in its ASCII form.")
    added_at: DateTime


@strawberry.type
class PartnershipQueries:
    partnerships: Connection[Partnership] | None = many(
        source=every_partnership, description="The tenant's partnerships, and its open offers.", access=READ
    )
    partnership_offers: Connection[PartnershipOffer] | None = many(
        source=every_offer, description="Other tenants' offers of partnerships that wait for an answer.", access=READ
    )
    blocked_tenants: Connection[BlockedTenant] | None = many(
        source=every_block, description="The slugs that the tenant has blocked.", access=READ
    )
    partner_domains: Connection[PartnerDomain] | None = many(
        source=every_domain, description="The domains from which offers are accepted at once.", access=READ
    )


@strawberry.input
class OfferPartnershipInput:
    slug: str = strawberry.field(description=ANY_SLUG)


@strawberry.input
class AcceptPartnershipInput:
    partnership_id: strawberry.ID


@strawberry.input
class DeclinePartnershipInput:
    partnership_id: strawberry.ID


@strawberry.input
class EndPartnershipInput:
    partnership_id: strawberry.ID


@strawberry.input
class BlockTenantInput:
    slug: str = strawberry.field(description=ANY_SLUG)


@strawberry.input
class UnblockTenantInput:
    slug: str = strawberry.field(description="The slug, as it was blocked.")


@strawberry.input
class AddPartnerDomainInput:
    name: str = strawberry.field(description="A domain such as example.com, without a scheme.")


@strawberry.input
class RemovePartnerDomainInput:
    name: str = strawberry.field(description="The domain, as it was added.")


_OF_PARTNERSHIP = Parameters({"partnership_id": Uuid()})
_OF_SLUG = Parameters({"slug": Text()})
_OF_DOMAIN = Parameters({"name": Text()})


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class OfferPartnershipPayload:
    partnership: Partnership = one("partnership_id", source=every_partnership)


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class AcceptPartnershipPayload:
    partnership: Partnership = one("partnership_id", source=every_partnership)


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class DeclinePartnershipPayload:
    declined_id: strawberry.ID = typed_id(PREFIX, "partnership_id")


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class EndPartnershipPayload:
    ended_id: strawberry.ID = typed_id(PREFIX, "partnership_id")


@mapped(_OF_SLUG)
@strawberry.type(directives=[PUBLIC])
class BlockTenantPayload:
    slug: str = strawberry.field(description="The slug, as it was given.")


@mapped(_OF_SLUG)
@strawberry.type(directives=[PUBLIC])
class UnblockTenantPayload:
    slug: str = strawberry.field(description="The slug, as it was given.")


@mapped(_OF_DOMAIN)
@strawberry.type(directives=[PUBLIC])
class AddPartnerDomainPayload:
    name: str = strawberry.field(description="The domain, in its ASCII form.")


@mapped(_OF_DOMAIN)
@strawberry.type(directives=[PUBLIC])
class RemovePartnerDomainPayload:
    name: str = strawberry.field(description="The domain, in its ASCII form.")


@strawberry.type
class PartnershipMutations:
    @mutation(MANAGE, "Offer a partnership to another tenant. Until it accepts, the answer says nothing about it.")
    async def offer_partnership(self, info: Info, input: OfferPartnershipInput) -> OfferPartnershipPayload:
        async with info.context.transaction() as work:
            key = await partnerships.offer(work, info.context.actor, input.slug)
            return await payload(OfferPartnershipPayload, info, work, partnership_id=key)

    @mutation(MANAGE, "Accept another tenant's offer: both can share with each other from then on.")
    async def accept_partnership(self, info: Info, input: AcceptPartnershipInput) -> AcceptPartnershipPayload:
        key = decode(input.partnership_id, PREFIX, "partnershipId")
        async with info.context.transaction() as work:
            await partnerships.accept(work, info.context.actor, key)
            return await payload(AcceptPartnershipPayload, info, work, partnership_id=key)

    @mutation(MANAGE, "Decline another tenant's offer. That tenant is not notified.")
    async def decline_partnership(self, info: Info, input: DeclinePartnershipInput) -> DeclinePartnershipPayload:
        key = decode(input.partnership_id, PREFIX, "partnershipId")
        async with info.context.transaction() as work:
            await partnerships.decline(work, info.context.actor, key)
            return await payload(DeclinePartnershipPayload, info, work, partnership_id=key)

    @mutation(MANAGE, "End a partnership and all of its shares, in both directions; or withdraw an offer.")
    async def end_partnership(self, info: Info, input: EndPartnershipInput) -> EndPartnershipPayload:
        key = decode(input.partnership_id, PREFIX, "partnershipId")
        async with info.context.transaction() as work:
            await partnerships.end(work, info.context.actor, key)
            return await payload(EndPartnershipPayload, info, work, partnership_id=key)

    @mutation(MANAGE, "Ignore all offers of a tenant, and end a partnership with it. That tenant is not notified.")
    async def block_tenant(self, info: Info, input: BlockTenantInput) -> BlockTenantPayload:
        async with info.context.transaction() as work:
            await partnerships.block(work, info.context.actor, input.slug)
            return await payload(BlockTenantPayload, info, work, slug=input.slug)

    @mutation(MANAGE, "Undo the blocking of a tenant: its open offer is listed again.")
    async def unblock_tenant(self, info: Info, input: UnblockTenantInput) -> UnblockTenantPayload:
        async with info.context.transaction() as work:
            await partnerships.unblock(work, info.context.actor, input.slug)
            return await payload(UnblockTenantPayload, info, work, slug=input.slug)

    @mutation(MANAGE, "Accept, from now on, offers from the tenant that has verified a domain.")
    async def add_partner_domain(self, info: Info, input: AddPartnerDomainInput) -> AddPartnerDomainPayload:
        name = info.context.services.challenges.domain(input.name)
        async with info.context.transaction() as work:
            await partnerships.add_domain(work, info.context.actor, name)
            return await payload(AddPartnerDomainPayload, info, work, name=name)

    @mutation(MANAGE, "No longer accept offers by a domain. Partnerships that were accepted by it stay.")
    async def remove_partner_domain(self, info: Info, input: RemovePartnerDomainInput) -> RemovePartnerDomainPayload:
        name = info.context.services.challenges.domain(input.name)
        async with info.context.transaction() as work:
            await partnerships.remove_domain(work, info.context.actor, name)
            return await payload(RemovePartnerDomainPayload, info, work, name=name)
