"""The key that signs the access tokens of sessions, and this server as their issuer."""

import math
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from jwt import PyJWK

from isola.errors import OperatorError
from isola.identity import public_key
from isola.identity.issuers import Issuer
from isola.identity.keys import FixedKey, development_key
from isola.settings import Settings, TokenSettings

# The maximum clock difference between servers and the database, whose time the tokens contain.
LEEWAY = 5.0


class SessionTokens(TokenSettings):
    """The access tokens of sessions. Their subjects are of any issuer, since this server wrote them itself."""

    @property
    def speaks_for_all(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs access tokens. ``issuer`` verifies them, here and on every server with the same key."""

    issuer: Issuer
    algorithm: str
    _key: Any = field(repr=False)
    _key_id: str | None

    @property
    def name(self) -> str:
        return self.issuer.settings.token_issuer

    def access_token(
        self, *, tenant: UUID, subject: str, session: UUID, token: UUID, issued_at: datetime, expires_at: datetime
    ) -> str:
        """A token for one user of one tenant, as part of a session."""
        payload = {
            "iss": self.name,
            "aud": self.issuer.settings.token_audience,
            "sub": subject,
            "tenant": str(tenant),
            "sid": str(session),
            "jti": str(token),
            "iat": issued_at.timestamp(),
            "exp": math.floor(expires_at.timestamp()),
        }
        headers = {"typ": "at+jwt"} if self._key_id is None else {"typ": "at+jwt", "kid": self._key_id}
        return jwt.encode(payload, self._key, self.algorithm, headers=headers)


def from_settings(settings: Settings) -> Signer | None:
    """The key of ``ISOLA_SESSION_KEY_FILE``, or else the development key; None without either: no sessions.

    Raises OperatorError for an unusable key, and for the name of another issuer.
    """
    if settings.session_issuer in {settings.token_issuer, *(each.token_issuer for each in settings.issuers)}:
        raise OperatorError("ISOLA_SESSION_ISSUER: another issuer has this name already")
    if settings.session_key_file is not None:
        return _signer(settings, *private_key(settings.session_key_file, "ISOLA_SESSION_KEY_FILE"))
    try:
        key = development_key(settings)
    except OperatorError:
        return None
    return _signer(settings, key, key)


def _signer(settings: Settings, private: Any, public: PyJWK) -> Signer:
    described = SessionTokens(
        token_issuer=settings.session_issuer,
        token_audience=settings.token_audience,
        token_leeway=max(settings.token_leeway, LEEWAY),
    )
    return Signer(Issuer(described, FixedKey(public)), public.algorithm_name, private, public.key_id)


def private_key(file: Path, setting: str) -> tuple[Any, PyJWK]:
    """A private key in PEM, and its public key. Raises OperatorError, naming the setting, for an unusable one."""
    try:
        private = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise OperatorError(f"{setting}: the key cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        private = None
    match private:
        case Ed25519PrivateKey():
            algorithm = "EdDSA"
        case EllipticCurvePrivateKey(curve=SECP256R1()):
            algorithm = "ES256"
        case _:
            raise OperatorError(
                f"{setting}: expected an Ed25519 private key or one on P-256, in PEM without a password"
            )
    public = private.public_key()
    # The same on every server with this key; changes with the key.
    key_id = sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()[:16]
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return private, public_key.from_pem(pem, algorithm, key_id)
