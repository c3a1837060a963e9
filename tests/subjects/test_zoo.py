"""Every feature of declarations, tested on an application made for these tests."""

import pytest

from tests.subjects import separately

SUITE = "tests/subjects/zoo/suite.py"
UPSERTS = "tests/subjects/zoo/upserts.py"
SEARCHES = "tests/subjects/zoo/searches.py"
SHARES = "tests/subjects/zoo/shares.py"
SETTINGS = "tests/subjects/zoo/settings.py"
RULES = "tests/subjects/zoo/rules.py"
ISOLATION = "app/isola/testing/isolation"
VISIBILITY = f"{ISOLATION}/test_visibility.py"
PARTS = {
    "declarations": (UPSERTS, SUITE, SETTINGS),
    "searches": (SEARCHES,),
    "shares": (SHARES, RULES),
    "visibility": (VISIBILITY, "-k", "not pair"),
    "pairs": (VISIBILITY, "-k", "pair"),
    "writing": (f"{ISOLATION}/test_writing.py", "-k", "every_value or own_row"),
    "catalogue": (f"{ISOLATION}/test_catalogue.py",),
    "families": (f"{ISOLATION}/families", "-k", "rls-over-schema"),
    "order": (f"{ISOLATION}/test_order_of_conditions.py", "-k", "does_not_reveal"),
}


@pytest.mark.parametrize("part", PARTS)
def test_all_that_declarations_give(part: str) -> None:
    separately.run("tests.subjects.zoo:application", *PARTS[part])
