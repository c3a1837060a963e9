"""Which tenant a name means, remembered for a moment."""

import time
from collections import OrderedDict
from uuid import UUID

from sqlalchemy import bindparam, or_

from app.control.tenants import ENTRY, SLUG, Status, Tenant, entry, tenants
from app.database import Database

REMEMBERED = 10_000


class Directory:
    """Looks tenants up by slug or id. What it says of a tenant's status is at most ``ttl`` seconds old.

    Names that no tenant has are remembered as well, so a flood of them costs the database one question each.
    """

    def __init__(self, control: Database, ttl: float) -> None:
        self._control = control
        self._ttl = ttl
        self._known: OrderedDict[str, tuple[float, Tenant | None]] = OrderedDict()

    async def find(self, name: str) -> Tenant | None:
        """The tenant with this slug or id, None if there is none. Raises Unavailable when it cannot be known."""
        known = self._known.get(name)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        if _uuid(name) is None and not SLUG.fullmatch(name):
            # No tenant can be called that; nor is it remembered, as it may be of any length.
            return None
        asked = time.monotonic()
        tenant = await self._ask(name)
        self._known[name] = (asked + self._ttl, tenant)
        self._known.move_to_end(name)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return tenant

    async def _ask(self, name: str) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"name": name, "identifier": _uuid(name)})
        return entry(rows[0]) if rows else None


# Made once, and so compiled once: with many tenants this is asked all the time.
_FIND = (
    ENTRY.where(or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")))
    # A deleted tenant's slug may be another's by now: the living one is meant.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
