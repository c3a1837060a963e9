"""JSON whose numbers keep their digits on the way between clients and the database.

Python reads ``1.10`` as 1.1 and ``12345678901234567.89`` as 12345678901234568.0. Here a number that a float would
change is a Decimal, which is written as it was read.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from secrets import token_hex
from typing import Any, NoReturn

# Stands before the digits of a Decimal in what the encoder writes. Nobody outside of this process knows it, so no text
# of a client's is taken for a number.
_MARK = token_hex(16)
_MARKED = re.compile(rf'"{_MARK}(-?[0-9][0-9.eE+-]*)"')
_MOST_INT_DIGITS = 4000
"""Python refuses to make an int of more than 4,300."""


def loads(text: str) -> Any:
    """Parse JSON. Raises ValueError, also for NaN and Infinity, and RecursionError."""
    return _DECODER.decode(text)


def dumps(value: object) -> str:
    """Write JSON without blanks. Raises ValueError for NaN and Infinity."""
    text = _ENCODER.encode(value)
    return _MARKED.sub(r"\1", text) if _MARK in text else text


def canonical(value: object) -> str:
    """Write JSON as ``dumps`` does, with the members of objects in the order of their names."""
    text = _CANONICAL.encode(value)
    return _MARKED.sub(r"\1", text) if _MARK in text else text


def number(text: str) -> int | float | Decimal:
    """The number that a text is in JSON or GraphQL."""
    return _real(text) if set(text) & set(".eE") else _integer(text)


def _real(text: str) -> float | Decimal:
    near = float(text)
    if repr(near) == text:
        return near
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError("expected an exponent of fewer digits") from None


def _integer(text: str) -> int | float | Decimal:
    if text == "-0":
        return -0.0
    return int(text) if len(text) <= _MOST_INT_DIGITS else Decimal(text)


def _refused(constant: str) -> NoReturn:
    raise ValueError(constant)


def _marked(value: object) -> str:
    if isinstance(value, Decimal):
        return f"{_MARK}{value}"
    raise TypeError(f"{type(value).__name__} is not a type of JSON")


# The functions of the module json make one for every text.
_DECODER = json.JSONDecoder(parse_float=_real, parse_int=_integer, parse_constant=_refused)
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_marked)
_CANONICAL = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_marked, sort_keys=True
)
