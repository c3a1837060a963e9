from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from isola.database.claims import Claim
from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Forbidden, Refusal, Unavailable
from isola.identity.authentication import Principal
from isola.identity.members import Members
from isola.platform import grants
from isola.platform.families import Descendants, Families
from isola.platform.tenants import Tenant
from isola.subjects.actor import Actor
from isola.subjects.roles import Standing
from isola.subjects.users import User

ReadDescendants: TypeAlias = Callable[[Transaction, Descendants], Awaitable[str]]
# How often a read is begun anew while tenants below are moved.
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the caller, and access to the caller's tenant. ``request_id`` identifies it in logs."""

    principal: Principal
    database: Database
    members: Members
    request_id: str
    families: Families | None = None

    @property
    def actor(self) -> Actor:
        return Actor(self.principal.user_id, self.principal.permissions)

    def transaction(
        self, *, read_only: bool = False, claim: Claim | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction inside the tenant of the request; see ``Database.transaction``.

        A transaction that can write also proves the acting user, for the audit log. So does every transaction of
        staff, who may only read: each of their reads is logged. Raises Forbidden for a write by staff, and by a partner
        on another installation.
        """
        if self.principal.remote and not read_only:
            raise Forbidden("a partner on another installation only reads")
        if self.principal.grant is not None:
            if not read_only:
                raise Forbidden("temporary read access allows no changes")
            return self._recorded(self.principal.grant)
        if read_only:
            return self.database.transaction(self.principal.tenant, read_only=True, about=self.actor.reader)
        return self._attributed(claim)

    @asynccontextmanager
    async def _recorded(self, grant: UUID) -> AsyncIterator[Transaction]:
        async with self._attributed() as work:
            await grants.note(work, grant)
            yield work

    def _attributed(self, claim: Claim | None = None) -> AbstractAsyncContextManager[Transaction]:
        actor = f"{User.declaration.prefix}_{self.principal.user_id}"
        about = {**self.actor.reader, "actor": actor, "request": self.request_id}
        if self.principal.on_behalf_of is not None:
            about["behalf"] = self.principal.on_behalf_of
        return self.database.transaction(self.principal.tenant, about=about, claim=claim)

    async def read_descendants(self, subjects: Sequence[str], read: ReadDescendants) -> str:
        """The result of ``read``, which gets a transaction that reads the rows of the tenant's descendants.

        It is called again if they are others by then. The logs of all of them show it, with ``subjects``. Raises
        BadUserInput if they cannot be read, and Forbidden for staff.
        """
        if self.families is None:
            raise BadUserInput("scope: the rows of descendants cannot be read here", "scope")
        if self.principal.grant is not None:
            raise Forbidden("temporary read access is to one tenant, without those below it")
        tenant = self.principal.tenant
        descendants = await self.families.of(tenant)
        for _ in range(_ATTEMPTS):
            descendants.refuse_unreadable()
            try:
                async with self.families.transaction(self.database, tenant) as work:
                    text = await read(work, descendants)
            except Unavailable:
                newer = await self.families.newer(tenant, descendants)
                if newer is None:
                    raise
                descendants = newer
            else:
                self.families.note(tenant, descendants, subjects)
                return text
        raise Unavailable("the descendants of the tenant are changing: try again")

    async def memberships(self) -> Sequence[tuple[Tenant, Standing]]:
        """The caller's tenants, with the caller's standing in each. Empty without a subject, as for machines."""
        if self.principal.subject is None:
            return []
        return await self.members.memberships(self.principal.subject)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """A request without a valid credential: it can access no data. ``refusal`` is the authentication error."""

    refusal: Refusal

    @property
    def principal(self) -> Principal:
        raise self.refusal

    def transaction(
        self,
        *,
        read_only: bool = False,  # noqa: ARG002  a Context's
        claim: Claim | None = None,  # noqa: ARG002  a Context's
    ) -> AbstractAsyncContextManager[Transaction]:
        raise self.refusal
