"""Users of tenants: their roles, the resulting permissions, and whether they are disabled."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
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

MAX_CACHED = 100_000

UserKey = tuple[UUID, str | UUID]
"""A tenant, and the subject or the id of a user there: a subject may be the text of another user's id."""


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
        self._cache: Cache[UserKey, Standing] = Cache(changes, size=MAX_CACHED, ttl=ttl, group_of=lambda user: user[0])
        self._pending: dict[tuple[UserKey, bool], asyncio.Task[Standing | None]] = {}
        changes.listen(Kind.USER, self._invalidate)
        changes.listen(Kind.ROLE, self._invalidate_tenant)

    async def admit(self, tenant: Tenant, claims: Claims) -> Standing:
        """The standing of the user with these claims; created if missing. Raises Unavailable."""
        admit = partial(self._admit, tenant, claims)
        standing = await self._lookup((tenant.id, claims.subject), admit, makes=True)
        if standing is None:
            raise TypeError("an admitted user has a standing")
        return standing

    async def lookup(self, tenant: Tenant, subject: str) -> Standing | None:
        """A user's standing, by subject; None for one who has never entered the tenant. Raises Unavailable."""
        return await self._lookup((tenant.id, subject), partial(self._fetch_by_subject, tenant, subject))

    async def admit_guest(self, tenant: Tenant, subject: str, name: str) -> Standing:
        """The standing of a user who enters from another tenant; created if missing. Raises Unavailable."""
        admit = partial(self._admit_guest, tenant, subject, name)
        standing = await self._lookup((tenant.id, subject), admit, makes=True)
        if standing is None:
            raise TypeError("an admitted guest has a standing")
        return standing

    async def user(self, tenant: Tenant, user_id: UUID) -> Standing | None:
        """A user's standing, by id; None if there is no such user. Raises Unavailable."""
        return await self._lookup((tenant.id, user_id), partial(self._fetch_by_id, tenant, user_id))

    async def memberships(self, subject: str) -> Sequence[tuple[Tenant, Standing]]:
        """The tenants that a subject of tokens belongs to, and its standing there; at most 100. Raises Unavailable.

        Must be shown only to that subject.
        """
        result = []
        for tenant in await memberships.of(self._control, subject):
            standing = await self.lookup(tenant, subject)
            if standing is not None and not standing.disabled:
                result.append((tenant, standing))
        return result

    async def _lookup(
        self, user: UserKey, fetch: Callable[[], Awaitable[Standing | None]], *, makes: bool = False
    ) -> Standing | None:
        cached = self._cache.get(user)
        if cached is not MISSING:
            return cached
        task = self._pending.get((user, makes))
        if task is None:
            task = self._pending[user, makes] = asyncio.create_task(self._fetch(user, fetch))
            task.add_done_callback(lambda _: self._pending.pop((user, makes)))
            # Waiting callers get the error; retrieve it here, in case none is left.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        # Shielded: a cancelled caller must not cancel the query for the others.
        return await asyncio.shield(task)

    async def _fetch(self, user: UserKey, fetch: Callable[[], Awaitable[Standing | None]]) -> Standing | None:
        epoch, requested_at = self._changes.epoch, time.monotonic()
        standing = await fetch()
        if standing is not None:
            self._cache.put(user, standing, epoch, requested_at)
        return standing

    async def _admit(self, tenant: Tenant, claims: Claims) -> Standing:
        standing = await self._fetch_by_subject(tenant, claims.subject)
        if standing is not None:
            return standing
        async with self._tenants.transaction(tenant) as work:
            return await roles.admit(
                work,
                subject=claims.subject,
                name=claims.name,
                email=claims.email,
                role=claims.role or self._first_role,
            )

    async def _admit_guest(self, tenant: Tenant, subject: str, name: str) -> Standing:
        async with self._tenants.transaction(tenant) as work:
            return await roles.admit_guest(work, subject=subject, name=name)

    async def _fetch_by_subject(self, tenant: Tenant, subject: str) -> Standing | None:
        async with self._tenants.transaction(tenant, read_only=True) as work:
            return await roles.standing(work, subject=subject)

    async def _fetch_by_id(self, tenant: Tenant, user_id: UUID) -> Standing | None:
        async with self._tenants.transaction(tenant, read_only=True) as work:
            return await roles.standing_of(work, user_id)

    def _invalidate(self, key: str | None) -> None:
        if key is None:
            self._cache.invalidate(None)
        else:
            tenant, _, user = key.partition("/")
            self._cache.invalidate((UUID(tenant), user))
            with suppress(ValueError):
                self._cache.invalidate((UUID(tenant), UUID(user)))

    def _invalidate_tenant(self, key: str | None) -> None:
        if key is None:
            self._cache.invalidate(None)
        else:
            self._cache.invalidate_group(UUID(key.partition("/")[0]))
