"""Maps names to tenants, with a cache."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias
from uuid import UUID

import structlog
from sqlalchemy import bindparam, or_

from isola.database.transactions import Database, Transaction
from isola.errors import Unavailable
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

log = structlog.get_logger()

MAX_CACHED = 10_000
Unprotected: TypeAlias = Callable[[Transaction, Sequence[str]], Awaitable[Mapping[str, str]]]
"""Finds the homes that must not be served, with the reasons: see isola.platform.migrations.unprotected."""
_Fetch: TypeAlias = Callable[[str, UUID | None], Awaitable[Tenant | None]]


class Directory:
    """Looks tenants up by slug or id. Answers are cached until they change, ``ttl`` seconds at most.

    Unknown names are cached as well, so each costs the database one query only. The protection of a home is checked at
    its first use.
    """

    def __init__(self, control: Database, changes: Changes, ttl: float, unprotected: Unprotected) -> None:
        self._control = control
        self._unprotected = unprotected
        self._protected: set[str] = set()
        """Homes whose protection was checked."""
        self._cache: Cache[str, Tenant | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        self._identified: Cache[str, Tenant | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        for cache in (self._cache, self._identified):
            changes.listen(Kind.TENANT, cache.invalidate)
            changes.listen(Kind.PLAN, cache.forget)

    async def find(self, name: str) -> Tenant | None:
        """The tenant with this slug or id, None if there is none, or if it is remote: nobody signs in to that.

        Raises Unavailable when it cannot be determined, and for an active tenant whose home is not protected.
        """
        tenant = await self._find(self._cache, self._fetch, name)
        return None if tenant is None or tenant.remote else tenant

    async def find_remote(self, tenant_id: UUID) -> Tenant | None:
        """The tenant that stands for a partner on another installation. Raises as ``find``."""
        tenant = await self._find(self._cache, self._fetch, str(tenant_id))
        return tenant if tenant is not None and tenant.remote else None

    async def identify(self, name: str) -> Tenant | None:
        """The same without the check of its home: it takes as long for a tenant as for a name of none.

        The result must not be served.
        """
        tenant = await self._find(self._identified, self._read, name)
        return None if tenant is None or tenant.remote else tenant

    async def _find(self, cache: "Cache[str, Tenant | None]", fetch: _Fetch, name: str) -> Tenant | None:
        cached = cache.get(name)
        if cached is not MISSING:
            return cached
        identifier = _uuid(name)
        if not SLUG.fullmatch(name):
            if identifier is None:
                # Not a valid name; not cached, since it may be of any length.
                return None
            # Cached under the form that changes announce.
            name = str(identifier)
        elif str(identifier) != name:
            identifier = None
        return await cache.get_or_fetch(name, partial(fetch, name, identifier))

    async def _read(self, name: str, identifier: UUID | None) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"name": name, "identifier": identifier})
        return entry({key: value for key, value in rows[0].items() if key != "home"}) if rows else None

    async def _fetch(self, name: str, identifier: UUID | None) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"name": name, "identifier": identifier})
            if not rows:
                return None
            row = dict(rows[0])
            home = row.pop("home")
            tenant = entry(row)
            if tenant.status is Status.ACTIVE and home not in self._protected:
                found = await self._unprotected(transaction, [home])
                if found:
                    log.warning("a home is not protected and not served: isola migrate", home=home, reason=found[home])
                    raise Unavailable("the tenant cannot be served at the moment")
                self._protected.add(home)
        return tenant


# Built once, and so compiled once: this query is frequent with many tenants.
_FIND = (
    SERVED.add_columns(tenants.c.home)
    .where(or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")))
    # Another tenant may have a deleted tenant's slug: prefer the one that is not deleted.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
