"""What a client may write in JSON, as far as the database can keep it."""

import json
import re
from typing import Any

from app.errors import BadUserInput

# Python reads and writes JSON by recursion, and how deep it can go depends on who asks.
MAX_DEPTH = 100
# As JSON writes it: PostgreSQL stores no text with it.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check(field: str, value: Any) -> None:
    """Raise BadUserInput, naming the field, for what PostgreSQL or JSON cannot say, and for what nests too deeply."""
    containers = _containers([value])
    for _ in range(MAX_DEPTH):
        if not containers:
            break
        containers = [inner for outer in containers for inner in _containers(outer)]
    if containers:
        raise BadUserInput(f"{field}: expected at most {MAX_DEPTH} levels of nesting")
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except ValueError as error:
        raise BadUserInput(f"{field}: expected what JSON in UTF-8 can say") from error
    if NUL.search(written):
        raise BadUserInput(f"{field}: expected no NUL character")


def _containers(values: dict[str, Any] | list[Any]) -> list[dict[str, Any] | list[Any]]:
    inner = values.values() if isinstance(values, dict) else values
    return [value for value in inner if isinstance(value, dict | list)]
