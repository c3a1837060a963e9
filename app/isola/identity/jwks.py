"""Verification keys that an identity provider publishes as a JSON Web Key Set (RFC 7517)."""

import asyncio
import json
import math
import time
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from http.client import HTTPException

import structlog
from jwt import PyJWK

from isola.errors import RateLimited, Unavailable
from isola.identity import public_key
from isola.identity.fetch import address, fetch
from isola.identity.throttle import Throttle

BURST = 5
STALE_LIMIT = 24 * 3600.0
"""How long keys stay valid after the last successful fetch, in seconds. By then the tokens have expired too."""

_log = structlog.get_logger(__name__)


class PublishedKeys:
    """The keys at an address, fetched when first needed and again after ``lifetime`` seconds.

    An unknown key id causes one more fetch, so that a rotated key is found. Whatever tokens contain, there are at most
    ``BURST`` fetches at once, and after that, or after a failure, one every ``cooldown`` seconds. In between, an
    unknown key id is neither accepted nor refused. While the provider fails, the cached keys stay in use.

    Only keys for one of ``algorithms`` are used. Raises ValueError unless the address is https, or http on a loopback
    interface, and without a user name.
    """

    def __init__(self, url: str, *, algorithms: AbstractSet[str], lifetime: float, cooldown: float) -> None:
        self._address = address(url)
        self.algorithms = algorithms
        self._lifetime = lifetime
        self._keys: dict[str | None, PyJWK] | None = None
        self._fetched_at = -math.inf
        self._cooldown = cooldown
        self._allowance = Throttle(burst=BURST, interval=cooldown)
        self._not_before = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._failing = False

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key with that id; without an id, the provider's only key.

        Raises Unavailable if there are no keys because the provider cannot be reached, and if it is too early to
        fetch again: a token with a new key must not be refused for that.
        """
        key = self._at_hand(key_id)
        undecided = False
        if key is None or time.monotonic() - self._fetched_at >= self._lifetime:
            fetching = self._start_fetch()
            # A provider that failed before may hang now: with a cached key, do not wait for it.
            if fetching is not None and (key is None or not self._failing):
                # Shielded: a cancelled request must not cancel the fetch that others wait for.
                await asyncio.shield(fetching)
                key = self._at_hand(key_id)
            undecided = key is None and (fetching is None or self._failing)
        if undecided or self._keys is None:
            raise Unavailable("tokens cannot be verified at the moment: the keys of the identity provider are missing")
        return key

    def _at_hand(self, key_id: str | None) -> PyJWK | None:
        if self._keys is None:
            return None
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The running fetch or a new one, or None if it is too early for one."""
        if self._fetching is None or self._fetching.done():
            if time.monotonic() < self._not_before:
                return None
            try:
                self._allowance.take(None)
            except RateLimited:
                return None
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            status, document = await fetch(self._address)
            if status != HTTPStatus.OK:
                raise HTTPException
            keys = _parse(document)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            _log.warning("identity.keys_not_fetched", host=self._address.hostname, error=type(error).__name__)
            self._failing = True
            self._not_before = time.monotonic() + self._cooldown
            if time.monotonic() - self._fetched_at >= STALE_LIMIT:
                self._keys = None
            return
        self._keys = {key.key_id: key for key in keys if key.algorithm_name in self.algorithms}
        self._fetched_at = time.monotonic()
        self._failing = False
        if not self._keys:
            _log.warning("identity.no_usable_key", host=self._address.hostname)


def _parse(document: bytes) -> list[PyJWK]:
    match json.loads(document):
        case {"keys": [*entries]}:
            return [key for key in map(public_key.from_jwk, entries) if key is not None]
        case _:
            raise ValueError
