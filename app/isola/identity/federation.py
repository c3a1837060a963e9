"""Tokens between installations: the partner's signs them, the owner's verifies them with the pinned key.

A token is a JSON Web Token of a type of its own. ``iss`` is the name of the partner's installation and ``sub`` the
id of the partner there; ``aud`` names the owner's installation and the partnership. It lives for five minutes at most
and is good for one request: the database records its ``jti``.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import jwt
from jwt import PyJWK, get_algorithm_by_name

from isola.errors import Forbidden, OperatorError, Unauthenticated
from isola.identity import public_key, tokens
from isola.identity.claims import text_of, time_of
from isola.identity.fetch import address
from isola.identity.resolution import identifier_of
from isola.identity.signing import private_key
from isola.platform.federation import MAX_INSTALLATION, RemotePartner, RemotePartners
from isola.platform.sign_in_log import Reason, Refuse
from isola.settings import Settings

TYPE = "isola-partner+jwt"
LIFETIME = 300
"""The longest time between ``iat`` and ``exp``, in seconds."""
_PARTNERSHIPS = "/partnerships/prt_"
_REFUSED = "the token is not accepted here"
_MEMBERS = ("kty", "crv", "x", "y", "n", "e")


@dataclass(frozen=True, slots=True)
class Installation:
    """An installation, as others know it: its name, and the key that signs tokens, if there is one."""

    name: str
    algorithm: str | None = None
    _key: Any = field(default=None, repr=False)
    public: PyJWK | None = None

    @property
    def jwk(self) -> Mapping[str, Any]:
        """The public key, as a JSON Web Key. Raises Forbidden if there is no key."""
        if self.public is None:
            raise _keyless()
        return _jwk(self.public)

    def token(
        self,
        *,
        subject: UUID,
        installation: str,
        partnership: UUID,
        token: UUID,
        issued_at: datetime,
        expires_at: datetime,
    ) -> str:
        """A token of a tenant here, for one request to another installation. Raises Forbidden if there is no key."""
        if self.algorithm is None:
            raise _keyless()
        payload = {
            "iss": self.name,
            "sub": str(subject),
            "aud": audience(installation, partnership),
            "jti": str(token),
            "iat": int(issued_at.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(payload, self._key, self.algorithm, headers={"typ": TYPE})

    def refuse_keyless(self) -> None:
        """Raise Forbidden if there is no key to sign with."""
        if self.algorithm is None:
            raise _keyless()


def from_settings(settings: Settings) -> Installation | None:
    """The installation that ``ISOLA_INSTALLATION`` names. Raises OperatorError for an invalid name or key."""
    if settings.installation is None:
        if settings.federation_key_file is not None:
            raise OperatorError("ISOLA_INSTALLATION: expected the name of this installation, since there is a key")
        return None
    try:
        name = installation_name(settings.installation)
    except ValueError:
        raise OperatorError(
            "ISOLA_INSTALLATION: expected https://host or https://host/path, without a slash at the end"
        ) from None
    if settings.federation_key_file is None:
        return Installation(name)
    private, public = private_key(settings.federation_key_file, "ISOLA_FEDERATION_KEY_FILE")
    return Installation(name, public.algorithm_name, private, public)


def installation_name(text: str) -> str:
    """The name of an installation: the address that its clients know. Raises ValueError."""
    plain = text.isascii() and text.isprintable() and not {*text} & set(" ?#\\\"'<>")
    if not plain or not len(text) <= MAX_INSTALLATION or text.endswith("/") or text != text.lower():
        raise ValueError
    address(text)
    return text


def parse_key(value: object) -> Mapping[str, Any]:
    """A public key from a JSON Web Key, in the one form in which equal keys are equal. Raises ValueError."""
    key = public_key.from_jwk(value)
    if key is None:
        raise ValueError
    return _jwk(key)


def _jwk(key: PyJWK) -> Mapping[str, Any]:
    members = get_algorithm_by_name(key.algorithm_name).to_jwk(key.key, as_dict=True)
    return {"alg": key.algorithm_name, **{name: members[name] for name in _MEMBERS if name in members}}


def audience(installation: str, partnership: UUID) -> str:
    """The ``aud`` of tokens for a partnership with a tenant of an installation."""
    return f"{installation}{_PARTNERSHIPS}{partnership}"


class FederationVerifier:
    """Verifies the tokens of partners on other installations. ``name`` is that of this installation.

    ``leeway`` is the tolerated difference of clocks, in seconds. ``clock`` gives seconds since 1970.
    """

    def __init__(
        self,
        name: str,
        partners: RemotePartners,
        refuse: Refuse,
        *,
        leeway: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = name
        self._partners = partners
        self._refuse = refuse
        self._leeway = leeway
        self._clock = clock

    async def verify(self, token: str) -> RemotePartner:
        """The partner that a token is of, which counts as used from then on.

        Raises Unauthenticated, always with the same message, and Unavailable.
        """
        try:
            parts = tokens.parse(token, {TYPE})
            partnership = self._partnership(parts.payload)
        except Unauthenticated:
            raise _refused() from None
        partner = await self._partners.find(partnership)
        if partner is None:
            raise _refused()
        try:
            token_id, expires_at = self._validated(parts, partner)
        except Unauthenticated:
            self._refuse(partner.owner_id, Reason.TOKEN)
            raise _refused() from None
        if not await self._partners.use(partnership, partner.key, token_id, expires_at):
            self._refuse(partner.owner_id, Reason.TOKEN)
            raise _refused()
        return partner

    def _partnership(self, payload: Mapping[str, Any]) -> UUID:
        """The partnership that ``aud`` names, for this installation. Not verified."""
        installation, _, key = text_of(payload, "aud").rpartition(_PARTNERSHIPS)
        partnership = identifier_of(key)
        if installation != self._name or partnership is None:
            raise _refused()
        return partnership

    def _validated(self, parts: tokens.Parts, partner: RemotePartner) -> tuple[UUID, float]:
        """The id of a token, and when it will have expired, in seconds since 1970, with the leeway."""
        key = public_key.from_jwk(partner.key)
        if key is None or key.algorithm_name != parts.algorithm:
            raise _refused()
        if not key.Algorithm.verify(parts.signed, key.key, parts.signature):
            raise _refused()
        payload, now = parts.payload, self._clock()
        issued_at, expires_at = time_of(payload, "iat"), time_of(payload, "exp")
        token_id = identifier_of(text_of(payload, "jti"))
        if (
            text_of(payload, "iss") != partner.installation
            or text_of(payload, "sub") != str(partner.remote_id)
            or token_id is None
            or not 0 < expires_at - issued_at <= LIFETIME
            or not issued_at - self._leeway <= now < expires_at + self._leeway
        ):
            raise _refused()
        return token_id, expires_at + self._leeway


@dataclass(frozen=True, slots=True)
class Federation:
    """What a server needs for partners on other installations."""

    installation: Installation
    partners: RemotePartners
    verifier: FederationVerifier

    @classmethod
    def open(cls, settings: Settings, partners: RemotePartners, refuse: Refuse) -> "Federation | None":
        """None if the installation has no name. Raises OperatorError as ``from_settings``."""
        known = from_settings(settings)
        if known is None:
            return None
        verifier = FederationVerifier(known.name, partners, refuse, leeway=settings.token_leeway)
        return cls(known, partners, verifier)


def _refused() -> Unauthenticated:
    return Unauthenticated(_REFUSED)


def _keyless() -> Forbidden:
    return Forbidden("this installation signs no tokens for others: ISOLA_FEDERATION_KEY_FILE is not set")
