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


@pytest.mark.parametrize("value", ["\ufdfa" * 78, "n" + "\u0301" * 3000, "n" * 2600])
def test_an_insensitive_text_is_taken_whose_form_to_compare_fits_into_its_index(value: str) -> None:
    _check_value(str, Column(insensitive=True, max_length=4000), value, "name")


@pytest.mark.parametrize("value", ["\ufdfa" * 79, "n" * 2601, "ü" * 2601, "Ж" * 1301])
def test_the_refusal_of_a_longer_one_says_what_was_expected(value: str) -> None:
    with pytest.raises(BadUserInput, match="name: expected a text of at most 2600 bytes without accents and with"):
        _check_value(str, Column(insensitive=True, max_length=4000), value, "name")
