"""Secrets of connectors, which others made: stored encrypted, and read only to send a request.

The key is derived from the installation's secret, which tenant traffic cannot read. The encryption (AES-256-GCM)
authenticates the tenant, the kind of connector and the URL in its row as well: SQL that copies a secret to another
row, or lets its row point elsewhere, makes it unreadable.
"""

import hmac
import os
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from isola.platform.webhooks import Target
from isola.webhooks.sending import Failure

_NONCE = 12


class Sealer:
    """Encrypts and decrypts. ``secret`` is that of the installation."""

    def __init__(self, secret: bytes) -> None:
        self._cipher = AESGCM(hmac.digest(secret, b"isola connectors", "sha256"))

    def seal(self, tenant: UUID, kind: str, url: str, secret: str) -> bytes:
        """A secret, encrypted for a tenant's connector of a kind and URL."""
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher.encrypt(nonce, secret.encode(), _place(tenant, kind, url))

    def open(self, target: Target) -> str:
        """The secret of a connector. Raises Failure if it was not sealed for it by this installation."""
        nonce, encrypted = target.sealed[:_NONCE], target.sealed[_NONCE:]
        try:
            return self._cipher.decrypt(nonce, encrypted, _place(target.tenant_id, target.kind, target.url)).decode()
        except (InvalidTag, ValueError):
            raise Failure("SECRET") from None


def _place(tenant: UUID, kind: str, url: str) -> bytes:
    return tenant.bytes + f"{kind} {url}".encode()
