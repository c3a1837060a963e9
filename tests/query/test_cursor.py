from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import BigInteger, DateTime, Text, Uuid
from sqlalchemy.types import TypeEngine

from isola.errors import BadUserInput
from isola.query import cursor

TENANT = UUID(int=1)
KEY = cursor.key(b"secret", TENANT, ("Query.resources", (("name", False),), None, []))
TYPES: list[TypeEngine[Any]] = [Text(), DateTime(), BigInteger(), Uuid()]
DATA = b'["a \\"b\\"", "2026-01-01T00:00:00.000001+00:00", 9007199254740991, "00000000-0000-0000-0000-000000000001"]'


def written(data: bytes, key: bytes = KEY) -> str:
    """A cursor as PostgreSQL writes it."""
    return urlsafe_b64encode(sha256(key + data).digest()[:12] + data).rstrip(b"=").decode()


def test_what_was_issued_is_read() -> None:
    moment = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)
    assert cursor.decode(written(DATA), KEY, TYPES, "after") == ('a "b"', moment, 2**53 - 1, UUID(int=1))
    assert cursor.decode(written(b"[null]"), KEY, [Text()], "after") == (None,)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "=",
        "====",
        "-" * 5000,
        written(DATA) + "=",
        written(DATA) + " ",
        written(DATA)[:-1],
        written(DATA, b"another"),
        written(b"[1"),
        written(b"[]"),
        written(b'["x", "no time", 1, "00000000-0000-0000-0000-000000000001"]'),
        written(b'["x", "2026-01-01T00:00:00+00:00", 1, "no uuid"]'),
        written(b'"text"'),
        written(b"5"),
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(BadUserInput, match="after is not a cursor"):
        cursor.decode(text, KEY, TYPES, "after")


def test_keys_differ_by_tenant_secret_and_place() -> None:
    place: object = ("Query.resources", (("name", False),), None, [])
    others = {
        cursor.key(b"secret", UUID(int=2), place),
        cursor.key(b"other", TENANT, place),
        cursor.key(b"secret", TENANT, ("Query.resources", (("name", True),), None, [])),
        cursor.key(b"secret", TENANT, ("Query.resources", (("name", False),), ("and", ()), [])),
        cursor.key(b"secret", TENANT, ("Query.resources", (("name", False),), None, ["x"])),
        cursor.key(b"secret", TENANT, ("Query.users", (("name", False),), None, [])),
    }
    assert len(others | {KEY}) == 7
