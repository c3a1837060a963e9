"""Typed ids: a prefix that names the type, and the UUID in its canonical form (``res_0198…``)."""

import re
from uuid import UUID

from isola.errors import BadUserInput

_FORM = re.compile(r"([a-z]+)_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def encode(prefix: str, key: UUID) -> str:
    return f"{prefix}_{key}"


def split(text: str) -> tuple[str, UUID] | None:
    """Prefix and key, or None if the text is not an id."""
    found = _FORM.fullmatch(text)
    return (found[1], UUID(found[2])) if found else None


def decode(text: str, prefix: str, field: str) -> UUID:
    """The key in an id that a client gave for ``field``. Raises BadUserInput naming the field."""
    found = split(text)
    if found is None or found[0] != prefix:
        raise BadUserInput(f"{field} must be an id of the form {prefix}_<uuid>", field)
    return found[1]
