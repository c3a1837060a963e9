"""Looks up tenants below another, for a credential of one with the name of another."""

from functools import partial
from uuid import UUID

from sqlalchemy import Uuid, any_, bindparam, func, or_

from isola.database.transactions import Database
from isola.identity.resolution import identifier_of
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

MAX_CACHED = 10_000


class Descendants:
    """Looks up descendants of a tenant. Answers are cached until they change, ``ttl`` seconds at most."""

    def __init__(self, control: Database, changes: Changes, ttl: float) -> None:
        self._control = control
        self._cache: Cache[tuple[UUID, str], Tenant | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        # Moving a tenant in the hierarchy moves all its descendants.
        for kind in (Kind.TENANT, Kind.PLAN):
            changes.listen(kind, self._cache.forget)

    async def tenant(self, above: UUID, name: str) -> Tenant | None:
        """The tenant with this slug or id, at any depth below another; else None, whether it exists or not.

        Raises Unavailable.
        """
        if not SLUG.fullmatch(name) and identifier_of(name) is None:
            return None
        key = above, name
        cached = self._cache.get(key)
        return (
            cached if cached is not MISSING else await self._cache.get_or_fetch(key, partial(self._fetch, above, name))
        )

    async def _fetch(self, above: UUID, name: str) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"above": above, "name": name, "identifier": identifier_of(name)})
        return entry(rows[0]) if rows else None


_FIND = SERVED.where(
    or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")),
    tenants.c.status != Status.DELETED,
    bindparam("above", type_=Uuid()) == any_(func.control.ancestors(tenants.c.id)),
)
