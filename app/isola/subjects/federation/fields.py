import strawberry
from sqlalchemy import Column, DateTime as Timestamp, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import many, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import JSON, DateTime
from isola.errors import BadUserInput, Forbidden
from isola.identity.federation import Federation, installation_name, parse_key
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects import federation
from isola.subjects.partnerships.fields import MANAGE, PREFIX as PARTNERSHIP, READ
from isola.subjects.permissions import Permission

TENANT = "ten"
OWNER = "rem"
KEY = "The public key of its installation, as a JSON Web Key (RFC 7517): Ed25519, P-256, or RSA of 2048 bits or more."

every_partner = Function(
    "isola.remote_partners",
    (
        Column("id", Uuid, nullable=False),
        Column("slug", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("installation", Text, nullable=False),
        Column("remote_id", Uuid, nullable=False),
        Column("key", JSONB, nullable=False),
        Column("pinned_at", Timestamp(timezone=True), nullable=False),
    ),
)

every_owner = Function(
    "isola.remote_owners",
    (
        Column("id", Uuid, nullable=False),
        Column("name", Text, nullable=False),
        Column("installation", Text, nullable=False),
        Column("partnership_id", Uuid, nullable=False),
        Column("added_at", Timestamp(timezone=True), nullable=False),
    ),
)


@mapped(every_partner, order=(("pinned_at", False), ("id", False)))
@strawberry.type(
    description="A partner on another installation, which reads by tokens that are signed with the pinned key.",
    directives=[READ],
)
class RemotePartner:
    id: strawberry.ID = typed_id(PARTNERSHIP)
    slug: str = strawberry.field(description="The slug that stands for it here, as the grantee of shares.")
    name: str = strawberry.field(description="The name that the tenant gave it.")
    installation: str = strawberry.field(description="The address of its installation.")
    tenant_id: strawberry.ID = typed_id(TENANT, "remote_id", description="Its id there.")
    key: JSON = strawberry.field(description=KEY)
    pinned_at: DateTime = strawberry.field(description="When the key was pinned.")


@mapped(every_owner, order=(("added_at", False), ("id", False)))
@strawberry.type(
    description="A tenant of another installation that shares with the caller's, for which users can make tokens.",
    directives=[READ],
)
class RemoteOwner:
    id: strawberry.ID = typed_id(OWNER)
    name: str = strawberry.field(description="The name that the caller's tenant gave it.")
    installation: str = strawberry.field(description="The address of its installation.")
    partnership_id: strawberry.ID = typed_id(
        PARTNERSHIP, "partnership_id", description="The id that the partnership has there."
    )
    added_at: DateTime


@strawberry.type
class FederationQueries:
    remote_partners: Connection[RemotePartner] | None = many(
        source=every_partner, description="The tenant's partners on other installations.", access=READ
    )
    remote_owners: Connection[RemoteOwner] | None = many(
        source=every_owner, description="Tenants of other installations that share with the caller's.", access=READ
    )


@strawberry.input
class AddRemotePartnerInput:
    name: str = strawberry.field(description="What to call the partner: 1 to 200 characters.")
    installation: str = strawberry.field(description="The address of the partner's installation.")
    tenant_id: strawberry.ID = strawberry.field(description="The partner's id there, ten_<uuid>.")
    key: JSON = strawberry.field(description=KEY)


@strawberry.input
class ChangeRemotePartnerKeyInput:
    partnership_id: strawberry.ID
    key: JSON = strawberry.field(description=KEY)


@strawberry.input
class AddRemoteOwnerInput:
    name: str = strawberry.field(description="What to call the other tenant: 1 to 200 characters.")
    installation: str = strawberry.field(description="The address of its installation.")
    partnership_id: strawberry.ID = strawberry.field(description="The id of the partnership there, prt_<uuid>.")


@strawberry.input
class RemoveRemoteOwnerInput:
    remote_owner_id: strawberry.ID


@strawberry.input
class CreateRemoteTokenInput:
    remote_owner_id: strawberry.ID


_OF_PARTNERSHIP = Parameters({"partnership_id": Uuid()})
_OF_OWNER = Parameters({"remote_owner_id": Uuid()})


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class AddRemotePartnerPayload:
    remote_partner: RemotePartner = one("partnership_id", source=every_partner)


@mapped(_OF_PARTNERSHIP)
@strawberry.type(directives=[PUBLIC])
class ChangeRemotePartnerKeyPayload:
    remote_partner: RemotePartner = one("partnership_id", source=every_partner)


@mapped(_OF_OWNER)
@strawberry.type(directives=[PUBLIC])
class AddRemoteOwnerPayload:
    remote_owner: RemoteOwner = one("remote_owner_id", source=every_owner)


@mapped(_OF_OWNER)
@strawberry.type(directives=[PUBLIC])
class RemoveRemoteOwnerPayload:
    removed_id: strawberry.ID = typed_id(OWNER, "remote_owner_id")


@strawberry.type(directives=[PUBLIC])
class CreateRemoteTokenPayload:
    token: str = strawberry.field(
        description="The token, for one query to the other installation. It is returned only once."
    )
    endpoint: str = strawberry.field(description="Where to send that query.")
    expires_at: DateTime


@strawberry.type
class FederationMutations:
    @mutation(MANAGE, "Make a tenant of another installation a partner, and pin the key that signs its tokens.")
    async def add_remote_partner(self, info: Info, input: AddRemotePartnerInput) -> AddRemotePartnerPayload:
        partners = _federation(info).partners
        name = federation.named(input.name)
        installation, key = _address(input.installation), _key(input.key)
        remote_id = decode(input.tenant_id, TENANT, "tenantId")
        # The control plane makes the tenant that stands for the partner: transactions of tenants cannot.
        owner = info.context.context.principal.tenant.id
        remote = await partners.prepare(owner, installation=installation, remote_id=remote_id, name=name)
        async with info.context.transaction() as work:
            made = await federation.add_partner(work, info.context.actor, remote, key)
            return await payload(AddRemotePartnerPayload, info, work, partnership_id=made)

    @mutation(MANAGE, "Pin another key of a partner's installation. Tokens of the former one are refused from then on.")
    async def change_remote_partner_key(
        self, info: Info, input: ChangeRemotePartnerKeyInput
    ) -> ChangeRemotePartnerKeyPayload:
        partnership, key = decode(input.partnership_id, PARTNERSHIP, "partnershipId"), _key(input.key)
        async with info.context.transaction() as work:
            await federation.pin_key(work, info.context.actor, partnership, key)
            return await payload(ChangeRemotePartnerKeyPayload, info, work, partnership_id=partnership)

    @mutation(MANAGE, "Remember a partnership with a tenant of another installation, for which users can make tokens.")
    async def add_remote_owner(self, info: Info, input: AddRemoteOwnerInput) -> AddRemoteOwnerPayload:
        _federation(info)
        installation = _address(input.installation)
        partnership = decode(input.partnership_id, PARTNERSHIP, "partnershipId")
        async with info.context.transaction() as work:
            added = await federation.add_owner(
                work, info.context.actor, name=input.name, installation=installation, partnership=partnership
            )
            return await payload(AddRemoteOwnerPayload, info, work, remote_owner_id=added)

    @mutation(MANAGE, "Make no more tokens for a tenant of another installation. That tenant is not notified.")
    async def remove_remote_owner(self, info: Info, input: RemoveRemoteOwnerInput) -> RemoveRemoteOwnerPayload:
        remote = decode(input.remote_owner_id, OWNER, "remoteOwnerId")
        async with info.context.transaction() as work:
            await federation.remove_owner(work, info.context.actor, remote)
            return await payload(RemoveRemoteOwnerPayload, info, work, remote_owner_id=remote)

    @mutation(
        requires(Permission.FEDERATION_WRITE),
        "Create a token for one query of what a tenant of another installation shares. It is valid for five minutes.",
    )
    async def create_remote_token(self, info: Info, input: CreateRemoteTokenInput) -> CreateRemoteTokenPayload:
        installation = _federation(info).installation
        installation.refuse_keyless()
        remote = decode(input.remote_owner_id, OWNER, "remoteOwnerId")
        async with info.context.transaction() as work:
            stated = await federation.state(work, info.context.actor, remote)
        token = installation.token(
            subject=info.context.context.principal.tenant.id,
            installation=stated.installation,
            partnership=stated.partnership_id,
            token=stated.token_id,
            issued_at=stated.issued_at,
            expires_at=stated.expires_at,
        )
        return CreateRemoteTokenPayload(
            token=token, endpoint=f"{stated.installation}/graphql", expires_at=DateTime(stated.expires_at)
        )


def _federation(info: Info) -> Federation:
    if info.context.services.federation is None:
        raise Forbidden("this installation has no name among others: ISOLA_INSTALLATION is not set")
    return info.context.services.federation


def _address(text: str) -> str:
    try:
        return installation_name(text)
    except ValueError:
        expected = "https://host or https://host/path, without a slash at the end"
        raise BadUserInput(f"installation: expected {expected}", "installation") from None


def _key(value: object) -> dict[str, object]:
    try:
        return dict(parse_key(value))
    except ValueError:
        raise BadUserInput("key: expected a public key as a JSON Web Key", "key") from None
