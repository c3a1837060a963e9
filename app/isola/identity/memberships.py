"""Tenants in which a person is known, for tokens that leave the tenant to the request."""

from functools import partial

from sqlalchemy import bindparam, or_

from isola.database.transactions import Database
from isola.identity.resolution import identifier_of
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.memberships import memberships
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

MAX_CACHED = 10_000
TTL = 2.0
"""How long a membership is cached at most, in seconds: new ones are not announced."""


class Memberships:
    """Looks up a tenant among those that a subject of tokens belongs to."""

    def __init__(self, control: Database, changes: Changes) -> None:
        self._control = control
        self._cache: Cache[tuple[str, str], Tenant | None] = Cache(changes, size=MAX_CACHED, ttl=TTL)
        for kind in (Kind.TENANT, Kind.PLAN):
            changes.listen(kind, self._cache.forget)

    async def tenant(self, subject: str, name: str) -> Tenant | None:
        """The tenant with this slug or id, if the subject has ever entered it; else None, whether it exists or not.

        This says nothing about the subject's current permissions there. Raises Unavailable.
        """
        if not SLUG.fullmatch(name) and identifier_of(name) is None:
            return None
        key = subject, name
        cached = self._cache.get(key)
        return (
            cached
            if cached is not MISSING
            else await self._cache.get_or_fetch(key, partial(self._fetch, subject, name))
        )

    async def _fetch(self, subject: str, name: str) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"subject": subject, "name": name, "identifier": identifier_of(name)})
        return entry(rows[0]) if rows else None


_FIND = (
    SERVED.join(memberships, memberships.c.tenant_id == tenants.c.id)
    .where(
        memberships.c.subject == bindparam("subject"),
        or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")),
    )
    # Another tenant may have a deleted tenant's slug: prefer the one that is not deleted.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)
