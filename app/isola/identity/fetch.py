"""Requests to identity providers: bounded in size and time, over TLS, and to nowhere else."""

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
    """An address to fetch from. Raises ValueError unless it is https, or http on a loopback interface, and no user."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    # What is fetched in the clear can be replaced on the way.
    secure = parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))
    if not secure or not host or "@" in parts.netloc or parts.port == 0:
        raise ValueError
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def fetch(
    where: SplitResult, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, bytes]:
    """The status and body of what is got from an address, or of the answer to a form that is posted there.

    Raises OSError (TimeoutError among them) or HTTPException, also for more than 256 KiB.
    """
    async with asyncio.timeout(TIMEOUT):
        return await asyncio.to_thread(_exchange, where, form, headers or {})


def _exchange(where: SplitResult, form: Mapping[str, str] | None, headers: Mapping[str, str]) -> tuple[int, bytes]:
    """http.client neither follows redirects nor asks a proxy."""
    deadline = time.monotonic() + TIMEOUT
    connection = HTTPSConnection if where.scheme == "https" else HTTPConnection
    target = f"{where.path or '/'}?{where.query}".removesuffix("?")
    with closing(connection(where.hostname or "", where.port, timeout=TIMEOUT)) as provider:
        if form is None:
            provider.request("GET", target, headers=dict(headers))
        else:
            kind = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
            provider.request("POST", target, urlencode(form), {**kind, **headers})
        # A response without a length takes the socket over from its connection, and must be closed as well.
        with provider.getresponse() as response:
            body = bytearray()
            while chunk := response.read1(MAX_BYTES):
                body += chunk
                # The timeout of the socket starts again with every byte, so the whole needs its own.
                if len(body) > MAX_BYTES or time.monotonic() > deadline:
                    raise HTTPException
            return response.status, bytes(body)
