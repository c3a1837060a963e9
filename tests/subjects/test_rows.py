"""Generated rows satisfy the declarations."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest

from isola.errors import OperatorError
from isola.subjects import JSON, BigInt, Many, Subject, caller, column, many, reference, values
from isola.subjects.declaration import Registry
from isola.subjects.rows import Rows, generate
from isola.subjects.users import User

COUNT = 200


class Hue(StrEnum):
    RED = "red"
    BLUE = "blue"


@pytest.fixture(autouse=True)
def subjects() -> Iterator[None]:
    """Remove the declarations of a test after it."""
    before = dict(Registry.by_class), dict(Registry.by_name)
    yield
    Registry.by_class, Registry.by_name = before


def generated(*subjects: type[Subject], seed: int = 1, **counts: int) -> list[Rows]:
    there = {subject.declaration.name: COUNT for subject in subjects} | {"user": 10} | counts
    made = generate(subjects, there, seed)
    return [made[subject.declaration.name] for subject in subjects]


def everything() -> type[Subject]:
    class Thing(Subject, name="thing", prefix="thg"):
        text: str = column(max_length=50, min_length=30)
        short: str = column(max_length=2, unique=True)
        free: str = column()
        hue: Hue = column()
        count: int = column(minimum=-5, maximum=5)
        large: BigInt = column(minimum=2**40)
        low: int = column(maximum=-100)
        number: int = column(unique=True)
        share: float = column(minimum=0.5, maximum=0.75)
        price: Decimal = column(digits=4, scale=2, minimum=Decimal("0.005"))
        tiny: Decimal = column(digits=2, scale=2)
        born: date = column(minimum=date(2030, 1, 1), maximum=date(2030, 1, 3))
        at: datetime = column(maximum=datetime(2000, 1, 1, tzinfo=UTC))
        mark: UUID = column(unique=True)
        is_on: bool = column()
        data: JSON = column()
        tags: list[str] = column()
        prices: list[Decimal] = column()
        maybe: str | None = column(max_length=9)
        class_: str | None = column(max_length=30)
        owner: User = reference(default=caller)

    return Thing


def test_every_value_fits_its_column_and_some_are_left_out() -> None:
    thing = everything()
    [made] = generated(thing)
    assert len(made.rows) == COUNT
    for row in made.rows:
        values.check_columns(thing.declaration, row)
        for member in thing.declaration.columns:
            if member.column != "owner_id":
                assert member.annotation.takes_all(row[member.column]), (member.name, row[member.column])
    assert {row["class"] is None for row in made.rows} == {True, False}
    assert {row["hue"] for row in made.rows} == set(Hue)
    assert {len(row["tags"]) for row in made.rows} >= {0, 1, 4}
    for name in ("short", "number", "mark"):
        assert len({row[name] for row in made.rows}) == COUNT
    assert all(1 <= row["owner_id"] <= 10 for row in made.rows)


def test_rows_are_the_same_for_a_seed_and_others_for_another() -> None:
    thing = everything()
    assert generated(thing) == generated(thing)
    assert generated(thing) != generated(thing, seed=2)


def test_references_lead_to_rows_and_a_few_rows_have_most_children() -> None:
    class Leaf(Subject, name="leaf", prefix="lea", plural="leaves"):
        tree: "Tree" = reference()

    class Tree(Subject, name="tree", prefix="tre"):
        parent: "Tree | None" = reference()
        leaves: Many[Leaf] = many("tree")
        neighbours: Many["Tree"] = many()

    leaves, trees = generated(Leaf, Tree)
    assert [each.subject for each in generate([Leaf, Tree], {"leaf": 1, "tree": 1}, 1).values()] == [Tree, Leaf]
    children = Counter(row["tree_id"] for row in leaves.rows)
    assert max(children) <= COUNT
    assert children.most_common(1)[0][1] > 4 * COUNT / len(children)
    parents = [row["parent_id"] for row in trees.rows]
    assert parents[0] is None
    assert all(parent is None or parent < number for number, parent in enumerate(parents, start=1))
    assert len(set(parents)) > 10
    pairs = trees.pairs["neighbours"]
    assert len(set(pairs)) == len(pairs) > COUNT
    assert all(1 <= number <= COUNT for pair in pairs for number in pair)


def test_a_cycle_is_closed_by_a_nullable_reference() -> None:
    class Team(Subject, name="team", prefix="tea"):
        captain: "Player | None" = reference()

    class Player(Subject, name="player", prefix="ply"):
        team: Team = reference()

    teams, players = generated(Team, Player, player=30)
    captains = [row["captain_id"] for row in teams.rows]
    assert {None, 1} <= set(captains)
    assert all(captain is None or 1 <= captain <= 30 for captain in captains)
    assert all(1 <= row["team_id"] <= COUNT for row in players.rows)


def test_there_are_as_many_rows_as_can_be_unique() -> None:
    class Seat(Subject, name="seat", prefix="sea"):
        row: Hue = column()
        number: int = column(minimum=1, maximum=3)

        unique_together = (("row", "number"),)

    class Profile(Subject, name="profile", prefix="pro"):
        user: User = reference(unique=True)
        seat: "Seat | None" = reference(unique=True)

    seats, profiles = generated(Seat, Profile)
    assert len({(row["row"], row["number"]) for row in seats.rows}) == len(seats.rows) == 6
    assert sorted(row["user_id"] for row in profiles.rows) == list(range(1, 11))
    taken = [row["seat_id"] for row in profiles.rows if row["seat_id"] is not None]
    assert len(set(taken)) == len(taken) > 0


def test_samples_take_the_place_of_values() -> None:
    class Stay(Subject, name="stay", prefix="sta"):
        begin: int = column(minimum=0)
        end: int = column()

        checks = {"forward": '"end" > begin'}  # noqa: RUF012
        samples = {"end": lambda chance, row: row["begin"] + chance.randint(1, 9)}  # noqa: RUF012

    [stays] = generated(Stay)
    assert all(1 <= row["end"] - row["begin"] <= 9 for row in stays.rows)


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (lambda *_: "x" * 9, "Word.text: sample: text: expected at most 5 characters, not 9"),
        (lambda *_: 5, "Word.text: sample: expected a value of the column's type"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused(sample: Any, message: str) -> None:
    class Word(Subject, name="word", prefix="wor"):
        text: str = column(max_length=5)

        samples = {"text": sample}  # noqa: RUF012

    with pytest.raises(OperatorError, match=message):
        generated(Word)


def test_a_reference_to_a_missing_row_is_refused() -> None:
    class Badge(Subject, name="badge", prefix="bad"):
        user: User = reference()

    with pytest.raises(OperatorError, match=r"Badge\.user: there is no user to refer to"):
        generated(Badge, user=0)
