"""Users of tenants: their roles, the resulting permissions, and whether they are disabled."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

from isola.database.transactions import Database
from isola.identity.claims import Claims
from isola.platform import memberships
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import Tenant
from isola.subjects import roles
from isola.subjects.permissions import Role
from isola.subjects.roles import Standing

REMEMBERED = 100_000

Who = tuple[UUID, str]
"""A tenant, and the subject or the id of a user there."""


class Members:
    """Looks up users and their permissions. Answers are cached until they change, ``ttl`` seconds at most.

    Concurrent look-ups of the same user share one query.
    """

    def __init__(
        self, tenants: Database, control: Database, changes: Changes, *, ttl: float, first_role: Role | None = None
    ) -> None:
        """``first_role`` is the role on first entry with a token that names no role."""
        self._tenants = tenants
        self._control = control
        self._first_role = first_role
        self._changes = changes
        self._known: Cache[Who, Standing] = Cache(changes, size=REMEMBERED, ttl=ttl, group_of=lambda who: who[0])
        self._asked: dict[tuple[Who, bool], asyncio.Task[Standing | None]] = {}
        changes.listen(Kind.USER, self._forget)
        changes.listen(Kind.ROLE, self._forget_tenant)

    async def come_in(self, tenant: Tenant, claims: Claims) -> Standing:
        """The standing of the user with these claims; created if missing. Raises Unavailable."""
        let_in = partial(self._let_in, tenant, claims)
        standing = await self._learn((tenant.id, claims.subject), let_in, makes=True)
        if standing is None:
            raise TypeError("whoever comes in has a standing")
        return standing

    async def known(self, tenant: Tenant, subject: str) -> Standing | None:
        """A user's standing, by subject; None for one who has never entered the tenant. Raises Unavailable."""
        return await self._learn((tenant.id, subject), partial(self._ask_subject, tenant, subject))

    async def guest(self, tenant: Tenant, subject: str, name: str) -> Standing:
        """The standing of a user who enters from another tenant; created if missing. Raises Unavailable."""
        let_in = partial(self._let_guest_in, tenant, subject, name)
        standing = await self._learn((tenant.id, subject), let_in, makes=True)
        if standing is None:
            raise TypeError("whoever is let in has a standing")
        return standing

    async def user(self, tenant: Tenant, user_id: UUID) -> Standing | None:
        """A user's standing, by id; None if there is no such user. Raises Unavailable."""
        return await self._learn((tenant.id, str(user_id)), partial(self._ask_user, tenant, user_id))

    async def memberships(self, subject: str) -> Sequence[tuple[Tenant, Standing]]:
        """The tenants that a subject of tokens belongs to, and its standing there; at most 100. Raises Unavailable.

        Must be shown only to that subject.
        """
        found = []
        for tenant in await memberships.of(self._control, subject):
            standing = await self.known(tenant, subject)
            if standing is not None and not standing.disabled:
                found.append((tenant, standing))
        return found

    async def _learn(
        self, who: Who, ask: Callable[[], Awaitable[Standing | None]], *, makes: bool = False
    ) -> Standing | None:
        known = self._known.get(who)
        if known is not MISSING:
            return known
        task = self._asked.get((who, makes))
        if task is None:
            task = self._asked[who, makes] = asyncio.create_task(self._ask(who, ask))
            task.add_done_callback(lambda _: self._asked.pop((who, makes)))
            # Waiting callers get the error; retrieve it here, in case none is left.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: a cancelled caller must not cancel the query for the others.
        return await asyncio.shield(task)

    async def _ask(self, who: Who, ask: Callable[[], Awaitable[Standing | None]]) -> Standing | None:
        epoch, asked_at = self._changes.epoch, time.monotonic()
        standing = await ask()
        if standing is not None:
            self._known.put(who, standing, epoch, asked_at)
        return standing

    async def _let_in(self, tenant: Tenant, claims: Claims) -> Standing:
        standing = await self._ask_subject(tenant, claims.subject)
        if standing is not None:
            return standing
        async with self._tenants.transaction(tenant) as work:
            return await roles.come_in(
                work,
                subject=claims.subject,
                name=claims.name,
                email=claims.email,
                role=claims.role or self._first_role,
            )

    async def _let_guest_in(self, tenant: Tenant, subject: str, name: str) -> Standing:
        async with self._tenants.transaction(tenant) as work:
            return await roles.guest(work, subject=subject, name=name)

    async def _ask_subject(self, tenant: Tenant, subject: str) -> Standing | None:
        async with self._tenants.transaction(tenant, read_only=True) as work:
            return await roles.standing(work, subject=subject)

    async def _ask_user(self, tenant: Tenant, user_id: UUID) -> Standing | None:
        async with self._tenants.transaction(tenant, read_only=True) as work:
            return await roles.standing_of(work, user_id)

    def _forget(self, key: str | None) -> None:
        if key is None:
            self._known.forget(None)
        else:
            tenant, _, who = key.partition("/")
            self._known.forget((UUID(tenant), who))

    def _forget_tenant(self, key: str | None) -> None:
        if key is None:
            self._known.forget(None)
        else:
            self._known.forget_group(UUID(key.partition("/")[0]))
