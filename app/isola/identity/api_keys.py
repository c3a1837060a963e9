"""API keys: ``isk_``, a public prefix of 12 hexadecimal digits, ``_``, a secret, and a seal (MAC) over all of it.

Only servers of this installation can compute the seal. Other keys are refused before any look-up, so a flood of
invented keys costs the database nothing. A wrong secret takes the same work to refuse as a wrong prefix.
"""

import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from isola.errors import Unauthenticated
from isola.identity.resolution import KEY_MARK
from isola.platform.api_keys import ApiKey, ApiKeys
from isola.platform.sign_in_log import Reason, Refuse

_PREFIX_BYTES, _SECRET_BYTES, _SEAL_BYTES = 6, 20, 8
_KEY = re.compile(rf"{KEY_MARK}([0-9a-f]{{12}})_[0-9a-f]{{40}}([0-9a-f]{{16}})", re.ASCII)
_NOBODYS = bytes(32)
_REFUSED = "the API key is not accepted here"


@dataclass(frozen=True, slots=True)
class Minted:
    """A new key. ``text`` is shown once, to its creator; ``digest`` is stored."""

    prefix: str
    text: str = field(repr=False)
    digest: bytes = field(repr=False)


class Mint:
    """Creates keys, and recognises its own. ``secret`` is the same on all servers of an installation."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hmac.digest(secret, b"isola API keys", "sha256")

    def make(self) -> Minted:
        prefix = secrets.token_hex(_PREFIX_BYTES)
        unsealed = f"{KEY_MARK}{prefix}_{secrets.token_hex(_SECRET_BYTES)}"
        digest = sha256(unsealed.encode()).digest()
        return Minted(prefix, unsealed + self._seal(digest), digest)

    def opened(self, text: str) -> tuple[str, bytes] | None:
        """The prefix and the digest of a key that was created here, None for anything else."""
        match = _KEY.fullmatch(text)
        if match is None:
            return None
        digest = sha256(text[: match.start(2)].encode()).digest()
        return (match[1], digest) if hmac.compare_digest(self._seal(digest), match[2]) else None

    def _seal(self, digest: bytes) -> str:
        return hmac.digest(self._secret, digest, "sha256")[:_SEAL_BYTES].hex()


class UnknownKey(Unauthenticated):
    """A key that does not exist or has a wrong secret or seal: nothing in it can be trusted."""


class KeyVerifier:
    """Verifies keys. ``clock`` gives seconds since 1970."""

    def __init__(self, mint: Mint, keys: ApiKeys, refuse: Refuse, clock: Callable[[], float] = time.time) -> None:
        self._refuse = refuse
        self._mint = mint
        self._keys = keys
        self._clock = clock

    async def verify(self, text: str) -> ApiKey:
        """The key for a text. Raises Unauthenticated, the same for every error in it, and Unavailable."""
        opened = self._mint.opened(text)
        if opened is None:
            raise UnknownKey(_REFUSED)
        prefix, digest = opened
        key = await self._keys.find(prefix)
        same = hmac.compare_digest(digest, _NOBODYS if key is None else key.digest)
        if key is None or not same:
            raise UnknownKey(_REFUSED)
        if key.revoked or self._clock() >= key.expires_at:
            self._refuse(UUID(key.tenant), Reason.REVOKED_KEY if key.revoked else Reason.EXPIRED_KEY)
            raise Unauthenticated(_REFUSED)
        self._keys.used(key)
        return key
