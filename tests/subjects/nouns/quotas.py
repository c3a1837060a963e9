"""The quotas, each with functions that take a place and free it again."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Any
from uuid import UUID

from sqlalchemy import func, select

from isola.database.transactions import Database, Transaction
from isola.installed import SUBJECTS
from isola.platform import plans
from isola.platform.platform_log import Author
from isola.platform.tenants import Tenant
from isola.subjects import Subject, api_keys, domains, operations, resources, roles, shares
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.rows import value

SOMEBODY = Author("operator:somebody")
_numbers = count()


@dataclass(frozen=True, slots=True)
class Scene:
    """A tenant, an actor with all permissions, a resource of that actor, and a partner to share it with."""

    tenant: Tenant
    actor: Actor
    partner: str


Take = Callable[[Transaction, Scene], Awaitable[UUID]]
GiveUp = Callable[[Transaction, Scene, UUID], Awaitable[None]]


async def _make_resource(work: Transaction, scene: Scene) -> UUID:
    return await resources.create(work, scene.actor, name=f"resource {next(_numbers)}")


async def _come_in(work: Transaction, _: Scene) -> UUID:
    subject = f"person-{next(_numbers)}"
    return (await roles.admit(work, subject=subject, name=None, email=None, role=None)).user_id


async def _make_key(work: Transaction, scene: Scene) -> UUID:
    prefix = f"prefix{next(_numbers)}"
    permissions = [Permission.RESOURCE_READ]
    return await api_keys.create(
        work, scene.actor, prefix=prefix, digest=bytes(32), name="robot", permissions=permissions
    )


async def _add_domain(work: Transaction, scene: Scene) -> UUID:
    return await domains.add(work, scene.actor, f"{next(_numbers)}.example.com")


async def _share(work: Transaction, scene: Scene) -> UUID:
    return await shares.grant(work, scene.actor, "resource", await _make_resource(work, scene), scene.partner)


async def _disable(work: Transaction, scene: Scene, user: UUID) -> None:
    await roles.disable(work, scene.actor, user)


def _of_subject(subject: type[Subject]) -> tuple[Take, GiveUp]:
    """Functions that create and delete rows of an application's subject, with only the required values."""
    required = [each for each in subject.declaration.columns if each.is_settable and not each.has_default]

    async def make(work: Transaction, scene: Scene) -> UUID:
        number = next(_numbers) + 1
        values = {each.attribute: value(each, number, Random(number)) for each in required}  # noqa: S311  no secret
        return await operations.create(work, scene.actor, subject, values)

    async def remove(work: Transaction, scene: Scene, key: UUID) -> None:
        await operations.remove(work, scene.actor, subject, key)

    return make, remove


TAKEN: Mapping[str, tuple[Take, GiveUp]] = {
    **{each.declaration.plural: _of_subject(each) for each in SUBJECTS if each.declaration.counted},
    "api_keys": (_make_key, lambda work, scene, key: api_keys.revoke(work, scene.actor, key)),
    "domains": (_add_domain, lambda work, scene, key: domains.remove(work, scene.actor, key)),
    "resources": (_make_resource, lambda work, scene, key: resources.delete(work, scene.actor, key)),
    "shares": (_share, lambda work, scene, key: shares.revoke(work, scene.actor, key)),
    "users": (_come_in, _disable),
}


async def allow(control: Database, tenant: Tenant, **quotas: int) -> None:
    """Give a tenant a separate plan with these quotas, or change its separate plan."""
    name = f"of-{tenant.slug}"
    given: dict[str, Any] = dict(quotas)
    if name in {plan.name for plan in await plans.every(control)}:
        await plans.change(control, SOMEBODY, name, quotas=given)
    else:
        await plans.create(control, SOMEBODY, name=name, title="Small", quotas=given)
        await plans.give(control, SOMEBODY, tenant, name)


async def used(database: Database, tenant: Tenant, quota: str) -> int:
    async with database.transaction(tenant, read_only=True) as work:
        return int(await work.scalar(select(func.isola.used(quota))))
