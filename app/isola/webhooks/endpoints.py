"""The addresses of webhooks: which URLs are accepted, and which IP addresses are public.

A server must not let tenants reach what only it can reach. So a name is resolved once for each delivery, all of its
addresses must be public, and the connection goes to one of these addresses: nothing resolves the name again.
"""

import ipaddress
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias
from urllib.parse import urlsplit

import structlog
from dns.exception import DNSException

from isola.errors import BadUserInput
from isola.platform import resolving
from isola.platform.webhooks import MAX_URL

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Finds the IP addresses of a name; none if there are none, or if they cannot be found."""

_log = structlog.get_logger(__name__)
_HTTPS = 443
_FIRST_UNPRIVILEGED = 1024
_LIFETIME = 5.0
_MAX_NAME = 253
_LABEL = "[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?"
# The last label of a name is no number: 127.1 and 0x7f000001 are addresses to some.
_NAME = re.compile(rf"(?:{_LABEL}\.)+(?!0x[0-9a-f]*$)(?=[a-z0-9-]*[a-z]){_LABEL}", re.ASCII)
_LOCAL = "localhost"
# What these characters mean differs between parsers of URLs.
_PRINTABLE = re.compile(r'[^\s"<>\\^`{|}\x00-\x20\x7f-\U0010ffff]+')
_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
# Not public, whatever the release of Python thinks: relays of 6to4, addresses of protocols (one is that of a cloud's
# metadata), another one of a cloud's hosts, and documentation.
_SPECIAL_4 = [ipaddress.ip_network(each) for each in ("192.88.99.0/24", "192.0.0.0/24", "168.63.129.16/32")]
_DOCUMENTATION = ipaddress.ip_network("3fff::/20")


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it may contain secrets
class Endpoint:
    """The parts of a URL. ``host`` is a name or an IP address without brackets; ``target`` is for the request line."""

    secure: bool
    host: str
    port: int
    authority: str
    target: str

    @property
    def literal(self) -> str | None:
        """The host, if it is an IP address."""
        return self.host if _address(self.host) is not None else None


def parse(url: str, *, private: bool) -> Endpoint:
    """Parse the URL of a webhook. Raises BadUserInput for one that is not accepted.

    With ``private``, it may be http, and of an address that is not public.
    """
    if len(url) > MAX_URL:
        raise _refused(f"at most {MAX_URL} characters")
    if not _PRINTABLE.fullmatch(url):
        raise _refused("a URL of printable ASCII characters")
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").removesuffix(".")
    except ValueError:
        raise _refused("a URL with a valid host and port") from None
    schemes = ("https", "http") if private else ("https",)
    if parts.scheme not in schemes:
        raise _refused(" or ".join(f"{each}://" for each in schemes))
    if "@" in parts.netloc:
        raise _refused("a URL without a user name and password")
    if "#" in url:
        raise _refused("a URL without a fragment")
    secure = parts.scheme == "https"
    if port is None and secure:
        port = _HTTPS
    if port is None or (port != _HTTPS and port < _FIRST_UNPRIVILEGED):
        raise _refused(f"port {_HTTPS}, or one from {_FIRST_UNPRIVILEGED} on")
    _check_host(host, private=private)
    shown = f"[{host}]" if ":" in host else host
    target = f"{parts.path or '/'}?{parts.query}" if "?" in url else parts.path or "/"
    return Endpoint(secure, host, port, shown if secure and port == _HTTPS else f"{shown}:{port}", target)


def _check_host(host: str, *, private: bool) -> None:
    if (address := _address(host)) is not None:
        if not private and not is_public(address):
            raise _refused("a public address")
    elif host == _LOCAL or host.endswith(f".{_LOCAL}"):
        if not private:
            raise _refused("a public address")
    elif len(host) > _MAX_NAME or not _NAME.fullmatch(host):
        raise _refused("the name of a host with a dot in it, or an IP address")


def _refused(expected: str) -> BadUserInput:
    return BadUserInput(f"url: expected {expected}", "url")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address is one of the public Internet, also where it contains an IPv4 address."""
    if isinstance(address, ipaddress.IPv4Address):
        special = address.is_multicast or address.is_reserved or any(address in each for each in _SPECIAL_4)
        return address.is_global and not special
    if address.scope_id is not None:
        return False
    if (inner := _inner(address)) is not None:
        return is_public(inner)
    return address in _UNICAST and address not in _DOCUMENTATION and address.is_global and address.teredo is None


def _inner(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that packets to an IPv6 address end at: IPv4-mapped, 6to4 and NAT64."""
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


async def addresses(endpoint: Endpoint, resolve: Resolve, *, private: bool) -> Sequence[str]:
    """The addresses to connect to. None if there are none, or if any of them is not public and that is not allowed."""
    found = [endpoint.literal] if endpoint.literal is not None else await resolve(endpoint.host)
    parsed = [_address(each) for each in found]
    if not private and not all(each is not None and is_public(each) for each in parsed):
        return []
    return found


def resolver(servers: Sequence[str] = (), port: int = 53) -> Resolve:
    """Asks these name servers, by default the system's."""
    # Created lazily: not every server needs it.
    made = cache(lambda: resolving.resolver(servers, port))

    async def resolve(host: str) -> Sequence[str]:
        if host == _LOCAL or host.endswith(f".{_LOCAL}"):
            return ["127.0.0.1"]
        try:
            answers = await made().resolve_name(f"{host}.", lifetime=_LIFETIME)
            return list(answers.addresses())
        except (DNSException, OSError) as error:
            _log.info("webhooks.name_not_resolved", error=type(error).__name__)
            return []

    return resolve
