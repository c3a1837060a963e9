"""The contract of platform administration. Whoever gets here is staff: see app.admin.staff."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import TypeAlias
from uuid import UUID

import strawberry
from strawberry.schema.config import StrawberryConfig

from app.admin.access import STAFF, answered, undeclared
from app.admin.staff import Staff
from app.api.scalars import SCALARS, DateTime
from app.control import api_keys, grants, hierarchy, provisioning, tenants as directory
from app.database import Database
from app.errors import BadUserInput, NotFound
from app.identity.resolution import identifier_of

MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Administration:
    """One request of staff, and what they administer with."""

    staff: Staff
    control: Database
    tenants: Database
    request_id: str


Info: TypeAlias = strawberry.Info[Administration, None]


@strawberry.enum
class TenantStatus(Enum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


@strawberry.type(directives=[STAFF])
class Tenant:
    id: strawberry.ID
    slug: str
    name: str
    status: TenantStatus = strawberry.field(description="Its own. One below a suspended tenant is refused as well.")
    strategy: str
    parent_id: strawberry.ID | None
    created_at: DateTime


@strawberry.type(description="A key of a machine. Its secret is nowhere.", directives=[STAFF])
class ApiKey:
    prefix: str
    name: str
    created_at: DateTime
    expires_at: DateTime | None
    last_used_at: DateTime | None
    revoked_at: DateTime | None


@strawberry.type(description="Leave for one of the staff to look into a tenant.", directives=[STAFF])
class AccessGrant:
    id: strawberry.ID
    staff: str
    reason: str
    granted_at: DateTime
    expires_at: DateTime
    ended_at: DateTime | None


@strawberry.type(directives=[STAFF])
class Query:
    @answered("Oldest first, at most 100. Deleted ones only where they are asked for.")
    async def tenants(
        self, info: Info, status: TenantStatus | None = None, after: strawberry.ID | None = None, first: int = 20
    ) -> list[Tenant]:
        if not 1 <= first <= MAX_PAGE:
            raise BadUserInput(f"first: expected 1 to {MAX_PAGE}")
        key = None if after is None else identifier_of(after)
        if after is not None and key is None:
            raise BadUserInput("after: expected the id of a tenant")
        wanted = None if status is None else directory.Status(status.value)
        found = await provisioning.page(info.context.control, status=wanted, after=key, first=first)
        return [_tenant(each) for each in found]

    @answered()
    async def tenant(self, info: Info, slug: str) -> Tenant | None:
        try:
            return _tenant(await provisioning.named(info.context.control, slug))
        except NotFound:
            return None

    @answered("The API keys of a tenant, oldest first.")
    async def api_keys(self, info: Info, tenant: str) -> list[ApiKey]:
        control = info.context.control
        return [_api_key(each) for each in await api_keys.of(control, await provisioning.named(control, tenant))]

    @answered("Who may look into a tenant now, newest first.")
    async def access_grants(self, info: Info, tenant: str) -> list[AccessGrant]:
        control = info.context.control
        return [_grant(each) for each in await grants.live(control, await provisioning.named(control, tenant))]


@strawberry.type(directives=[STAFF])
class Mutation:
    @answered("Refuse all requests of a tenant and of those below it. Its data stays.")
    async def suspend_tenant(self, info: Info, slug: str) -> Tenant:
        return _tenant(await provisioning.suspend(info.context.control, slug))

    @answered("Undo suspendTenant.")
    async def resume_tenant(self, info: Info, slug: str) -> Tenant:
        return _tenant(await provisioning.resume(info.context.control, slug))

    @answered("Put a tenant below another, with all below it; below none without a parent.")
    async def set_parent(self, info: Info, slug: str, parent: str | None = None) -> Tenant:
        return _tenant(await hierarchy.place(info.context.control, slug, under=parent))

    @answered("End an API key. The tenant's log has it.")
    async def revoke_api_key(self, info: Info, tenant: str, prefix: str) -> ApiKey:
        context = info.context
        owner = await provisioning.named(context.control, tenant)
        about = {"actor": context.staff.subject, "request": context.request_id}
        return _api_key(await api_keys.revoke(context.control, context.tenants, owner, prefix, about))

    @answered("Leave to look into a tenant, for 8 hours at most. Its log has each look.")
    async def look_into(self, info: Info, tenant: str, reason: str, minutes: int) -> AccessGrant:
        control = info.context.control
        found = await provisioning.named(control, tenant)
        # More minutes than a timedelta holds are more than any that are admitted.
        lasting = timedelta(minutes=max(0, min(minutes, 10**6)))
        return _grant(await grants.grant(control, found, info.context.staff.subject, reason=reason, lasting=lasting))

    @answered("Give up leave of one's own before it expires.")
    async def end_access(self, info: Info, grant: strawberry.ID) -> AccessGrant:
        key = identifier_of(grant)
        if key is None:
            raise NotFound("there is no such grant")
        return _grant(await grants.end(info.context.control, info.context.staff.subject, key))


def _tenant(tenant: directory.Tenant) -> Tenant:
    return Tenant(
        id=_id(tenant.id),
        slug=tenant.slug,
        name=tenant.name,
        status=TenantStatus(tenant.status.value),
        strategy=tenant.strategy,
        parent_id=None if tenant.parent_id is None else _id(tenant.parent_id),
        created_at=DateTime(tenant.created_at),
    )


def _api_key(key: api_keys.Listed) -> ApiKey:
    return ApiKey(
        prefix=key.prefix,
        name=key.name,
        created_at=DateTime(key.created_at),
        expires_at=_moment(key.expires_at),
        last_used_at=_moment(key.last_used_at),
        revoked_at=_moment(key.revoked_at),
    )


def _grant(grant: grants.AccessGrant) -> AccessGrant:
    return AccessGrant(
        id=_id(grant.id),
        staff=grant.staff,
        reason=grant.reason,
        granted_at=DateTime(grant.granted_at),
        expires_at=DateTime(grant.expires_at),
        ended_at=_moment(grant.ended_at),
    )


def _moment(value: datetime | None) -> DateTime | None:
    return None if value is None else DateTime(value)


def _id(key: UUID) -> strawberry.ID:
    return strawberry.ID(str(key))


schema = strawberry.Schema(Query, Mutation, config=StrawberryConfig(scalar_map=SCALARS))
if missing := sorted(undeclared(schema._schema)):  # noqa: SLF001  Strawberry has no public way to the schema that it makes
    raise TypeError(f"these types do not say whom they are open to: {', '.join(missing)}")
