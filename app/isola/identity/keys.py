"""The source of the keys that verify tokens: one per issuer, and each key with its one algorithm."""

import os
import secrets
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Protocol

from jwt import InvalidKeyError, PyJWK, get_algorithm_by_name
from pydantic import SecretStr

from isola.errors import OperatorError
from isola.identity import public_key
from isola.identity.jwks import PublishedKeys
from isola.settings import Settings, TokenSettings

MIN_SECRET_BYTES = 32

_SOURCES = "ISOLA_TOKEN_KEY, ISOLA_TOKEN_KEY_FILE or ISOLA_TOKEN_JWKS_URL"


def _named(settings: TokenSettings, field: str) -> str:
    """The operator's name of a setting: a variable, or, for further issuers, a member of an object in the list."""
    return f"ISOLA_{field.upper()}" if isinstance(settings, Settings) else field


class Keys(Protocol):
    @property
    def algorithms(self) -> AbstractSet[str]:
        """The algorithms that a key of this source may have."""

    async def find(self, key_id: str | None) -> PyJWK | None:
        """The key for a token with ``key_id`` in its header, or without one.

        None if there is no such key. Raises Unavailable if that cannot be determined at the moment.
        """


class FixedKey:
    """A single key. A token need not name a key, but if it does, it must be this one."""

    def __init__(self, key: PyJWK) -> None:
        self._key = key
        self.algorithms = frozenset({key.algorithm_name})

    async def find(self, key_id: str | None) -> PyJWK | None:
        return self._key if key_id is None or key_id == self._key.key_id else None


def from_settings(settings: TokenSettings) -> Keys:
    """The configured key source of an issuer, or else, for the first one, the development key.

    Raises OperatorError, naming the settings responsible, if there is more than one source, none in production or for
    a further issuer, or a key that is missing, unreadable, too weak or of another type than ``token_algorithm`` says.
    """
    match list(_configured(settings).items()):
        case [] if isinstance(settings, Settings):
            return FixedKey(development_key(settings))
        case []:
            raise OperatorError("expected token_key, token_key_file or token_jwks_url")
        case [(setting, SecretStr() as key)]:
            return FixedKey(_key(key.get_secret_value().encode(), setting, settings))
        case [(setting, Path() as file)]:
            # Editors and openssl end a file with a line break that is not part of the secret.
            return FixedKey(_key(_read(file, setting).rstrip(b"\r\n"), setting, settings))
        case [(setting, str() as url)]:
            return _published(url, setting, settings)
        case several:
            names = " and ".join(setting for setting, _ in several)
            raise OperatorError(f"{names} are set, but tokens are verified with keys from one source")


def development_key(settings: Settings) -> PyJWK:
    """The HS256 key that signs tokens for development, created in ``data_dir`` on first use.

    Raises OperatorError in production, if another key source is configured, or if the key's file is unusable.
    """
    if configured := _configured(settings):
        raise OperatorError(f"{' and '.join(configured)} is set, so there is no development key")
    if settings.production:
        raise OperatorError(f"ISOLA_PRODUCTION is set, so there is no development key; set {_SOURCES}")
    if settings.token_algorithm != "HS256":
        raise OperatorError(f"ISOLA_TOKEN_ALGORITHM is {settings.token_algorithm}, which needs a key; set {_SOURCES}")
    path = settings.data_dir / "development.key"
    return _secret(_development_secret(path), f"ISOLA_DATA_DIR ({path})", key_id=None)


def _configured(settings: TokenSettings) -> dict[str, SecretStr | Path | str]:
    sources = {
        "token_key": settings.token_key,
        "token_key_file": settings.token_key_file,
        "token_jwks_url": settings.token_jwks_url,
    }
    return {_named(settings, field): value for field, value in sources.items() if value is not None}


def _key(content: bytes, setting: str, settings: TokenSettings) -> PyJWK:
    algorithm = _named(settings, "token_algorithm")
    if settings.token_algorithm == "HS256":
        return _secret(content, setting, settings.token_key_id, algorithm)
    try:
        return public_key.from_pem(content, settings.token_algorithm, settings.token_key_id)
    except ValueError:
        expected = {
            "RS256": "an RSA public key of at least 2048 bits",
            "ES256": "a public key on the curve P-256",
            "EdDSA": "an Ed25519 public key",
        }[settings.token_algorithm]
        raise OperatorError(f"{setting}: expected {expected} in PEM, as {algorithm} says") from None


def _secret(secret: bytes, setting: str, key_id: str | None, algorithm: str = "ISOLA_TOKEN_ALGORITHM") -> PyJWK:
    if len(secret) < MIN_SECRET_BYTES:
        raise OperatorError(f"{setting}: expected a secret of at least {MIN_SECRET_BYTES} bytes for HS256")
    hmac = get_algorithm_by_name("HS256")
    try:
        hmac.prepare_key(secret)
    except InvalidKeyError:
        # A public key is no secret: with it, anybody could sign.
        raise OperatorError(f"{setting}: expected a secret, as {algorithm} says HS256") from None
    return PyJWK({**hmac.to_jwk(secret, as_dict=True), "kid": key_id}, "HS256")


def _published(url: str, setting: str, settings: TokenSettings) -> PublishedKeys:
    algorithms = public_key.ALGORITHMS
    if "token_algorithm" in settings.model_fields_set:
        algorithms &= {settings.token_algorithm}
    if not algorithms:
        algorithm = _named(settings, "token_algorithm")
        raise OperatorError(f"{algorithm}: HS256 needs a secret, and {setting} gives public keys")
    try:
        return PublishedKeys(
            url,
            algorithms=algorithms,
            lifetime=settings.token_jwks_lifetime,
            cooldown=settings.token_jwks_cooldown,
        )
    except ValueError:
        raise OperatorError(f"{setting}: expected https://host/path, or http on a loopback interface") from None


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{setting}: the key cannot be read: {error.strerror}") from None


def _development_secret(path: Path) -> bytes:
    try:
        if not path.exists():
            _make_secret(path)
        if path.stat().st_mode & 0o077:
            raise OperatorError(
                f"{path}: expected mode 0600, so that no other user reads it; delete it to get a new key"
            )
        return path.read_bytes()
    except OSError as error:
        raise OperatorError(f"ISOLA_DATA_DIR: no development key at {path}: {error.strerror}") from None


def _make_secret(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=path.name) as file:
        file.write(secrets.token_hex(MIN_SECRET_BYTES).encode())
        file.flush()
        os.fsync(file.fileno())
        # A hard link appears with its whole content, and never replaces the key of a process that was faster.
        with suppress(FileExistsError):
            os.link(file.name, path)
