"""How a tenant presents itself on a sign-in page, before anybody has signed in.

The answer must not tell whether a tenant exists: a name of none has that of a tenant without branding, after the same
time.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform.cache import Cache
from isola.platform.changes import Changes, Kind
from isola.platform.directory import Directory
from isola.platform.tenants import Tenant
from isola.subjects import settings
from isola.subjects.branding import Branding

TAKES = 0.1
"""Seconds that each answer takes, at least: longer than it takes to read the branding of a tenant."""
MAX_CACHED = 10_000

Values = Mapping[str, Any]


class Brandings:
    """Finds the branding of tenants. It is cached until it changes, ``ttl`` seconds at most.

    It is read by one fixed statement, in a read-only transaction of the tenant that is about no user.
    """

    def __init__(self, directory: Directory, tenants: Database, changes: Changes, ttl: float) -> None:
        self._directory = directory
        self._tenants = tenants
        self._cache: Cache[str, Values] = Cache(changes, size=MAX_CACHED, ttl=ttl)
        # Changes are announced by the tenant's id and the name of the settings.
        changes.listen(Kind.SETTINGS, self._cache.invalidate)

    async def of(self, tenant: Tenant | None, asked_at: float) -> Values:
        """The branding of a tenant, by attribute; the defaults for None, and if it cannot be read at the moment.

        ``asked_at`` is the ``time.monotonic()`` from before the tenant was looked up: that takes longer for some names.
        """
        try:
            found = settings.defaults(Branding) if tenant is None else await self._find(tenant)
        except Refusal:
            # An error would tell that there is such a tenant.
            found = settings.defaults(Branding)
        await asyncio.sleep(max(0.0, asked_at + TAKES - time.monotonic()))
        return found

    async def _find(self, tenant: Tenant) -> Values:
        key = f"{tenant.id}/{Branding.declaration.name}"
        return await self._cache.get_or_fetch(key, partial(self._read, str(tenant.id)))

    async def _read(self, name: str) -> Values:
        # Unlike the entry that identifies it, this one is of a home whose protection was checked.
        tenant = await self._directory.find(name)
        if tenant is None:
            return settings.defaults(Branding)
        async with self._tenants.transaction(tenant, read_only=True) as work:
            return await settings.read(work, Branding)
