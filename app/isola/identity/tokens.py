"""JSON Web Tokens (RFC 7519): from an Authorization header to verified claims."""

import json
import math
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, TypeVar

import jwt
from jwt.utils import base64url_decode, base64url_encode

from isola.errors import OperatorError, Unauthenticated
from isola.identity import claims
from isola.identity.claims import Claims, Expired, NotYetValid
from isola.identity.issuers import Issuer
from isola.identity.keys import development_key
from isola.settings import Settings
from isola.subjects.permissions import Role

MAX_TOKEN_LENGTH = 16 * 1024
REVERIFY_AFTER = 300.0
"""How long a verified token is cached at most, in seconds, so that the tokens of a withdrawn key stop working."""
REFUSED_FOR = 10.0
"""How long a refused token is cached, in seconds, so that sending it again costs no cryptography."""

_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_COMPACT = re.compile(r"(?P<signed>(?P<header>[\w-]+)\.(?P<payload>[\w-]+))\.(?P<signature>[\w-]+)", re.ASCII)

# Each of these lets the token choose its own key or the way it is parsed. No extension is supported, so every token
# with a crit header must be refused as well (RFC 7515, 4.1.11).
_REFUSED_HEADERS = frozenset({"b64", "crit", "jku", "jwk", "x5c", "x5u"})

# An issuer may sign other things with the same key (logouts, proofs of possession), marked here (RFC 8725, 3.11).
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it is part of a credential
class Parts:
    """The parts of a token in the compact form. Nothing in them is verified."""

    algorithm: str
    key_id: str | None
    payload: Mapping[str, Any]
    signed: bytes
    signature: bytes


def parse(token: str, types: AbstractSet[str] = _TYPES) -> Parts:
    """The parts of a token, whose header says one of ``types``, in lower case. Raises Unauthenticated."""
    parts = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN_LENGTH else None
    if parts is None:
        raise _malformed()
    algorithm, key_id = _read_header(parts["header"], types)
    signature = _decode(parts["signature"])
    return Parts(algorithm, key_id, _decode_object(parts["payload"]), parts["signed"].encode(), signature)


class TokenVerifier:
    """Verifies tokens of some issuers, and caches ``size`` valid and as many invalid ones.

    ``issuers`` are keyed by the tokens' ``iss``. ``clock`` gives seconds since 1970.
    """

    def __init__(self, issuers: Mapping[str, Issuer], size: int, clock: Callable[[], float] = time.time) -> None:
        self._issuers = issuers
        self._size = size
        self._clock = clock
        # Keyed by digest: a memory dump of this process contains no credentials, and the size of an entry is bounded.
        self._verified: OrderedDict[bytes, tuple[float, Claims]] = OrderedDict()
        self._refused: OrderedDict[bytes, tuple[float, Callable[[], Unauthenticated]]] = OrderedDict()

    def cached(self, token: str) -> Claims | None:
        """The claims of a token that was verified before and is still valid, or None if ``verify`` is needed."""
        if len(token) > MAX_TOKEN_LENGTH:
            return None
        digest = _digest(token)
        entry = self._verified.get(digest)
        if entry is None:
            return None
        forget_at, cached_claims = entry
        if self._clock() >= forget_at:
            del self._verified[digest]
            return None
        self._verified.move_to_end(digest)
        return cached_claims

    async def verify(self, token: str) -> Claims:
        """The claims of ``token``. Waits only if keys must be fetched.

        Raises Unauthenticated if the token is refused (Expired if it only has expired), and Unavailable if there is no
        key to verify it with.
        """
        cached_claims = self.cached(token)
        if cached_claims is not None:
            return cached_claims
        if len(token) > MAX_TOKEN_LENGTH:
            raise _malformed()
        refused = self._refused.get(_digest(token))
        if refused is not None and self._clock() < refused[0]:
            again = refused[1]()
            raise again
        return await self._decided(token)

    def tenant_claimed(self, token: str) -> str | None:
        """The tenant claimed by a refused token, if it can be parsed. Not verified."""
        parts = _COMPACT.fullmatch(token) if len(token) <= MAX_TOKEN_LENGTH else None
        if parts is None:
            return None
        try:
            payload = _decode_object(parts["payload"])
        except Unauthenticated:
            return None
        issuer_claim = payload.get("iss")
        issuer = self._issuers.get(issuer_claim) if isinstance(issuer_claim, str) else None
        for each in self._issuers.values() if issuer is None else (issuer,):
            tenant = payload.get(each.settings.claim_tenant)
            if isinstance(tenant, str):
                return tenant
        return None

    async def _decided(self, token: str) -> Claims:
        parts = parse(token)
        # Not verified yet: until it is, only the issuer is read from it, to select the keys.
        issuer = self._issuers.get(claims.issuer(parts.payload))
        if issuer is None:
            raise Unauthenticated("the token is from another issuer")
        if parts.algorithm not in issuer.keys.algorithms:
            raise _refused()
        key = await issuer.keys.find(parts.key_id)
        # Not cached: the key may be found soon, when keys are fetched again.
        if key is None or key.algorithm_name != parts.algorithm:
            raise _refused()
        now = self._clock()
        try:
            if not key.Algorithm.verify(parts.signed, key.key, parts.signature):
                raise _refused()
            cached_claims = claims.parse(parts.payload, issuer.settings, now)
        except NotYetValid:
            raise
        except Expired as expired:
            self._keep_refused(token, now, partial(Expired, expired.claims))
            raise
        except Unauthenticated as refusal:
            self._keep_refused(token, now, partial(type(refusal), refusal.message))
            raise
        _keep(self._verified, self._size, token, (min(cached_claims.expires_at, now + REVERIFY_AFTER), cached_claims))
        return cached_claims

    def _keep_refused(self, token: str, now: float, refusal: Callable[[], Unauthenticated]) -> None:
        _keep(self._refused, self._size, token, (now + REFUSED_FOR, refusal))


def _keep(cache: OrderedDict[bytes, Entry], size: int, token: str, entry: Entry) -> None:
    cache[_digest(token)] = entry
    if len(cache) > size:
        cache.popitem(last=False)


def bearer(authorization: str | None) -> str:
    """The token in an Authorization header (RFC 6750). Raises Unauthenticated if there is none."""
    match = _BEARER.fullmatch(authorization) if authorization is not None else None
    if match is None:
        raise Unauthenticated("expected the header Authorization: Bearer <token>")
    return match[1]


def mint(
    settings: Settings,
    tenant: str,
    user: str,
    role: Role,
    ttl_seconds: float,
    name: str | None = None,
    email: str | None = None,
) -> str:
    """A token for development, valid for ``ttl_seconds`` and up to a second more.

    Raises OperatorError if tokens are not verified with the development key, naming the settings responsible, and if
    the token's claims would be refused.
    """
    key = development_key(settings)
    if not 0 < ttl_seconds < math.inf:
        raise OperatorError("a token's time to live must be a number of seconds above 0")
    now = time.time()
    payload = {
        "iss": settings.token_issuer,
        "aud": settings.token_audience,
        "iat": math.floor(now),
        "exp": math.ceil(now + ttl_seconds),
        settings.claim_tenant: tenant,
        settings.claim_user: user,
        settings.claim_role: role,
        settings.claim_name: name,
        settings.claim_email: email,
        settings.claim_email_verified: None if email is None else True,
    }
    try:
        claims.parse(payload, settings, now)
    except Unauthenticated as refusal:
        raise OperatorError(f"such a token would be refused: {refusal.message}") from None
    return jwt.encode({claim: value for claim, value in payload.items() if value is not None}, key)


def _digest(token: str) -> bytes:
    return sha256(token.encode(errors="surrogatepass")).digest()


def type_of(token: str) -> str:
    """The type in the header of a token, in lower case; empty if there is none. Not verified."""
    header, _, _ = token.partition(".") if len(token) <= MAX_TOKEN_LENGTH else ("", "", "")
    try:
        kind = _decode_object(header).get("typ")
    except Unauthenticated:
        return ""
    return kind.lower() if isinstance(kind, str) else ""


def _read_header(segment: str, types: AbstractSet[str]) -> tuple[str, str | None]:
    """The algorithm and the key id in the header, both as untrusted as the rest of it."""
    header = _decode_object(segment)
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or not isinstance(key_id, str | None) or not isinstance(kind, str):
        raise _malformed()
    if kind.lower() not in types or not _REFUSED_HEADERS.isdisjoint(header):
        raise _refused()
    return algorithm, key_id


def _decode_object(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(segment))
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(value, dict):
        raise _malformed()
    return value


def _decode(segment: str) -> bytes:
    try:
        data = base64url_decode(segment)
    except ValueError:
        raise _malformed() from None
    # The unused bits of the last character must be zero, or one token would have several spellings.
    if base64url_encode(data) != segment.encode():
        raise _malformed()
    return data


def _malformed() -> Unauthenticated:
    return Unauthenticated("the token is malformed")


def _refused() -> Unauthenticated:
    # One message for all errors of key, algorithm and signature: details would only help forgers.
    return Unauthenticated("the token is not signed with an accepted key")
