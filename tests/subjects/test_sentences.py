"""What clients read of a column that has no description of its own."""

from collections.abc import Iterator
from datetime import date, datetime

import pytest

from isola.subjects import Subject, column, now, reference, today
from isola.subjects.declaration import Registry
from isola.subjects.sentences import of_input, of_member
from isola.subjects.users import User


@pytest.fixture(autouse=True)
def declared_subjects() -> Iterator[None]:
    """Remove the declarations of a test after it."""
    before = dict(Registry.by_class), dict(Registry.by_name)
    yield
    Registry.by_class, Registry.by_name = before


def test_a_default_that_depends_on_the_time_is_described() -> None:
    class Film(Subject, name="film", prefix="flm"):
        shown: date = column(default=today)
        noted: datetime = column(default=now)

    assert of_member(Film.declaration.members["shown"]) == "The shown: a day, by default the day on which it is made."
    assert of_member(Film.declaration.members["noted"]) == "The noted: a time, by default the time when it is made."


def test_the_id_of_a_reference_is_described_in_one_sentence() -> None:
    class Showing(Subject, name="showing", prefix="shw"):
        user: User = reference()
        seller: User = reference()
        buyer: User = reference(description="Who pays for it.")

    assert of_input(Showing.declaration.members["user"]) == "The id of the user that it refers to."
    assert of_input(Showing.declaration.members["seller"]) == "The id of the seller, a user."
    assert of_input(Showing.declaration.members["buyer"]) == "The id of a user. Who pays for it."
