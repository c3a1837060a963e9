"""JSON between statements and clients, where it has to pass through Python.

Numbers that Python would change (``1e400``, ``1.10``, a thousand digits) pass as text behind a NUL: no text that
PostgreSQL returns holds one.
"""

import json
import re
from typing import Any

from app.query.json_text import VIOLATION

_KEPT = re.compile(r'"\\u0000(-?[0-9][0-9.eE+-]*)"')
_MOST_DIGITS = 18


def loaded(text: str) -> Any:
    """What a statement returned. Where a value must not be NULL and is, it is None."""
    return json.loads(text.replace(VIOLATION, "null"), parse_float=_float, parse_int=_int)


def dumped(body: object) -> bytes:
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    if "\\u0000" in text:
        text = _KEPT.sub(r"\1", text)
    # Half a surrogate pair, which a client may have sent, stays the escape that it is in JSON.
    return text.encode("utf-8", "backslashreplace")


def _float(lexeme: str) -> float | str:
    number = float(lexeme)
    return number if repr(number) == lexeme else f"\0{lexeme}"


def _int(lexeme: str) -> int | str:
    return int(lexeme) if len(lexeme) <= _MOST_DIGITS else f"\0{lexeme}"
