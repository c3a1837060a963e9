"""In which tenants a person is known: asked where a token leaves the tenant to the request."""

from functools import partial

from sqlalchemy import bindparam, or_

from isola.database.transactions import Database
from isola.identity.resolution import identifier_of
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.memberships import memberships
from isola.platform.tenants import SERVED, SLUG, Status, Tenant, entry, tenants

REMEMBERED = 10_000
TTL = 2.0
"""How long what is known of a membership is remembered at most, in seconds: new ones are not announced."""


class Memberships:
    """Looks up a tenant as one whom a subject of tokens belongs to knows it."""

    def __init__(self, control: Database, changes: Changes) -> None:
        self._control = control
        self._known: Cache[tuple[str, str], Tenant | None] = Cache(changes, size=REMEMBERED, ttl=TTL)
        changes.listen(Kind.TENANT, lambda _: self._known.forget(None))

    async def tenant(self, subject: str, name: str) -> Tenant | None:
        """The tenant with this slug or id, if it has ever seen the subject; None alike if not, or if there is none.

        That it has seen them says nothing of what they may do there, or may no longer. Raises Unavailable.
        """
        if not SLUG.fullmatch(name) and identifier_of(name) is None:
            return None
        asked = subject, name
        known = self._known.get(asked)
        return known if known is not MISSING else await self._known.learn(asked, partial(self._ask, subject, name))

    async def _ask(self, subject: str, name: str) -> Tenant | None:
        async with self._control.unbound() as transaction:
            rows = await transaction.rows(_FIND, {"subject": subject, "name": name, "identifier": identifier_of(name)})
        return entry(rows[0]) if rows else None


_FIND = (
    SERVED.join(memberships, memberships.c.tenant_id == tenants.c.id)
    .where(
        memberships.c.subject == bindparam("subject"),
        or_(tenants.c.slug == bindparam("name"), tenants.c.id == bindparam("identifier")),
    )
    # A deleted tenant's slug may be another's by now: the living one is meant.
    .order_by(tenants.c.status == Status.DELETED, tenants.c.id.desc())
    .limit(1)
)
