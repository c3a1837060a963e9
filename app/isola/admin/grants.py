from datetime import timedelta

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, moment, written
from isola.api.scalars import DateTime
from isola.errors import NotFound
from isola.identity.resolution import identifier_of
from isola.platform import grants, provisioning


@strawberry.type(description="Temporary read access of a staff member to a tenant.", directives=[STAFF])
class AccessGrant:
    id: strawberry.ID
    staff: str = strawberry.field(description="The staff member: the subject of their tokens.")
    reason: str = strawberry.field(description="The reason that was given.")
    granted_at: DateTime
    expires_at: DateTime
    ended_at: DateTime | None


@strawberry.type
class GrantQueries:
    @answered("The current read access to a tenant, newest first.")
    async def access_grants(self, info: Info, tenant: str) -> list[AccessGrant]:
        control = info.context.control
        return [_grant(each) for each in await grants.live(control, await provisioning.named(control, tenant))]


@strawberry.type
class GrantMutations:
    @answered("Temporary read access to a tenant, for 8 hours at most. The tenant's log records each use.")
    async def look_into(self, info: Info, tenant: str, reason: str, minutes: int) -> AccessGrant:
        control, author = info.context.control, info.context.author
        target = await provisioning.named(control, tenant)
        # A timedelta cannot hold every number of minutes; the bound is above all permitted values.
        lasting = timedelta(minutes=max(0, min(minutes, 10**6)))
        return _grant(await grants.grant(control, target, author, reason=reason, lasting=lasting))

    @answered("Revoke one's own read access before it expires.")
    async def end_access(self, info: Info, grant: strawberry.ID) -> AccessGrant:
        key = identifier_of(grant)
        if key is None:
            raise NotFound("there is no such grant")
        return _grant(await grants.end(info.context.control, info.context.author, key))


def _grant(grant: grants.AccessGrant) -> AccessGrant:
    return AccessGrant(
        id=written(grant.id),
        staff=grant.staff,
        reason=grant.reason,
        granted_at=DateTime(grant.granted_at),
        expires_at=DateTime(grant.expires_at),
        ended_at=moment(grant.ended_at),
    )
