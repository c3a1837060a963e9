"""Passwords for development: a file of people and their password hashes, instead of an identity provider."""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, TypeAdapter, ValidationError

from isola.errors import OperatorError
from isola.identity.claims import RESERVED
from isola.settings import Settings
from isola.subjects.permissions import Role

MAX_LENGTH = 255
_SALT_BYTES = 16
# About 50 ms and 16 MiB per hash; at most two are computed at a time.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_AT_ONCE = 2


def hashed(password: str) -> str:
    """A password hash as stored in the file: ``scrypt$<salt>$<hash>``, both in base64."""
    salt = secrets.token_bytes(_SALT_BYTES)
    return f"scrypt${_text(salt)}${_text(_digest(password, salt))}"


def _is_hash(text: str) -> str:
    try:
        scheme, salt, digest = text.split("$")
        if scheme == "scrypt" and base64.b64decode(salt, validate=True) and base64.b64decode(digest, validate=True):
            return text
    except ValueError:
        pass
    raise ValueError("expected scrypt$<salt>$<hash>, as isola password prints it")


class Person(BaseModel):
    """A person who may sign in. ``role`` is assigned on their first sign-in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    password: Annotated[str, AfterValidator(_is_hash)]
    name: str | None = None
    email: str | None = None
    role: Role = Role.VIEWER


def _is_login(text: str) -> str:
    if not 0 < len(text) <= MAX_LENGTH or text.startswith(RESERVED):
        raise ValueError(f"expected a login of 1 to {MAX_LENGTH} characters that does not begin with {RESERVED}")
    return text


_FILE = TypeAdapter(dict[str, dict[Annotated[str, AfterValidator(_is_login)], Person]])


class Passwords:
    """The people of each tenant, by tenant slug and login."""

    def __init__(self, people: Mapping[str, Mapping[str, Person]]) -> None:
        self._people = people
        self._turns = asyncio.Semaphore(_AT_ONCE)
        # Makes the check for an unknown login take as long as for a known one.
        self._unknown_person = Person(password=hashed(secrets.token_hex()))

    async def verify(self, tenant: str, login: str, password: str) -> Person | None:
        """The person with this password, or None. Takes equally long whether the person exists or not."""
        person = self._people.get(tenant, {}).get(login)
        async with self._turns:
            same = await asyncio.to_thread(_matches, (person or self._unknown_person).password, password)
        return person if same else None


def from_settings(settings: Settings) -> Passwords | None:
    """The people in the file of ``ISOLA_DEVELOPMENT_PASSWORDS``, None where that is not set.

    Raises OperatorError in production, and for an invalid file.
    """
    path = settings.development_passwords
    if path is None:
        return None
    if settings.production:
        raise OperatorError("ISOLA_DEVELOPMENT_PASSWORDS is for development: unset it, or ISOLA_PRODUCTION")
    return Passwords(_read(path))


def _read(path: Path) -> Mapping[str, Mapping[str, Person]]:
    try:
        return _FILE.validate_json(path.read_bytes())
    except OSError as error:
        raise OperatorError(f"ISOLA_DEVELOPMENT_PASSWORDS: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        wrong = error.errors(include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise OperatorError(f"ISOLA_DEVELOPMENT_PASSWORDS, {place or path.name}: {wrong['msg']}") from None


def write(path: Path, people: Mapping[str, Mapping[str, Person]]) -> None:
    """Write a file of people that only its owner can read."""
    path.touch(mode=0o600)
    content = {tenant: {login: one.model_dump() for login, one in those.items()} for tenant, those in people.items()}
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _matches(stored: str, password: str) -> bool:
    _, salt, digest = stored.split("$")
    return hmac.compare_digest(_digest(password, base64.b64decode(salt)), base64.b64decode(digest))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="surrogatepass"), salt=salt, n=_COST, r=_BLOCK, p=_PARALLEL)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
