"""Token verification for the Python peers: with PyJWT, each token cached until it expires."""

import time
from functools import lru_cache
from typing import Any

import jwt

ISSUER = AUDIENCE = "isola"
LIFETIME = 24 * 3600


def mint(secret: str, tenant: str, user: str, role: str = "editor") -> str:
    now = int(time.time())
    payload = {"iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + LIFETIME}
    return jwt.encode({**payload, "tenant": tenant, "sub": user, "role": role}, secret, "HS256")


class Verifier:
    def __init__(self, secret: str) -> None:
        self._verified = lru_cache(10_000)(
            lambda token: jwt.decode(token, secret, ["HS256"], issuer=ISSUER, audience=AUDIENCE)
        )

    def claims(self, authorization: str) -> dict[str, Any]:
        """Raises jwt.InvalidTokenError."""
        claims: dict[str, Any] = self._verified(authorization.removeprefix("Bearer "))
        if claims["exp"] <= time.time():
            raise jwt.ExpiredSignatureError
        return claims
