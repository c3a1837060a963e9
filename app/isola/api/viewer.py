from typing import cast

import strawberry

from isola.api.access import PUBLIC, requires
from isola.api.connections import Connection
from isola.api.context import Context
from isola.api.descendants import Descendant, DescendantFilter, DescendantOrder, every_descendant
from isola.api.fields import many, mapped, one, part
from isola.api.plans import Plan, own_plan
from isola.api.request import Info
from isola.api.tenants import Tenant
from isola.query import caller
from isola.query.mapping import Parameters
from isola.subjects.permissions import Permission
from isola.subjects.sessions.fields import OwnSession, own_sessions
from isola.subjects.users import User


@strawberry.type(description="A tenant that the caller belongs to.", directives=[PUBLIC])
class Membership:
    tenant: Tenant = strawberry.field(description="The tenant.")
    roles: list[str] = strawberry.field(description="The names of the caller's roles there.")


async def _memberships(info: Info) -> list[Membership]:
    return [
        Membership(tenant=Tenant(slug=tenant.slug, name=tenant.name), roles=list(standing.roles))
        for tenant, standing in await cast("Context", info.context.context).memberships()
    ]


@mapped(Parameters(caller.COLUMNS))
@strawberry.type(description="The caller.", directives=[PUBLIC])
class Viewer:
    user: User = one("user_id", description="The caller as a user of the tenant.")
    tenant: Tenant = part(slug="tenant_slug", name="tenant_name", description="The tenant of the request.")
    plan: Plan = one(source=own_plan, description="The plan of the tenant, and the use of its quotas.")
    roles: list[str] = strawberry.field(description="The names of the caller's roles. A machine has none.")
    permissions: list[str] = strawberry.field(
        description="The permissions of the caller's roles that the token allows."
    )
    memberships: list[Membership] = strawberry.field(
        resolver=_memberships,
        description="The tenants that the caller belongs to, including this one, by slug; at most 100.",
    )
    sessions: Connection[OwnSession] = many(
        source=own_sessions, description="The caller's sessions in this tenant, the latest first. A machine has none."
    )
    descendants: Connection[Descendant] = many(
        source=every_descendant,
        filter=DescendantFilter,
        order=DescendantOrder,
        description="The tenants below the tenant of the request, by slug.",
        access=requires(Permission.FAMILY_READ),
    )


@strawberry.type
class ViewerQueries:
    viewer: Viewer | None = part(
        PUBLIC, description="The caller and the tenant of the request.", **{name: name for name in caller.COLUMNS}
    )
