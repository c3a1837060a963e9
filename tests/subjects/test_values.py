"""Values at the limits of a column."""

from decimal import Decimal

import pytest

from isola.errors import BadUserInput
from isola.subjects.declaration import Column
from isola.subjects.values import _check_value


@pytest.mark.parametrize("value", ["12345678901234567890.0123456789", "-0.1234567890", "1E+19", "1.50000000000000"])
def test_a_decimal_with_the_digits_that_its_column_has_is_taken(value: str) -> None:
    _check_value(Decimal, Column(), Decimal(value), "price")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        # More digits than Python's default decimal context keeps: the last one must not be rounded.
        ("12345678901234567890.01234567891", "10 digits after the point"),
        ("0.00000000001", "10 digits after the point"),
        ("123456789012345678901", "20 digits before the point"),
        ("1E+20", "20 digits before the point"),
    ],
)
def test_a_decimal_with_more_digits_is_refused_and_not_rounded(value: str, expected: str) -> None:
    with pytest.raises(BadUserInput, match=f"price: expected at most {expected}"):
        _check_value(Decimal, Column(), Decimal(value), "price")
