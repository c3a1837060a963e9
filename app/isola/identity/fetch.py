"""Requests to identity providers: bounded in size and time, over TLS, and to no other host."""

import asyncio
import ipaddress
import time
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import SplitResult, urlencode, urlsplit

TIMEOUT = 5.0
MAX_BYTES = 256 * 1024


def address(url: str) -> SplitResult:
    """Parse an address to fetch from. Raises ValueError unless it is https, or http on loopback, without a user."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # Data fetched without TLS can be replaced in transit.
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not secure or not host or "@" in parts.netloc or parts.port == 0:
        raise ValueError
    return parts


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def fetch(
    address: SplitResult, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The status and body of a GET response, or of a POST response if there is a form.

    Raises OSError (TimeoutError among them) or HTTPException, also for more than 256 KiB.
    """
    async with asyncio.timeout(TIMEOUT):
        return await asyncio.to_thread(_exchange, address, form, headers or {})


def _exchange(address: SplitResult, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """http.client neither follows redirects nor uses a proxy."""
    deadline = time.monotonic() + TIMEOUT
    connection = HTTPSConnection if address.scheme == "https" else HTTPConnection
    target = f"{address.path or '/'}?{address.query}".removesuffix("?")
    with closing(connection(address.hostname or "", address.port, timeout=TIMEOUT)) as provider:
        if form is None:
            provider.request("GET", target, headers=dict(headers))
        else:
            kind = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
            provider.request("POST", target, urlencode(form), {**kind, **headers})
        # A response without a length takes over the connection's socket, and must be closed as well.
        with provider.getresponse() as response:
            body = bytearray()
            while chunk := response.read1(MAX_BYTES):
                body += chunk
                # The socket's timeout restarts with every byte, so the whole request needs its own.
                if len(body) > MAX_BYTES or time.monotonic() > deadline:
                    raise HTTPException
            return response.status, bytes(body)
