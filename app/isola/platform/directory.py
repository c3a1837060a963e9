"""Which tenant a name means, remembered until it changes."""

from functools import partial
from uuid import UUID

from sqlalchemy import bindparam, or_

from isola.database.transactions import Database
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

REMEMBERED = 10_000


class Directory:
    """Looks tenants up by slug or id. What it says of one is remembered until that changes, ``ttl`` seconds at most.

    Names that no tenant has are remembered as well, so a flood of them costs the database one question each.
    """

    def __init__(self, control: Database, changes: Changes, ttl: float) -> None:
        self._control = control
        self._known: Cache[str, Tenant | None] = Cache(changes, size=REMEMBERED, ttl=ttl)
        changes.listen(Kind.TENANT, self._known.forget)

    async def find(self, name: str) -> Tenant | None:
        """The tenant with this slug or id, None if there is none. Raises Unavailable when it cannot be known."""
        known = self._known.get(name)
        if known is not MISSING:
            return known
        identifier = _uuid(name)
        if not SLUG.fullmatch(name):
            if identifier is None:
                # No tenant can be called that; nor is it remembered, as it may be of any length.
                return None
            # Remembered as a change to the tenant names it.
            name = str(identifier)
        elif str(identifier) != name:
            identifier = None
        return await self._known.learn(name, partial(self._ask, name, identifier))

    async def _ask(self, name: str, identifier: UUID | None) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"name": name, "identifier": identifier})
        return entry(rows[0]) if rows else None


# Made once, and so compiled once: with many tenants this is asked all the time.
_FIND = (
    SERVED.where(or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")))
    # A deleted tenant's slug may be another's by now: the living one is meant.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
