"""Custom domains of tenants. Written and read by tenants through the functions of the schema ``isola`` only."""

from functools import partial
from uuid import UUID

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, Table, Text, UniqueConstraint, Uuid, text

from isola.database.transactions import Database
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.tenants import metadata
from isola.subjects.metadata import identifier, indexed_text, moment

MAX_CACHED = 10_000

domains = Table(
    "domains",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # In lower case, as in DNS; internationalised names in their ASCII form.
    indexed_text("name", 253),
    Column("challenge", Text, nullable=False),
    moment("challenge_expires_at", default=None),
    # When a server last found the challenge in DNS. No tenant can write it.
    moment("proven_at", nullable=True, default=None),
    moment("created_at"),
    moment("verified_at", nullable=True, default=None),
    UniqueConstraint("tenant_id", "name"),
    CheckConstraint("name = lower(name)", name="name_lower"),
    # Several tenants may try to prove the same domain; only one can have it verified.
    Index(None, "name", unique=True, postgresql_where=text("verified_at IS NOT NULL")),
)


class Domains:
    """Looks up the owner of a verified domain. Answers are cached until they change, ``ttl`` seconds at most.

    Unowned names are cached as well.
    """

    def __init__(self, control: Database, changes: Changes, ttl: float) -> None:
        self._control = control
        self._cache: Cache[str, UUID | None] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        changes.listen(Kind.DOMAIN, self._invalidate)

    async def tenant(self, name: str) -> UUID | None:
        """The id of the tenant that has proven to own this domain, None if none has. Raises Unavailable."""
        cached = self._cache.get(name)
        return cached if cached is not MISSING else await self._cache.get_or_fetch(name, partial(self._fetch, name))

    async def _fetch(self, name: str) -> UUID | None:
        async with self._control.unbound() as transaction:
            tenant_id: UUID | None = await transaction.value(
                "SELECT tenant_id FROM control.domains WHERE name = $1 AND verified_at IS NOT NULL", name
            )
        return tenant_id

    def _invalidate(self, key: str | None) -> None:
        # Changes announced from inside a tenant have its id as a prefix.
        self._cache.invalidate(key and key.rpartition("/")[2])
