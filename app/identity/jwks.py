"""Verification keys that an identity provider publishes as a JSON Web Key Set (RFC 7517)."""

import asyncio
import ipaddress
import json
import math
import time
from collections.abc import Set as AbstractSet
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlsplit

import structlog
from jwt import PyJWK

from app.errors import Unavailable
from app.identity import public_key

TIMEOUT = 5.0
MAX_BYTES = 256 * 1024
STALE_LIMIT = 24 * 3600.0
"""How long keys outlive the last successful fetch, in seconds. By then the provider's tokens have expired too."""

_log = structlog.get_logger(__name__)


class PublishedKeys:
    """The keys at an address, fetched when first needed and again after ``lifetime`` seconds.

    A key id that is not among them causes one more fetch, so that a rotated key is found; but two fetches never
    start within ``cooldown`` seconds, whatever tokens say. While the provider fails, the keys at hand go on serving.

    Only keys for one of ``algorithms`` are taken. Raises ValueError unless the address is https, or http on a
    loopback interface, and without a user's name.
    """

    def __init__(self, url: str, *, algorithms: AbstractSet[str], lifetime: float, cooldown: float) -> None:
        self._address = _address(url)
        self.algorithms = algorithms
        self._lifetime = lifetime
        self._cooldown = cooldown
        self._keys: dict[str | None, PyJWK] | None = None
        self._fetched_at = -math.inf
        self._next_fetch = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._failing = False

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key of that id; without an id, the key if the provider has only one.

        Raises Unavailable if there are no keys because the provider cannot be reached.
        """
        key = self._at_hand(key_id)
        if key is None or time.monotonic() - self._fetched_at >= self._lifetime:
            fetching = self._start_fetch()
            # A provider that failed before may hang now: whoever has a key need not wait for it again.
            if fetching is not None and (key is None or not self._failing):
                # Shielded: a client that goes away must not take with it the fetch that others wait for.
                await asyncio.shield(fetching)
                key = self._at_hand(key_id)
        if self._keys is None:
            raise Unavailable("tokens cannot be verified at the moment: the keys of the identity provider are missing")
        return key

    def _at_hand(self, key_id: str | None) -> PyJWK | None:
        if self._keys is None:
            return None
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _start_fetch(self) -> asyncio.Task[None] | None:
        """The fetch that is under way or starts now, or None if it is too early for one."""
        if self._fetching is None or self._fetching.done():
            now = time.monotonic()
            if now < self._next_fetch:
                return None
            self._next_fetch = now + self._cooldown
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                document = await asyncio.to_thread(_download, self._address)
            keys = _parse(document)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            _log.warning("identity.keys_not_fetched", host=self._address.hostname, error=type(error).__name__)
            self._failing = True
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


def _address(url: str) -> SplitResult:
    address = urlsplit(url)
    host = address.hostname or ""
    # Keys that are fetched in the clear can be replaced on the way.
    secure = address.scheme == "https" or (address.scheme == "http" and _is_loopback(host))
    if not secure or not host or "@" in address.netloc or address.port == 0:
        raise ValueError
    return address


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _download(address: SplitResult) -> bytes:
    """The body at ``address``. http.client neither follows redirects nor asks a proxy."""
    deadline = time.monotonic() + TIMEOUT
    connection = HTTPSConnection if address.scheme == "https" else HTTPConnection
    with closing(connection(address.hostname or "", address.port, timeout=TIMEOUT)) as provider:
        provider.request("GET", f"{address.path or '/'}?{address.query}".removesuffix("?"))
        # A response without a length takes the socket over from its connection, and must be closed as well.
        with provider.getresponse() as response:
            if response.status != HTTPStatus.OK:
                raise HTTPException
            body = bytearray()
            while chunk := response.read1(MAX_BYTES):
                body += chunk
                # The timeout of the socket starts again with every byte, so the whole needs its own.
                if len(body) > MAX_BYTES or time.monotonic() > deadline:
                    raise HTTPException
            return bytes(body)
