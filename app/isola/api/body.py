"""Response bodies: JSON from statements to clients, where Python has to process it."""

from typing import Any

from isola import exact_json
from isola.query.json_text import VIOLATION


def loaded(text: str) -> Any:
    """The parsed result of a statement. A NULL where a value must not be NULL becomes None."""
    return exact_json.loads(text.replace(VIOLATION, "null"))


def dumped(body: object) -> bytes:
    # A lone surrogate that a client sent stays a JSON escape: UTF-8 cannot encode it.
    return exact_json.dumps(body).encode("utf-8", "backslashreplace")
