"""A public key with the one algorithm that it verifies."""

from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt import PyJWK, PyJWTError, get_algorithm_by_name

MIN_RSA_BITS = 2048
ALGORITHMS = frozenset({"RS256", "ES256", "EdDSA"})


def from_pem(pem: bytes, algorithm: str, key_id: str | None) -> PyJWK:
    """The public key in ``pem`` for one of ALGORITHMS.

    Raises ValueError if it is anything else: a private key, a certificate, another type or curve, an RSA key of
    less than 2048 bits.
    """
    try:
        key = load_pem_public_key(pem)
    except UnsupportedAlgorithm:
        raise ValueError from None
    if not _suits(key, algorithm):
        raise ValueError
    return PyJWK({**get_algorithm_by_name(algorithm).to_jwk(key, as_dict=True), "kid": key_id}, algorithm)


def from_jwk(entry: Any) -> PyJWK | None:
    """Parse an entry of a JSON Web Key Set; None if it cannot verify tokens.

    A set may contain keys for other purposes and algorithms, so an unusable entry is not an error.
    """
    try:
        if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
            return None
        if "alg" in entry and entry["alg"] not in ALGORITHMS:
            return None
        key = PyJWK(entry)
    except (AttributeError, KeyError, TypeError, ValueError, UnsupportedAlgorithm, PyJWTError):
        return None
    named = key.key_id is None or isinstance(key.key_id, str)
    return key if named and _suits(key.key, key.algorithm_name) else None


def _suits(key: object, algorithm: str) -> bool:
    match algorithm:
        case "RS256":
            return isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS
        case "ES256":
            return isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)
        case "EdDSA":
            return isinstance(key, Ed25519PublicKey)
        case _:
            return False
