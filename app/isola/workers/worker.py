"""Transactions inside tenants for code that runs beside requests: workers, scripts, scheduled jobs.

A worker uses the same logins, proofs, caches and rules as the server, so it cannot reach beyond a tenant either. See
docs/workers.md.
"""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from sqlalchemy import Uuid, bindparam, select

from isola import scope
from isola.database.transactions import Database, Transaction
from isola.errors import Forbidden, NotFound, OperatorError
from isola.identity.members import Members
from isola.platform import logins, migrations
from isola.platform.changes import Changes
from isola.platform.directory import Directory
from isola.platform.tenants import Tenant
from isola.scope import Scope
from isola.server.installation import Installation, installation
from isola.settings import Settings, load
from isola.subjects import names
from isola.subjects.actor import Actor
from isola.subjects.organizations import memberships, organizations
from isola.subjects.permissions import all_permissions
from isola.subjects.roles import Standing
from isola.subjects.users import User

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}", re.ASCII)

_BY_ID = select(organizations.c.id).where(organizations.c.id == bindparam("organization", type_=Uuid()))
_BY_NAME = select(organizations.c.id).where(organizations.c.name_key == bindparam("organization"))
_MEMBER = select(memberships.c.user_id).where(
    memberships.c.organization_id == bindparam("organization", type_=Uuid()),
    memberships.c.user_id == bindparam("member", type_=Uuid()),
)


@dataclass(frozen=True, slots=True)
class Inside:
    """An open transaction inside a tenant, and for whom it runs.

    ``work`` and ``actor`` are what rules of subjects expect. ``user_id`` is the user of the scope, None without one:
    the actor is then the worker itself.
    """

    work: Transaction
    actor: Actor
    tenant: Tenant
    user_id: UUID | None
    organization_id: UUID | None


class Worker:
    """The connections of a process that works inside tenants. Made by ``open``."""

    def __init__(self, name: str, tenants: Database, directory: Directory, members: Members) -> None:
        self._name = f"worker:{name}"
        self._tenants = tenants
        self._directory = directory
        self._members = members

    @classmethod
    @asynccontextmanager
    async def open(cls, name: str, settings: Settings | None = None) -> AsyncIterator[Self]:
        """A worker with connections of its own, closed at the end. ``settings`` are those of the environment if None.

        The log shows its changes as those of ``worker:<name>``: a letter, then letters, digits and hyphens, in lower
        case. Raises OperatorError for another name, for settings and logins that the server refuses as well, and for a
        database that is not migrated; Unavailable when it cannot be reached.
        """
        if not NAME.fullmatch(name):
            raise OperatorError("the name of a worker: expected a letter, then at most 62 of a-z, 0-9 and '-'")
        with installation(settings or load(), start=False) as installed:
            async with _connected(installed) as (control, tenants, changes):
                directory = Directory(control, changes, installed.settings.directory_ttl, migrations.unprotected)
                members = Members(tenants, control, changes, ttl=installed.settings.directory_ttl)
                yield cls(name, tenants, directory, members)

    @asynccontextmanager
    async def transaction(self, *, read_only: bool = False) -> AsyncIterator[Inside]:
        """A transaction inside the tenant of ``isola.run_with_tenant``: committed at the end, rolled back by any error.

        With a user, the actor has that user's permissions; rules of subjects check values and visibility, and
        ``actor.require`` checks a permission. Without one, the worker acts for itself, as a machine user of the tenant
        with all permissions, which sees no private rows of others.

        Raises RuntimeError outside of ``run_with_tenant``; NotFound for a tenant, user or organization that does not
        exist; Forbidden for a suspended or deleted tenant, a disabled user, and an organization that the user does not
        belong to; otherwise what ``Database.transaction`` raises.
        """
        inside = scope.current()
        tenant = await self._directory.find(str(inside.tenant))
        if tenant is None:
            raise NotFound("there is no such tenant")
        tenant.require_active()
        standing = await self._standing(tenant, inside)
        if standing.disabled:
            raise Forbidden("the user is disabled")
        user_id = None if inside.user is None else standing.user_id
        permissions = all_permissions() if inside.user is None else standing.permissions
        actor = Actor(standing.user_id, permissions)
        about = {**actor.reader, "actor": self._name}
        if inside.user is not None:
            about["behalf"] = f"{User.declaration.prefix}_{standing.user_id}"
        async with self._tenants.transaction(tenant, read_only=read_only, about=about) as work:
            organization_id = await _organization(work, inside.organization, user_id)
            yield Inside(work, actor, tenant, user_id, organization_id)

    async def _standing(self, tenant: Tenant, inside: Scope) -> Standing:
        match inside.user:
            case None:
                return await self._members.admit_guest(tenant, self._name, self._name)
            case UUID():
                standing = await self._members.user(tenant, inside.user)
            case _:
                standing = await self._members.lookup(tenant, inside.user)
        if standing is None:
            raise NotFound("the tenant has no such user who ever signed in")
        return standing


@asynccontextmanager
async def _connected(installed: Installation) -> AsyncIterator[tuple[Database, Database, Changes]]:
    async with (
        await installed.control() as control,
        await installed.tenants() as tenants,
        # A connection of its own: caches are trusted only while changes are received.
        await installed.control(1) as hearing,
    ):
        async with tenants.unbound() as work:
            await logins.refuse_dangerous(work)
        async with control.unbound() as work:
            await migrations.refuse_behind(work)
        async with Changes(hearing) as changes:
            yield control, tenants, changes


async def _organization(work: Transaction, organization: str | UUID | None, user_id: UUID | None) -> UUID | None:
    if organization is None:
        return None
    if isinstance(organization, UUID):
        key = await work.scalar(_BY_ID, {"organization": organization})
    else:
        key = await work.scalar(_BY_NAME, {"organization": names.key(organization)})
    if key is None:
        raise NotFound("the tenant has no such organization")
    if user_id is not None and await work.scalar(_MEMBER, {"organization": key, "member": user_id}) is None:
        raise Forbidden("the user is not a member of the organization")
    return UUID(str(key))
