"""Typed ids: a prefix that names the type, and the UUID in its canonical form (``res_0198…``)."""

import re
from uuid import UUID

from isola.errors import BadUserInput

_FORM = re.compile(r"([a-z]+)_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


def encode(prefix: str, key: UUID) -> str:
    return f"{prefix}_{key}"


def split(text: str) -> tuple[str, UUID] | None:
    """Prefix and key, or None if the text is not an id."""
    matched = _FORM.fullmatch(text)
    return (matched[1], UUID(matched[2])) if matched else None


def decode(text: str, prefix: str, field: str) -> UUID:
    """The key in an id that a client gave for ``field``. Raises BadUserInput naming the field."""
    matched = split(text)
    if matched is None or matched[0] != prefix:
        raise BadUserInput(f"{field} must be an id of the form {prefix}_<uuid>", field)
    return matched[1]
