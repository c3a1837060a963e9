"""Public keys that users and nodes sign spans with."""

import base64
import binascii
from datetime import datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from isola.errors import BadUserInput, Conflict
from isola.subjects import Subject, action, caller, column, now, reference, uris
from isola.subjects.actor import Actor
from isola.subjects.users import User
from isola.subjects.work import Work

KEY_BYTES = 32
KEY_CHARACTERS = 44
"""The characters of 32 bytes in base64."""
_PRIME = 2**255 - 19
_SMALL_Y = (
    *(0, 1, _PRIME - 1, _PRIME, _PRIME + 1),
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
"""The coordinates of the points of small order. With such a key, one signature is valid for many messages."""


class SigningKey(Subject, name="signing_key", prefix="sgk", mutations=frozenset({"create"})):
    """A public Ed25519 key of a user, or of a node that a user answers for. Its owner signs spans with it."""

    owner: User = reference(default=caller, on_delete="cascade")
    public_key: str = column(
        min_length=1,
        max_length=KEY_CHARACTERS,
        unique=True,
        description="The 32 bytes of an Ed25519 public key in base64.",
    )
    node: str | None = column(
        max_length=uris.MAX_URI, description="The URI of the process or device that has the private key."
    )
    revoked_at: datetime | None = column(
        read_only=True, description="When the key was revoked. Its signatures are no longer verified."
    )

    async def before_create(self, work: Work, actor: Actor) -> None:  # noqa: ARG002  required by the interface
        """Only valid keys can be registered."""
        public_key(self.public_key)
        uris.check("node", self.node)

    @action(permission="signing_key:write", changes=True)
    async def revoke(self, work: Work, actor: Actor) -> None:
        """Refuse what is signed with the key from now on. Spans that it signed are no longer verified."""
        if self.revoked_at is not None:
            raise Conflict("the key is revoked already")
        await self.update(work, actor, revoked_at=now())


def public_key(encoded: str) -> Ed25519PublicKey:
    """Parse a public key. Raises BadUserInput."""
    try:
        data = base64.b64decode(encoded, validate=True)
        if len(data) != KEY_BYTES:
            raise ValueError
        if int.from_bytes(data, "little") % 2**255 in _SMALL_Y:
            raise ValueError
        return Ed25519PublicKey.from_public_bytes(data)
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        message = "publicKey: expected the 32 bytes of an Ed25519 public key in base64"
        raise BadUserInput(message, "publicKey") from None


signing_keys = SigningKey.table
