"""Validates JSON documents of clients: PostgreSQL must be able to store them unchanged."""

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from isola import exact_json
from isola.errors import BadUserInput
from isola.subjects.metadata import MAX_DOCUMENT_BYTES

# PostgreSQL writes numbers without an exponent: 1e308 is read back with 309 digits.
MAX_DIGITS = 100
# Python parses and writes JSON recursively, and its depth limit depends on the calling code.
MAX_DEPTH = 100
_MAX_BITS = (10**MAX_DIGITS - 1).bit_length() - 1
# NUL as JSON escapes it: PostgreSQL cannot store it in a text.
NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check(field: str, value: Any, most: int | None = None) -> None:
    """Raise BadUserInput, naming the field, if PostgreSQL cannot store a value unchanged or it nests too deeply.

    With ``most``, also if PostgreSQL would write it in more bytes than that.
    """
    spread = 0
    level = [value]
    for depth in range(MAX_DEPTH + 1):
        for each in level:
            _check_number(field, each)
            spread += _spread(each)
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            break
        if depth == MAX_DEPTH:
            raise BadUserInput(f"{field}: expected at most {MAX_DEPTH} levels of nesting", field)
        level = [inner for outer in containers for inner in _values(outer)]
    try:
        written = exact_json.dumps(value)
        size = len(written.encode())
    except ValueError as error:
        raise BadUserInput(f"{field}: expected a value that JSON in UTF-8 can represent", field) from error
    if size > MAX_DOCUMENT_BYTES:
        raise BadUserInput(f"{field}: expected at most {MAX_DOCUMENT_BYTES} bytes of JSON", field)
    if most is not None and size + spread > most:
        raise BadUserInput(f"{field}: expected at most {most} bytes of JSON, as the database writes it", field)
    if NUL.search(written):
        raise BadUserInput(f"{field}: expected no NUL character", field)


def _spread(value: Any) -> int:
    """The bytes that PostgreSQL adds to the JSON of a value: blanks behind commas and colons, and digits."""
    match value:
        case dict():
            return max(2 * len(value) - 1, 0)
        case list():
            return max(len(value) - 1, 0)
        case float() | Decimal():
            written = str(value) if isinstance(value, Decimal) else repr(value)
            return len(f"{Decimal(written):f}") - len(written)
    return 0


def _values(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _check_number(field: str, value: Any) -> None:
    match value:
        case bool():
            return
        case int():
            fits = value.bit_length() <= _MAX_BITS
        case float() | Decimal():
            exact = value if isinstance(value, Decimal) else Decimal(repr(value))
            if exact.is_zero() and exact.is_signed():
                raise BadUserInput(f"{field}: expected no negative zero, which the database does not preserve", field)
            fits = not exact.is_finite() or _digits(exact) <= MAX_DIGITS
        case _:
            return
    if not fits:
        message = f"{field}: expected numbers of at most {MAX_DIGITS} digits, written without an exponent"
        raise BadUserInput(message, field)


def _digits(number: Decimal) -> int:
    """The number of digits without an exponent."""
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int):
        raise TypeError("infinity has no digits")
    return max(len(digits) + exponent, 1) + max(-exponent, 0)
