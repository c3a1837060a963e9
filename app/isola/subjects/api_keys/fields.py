import strawberry
from sqlalchemy import ARRAY, Column, DateTime as Timestamp, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection
from isola.api.fields import many, mapped, one, typed_id
from isola.api.request import Info, outcome_field, payload, with_outcome
from isola.api.scalars import DateTime
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects import api_keys
from isola.subjects.permissions import Permission
from isola.subjects.users import User

PREFIX = "key"

every_key = Function(
    "isola.api_keys",
    (
        Column("id", Uuid, nullable=False),
        Column("prefix", Text, nullable=False),
        Column("name", Text, nullable=False),
        Column("permissions", ARRAY(Text), nullable=False),
        Column("user_id", Uuid, nullable=False),
        Column("created_by", Uuid, nullable=False),
        Column("created_at", Timestamp(timezone=True), nullable=False),
        Column("expires_at", Timestamp(timezone=True)),
        Column("last_used_at", Timestamp(timezone=True)),
        Column("revoked_at", Timestamp(timezone=True)),
    ),
)


@mapped(every_key)
@strawberry.type(description="The API key of a machine.", directives=[requires(Permission.API_KEY_READ)])
class ApiKey:
    id: strawberry.ID = typed_id(PREFIX)
    prefix: str = strawberry.field(description="The first characters of the key after isk_. The rest is not stored.")
    name: str = strawberry.field(description="What the key is for.")
    permissions: list[str] = strawberry.field(description="What the key permits, by name.")
    user: User = one("user_id", description="The user of the machine, which owns what is created with the key.")
    created_by: User = one("created_by", description="The user who created it.")
    created_at: DateTime
    expires_at: DateTime | None
    last_used_at: DateTime | None = strawberry.field(description="Accurate to one minute.")
    revoked_at: DateTime | None


@strawberry.type
class ApiKeyQueries:
    api_keys: Connection[ApiKey] | None = many(
        source=every_key,
        description="In the order of creation.",
        access=requires(Permission.API_KEY_READ),
    )


@strawberry.input
class CreateApiKeyInput:
    name: str = strawberry.field(description="What the key is for.")
    permissions: list[str] = strawberry.field(description="Permissions of the key; the caller must have them.")
    expires_at: DateTime | None = strawberry.field(default=None, description="When it expires; by default never.")


@mapped(Parameters({"key_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CreateApiKeyPayload:
    api_key: ApiKey = one("key_id", source=every_key)
    key: str = outcome_field("The key. It is returned only once and cannot be retrieved later.")


@strawberry.input
class RevokeApiKeyInput:
    api_key_id: strawberry.ID


@mapped(Parameters({"key_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeApiKeyPayload:
    revoked_id: strawberry.ID = typed_id(PREFIX, "key_id")


@strawberry.type
class ApiKeyMutations:
    @mutation(requires(Permission.API_KEY_MANAGE), "Create an API key and its user.")
    async def create_api_key(self, info: Info, input: CreateApiKeyInput) -> CreateApiKeyPayload:
        made = info.context.services.mint.make()
        async with info.context.transaction() as work:
            key = await api_keys.create(
                work,
                info.context.actor,
                prefix=made.prefix,
                digest=made.digest,
                name=input.name,
                permissions=input.permissions,
                expires_at=input.expires_at,
            )
            return with_outcome(await payload(CreateApiKeyPayload, info, work, key_id=key), made.text)

    @mutation(requires(Permission.API_KEY_MANAGE), "Revoke an API key permanently.")
    async def revoke_api_key(self, info: Info, input: RevokeApiKeyInput) -> RevokeApiKeyPayload:
        key = decode(input.api_key_id, PREFIX, "apiKeyId")
        async with info.context.transaction() as work:
            await api_keys.revoke(work, info.context.actor, key)
            return await payload(RevokeApiKeyPayload, info, work, key_id=key)
