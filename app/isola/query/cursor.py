"""Cursors of connections: opaque, authenticated, and valid only for one tenant, field, ordering and filter.

A cursor is the base64 of a tag and the row's sort keys as a JSON array. The tag is a keyed digest, computed by
PostgreSQL with a key that this module derives for tenant, field, ordering and filter. So a forged cursor, or one of
another tenant, field, ordering or filter, is detected without a database query.
"""

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from decimal import Decimal
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, LargeBinary, Text, cast, func, literal_column
from sqlalchemy.types import TypeEngine

from isola.errors import BadUserInput
from isola.query import json_text

_TAG = 12
_MAX_TEXT = 4096


def key(secret: bytes, tenant: UUID, place: object) -> bytes:
    """The key of all cursors of one tenant for one place: a field with its ordering and filter."""
    return hmac.digest(secret, tenant.bytes + repr(place).encode("utf-8", "surrogatepass"), "sha256")


def keys_data(keys: Sequence[ColumnElement[Any]]) -> ColumnElement[bytes]:
    """SQL: a row's sort keys as a JSON array in UTF-8."""
    parts: list[ColumnElement[Any]] = []
    for index, column in enumerate(keys):
        parts += [literal_column("','" if index else "'['"), func.coalesce(cast(func.to_json(column), Text), "null")]
    return func.convert_to(func.concat(*parts, literal_column("']'")), "UTF8", type_=LargeBinary)


def written(data: ColumnElement[bytes], cursor_key: ColumnElement[bytes]) -> ColumnElement[str]:
    """SQL: the cursor for a row's encoded sort keys; NULL for NULL."""
    tag = func.substr(func.sha256(cursor_key.op("||")(data), type_=LargeBinary), 1, _TAG, type_=LargeBinary)
    encoded = func.encode(tag.op("||")(data), "base64")
    # PostgreSQL adds a line feed after every 76 characters.
    return func.translate(encoded, literal_column("E'+/=\\n'"), "-_", type_=Text)


def decode(text: str, cursor_key: bytes, types: Sequence[TypeEngine[Any]], field: str) -> tuple[Any, ...]:
    """The sort keys in a cursor that a client gave for ``field``. Raises BadUserInput naming the field."""
    message = f"{field} is not a cursor of this connection with this ordering and filter"
    try:
        data = _authenticated(text, cursor_key)
        return tuple(
            json_text.read(value, type_)
            for value, type_ in zip(json.loads(data, parse_float=Decimal), types, strict=True)
        )
    except (ValueError, TypeError):
        raise BadUserInput(message, field) from None


def _authenticated(text: str, cursor_key: bytes) -> bytes:
    """The data in a cursor. Raises ValueError if it was not issued with this key."""
    if len(text) > _MAX_TEXT:
        raise ValueError
    raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    # The decoder ignores stray characters and trailing bits; issued cursors have neither.
    if urlsafe_b64encode(raw).rstrip(b"=") != text.encode():
        raise ValueError
    tag, data = raw[:_TAG], raw[_TAG:]
    if not hmac.compare_digest(tag, sha256(cursor_key + data).digest()[:_TAG]):
        raise ValueError
    return data


def of_number(number: int, cursor_key: bytes) -> str:
    """The cursor for a place in a feed."""
    data = b"%d" % number
    return urlsafe_b64encode(sha256(cursor_key + data).digest()[:_TAG] + data).rstrip(b"=").decode()


def number(text: str, cursor_key: bytes) -> int:
    """The place in a feed that a cursor is for. Raises ValueError if it was not issued with this key."""
    return int(_authenticated(text, cursor_key))
