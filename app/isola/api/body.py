"""Bodies of answers: JSON between statements and clients, where it has to pass through Python."""

from typing import Any

from isola import exact_json
from isola.query.json_text import VIOLATION


def loaded(text: str) -> Any:
    """What a statement returned. Where a value must not be NULL and is, it is None."""
    return exact_json.loads(text.replace(VIOLATION, "null"))


def dumped(body: object) -> bytes:
    # Half a surrogate pair, which a client may have sent, stays the escape that it is in JSON.
    return exact_json.dumps(body).encode("utf-8", "backslashreplace")
