from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from isola.database.claims import Claim
from isola.database.transactions import Database, Transaction
from isola.errors import Forbidden, Refusal
from isola.identity.authentication import Principal
from isola.identity.members import Members
from isola.platform import grants
from isola.platform.tenants import Tenant
from isola.subjects.actor import Actor
from isola.subjects.roles import Standing
from isola.subjects.users import User


@dataclass(frozen=True, slots=True)
class Context:
    """One request: the caller, and access to the caller's tenant. ``request_id`` identifies it in logs."""

    principal: Principal
    database: Database
    members: Members
    request_id: str

    @property
    def actor(self) -> Actor:
        return Actor(self.principal.user_id, self.principal.permissions)

    def transaction(
        self, *, read_only: bool = False, claim: Claim | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction inside the tenant of the request; see ``Database.transaction``.

        A transaction that can write also proves the acting user, for the audit log. So does every transaction of
        staff, who may only read: each of their reads is logged. Raises Forbidden for a write by staff.
        """
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
