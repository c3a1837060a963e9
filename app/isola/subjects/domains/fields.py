import strawberry
from sqlalchemy import Boolean, Column, ColumnElement, DateTime as Timestamp, Text, Uuid, literal

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import expression, many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.platform.challenges import RECORD
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters, Row
from isola.subjects import domains
from isola.subjects.permissions import Permission

PREFIX = "dom"

every_domain = Function(
    "isola.domains",
    (
        Column("id", Uuid, nullable=False),
        Column("name", Text, nullable=False),
        Column("challenge", Text, nullable=False),
        Column("challenge_expires_at", Timestamp(timezone=True), nullable=False),
        Column("created_at", Timestamp(timezone=True), nullable=False),
        Column("verified_at", Timestamp(timezone=True)),
    ),
)


def _record(domain: Row) -> ColumnElement[str]:
    return literal(RECORD, Text()) + domain["name"]


@mapped(every_domain)
@strawberry.type(
    description="A custom domain, by which requests can name the tenant once it is verified.",
    directives=[requires(Permission.DOMAIN_READ)],
)
class Domain:
    id: strawberry.ID = typed_id(PREFIX)
    name: str = strawberry.field(description="The domain, in its ASCII form.")
    challenge_record: str = expression(_record, "The name of the TXT record that proves ownership of the domain.")
    challenge: str = strawberry.field(description="The required value of the record.")
    challenge_expires_at: DateTime = strawberry.field(
        description="When the challenge expires, if the domain is not verified before."
    )
    created_at: DateTime
    verified_at: DateTime | None = strawberry.field(description="Null until the domain is verified.")


@strawberry.type
class DomainQueries:
    domains: Connection[Domain] | None = many(
        source=every_domain,
        description="In the order in which they were added.",
        access=requires(Permission.DOMAIN_READ),
    )


@strawberry.input
class AddDomainInput:
    name: str = strawberry.field(description="A domain such as app.example.com, without a scheme.")


@mapped(Parameters({"domain_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class AddDomainPayload:
    domain: Domain = one("domain_id", source=every_domain)


@strawberry.input
class VerifyDomainInput:
    domain_id: strawberry.ID


@mapped(Parameters({"domain_id": Uuid(), "found": Boolean()}))
@strawberry.type(directives=[PUBLIC])
class VerifyDomainPayload:
    domain: Domain = one("domain_id", source=every_domain)
    found: bool = strawberry.field(description="Whether DNS has the record. If not, nothing changes.")


@strawberry.input
class RemoveDomainInput:
    domain_id: strawberry.ID


@mapped(Parameters({"domain_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RemoveDomainPayload:
    removed_id: strawberry.ID = typed_id(PREFIX, "domain_id")


@strawberry.type
class DomainMutations:
    @mutation(
        requires(Permission.DOMAIN_MANAGE),
        "Claim a domain with a challenge for DNS. Until it is verified, a repeated claim renews the challenge.",
    )
    async def add_domain(self, info: Info, input: AddDomainInput) -> AddDomainPayload:
        name = info.context.services.challenges.domain(input.name)
        async with info.context.transaction() as work:
            key = await domains.add(work, info.context.actor, name)
            return await payload(AddDomainPayload, info, work, domain_id=key)

    @mutation(
        requires(Permission.DOMAIN_MANAGE),
        "Look up the TXT record of the challenge. If it is found, the domain names the tenant from then on.",
    )
    async def verify_domain(self, info: Info, input: VerifyDomainInput) -> VerifyDomainPayload:
        key = decode(input.domain_id, PREFIX, "domainId")
        async with info.context.context.transaction(read_only=True) as work:
            claimed = await domains.claimed(work, info.context.actor, key)
        # DNS may take seconds, so no transaction is open meanwhile; the next one checks for concurrent changes.
        tenant = info.context.context.principal.tenant.id
        found = await info.context.services.challenges.prove(tenant, key, claimed.name, claimed.challenge)
        async with info.context.transaction() as work:
            if found:
                await domains.verify(work, info.context.actor, key)
            return await payload(VerifyDomainPayload, info, work, domain_id=key, found=found)

    @mutation(requires(Permission.DOMAIN_MANAGE), "Release a domain. Its next claim has to be verified again.")
    async def remove_domain(self, info: Info, input: RemoveDomainInput) -> RemoveDomainPayload:
        key = decode(input.domain_id, PREFIX, "domainId")
        async with info.context.transaction() as work:
            await domains.remove(work, info.context.actor, key)
            return await payload(RemoveDomainPayload, info, work, domain_id=key)
