"""Signatures of spans: Ed25519 over the canonical JSON of everything that a span is, by RFC 8785.

The document has the same names and values as a span in the API. Only what changes without the author is not part of
it: the time of the last change, the state of the signature, and the number of replays.
"""

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from isola.errors import BadUserInput
from isola.subjects.declaration import field_of
from isola.subjects.signing_keys import public_key
from isola.subjects.table import MAX_SAFE_INTEGER

SIGNATURE_BYTES = 64


class Verification(StrEnum):
    """Whether a span's signature is good.

    PENDING: it has none, or it was not verified since a change.
    VERIFIED: it is that of the key's owner over the span as it is.
    FAILED: it is not.
    """

    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"


REFERENCES: Mapping[str, str] = {
    "author": "usr",
    "organization": "org",
    "replay_from": "spn",
    "resource": "res",
}
"""The references that are signed, with the prefixes of their ids."""

SIGNED = (
    "id",
    "type",
    "title",
    "payload",
    "metadata",
    "visibility",
    "node",
    "delta_s",
    "created_at",
    *(f"{name}_id" for name in REFERENCES),
)
"""The columns that are signed."""


class InexpressibleError(ValueError):
    """A number that RFC 8785 would round: a change of its last digits would not be noticed."""


def canonical(span: Mapping[str, Any]) -> bytes:
    """The bytes to sign, of the columns SIGNED. Raises InexpressibleError."""
    moment = span["created_at"]
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    document = {
        "createdAt": moment.astimezone(UTC).isoformat(timespec="microseconds"),
        "deltaS": span["delta_s"],
        "id": f"spn_{span['id']}",
        "metadata": _exact(span["metadata"]),
        "node": span["node"],
        "payload": _exact(span["payload"]),
        "title": span["title"],
        "type": str(span["type"]).upper(),
        "visibility": str(span["visibility"]).upper(),
    }
    for name, prefix in REFERENCES.items():
        key = span[f"{name}_id"]
        document[field_of(name)] = None if key is None else f"{prefix}_{key}"
    try:
        return rfc8785.dumps(document)
    except rfc8785.CanonicalizationError as error:
        raise InexpressibleError from error


def is_signed(span: Mapping[str, Any], signature: str, key: Ed25519PublicKey) -> bool:
    """Whether a signature is one by a key over a span as it is."""
    try:
        data = base64.b64decode(signature, validate=True)
        if len(data) != SIGNATURE_BYTES:
            return False
        key.verify(data, canonical(span))
    except (InvalidSignature, binascii.Error, InexpressibleError, ValueError):
        return False
    return True


def state_of(span: Mapping[str, Any], key: Mapping[str, Any] | None) -> Verification:
    """The state of a span's signature. ``span`` and ``key`` are rows, the key's None if there is none."""
    if span["signature"] is None:
        # Nothing but a signature makes a span verified.
        return Verification.PENDING if span["verification"] == Verification.PENDING else Verification.FAILED
    if key is None or key["revoked_at"] is not None:
        return Verification.FAILED
    try:
        good = is_signed(span, span["signature"], public_key(key["public_key"]))
    except BadUserInput:
        return Verification.FAILED
    return Verification.VERIFIED if good else Verification.FAILED


def refuse_inexpressible(span: Mapping[str, Any]) -> None:
    """Raise BadUserInput for a span that cannot be signed."""
    try:
        canonical(span)
    except InexpressibleError:
        message = "payload and metadata of a signed span: expected numbers that are exact in 64-bit floating point"
        raise BadUserInput(message) from None


def _exact(value: Any) -> Any:
    """A document in which numbers that a float keeps are floats. Raises InexpressibleError for others."""
    match value:
        case dict():
            return {key: _exact(each) for key, each in value.items()}
        case list():
            return [_exact(each) for each in value]
        case Decimal():
            near = float(value)
            if Decimal(repr(near)) != value:
                raise InexpressibleError
            return near
        case int() if abs(value) > MAX_SAFE_INTEGER:
            near = float(value)
            if int(near) != value:
                raise InexpressibleError
            return near
    return value
