"""One delivery over HTTP: bounded in time, to a checked address, without redirects, proxies or a look at the body."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from functools import cached_property

import httptools

from isola.errors import BadUserInput
from isola.webhooks import endpoints
from isola.webhooks.endpoints import Endpoint, Resolve

TIMEOUT = 10.0
"""Seconds for a whole delivery, from the name's resolution to the head of the response."""
MAX_HEAD = 16 * 1024
GONE = "HTTP_410"
_CHUNK = 4096
_AGENT = "isola-webhooks"


class Failure(Exception):  # noqa: N818  the endpoint's, not the program's
    """Why a delivery failed: ``HTTP_`` and the status of the response, or one of the kinds in docs/webhooks.md."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class Sender:
    """Sends requests. ``private``: whether http and addresses that are not public are allowed."""

    def __init__(
        self, resolve: Resolve, *, private: bool, limit: float | None = None, trusted: ssl.SSLContext | None = None
    ) -> None:
        """``limit`` is by default ``TIMEOUT``. ``trusted`` has the accepted authorities, by default the system's."""
        self._resolve = resolve
        self.private = private
        self._limit = TIMEOUT if limit is None else limit
        self._trusted = trusted

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> None:
        """POST a JSON document. Raises Failure unless the response has a status of 2xx."""
        try:
            async with asyncio.timeout(self._limit):
                status = await self._exchange(url, headers, body)
        except TimeoutError:
            raise Failure("TIMEOUT") from None
        except ssl.SSLError:
            raise Failure("TLS") from None
        except OSError:
            raise Failure("CONNECTION") from None
        except httptools.HttpParserError:
            raise Failure("PROTOCOL") from None
        if not 200 <= status < 300:  # noqa: PLR2004  the statuses of success
            raise Failure(f"HTTP_{status}")

    async def _exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> int:
        try:
            # Again: SQL inside a tenant can have stored any text, and settings change.
            endpoint = endpoints.parse(url, private=self.private)
        except BadUserInput:
            raise Failure("INVALID_URL") from None
        found = await endpoints.addresses(endpoint, self._resolve, private=self.private)
        if not found:
            raise Failure("NO_PUBLIC_ADDRESS")
        reader, writer = await self._connected(endpoint, found)
        try:
            writer.write(_head(endpoint, headers, len(body)) + body)
            await writer.drain()
            return await _status(reader)
        finally:
            # At once, whatever the endpoint still sends.
            writer.transport.abort()

    async def _connected(
        self, endpoint: Endpoint, found: Sequence[str]
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the first of these addresses that accepts one. Certificates are verified against the name."""
        context, name = (self._context, endpoint.host) if endpoint.secure else (None, None)
        for number, address in enumerate(found, 1):
            try:
                return await asyncio.open_connection(
                    address, endpoint.port, limit=_CHUNK, ssl=context, server_hostname=name
                )
            except ssl.SSLError:
                raise
            except OSError:
                if number == len(found):
                    raise
        raise Failure("CONNECTION")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._trusted or ssl.create_default_context()


def _head(endpoint: Endpoint, headers: Mapping[str, str], length: int) -> bytes:
    lines = [
        f"POST {endpoint.target} HTTP/1.1",
        f"host: {endpoint.authority}",
        f"user-agent: {_AGENT}",
        "content-type: application/json",
        f"content-length: {length}",
        "connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Head:
    """Learns the status of a response, without what comes before it (1xx)."""

    def __init__(self) -> None:
        self.status: int | None = None
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if self.status is None and status >= 200:  # noqa: PLR2004  the first final status
            self.status = status


async def _status(reader: asyncio.StreamReader) -> int:
    head, received = _Head(), 0
    while head.status is None:
        chunk = await reader.read(_CHUNK)
        received += len(chunk)
        if not chunk:
            raise Failure("CONNECTION" if received == 0 else "PROTOCOL")
        if received > MAX_HEAD:
            raise Failure("PROTOCOL")
        try:
            head.parser.feed_data(chunk)
        except httptools.HttpParserError:
            # What follows the head does not matter.
            if head.status is None:
                raise
    return head.status
