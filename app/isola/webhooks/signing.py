"""Secrets and signatures of deliveries, as in the Standard Webhooks specification (https://www.standardwebhooks.com).

A secret is not stored: it is derived from the installation's secret, which tenant traffic cannot read, and from a
random id that the database makes. So no statement, log or dump of the webhooks contains one.
"""

import base64
import hmac
from collections.abc import Mapping
from uuid import UUID

from isola.platform.webhooks import Target


class Signer:
    """Signs deliveries. ``secret`` is that of the installation."""

    def __init__(self, secret: bytes) -> None:
        self._key = hmac.digest(secret, b"isola webhooks", "sha256")

    def secret(self, webhook: UUID, secret_id: UUID) -> str:
        """The secret of a webhook in the form in which receivers get it."""
        return f"whsec_{base64.b64encode(self._of(webhook, secret_id)).decode()}"

    def headers(self, target: Target, message: str, timestamp: int, body: bytes) -> Mapping[str, str]:
        """The headers of a delivery: its id, the time in seconds since 1970, and a signature by each valid secret."""
        signed = f"{message}.{timestamp}.".encode() + body
        secret_ids = [each for each in (target.secret_id, target.former_secret_id) if each is not None]
        signatures = [hmac.digest(self._of(target.id, each), signed, "sha256") for each in secret_ids]
        return {
            "webhook-id": message,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": " ".join(f"v1,{base64.b64encode(each).decode()}" for each in signatures),
        }

    def _of(self, webhook: UUID, secret_id: UUID) -> bytes:
        return hmac.digest(self._key, webhook.bytes + secret_id.bytes, "sha256")
