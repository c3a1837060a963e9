"""Sign-in with an OpenID Connect provider: the authorization code flow with PKCE, from the code on.

A client sends a person to the provider, with a ``nonce``, a ``state`` and the challenge of a code verifier, and checks
the ``state`` in the response. It then submits the code from the response here, with the nonce and the verifier.
"""

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256, sha512
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, TypeGuard
from urllib.parse import SplitResult, quote_plus

import jwt
import structlog

from isola.errors import BadUserInput, OperatorError, Unauthenticated, Unavailable
from isola.identity import public_key
from isola.identity.fetch import address, fetch
from isola.identity.jwks import PublishedKeys
from isola.identity.resolution import identifies
from isola.platform.tenants import Tenant
from isola.settings import ProviderSettings, Settings

MAX_TEXT_LENGTH = 255
DISCOVERED_FOR = 3600.0
_RETRY_AFTER = 10.0
_LEEWAY = 30.0  # seconds that the clock of a provider may be wrong by

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it is personal data
class Identity:
    """The person who signed in. ``subject`` begins with the provider's namespace; the provider verified ``email``."""

    subject: str
    name: str | None
    email: str | None


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it holds credentials
class Code:
    """A code from a provider's answer, and what the client sent to the provider for it."""

    provider: str
    code: str
    code_verifier: str
    redirect_uri: str
    nonce: str


@dataclass(frozen=True, slots=True)
class _Endpoints:
    token: SplitResult
    keys: PublishedKeys


class Provider:
    """A provider, configured by its discovery document (OpenID Connect Discovery 1.0)."""

    def __init__(self, settings: ProviderSettings, *, keys_lifetime: float = 300, keys_cooldown: float = 10) -> None:
        """Raises ValueError unless the issuer is https, or http on a loopback interface."""
        self.settings = settings
        self._discovery = address(f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration")
        self._lifetimes = {"lifetime": keys_lifetime, "cooldown": keys_cooldown}
        self._endpoints: _Endpoints | None = None
        self._discover_at = 0.0
        self._discovering = asyncio.Lock()

    def vouches_for(self, tenant: Tenant) -> bool:
        """Whether it may sign in users of the tenant."""
        return any(identifies(name, tenant) for name in self.settings.tenants)

    async def identify(self, given: Code) -> Identity:
        """Exchange a code for the person's identity.

        Raises BadUserInput for a ``redirect_uri`` that is not configured, Unauthenticated, always the same, for
        anything that the provider rejects or its id token does not confirm, and Unavailable when the provider does not
        answer.
        """
        if given.redirect_uri not in self.settings.redirect_uris:
            raise BadUserInput("redirectUri: not configured for this provider", "redirectUri")
        endpoints = await self._discovered()
        form = {
            "grant_type": "authorization_code",
            "code": given.code,
            "code_verifier": given.code_verifier,
            "redirect_uri": given.redirect_uri,
        }
        try:
            status, body = await fetch(endpoints.token, form | self._public(), self._confidential())
        except (OSError, HTTPException) as error:
            raise self._failed("token", error) from None
        except ValueError:  # halves of surrogate pairs, which a form cannot contain
            raise _refused() from None
        if status != HTTPStatus.OK:
            if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise self._failed("token", HTTPException(status))
            raise _refused()
        answer = _object(body)
        claims = await self._verified(endpoints, answer, given.nonce)
        return self._identity(claims)

    def _public(self) -> dict[str, str]:
        return {} if self.settings.client_secret else {"client_id": self.settings.client_id}

    def _confidential(self) -> dict[str, str]:
        if self.settings.client_secret is None:
            return {}
        # RFC 6749, 2.3.1: both are form-encoded before they are joined.
        parts = (self.settings.client_id, self.settings.client_secret.get_secret_value())
        credentials = ":".join(map(quote_plus, parts))
        return {"authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}

    async def _verified(self, endpoints: _Endpoints, answer: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
        """The claims of the id token (OpenID Connect Core 1.0, 3.1.3.7)."""
        token = answer.get("id_token")
        if not isinstance(token, str):
            raise _refused()
        try:
            key_id = jwt.get_unverified_header(token).get("kid")
            key = await endpoints.keys.find(key_id if isinstance(key_id, str) else None)
            if key is None:
                raise _refused()
            claims: dict[str, Any] = jwt.decode(
                token,
                key.key,
                algorithms=[key.algorithm_name],
                audience=self.settings.client_id,
                issuer=self.settings.issuer,
                leeway=_LEEWAY,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused() from None
        audience = claims["aud"]
        authorized = claims.get("azp")
        if authorized != self.settings.client_id and (authorized is not None or not isinstance(audience, str)):
            raise _refused()
        if not _same(claims["nonce"], nonce):
            raise _refused()
        if "at_hash" in claims and not _same(claims["at_hash"], _half(answer.get("access_token"), key.algorithm_name)):
            raise _refused()
        return claims

    def _identity(self, claims: Mapping[str, Any]) -> Identity:
        subject = self.settings.namespace + claims["sub"]
        if not claims["sub"] or not _is_text(subject):
            raise _refused()
        name, email = claims.get("name"), claims.get("email")
        return Identity(
            subject,
            name if _is_text(name) else None,
            # With an unverified address, one user could impersonate its owner.
            email if _is_text(email) and claims.get("email_verified") is True else None,
        )

    async def _discovered(self) -> _Endpoints:
        async with self._discovering:
            if time.monotonic() >= self._discover_at:
                try:
                    self._endpoints = await self._discover()
                    self._discover_at = time.monotonic() + DISCOVERED_FOR
                except (OSError, HTTPException, ValueError, KeyError, TypeError, AttributeError) as error:
                    self._discover_at = time.monotonic() + _RETRY_AFTER
                    failed = self._failed("discovery", error)
                    if self._endpoints is None:
                        raise failed from None
            if self._endpoints is None:
                raise self._unavailable()
            return self._endpoints

    async def _discover(self) -> _Endpoints:
        status, body = await fetch(self._discovery)
        described = json.loads(body)
        if status != HTTPStatus.OK or described["issuer"] != self.settings.issuer:
            raise ValueError
        keys = PublishedKeys(described["jwks_uri"], algorithms=public_key.ALGORITHMS, **self._lifetimes)
        return _Endpoints(address(described["token_endpoint"]), keys)

    def _failed(self, name: str, error: Exception) -> Unavailable:
        _log.warning("identity.provider_failed", provider=self.settings.name, endpoint=name, error=type(error).__name__)
        return self._unavailable()

    def _unavailable(self) -> Unavailable:
        return Unavailable("sign-in is unavailable: the identity provider does not respond as expected")


def from_settings(settings: Settings) -> Mapping[str, Provider]:
    """The providers by name. Raises OperatorError for one that is listed twice or cannot be used."""
    issuers = {each.name: each.token_issuer for each in settings.issuers}
    providers: dict[str, Provider] = {}
    for each in settings.sign_in_providers:
        if each.name in providers:
            raise OperatorError(f"ISOLA_SIGN_IN_PROVIDERS, {each.name}: another provider has this name already")
        if issuers.get(each.name, each.issuer) != each.issuer:
            # Their users could not be distinguished.
            raise OperatorError(
                f"ISOLA_SIGN_IN_PROVIDERS, {each.name}: the issuer of this name in ISOLA_ISSUERS is another"
            )
        try:
            providers[each.name] = Provider(
                each, keys_lifetime=settings.token_jwks_lifetime, keys_cooldown=settings.token_jwks_cooldown
            )
        except ValueError:
            raise OperatorError(
                f"ISOLA_SIGN_IN_PROVIDERS, {each.name}: expected an issuer at https://, or http on a loopback interface"
            ) from None
    return providers


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        raise _refused() from None
    if not isinstance(answer, dict):
        raise _refused()
    return answer


def _same(received: object, expected: str | None) -> bool:
    if not isinstance(received, str) or expected is None:
        return False
    return hmac.compare_digest(received.encode(errors="surrogatepass"), expected.encode(errors="surrogatepass"))


def _half(access_token: object, algorithm: str) -> str | None:
    """The expected ``at_hash``: half of a hash of the access token, by the algorithm of the signature."""
    if not isinstance(access_token, str):
        return None
    digest = (sha512 if algorithm == "EdDSA" else sha256)(access_token.encode(errors="surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_TEXT_LENGTH and value.isprintable()


def _refused() -> Unauthenticated:
    return Unauthenticated("the identity provider does not confirm this sign-in")
