"""Addresses of PostgreSQL: validation, normalisation, and connection parameters.

An address is a libpq URL. Supported libpq parameters are accepted, and others refused by name: asyncpg would send
unknown ones to the server, as settings that do not exist.
"""

import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from asyncpg.connect_utils import _parse_connect_dsn_and_args
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

EXPECTED = "expected postgresql://user:password@host:port/database"
SCHEMES = ("postgresql", "postgres")

_TLS_VERSIONS = "TLSv1(\\.[123])?"
# The valid values of each parameter. asyncpg supports these.
_BY_ASYNCPG = {
    "host": ".+",
    "port": r"\d+(,\d+)*",
    "passfile": ".+",
    "sslmode": "disable|allow|prefer|require|verify-ca|verify-full",
    "sslcert": ".+",
    "sslkey": ".+",
    "sslpassword": ".*",
    "sslrootcert": ".+",
    "sslcrl": ".+",
    "sslnegotiation": "postgres|direct",
    "ssl_min_protocol_version": _TLS_VERSIONS,
    "ssl_max_protocol_version": _TLS_VERSIONS,
    "target_session_attrs": "any|primary|standby|read-write|read-only|prefer-standby",
    "krbsrvname": ".+",
    "gsslib": "gssapi|sspi",
}
# The socket option for each.
_OF_SOCKETS = {
    "keepalives": "SO_KEEPALIVE",
    "keepalives_idle": "TCP_KEEPIDLE",
    "keepalives_interval": "TCP_KEEPINTVL",
    "keepalives_count": "TCP_KEEPCNT",
    "tcp_user_timeout": "TCP_USER_TIMEOUT",
}
_HERE = {
    "connect_timeout": r"\d{1,6}",
    "keepalives": "[01]",
    **{name: r"\d{1,9}" for name in _OF_SOCKETS if name != "keepalives"},
}
# With these values they request the default behaviour.
_DONE_ANYWAY = {
    "channel_binding": "disable|prefer",
    "client_encoding": "(?i:auto|utf-?8)",
    "gssencmode": "disable|prefer",
    "load_balance_hosts": "disable",
    "sslcompression": "0",
    "sslsni": "1",
}
_VALUES = MappingProxyType({name: re.compile(value) for name, value in (_BY_ASYNCPG | _HERE | _DONE_ANYWAY).items()})
# Why some are refused; shown instead of the valid values.
_REASONS: Mapping[str, str] = MappingProxyType(
    {
        "application_name": "this program sets it: omit it",
        "channel_binding": "not supported: omit it, and authenticate the server with sslmode=verify-full",
        "options": "omit it, and set parameters with ALTER DATABASE … SET",
        "service": "omit it, and write the parameters of the service into the address",
    }
)
_NAME = re.compile("[a-z_]{1,40}")


@dataclass(frozen=True, slots=True)
class Connecting:
    """Connection parameters: asyncpg's own address, the timeout in seconds, and socket options."""

    address: str
    timeout: float | None
    socket_options: Sequence[tuple[int, int, int]]


def normalised(address: str) -> str:
    """The address in the form that all its readers interpret alike.

    Raises ValueError, whose message names the invalid parameter and no value.
    """
    scheme, separator, rest = address.partition("://")
    if scheme not in SCHEMES or not separator:
        raise ValueError(EXPECTED)
    try:
        url = make_url(f"{scheme}://{_hosts_apart(rest)}")
        (url.host or "").encode("idna")
    except (ArgumentError, ValueError):
        raise ValueError(EXPECTED) from None
    url = _parameters_in_place(url)
    for name, value in url.query.items():
        _refuse_wrong(name, value)
    return url.render_as_string(hide_password=False)


def connecting(address: str) -> Connecting:
    """The connection parameters of a normalised address."""
    url = make_url(address)
    values = {name: str(value) for name, value in url.query.items()}
    # As in libpq, 0 means no limit; the pool's limit applies anyway.
    timeout = float(values.get("connect_timeout", 0)) or None
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(values.get("keepalives", 1)))]
    options += [
        (socket.IPPROTO_TCP, int(getattr(socket, option)), int(values[name]))
        for name, option in _OF_SOCKETS.items()
        if name != "keepalives" and int(values.get(name, 0))
    ]
    plain = url.difference_update_query([*_HERE, *_DONE_ANYWAY])
    return Connecting(plain.render_as_string(hide_password=False), timeout, options)


def password(url: URL) -> str | None:
    """The password for an address: its own, that of ``PGPASSWORD``, or one from a password file."""
    # TLS parameters are irrelevant here, and their files need not exist.
    plain = url.difference_update_query([name for name in url.query if name not in {"host", "port", "passfile"}])
    nothing = dict.fromkeys(
        (
            *("host", "port", "user", "password", "passfile", "database", "service", "servicefile", "direct_tls"),
            *("server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
        )
    )
    dsn = plain.render_as_string(hide_password=False)
    _, parameters = _parse_connect_dsn_and_args(dsn=dsn, ssl=False, **nothing)
    return None if parameters.password is None else str(parameters.password)


def _hosts_apart(rest: str) -> str:
    """Move several hosts with their ports into parameters, where SQLAlchemy finds them, too."""
    before, at, after = rest.rpartition("@")
    hosts, slash, path = after.partition("/")
    if "," not in hosts:
        return rest
    query = "&" if "?" in path else "?"
    named = [host.rpartition(":") if re.search(r":\d*$", host) else (host, "", "") for host in hosts.split(",")]
    names = ",".join(host for host, _, _ in named)
    ports = ",".join(port or "5432" for _, _, port in named)
    return f"{before}{at}/{path if slash else ''}{query}host={names}&port={ports}"


def _parameters_in_place(url: URL) -> URL:
    """Move user, password and database from parameters to their places, and refuse duplicate hosts and ports."""
    query = dict(url.query)
    places: dict[str, Any] = {}
    for name, place in (("user", "username"), ("password", "password"), ("dbname", "database"), ("database",) * 2):
        if name in query:
            if place in places or getattr(url, place) or not isinstance(query[name], str):
                raise ValueError(f"{name} occurs twice")
            places[place] = query.pop(name)
    for name in ("host", "port"):
        if name in query and getattr(url, name):
            raise ValueError(f"{name} occurs twice")
    return url.set(query=query, **places)


def _refuse_wrong(name: str, value: str | tuple[str, ...]) -> None:
    if not _NAME.fullmatch(name) or not (name in _VALUES or name in _REASONS):
        shown = name if _NAME.fullmatch(name) else "one of its parameters"
        raise ValueError(f"{shown} is not supported: expected any of {', '.join(sorted(_VALUES))}")
    if isinstance(value, tuple):
        raise ValueError(f"{name} occurs twice")  # noqa: TRY004  of a kind with the others
    option = _OF_SOCKETS.get(name)
    if option is not None and not hasattr(socket, option):
        raise ValueError(f"{name} is not supported on this system")
    if name not in _VALUES or not _VALUES[name].fullmatch(value):
        raise ValueError(f"{name}: {_REASONS.get(name) or f'expected {_VALUES[name].pattern}'}")
