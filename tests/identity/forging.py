"""Tokens as an attacker would write them: any header, any payload, any signature."""

import hmac
import json
import time
from typing import Any

from jwt.utils import base64url_encode

from tests.identity.conftest import SECRET


def encode(value: object) -> str:
    return base64url_encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def payload(**changes: Any) -> dict[str, Any]:
    """A payload that is accepted under default settings, with ``changes``; the value ``...`` drops a claim."""
    good = {"iss": "isola", "aud": "isola", "sub": "ada", "tenant": "acme", "exp": int(time.time()) + 60}
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def hs256(claims: object, header: object = None, secret: str = SECRET) -> str:
    """``claims`` and ``header`` (objects, or the bytes to use instead), correctly signed with ``secret``."""
    header = {"alg": "HS256", "typ": "JWT"} if header is None else header
    signed = f"{encode(header)}.{encode(claims)}"
    return f"{signed}.{encode(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"
