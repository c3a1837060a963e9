"""Checks whether a valid token was revoked, with one cache look-up for each way to revoke it."""

import time
from collections.abc import Sequence
from uuid import UUID

from isola.database.transactions import Database
from isola.errors import Unauthenticated
from isola.identity.claims import Claims
from isola.platform import revocations
from isola.platform.cache import MISSING, Cache
from isola.platform.changes import Changes, Kind
from isola.platform.revocations import Revocable

MAX_CACHED = 100_000
_NEVER = 0.0


class Revocations:
    """Cached revocations. The database is queried once for each token, and again after a relevant change."""

    def __init__(self, control: Database, changes: Changes) -> None:
        self._control = control
        self._changes = changes
        # Tokens issued before this time are refused.
        self._cache: Cache[Revocable, float] = Cache(changes, size=MAX_CACHED)
        changes.listen(Kind.REVOCATION, self._invalidate)

    async def refuse_revoked(self, claims: Claims, tenant: UUID) -> None:
        """Raise Unauthenticated if a token, used in this tenant, was revoked; Unavailable if that is unknown."""
        ways = [Revocable("user", tenant, claims.subject)]
        if claims.token_id is not None:
            ways.append(Revocable("token", claims.issuer, claims.token_id))
        if claims.session_id is not None:
            ways.append(Revocable("session", claims.issuer, claims.session_id))
        times = [not_before for way in ways if (not_before := self._cache.get(way)) is not MISSING]
        if len(times) < len(ways):
            times = await self._fetch(ways)
        if claims.issued_at < max(times):
            raise Unauthenticated("the token was revoked")

    async def _fetch(self, ways: Sequence[Revocable]) -> list[float]:
        epoch, requested_at = self._changes.epoch, time.monotonic()
        async with self._control.unbound() as transaction:
            revoked = await revocations.find(transaction, ways[0], ways[1:])
        for way in ways:
            self._cache.put(way, revoked.get(way, _NEVER), epoch, requested_at)
        return [revoked.get(way, _NEVER) for way in ways]

    def _invalidate(self, key: str | None) -> None:
        self._cache.invalidate(None if key is None else Revocable.announced(key))
