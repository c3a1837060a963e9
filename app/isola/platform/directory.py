"""Maps names to tenants, with a cache."""

from functools import partial
from uuid import UUID

from sqlalchemy import bindparam, or_

from isola.database.transactions import Database
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

MAX_CACHED = 10_000


class Directory:
    """Looks tenants up by slug or id. Answers are cached until they change, ``ttl`` seconds at most.

    Unknown names are cached as well, so each costs the database one query only.
    """

    def __init__(self, control: Database, changes: Changes, ttl: float) -> None:
        self._control = control
        self._cache: Cache[str, Tenant | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        changes.listen(Kind.TENANT, self._cache.invalidate)

    async def find(self, name: str) -> Tenant | None:
        """The tenant with this slug or id, None if there is none. Raises Unavailable when it cannot be determined."""
        cached = self._cache.get(name)
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
        return await self._cache.get_or_fetch(name, partial(self._fetch, name, identifier))

    async def _fetch(self, name: str, identifier: UUID | None) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"name": name, "identifier": identifier})
        return entry(rows[0]) if rows else None


# Built once, and so compiled once: this query is frequent with many tenants.
_FIND = (
    SERVED.where(or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")))
    # Another tenant may have a deleted tenant's slug: prefer the one that is not deleted.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
