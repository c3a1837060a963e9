import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment
from isola.api.scalars import DateTime
from isola.platform import api_keys, provisioning


@strawberry.type(description="A machine's key. The secret is not stored.", directives=[STAFF])
class ApiKey:
    prefix: str = strawberry.field(description="The first characters of the key after isk_.")
    name: str = strawberry.field(description="What the key is for.")
    created_at: DateTime
    expires_at: DateTime | None
    last_used_at: DateTime | None
    revoked_at: DateTime | None


@strawberry.type
class ApiKeyQueries:
    @answered("The API keys of a tenant, oldest first.")
    async def api_keys(self, info: Info, tenant: str) -> list[ApiKey]:
        control = info.context.control
        return [_api_key(each) for each in await api_keys.of(control, await provisioning.named(control, tenant))]


@strawberry.type
class ApiKeyMutations:
    @answered("Revoke an API key. The tenant's log records it.")
    async def revoke_api_key(self, info: Info, tenant: str, prefix: str) -> ApiKey:
        context = info.context
        owner = await provisioning.named(context.control, tenant)
        return _api_key(await api_keys.revoke(context.control, context.tenants, owner, prefix, context.author))


def _api_key(key: api_keys.Listed) -> ApiKey:
    return ApiKey(
        prefix=key.prefix,
        name=key.name,
        created_at=DateTime(key.created_at),
        expires_at=moment(key.expires_at),
        last_used_at=moment(key.last_used_at),
        revoked_at=moment(key.revoked_at),
    )
