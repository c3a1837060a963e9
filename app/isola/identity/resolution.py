"""Parses the credential and the tenant names of a request; nothing is verified yet.

The credential decides. Every other source (a subdomain, a custom domain, a header, the path, a parameter) may only
agree with it. A source that is not configured is not read, and a credential of a kind that is not enabled is refused.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl
from uuid import UUID

from isola.errors import BadUserInput, Refusal, Unauthenticated
from isola.identity.hosts import FORWARDED, OWN, Hosts, forwarded, forwarded_for
from isola.identity.tokens import bearer
from isola.platform.tenants import Tenant
from isola.settings import Settings

KEY_MARK = "isk_"
"""The prefix of every API key, and of no token."""

PATH = "/graphql"
OWN_API = "/api/v1"
"""The prefix of the built-in paths besides GraphQL. They name no tenant."""
API = f"{OWN_API}/tenants"
"""The prefix of the applications' paths. The next segment names the tenant, whatever sources are configured."""
# Matched undecoded: a proxy that routes by path would see an encoded name as a different one.
_PATH = re.compile(rb"/t/([A-Za-z0-9-]{1,63})/graphql")
_API = re.compile(API.encode() + rb"/([A-Za-z0-9-]{1,63})/[^%]+")

_MAX_PARAMETERS = 100

_IDENTIFIER = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)

# The error for a request that has one of these headers twice.
_SINGLE: dict[bytes, tuple[type[Refusal], str]] = {
    b"host": (BadUserInput, "host: expected the header once"),
    b"authorization": (Unauthenticated, "expected one Authorization header"),
    b"x-api-key": (Unauthenticated, "expected one X-API-Key header"),
    b"x-tenant-id": (BadUserInput, "x-tenant-id: expected the header once at most"),
}


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it holds a credential
class ParsedRequest:
    """The parsed request: a token or an API key, ``names`` of tenants, and a ``domain`` that may belong to one.

    ``other_key`` is a different API key that is sent in addition to the credential.
    """

    token: str | None
    api_key: str | None
    names: tuple[str, ...]
    domain: str | None
    other_key: str | None = None


class NoCredential(Unauthenticated):
    """The request has no credential. A few operations are allowed without one."""


class Resolution:
    """Reads the configured sources, in their order."""

    def __init__(self, settings: Settings, hosts: Hosts) -> None:
        self._hosts = hosts
        self._tokens = "token" in settings.tenant_sources
        self._keys = "key" in settings.tenant_sources
        sources = [source for source in settings.tenant_sources if source not in {"token", "key", "domain"}]
        self._order = ["api", *sources]
        self._subdomains = "subdomain" in self._order
        self._domains = "domain" in settings.tenant_sources
        self._path = "path" in self._order
        self._query = "query" in self._order
        self._headers = _SINGLE.keys() - (set() if "header" in self._order else {b"x-tenant-id"})

    def read(  # noqa: C901  one step for each source, read in one go
        self, scope: Mapping[str, Any], *, credential: bool = True
    ) -> ParsedRequest:
        """Parse the request of an ASGI scope; without ``credential``, only its tenant names.

        Raises BadUserInput for a source that is malformed or given twice, and Unauthenticated without an accepted
        credential: NoCredential if there is none at all.
        """
        headers: dict[bytes, bytes] = {}
        proxied = False
        for name, value in scope["headers"]:
            if name in self._headers:
                if name in headers:
                    refusal, message = _SINGLE[name]
                    raise refusal(message)
                headers[name] = value
            elif name in FORWARDED:
                proxied = True
        where = self._hosts.read(headers.get(b"host", b""))
        if proxied and self._hosts.trusts((scope.get("client") or (None,))[0]):
            host = forwarded(scope["headers"])
            where = where if host is None else self._hosts.read(host)
        said: dict[str, str] = {}
        if where is not OWN:
            if not (self._subdomains if where.domain is None else self._domains):
                raise unknown_host()
            if where.subdomain is not None:
                said["subdomain"] = where.subdomain
        if (header := headers.get(b"x-tenant-id")) is not None:
            said["header"] = header.decode("latin-1")
        if scope["path"] != PATH:
            said |= self._named_by_path(scope)
        if scope["query_string"] and (parameter := self._named_by_query(scope["query_string"])) is not None:
            said["query"] = parameter
        token, api_key, other_key = self._credentials(headers) if credential else (None, None, None)
        names = tuple(said[source] for source in self._order if source in said) if said else ()
        return ParsedRequest(token, api_key, names, where.domain, other_key)

    def address(self, scope: Mapping[str, Any]) -> str:
        """The client's address; behind a trusted proxy, the one that the proxy reports."""
        peer: str = (scope.get("client") or ("",))[0]
        if not self._hosts.trusts(peer):
            return peer
        return forwarded_for(scope["headers"]) or peer

    def _credentials(self, headers: Mapping[bytes, bytes]) -> tuple[str | None, str | None, str | None]:
        """A token or an API key, and a second, different key."""
        given = headers.get(b"x-api-key")
        api_key = None if given is None else given.decode("latin-1")
        authorization = headers.get(b"authorization")
        if authorization is None:
            token, other_key = None, None
        else:
            token, other_key = bearer(authorization.decode("latin-1")), api_key
            api_key = None
            if token.startswith(KEY_MARK):
                token, api_key = None, token
                other_key = None if other_key == api_key else other_key
        if token is None and api_key is None:
            raise no_credential()
        if token is not None and not self._tokens:
            raise Unauthenticated("tokens are not accepted here")
        if not (api_key is None and other_key is None) and not self._keys:
            raise Unauthenticated("API keys are not accepted here")
        return token, api_key, other_key

    def _named_by_path(self, scope: Mapping[str, Any]) -> dict[str, str]:
        if scope["path"].startswith(f"{API}/"):
            source, match, expected = "api", _API.fullmatch(scope["raw_path"]), f"{API}/<tenant>/…"
        elif scope["path"].startswith(f"{OWN_API}/"):
            return {}
        else:
            source, match, expected = "path", _PATH.fullmatch(scope["raw_path"]), "/graphql or /t/<tenant>/graphql"
            match = match if self._path else None
        if match is None:
            raise BadUserInput(f"path: expected {expected}, nothing of it encoded")
        return {source: match[1].decode()}

    def _named_by_query(self, query: bytes) -> str | None:
        if not self._query:
            return None
        try:
            pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_PARAMETERS)
        except ValueError:
            raise BadUserInput(f"expected at most {_MAX_PARAMETERS} parameters") from None
        given = [value for name, value in pairs if name == "tenant"]
        if len(given) > 1:
            raise BadUserInput("tenant: expected the parameter once at most")
        return given[0] if given else None


def no_credential() -> NoCredential:
    return NoCredential("expected the header Authorization: Bearer <token>")


def identifies(name: str, tenant: Tenant) -> bool:
    """Whether a name in a request is this tenant's slug or id."""
    return name == tenant.slug or identifier_of(name) == tenant.id


def identifier_of(name: str) -> UUID | None:
    """Parse an id written with its hyphens; None for anything else."""
    return UUID(name) if _IDENTIFIER.fullmatch(name) else None


def unknown_host() -> BadUserInput:
    return BadUserInput("host: not a host of this server")
