"""The host of a request, and the tenant that it names.

A request names its host once, in the header ``Host``; the host in an absolute request target is ignored. A trusted
proxy may report the host that its client requested instead.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from isola.errors import BadUserInput
from isola.settings import Settings

_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST = re.compile(
    rf"(?P<name>{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]{{2,45}}\])(?::(?P<port>[0-9]{{1,5}}))?", re.ASCII
)
_MAX_NAME, _MAX_PORT = 253, 65535
_MAX_TEXT = _MAX_NAME + len(":65535")

# RFC 7239, section 4, for one proxy; chains of several proxies are not supported.
_PAIR = r'[A-Za-z]+=(?:[\w!#$%&\'*+.^`|~:\[\]-]+|"[^"\\]*")'
_FORWARDED = re.compile(rf"{_PAIR}(?:\s*;\s*{_PAIR})*", re.ASCII)
_FORWARDED_HOST = re.compile(r'(?:^|;)\s*host=(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)

_FORWARDED_FOR = re.compile(r'(?:^|;)\s*for=(?:"([^"]*)"|([^;\s]*))', re.IGNORECASE)
# Some proxies append the port to the address; it is ignored.
_ADDRESS = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]+)?|([0-9.]+):[0-9]+")

FORWARDED = frozenset({b"forwarded", b"x-forwarded-host"})


@dataclass(frozen=True, slots=True)
class Host:
    """The tenant's name in a host: a ``subdomain`` of the platform's domain, or a custom ``domain``.

    It has neither where the host is one of the server's.
    """

    subdomain: str | None = None
    domain: str | None = None


OWN = Host()


class Hosts:
    """Parses and classifies host names by the settings."""

    def __init__(self, settings: Settings) -> None:
        self._own = frozenset({"localhost", settings.host.lower(), *settings.hosts, settings.platform_domain})
        self._suffix = f".{settings.platform_domain}" if settings.platform_domain else None
        self._proxies = [ipaddress.ip_network(network) for network in settings.trusted_proxies]
        self.trusts = lru_cache(1000)(self._trusts)
        self.read = lru_cache(1000)(self._read)

    def reserved(self, name: str) -> bool:
        """Whether a name is one of the platform's own, or below one."""
        return any(own is not None and (name == own or name.endswith(f".{own}")) for own in self._own)

    def _trusts(self, address: str | None) -> bool:
        """Whether a peer is a trusted proxy; ``address`` is None for one without, on a Unix socket."""
        try:
            peer = ipaddress.ip_address(address or "")
        except ValueError:
            return False
        if isinstance(peer, ipaddress.IPv6Address) and peer.ipv4_mapped is not None:
            peer = peer.ipv4_mapped
        return any(peer in network for network in self._proxies)

    def _read(self, text: bytes) -> Host:
        """Parse a ``Host`` header. Raises BadUserInput unless it is one name, with or without a port."""
        # On a long text, the pattern would be slow.
        match = _HOST.fullmatch(text.decode("latin-1")) if len(text) <= _MAX_TEXT else None
        if match is None or len(match["name"]) > _MAX_NAME or int(match["port"] or 0) > _MAX_PORT:
            raise BadUserInput("host: expected one name, with or without a port")
        name = match["name"].lower()
        if name.strip("[]") in self._own or _is_loopback(name):
            return OWN
        if self._suffix is not None and name.endswith(self._suffix):
            return Host(subdomain=name.removesuffix(self._suffix))
        return Host(domain=name)


def forwarded(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The host that a trusted proxy reports as requested, None if it reports none.

    Raises BadUserInput for contradictory values, or a malformed header.
    """
    hosts = set()
    for name, value in headers:
        if name == b"x-forwarded-host":
            hosts.add(value)
        elif name == b"forwarded":
            text = value.decode("latin-1").strip()
            if not _FORWARDED.fullmatch(text):
                raise BadUserInput("forwarded: expected the value of one proxy")
            hosts |= {(quoted or plain).encode("latin-1") for quoted, plain in _FORWARDED_HOST.findall(text)}
    if len(hosts) > 1:
        raise BadUserInput("forwarded: expected one host")
    return hosts.pop() if hosts else None


def forwarded_for(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The client address that a trusted proxy reports; None if there is none, or no valid one."""
    reported = None
    for name, value in headers:
        text = value.decode("latin-1").strip()
        if name == b"x-forwarded-for":
            # The client may have written everything before the last entry.
            reported = text.rpartition(",")[2].strip()
        elif name == b"forwarded" and reported is None and _FORWARDED.fullmatch(text):
            reported = next((quoted or plain for quoted, plain in _FORWARDED_FOR.findall(text)), None)
    with_port = _ADDRESS.fullmatch(reported or "")
    bare = (with_port[1] or with_port[2]) if with_port else reported or ""
    try:
        return str(ipaddress.ip_address(bare))
    except ValueError:
        return None


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
