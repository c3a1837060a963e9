from uuid import UUID

import pytest

from isola.errors import BadUserInput
from isola.query import identifiers

KEY = UUID("01980000-abcd-7000-8000-000000000001")


def test_there_and_back() -> None:
    assert identifiers.decode(identifiers.encode("res", KEY), "res", "id") == KEY
    assert identifiers.split(f"res_{KEY}") == ("res", KEY)


@pytest.mark.parametrize(
    "text",
    ["", "res", f"usr_{KEY}", f"res_{KEY}".upper(), f"res_{KEY.hex}", f" res_{KEY}", f"res_{KEY}\n", f"res_{{{KEY}}}"],
)
def test_one_form_only(text: str) -> None:
    with pytest.raises(BadUserInput, match="resourceId must be an id of the form res_"):
        identifiers.decode(text, "res", "resourceId")
