from enum import Enum

import strawberry

from isola.admin.access import STAFF, answered
from isola.admin.administration import Info, paged, written
from isola.api.enums import described_enum
from isola.api.scalars import DateTime
from isola.errors import NotFound
from isola.platform import hierarchy, plans, provisioning, tenants as directory


@described_enum
class TenantStatus(Enum):
    """The status of a tenant.

    ACTIVE: It is served.
    SUSPENDED: Its requests are refused; its data stays.
    DELETED: It is dropped, or about to be.
    """

    ACTIVE = "active"
    SUSPENDED = "suspended"
    DELETED = "deleted"


@strawberry.type(description="A tenant, as the platform knows it.", directives=[STAFF])
class Tenant:
    id: strawberry.ID
    slug: str = strawberry.field(description="The unique name in addresses.")
    name: str = strawberry.field(description="The name to show.")
    status: TenantStatus = strawberry.field(
        description="The tenant's own status. Requests are also refused while an ancestor is suspended."
    )
    strategy: str = strawberry.field(description="The strategy that keeps its data apart.")
    plan: str = strawberry.field(description="The name of the tenant's plan.")
    parent_id: strawberry.ID | None = strawberry.field(description="The id of the parent; null at the top.")
    created_at: DateTime
    remote: bool = strawberry.field(description="Whether it stands for a partner on another installation.")

    @classmethod
    def of(cls, tenant: directory.Tenant) -> "Tenant":
        return cls(
            id=written(tenant.id),
            slug=tenant.slug,
            name=tenant.name,
            status=TenantStatus(tenant.status.value),
            strategy=tenant.strategy,
            plan=tenant.plan,
            parent_id=None if tenant.parent_id is None else written(tenant.parent_id),
            created_at=DateTime(tenant.created_at),
            remote=tenant.remote,
        )


@strawberry.type
class TenantQueries:
    @answered("Oldest first, at most 100. Deleted tenants only if requested.")
    async def tenants(
        self, info: Info, status: TenantStatus | None = None, after: strawberry.ID | None = None, first: int = 20
    ) -> list[Tenant]:
        key = paged(first, after)
        only = None if status is None else directory.Status(status.value)
        page = await provisioning.page(info.context.control, status=only, after=key, first=first)
        return [Tenant.of(each) for each in page]

    @answered("The tenant with this slug; null if there is none.")
    async def tenant(self, info: Info, slug: str) -> Tenant | None:
        try:
            return Tenant.of(await provisioning.named(info.context.control, slug, remote=True))
        except NotFound:
            return None


@strawberry.type
class TenantMutations:
    @answered("Refuse all requests of a tenant and of those below it. Its data stays.")
    async def suspend_tenant(self, info: Info, slug: str) -> Tenant:
        return Tenant.of(await provisioning.suspend(info.context.control, slug, info.context.author))

    @answered("Undo suspendTenant.")
    async def resume_tenant(self, info: Info, slug: str) -> Tenant:
        return Tenant.of(await provisioning.resume(info.context.control, slug, info.context.author))

    @answered("Move a tenant and all its descendants below another tenant; to the top if no parent is given.")
    async def set_parent(self, info: Info, slug: str, parent: str | None = None) -> Tenant:
        context = info.context
        return Tenant.of(await hierarchy.place(context.control, slug, under=parent, by=context.author))

    @answered("Change the plan of a tenant. Data that exceeds the new quotas stays.")
    async def set_plan(self, info: Info, slug: str, plan: str) -> Tenant:
        control, author = info.context.control, info.context.author
        return Tenant.of(await plans.give(control, author, await provisioning.named(control, slug), plan))
