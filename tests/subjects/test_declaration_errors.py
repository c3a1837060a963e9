"""Invalid declarations are rejected at start-up: the error names the class, the attribute, and the expected value.

Each case is a class with one error.
"""

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from types import new_class
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import ColumnElement, exists

from isola.subjects import (
    JSON,
    Actor,
    BigInt,
    DeclarationError,
    Many,
    Subject,
    Work,
    action,
    caller,
    column,
    computed,
    deprecated_values,
    many,
    reference,
)
from isola.subjects.applications import _complete
from isola.subjects.declaration import Registry
from isola.subjects.metadata import Row, metadata
from isola.subjects.users import User

CASES: list[tuple[str, Callable[[], type[Subject]]]] = []


@pytest.fixture(autouse=True)
def subjects(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove the declarations of a test after it."""
    monkeypatch.setattr(Registry, "by_class", dict(Registry.by_class))
    monkeypatch.setattr(Registry, "by_name", dict(Registry.by_name))
    yield
    for table in metadata.tables.keys() & {"birds", "nests"}:
        metadata.remove(metadata.tables[table])


def refused(message: str) -> Callable[[Callable[[], type[Subject]]], None]:
    return lambda declare: CASES.append((message, declare))


class Level(StrEnum):
    LOW = "low"
    HIGH = "high"


@refused("Bird: name: expected lower case with underscores, at most 40 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="Bird", prefix="brd"):
        pass

    return Bird


@refused("Bird: plural: expected lower case with underscores, at most 40 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="b" * 41):
        pass

    return Bird


@refused("Bird.order: expected it in the class line: class …(Subject, order=…)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        order = ("-created_at",)

    return Bird


@refused("Bird: name: expected a word that Python does not reserve")
def _() -> type[Subject]:
    class Bird(Subject, name="class", prefix="brd", plural="classes"):
        pass

    return Bird


@refused("Bird: plural: expected a word that SQL does not reserve")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="select"):
        pass

    return Bird


@refused("Bird: expected a column that clients can set, or mutations without create")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        pass

    return Bird


@refused("Bird: consumed_by: expected consumes, and a text of 1 to 200 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", consumed_by="owner"):
        owner: str = column(max_length=200, min_length=1)

    return Bird


@refused("Bird: consumed_by: expected consumes, and a text of 1 to 200 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", consumes="executions", consumed_by="owner"):
        owner: str = column(max_length=201, min_length=1)

    return Bird


@refused("Bird: listed_as: expected lower case with underscores, at most 40 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", listed_as="all birds"):
        pass

    return Bird


@refused("Bird: plural: expected another word than the name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="bird"):
        pass

    return Bird


@refused("Bird: prefix: expected 2 to 8 letters in lower case")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="b"):
        pass

    return Bird


@refused("_Bird: expected a class with a name such as Agent")
def _() -> type[Subject]:
    class _Bird(Subject, name="bird", prefix="brd"):
        pass

    return _Bird


@refused("Bird: mutations: expected a set of some of create, delete, update, upsert")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", mutations={"make"}):
        pass

    return Bird


@refused("Bird: mutations: upsert: expected create and update as well")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", mutations={"create", "upsert"}):
        pass

    return Bird


@refused("Bird.by: the input of upserts by several keys has this field already: expected another name, or mutations")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9, unique=True)
        by: str = column(max_length=9, unique=True)

    return Bird


@refused("Bird: permissions: expected some of manage, read, write")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", permissions={"see": "bird:see"}):
        pass

    return Bird


@refused("Bird: permission 'Bird Read': expected subject:action, of a-z, 0-9 and '_'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", permissions={"read": "Bird Read"}):
        pass

    return Bird


@refused("Bird: isola.subjects.users.User has the same name 'user': expected another one")
def _() -> type[Subject]:
    class Bird(Subject, name="user", prefix="brd", plural="birds"):
        pass

    return Bird


@refused("Bird: isola.subjects.users.User has the same plural 'users': expected another one")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="users"):
        pass

    return Bird


@refused("Bird: isola.subjects.users.User has the same prefix 'usr': expected another one")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="usr"):
        pass

    return Bird


@refused("Resource: isola.subjects.resources.Resource has the same name: expected another one")
def _() -> type[Subject]:
    class Resource(Subject, name="bird", prefix="brd"):
        pass

    return Resource


@refused("Bird.table: every subject has this attribute: expected table_")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        table: str = column()  # type: ignore[misc, assignment]  # what is refused

    return Bird


@refused("Bird.created_at: every table has a column created_at already: expected another name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        created_at: datetime = column()

    return Bird


@refused("Bird.expected_updated_at: the inputs of updates and deletions have this field already")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        expected_updated_at: datetime = column()

    return Bird


@refused("Bird.and_: every filter has this field already")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        and_: str = column()

    return Bird


@refused("Bird.Size: expected a name in lower case with underscores, of at most 40 characters")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        Size: int = column()

    return Bird


@refused("Bird.keeper_id: keeper is the field keeperId already: expected another name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = reference()
        keeper_id: str = column()

    return Bird


@refused("Bird.size: expected an annotation")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size = column()

    return Bird


@refused("Bird.nest: the annotation: there is no 'Nest'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        nest: "Nest" = reference()  # type: ignore[name-defined]  # noqa: F821  what is refused

    return Bird


EXPECTED = "expected an annotation that is one of str, int, BigInt, float, Decimal, bool, date, datetime, UUID, JSON"


@refused(f"Bird.size: {EXPECTED}")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: bytes = column()

    return Bird


@refused(f"Bird.levels: {EXPECTED}")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        levels: list[JSON] = column()

    return Bird


@refused(f"Bird.size: {EXPECTED}")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int | str = column()

    return Bird


@refused(f"Bird.keeper: {EXPECTED}")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = column()

    return Bird


@refused(f"Bird.old: {EXPECTED}")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        old: bytes = computed(lambda row: row["id"])

    return Bird


@refused("Bird.data: a column of JSON has no index that could serve an ordering")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        data: JSON = column(index=True)

    return Bird


@refused(
    'Bird.ring: unique: expected True, or a name for errors in lower case with underscores, such as "serial_number"'
)
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        ring: int = column(unique="the number of the ring")

    return Bird


@refused("Bird.rings: a list has no index that could serve an ordering, and cannot be unique")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        rings: list[int] = column(unique=True)

    return Bird


@refused("Bird: searched_as: expected one of arabic, armenian,")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9)
        searched = ("title",)
        searched_as = "klingon"

    return Bird


@refused("Bird: searched: expected a tuple of attributes, such as ('title',)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9)
        searched = "title"

    return Bird


@refused("Bird: searched: there is no attribute 'name'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9)
        searched = ("title", "name")

    return Bird


@refused("Bird: searched: expected each attribute once")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9)
        searched = ("title", "title")

    return Bird


@refused("Bird: searched: expected texts of at most 50000 characters together")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=1)
        song: str = column(max_length=50_000)
        searched = ("title", "song")

    return Bird


@refused("Bird.title: searched: expected a text")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: list[str] = column()
        searched = ("title",)

    return Bird


@refused("Bird.title: searched: expected a column that is not private, since clients search it")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9, private=True)
        searched = ("title",)

    return Bird


@refused("Bird.title: searched: expected max_length, since its words are in an index")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column()
        searched = ("title",)

    return Bird


@refused("Bird: searched: the filter gets a field search: expected another name for this attribute")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        search: str = column(max_length=9)
        searched = ("search",)

    return Bird


@refused("Bird: searched: its words are in a table 'birds_words': expected another name for the relation words")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=9)
        words: Many[User] = many()
        searched = ("title",)

    return Bird


@refused("Bird.title: insensitive: expected a text, as no index serves a comparison of other values")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: int = column(insensitive=True)

    return Bird


@refused("Bird.title: insensitive: expected a column that is not private")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(insensitive=True, private=True, max_length=3)

    return Bird


@refused("Kind: deprecated_values: there is no value 'CROW'")
def _() -> type[Subject]:
    class Kind(StrEnum):
        OWL = "owl"

    deprecated_values(CROW="Use OWL.")(Kind)
    return Subject


@refused("Kind: deprecated_values: OWL: expected a reason")
def _() -> type[Subject]:
    class Kind(StrEnum):
        OWL = "owl"

    deprecated_values(OWL=" ")(Kind)
    return Subject


@refused("Bird.kind: grouped: expected index=True, or an index that begins with it")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        kind: str = column(grouped=True, max_length=3)
        name: str = column(max_length=3)

        indexes = (("name", "kind"),)

    return Bird


@refused("Bird.chip: grouped: expected a column that is not unique")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        chip: UUID = column(grouped=True, unique=True)

    return Bird


@refused("Bird.keeper: grouped: expected a column that is not unique")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = reference(grouped=True, unique=True)

    return Bird


@refused("Bird.kind: grouped: expected a column that is not private")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        kind: str = column(grouped=True, index=True, private=True, max_length=3)

    return Bird


@refused("Bird.about: grouped: expected an enum, a text, a boolean, an integer, a day or a UUID, not JSON")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        about: JSON = column(grouped=True)

    return Bird


@refused("Bird.names: grouped: expected an enum, a text, a boolean, an integer, a day or a UUID, not a list")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        names: list[str] = column(grouped=True)

    return Bird


@refused("Bird.seen: grouped: expected an enum, a text, a boolean, an integer, a day or a UUID, not DateTime")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        seen: datetime = column(grouped=True, index=True)

    return Bird


@refused("Bird.kind: expected max_length, since it is in an index")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        kind: str = column(grouped=True, index=True)

    return Bird


@refused("Bird.title: insensitive: expected no column title_folded")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(insensitive=True, max_length=3)
        title_folded: str = column(max_length=3)

    return Bird


@refused("Bird.title: languages: expected several, such as ('de',)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, index=True, languages="de")

    return Bird


@refused("Bird.title: languages: expected a text")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: int = column(index=True, languages=("de",))

    return Bird


@refused("Bird.title: languages: expected index=True or unique=True on a column that is not private")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, languages=("de",))

    return Bird


@refused("Bird.title: languages: expected index=True or unique=True on a column that is not private")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, index=True, private=True, languages=("de",))

    return Bird


@refused('Bird.title: languages: expected codes such as "de", "pt-BR" or "zh-Hant"')
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, index=True, languages=("German",))

    return Bird


@refused("Bird.title: languages: expected each once")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, index=True, languages=("de", "de"))

    return Bird


@refused("Bird.title: languages: expected no column title_sorted_de")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(max_length=3, index=True, languages=("de",))
        title_sorted_de: str = column(max_length=3)

    return Bird


@refused("Bird.title: expected max_length, since it is in an index")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(insensitive=True)

    return Bird


@refused("Bird.title: expected max_length, since it is in an index")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(unique=True)

    return Bird


@refused("Bird.size: max_length and min_length are for texts")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int = column(max_length=3)

    return Bird


@refused("Bird.title: expected 0 <= min_length <= max_length")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(min_length=4, max_length=3)

    return Bird


@refused("Bird.title: expected 0 <= min_length <= max_length")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        title: str = column(min_length=-1)

    return Bird


@refused("Bird.size: digits and scale are for decimals")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: float = column(digits=3)

    return Bird


@refused("Bird.size: scale: expected digits as well")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: Decimal = column(scale=3)

    return Bird


@refused("Bird.size: expected 0 <= scale <= digits <= 1000")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: Decimal = column(digits=2, scale=3)

    return Bird


@pytest.mark.parametrize("wrong", [bool, str, Level, list[int]])
def test_limits_require_an_ordered_type(wrong: Any) -> None:
    class Bird(Subject, name="bird", prefix="brd"):
        size: wrong = column(minimum=1)

    assert_refused(Bird, "Bird.size: minimum and maximum are for numbers, dates and moments")


@refused("Bird.size: minimum and maximum: expected values of the column's type")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int = column(minimum="1")

    return Bird


@refused("Bird.size: expected minimum <= maximum")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int = column(minimum=2, maximum=1)

    return Bird


@pytest.mark.parametrize(
    ("type_", "wrong"),
    [(int, "1"), (int, True), (int, None), (str, 1), (bool, 0), (Level, "low"), (list[int], ["1"]), (datetime, "now")],
)
def test_a_default_is_of_the_columns_type(type_: Any, wrong: object) -> None:
    class Bird(Subject, name="bird", prefix="brd"):
        size: type_ = column(default=wrong)

    assert_refused(Bird, "Bird.size: default: expected a value of the column's type")


@refused("Bird.size: default: size: expected 1 to 3")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int = column(default=4, minimum=1, maximum=3)

    return Bird


@refused("Bird.keeper: expected the annotation to be a subject")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: str = reference()

    return Bird


@refused("Bird.keepers: expected the annotation to be a subject")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keepers: Many[User] = reference()

    return Bird


@refused("Bird.keeper: on_delete: expected restrict, cascade or set null")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = reference(on_delete="keep")

    return Bird


@refused("Bird.keeper: on_delete: set null needs a reference that can be None")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = reference(on_delete="set null")

    return Bird


@refused("Bird.keeper: default: expected caller")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keeper: User = reference(default="ada")

    return Bird


@refused("Bird.parent: default=caller: expected a reference to User")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        parent: "Bird" = reference(default=caller)

    return Bird


@refused("Bird.parent: owner: expected a reference to User")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        parent: "Bird" = reference(owner=True)

    return Bird


@refused('Bird.chicks: expected the annotation to be Many["…"] of a subject')
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        chicks: "Bird" = many("parent")

    return Bird


@refused("Bird.chicks: many('mother'): expected a reference of Bird: parent")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        parent: "Bird | None" = reference()
        chicks: Many["Bird"] = many("mother")

    return Bird


@refused(
    "Bird.friends: many('liked_by'): expected a reference of Bird: parent; "
    "one side of a many-to-many relation is many() without a name"
)
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        parent: "Bird | None" = reference()
        friends: Many["Bird"] = many("liked_by")
        liked_by: Many["Bird"] = many("friends")

    return Bird


@refused("Bird.keepers: many('bird'): expected a reference of Organization: none, as it has no references")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        keepers: Many["Organization"] = many("bird")  # type: ignore[name-defined]  # noqa: F821  found by its name

    return Bird


@refused(f"Bird.{'k' * 40}: expected a name that makes at most 60 characters with {'b' * 30}_")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="b" * 30):
        kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk: Many[User] = many()

    return Bird


@refused(
    "Bird: order: no index serves 'size': expected index=True or unique=True on it, or some of id, title, created_at"
)
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", order=("-size",)):
        size: int = column()
        title: str = column(max_length=3, index=True)

    return Bird


@pytest.mark.parametrize("where", ["shared", "unique_together", "indexes"])
def test_named_attributes_must_exist(where: str) -> None:
    class Bird(Subject, name="bird", prefix="brd"):
        size: int = column()

    setattr(Bird, where, ("wings",) if where == "shared" else (("size", "wings"),))
    assert_refused(Bird, "Bird: there is no attribute 'wings'")


@refused("Bird: there is a table 'memberships' already: expected another plural")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", plural="memberships"):
        pass

    Bird.application = "zoo"
    return Bird


@refused("Bird.fly: expected async def fly(self, work, actor, *, …)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        def fly(self, work: Work, actor: Actor) -> None:
            pass

    return Bird


@refused("Bird.fly: expected async def fly(self, work, actor, *, …)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work) -> None:
            pass

    return Bird


@refused("Bird.delete: expected another name, in lower case with underscores")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def delete(self, work: Work, actor: Actor) -> None:
            pass

    return Bird


@pytest.mark.parametrize("wrong", [bytes, list[User], Any, object])
def test_an_argument_of_an_action_is_of_a_columns_type_or_a_subject(wrong: Any) -> None:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work, actor: Actor, *, where: wrong) -> None:
            pass

    assert_refused(Bird, "Bird.fly: where: expected an argument that is one of str, int")


@refused("Bird.fly: where: expected an argument that is one of str, int")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work, actor: Actor, **where: str) -> None:
            pass

    return Bird


@refused("Bird.fly: id: expected an argument that is one of str, int")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work, actor: Actor, *, id: str) -> None:  # noqa: A002  what is refused
            pass

    return Bird


@refused("Bird.fly: an annotation: there is no 'Nest'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work, actor: Actor, *, nest: "Nest") -> None:  # type: ignore[name-defined]  # noqa: F821
            pass

    return Bird


@refused("Bird.fly: expected to return None or a subject")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action()
        async def fly(self, work: Work, actor: Actor) -> int:  # noqa: ARG002
            return 1

    return Bird


@refused("Bird: permission 'fly': expected subject:action, of a-z, 0-9 and '_'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        @action(permission="fly")
        async def fly(self, work: Work, actor: Actor) -> None:
            pass

    return Bird


@refused("Bird: samples: there is no column 'wings'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        samples = {"wings": lambda *_: 2}  # noqa: RUF012

    return Bird


@refused("Bird.nest: expected a value: column(), reference(), many() or computed()")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)
        nest: str

    return Bird


@refused("Bird: visible: there is no column 'wings'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user: row["wings"] == user  # noqa: E731  as authors write it

    return Bird


@refused('Bird: visible: expected SQL of the row\'s columns, such as row["name"] ==')
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user: None  # noqa: ARG005, E731  as authors write it

    return Bird


@refused("Bird: visible: TypeError: ")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row: row["name"] == "x"  # noqa: E731  as authors write it

    return Bird


@refused(
    "Bird: visible: CompileError: No literal value renderer is available for literal value \"['me']\" "
    "with datatype JSONB"
)
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        friends: JSON = column(default=list)

        visible = lambda row, user: row["friends"].contains(["me"])  # noqa: ARG005, E731  as authors write it

    return Bird


@refused("Bird: visible: expected a function of a row and a user")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = ("name",)

    return Bird


@refused('Bird: visible: AttributeError: expected row["name"]')
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user: row.name == "x"  # noqa: ARG005, E731  as authors write it

    return Bird


@refused('Bird: visible: TypeError: expected row["name"], not a column of the table birds')
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user: Bird.table.c.name == "x"  # noqa: ARG005, E731  as authors write it

    return Bird


@refused(
    "Bird: visible: TypeError: expected and_(), or_() and not_() of SQLAlchemy: "
    "`and`, `or` and `not` leave out conditions"
)
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user: row["name"] == "x" and row["id"] == user  # noqa: E731  as authors write it

    return Bird


@refused("Bird: visible: permission 'read all': expected subject:action, of a-z, 0-9 and '_'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        visible = lambda row, user, may: may("read all")  # noqa: ARG005, E731  as authors write it

    return Bird


@refused("Bird: visible: the rule reads the table birds itself, which PostgreSQL refuses in a policy")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        @staticmethod
        def visible(row: Row, viewer: ColumnElement[UUID]) -> ColumnElement[bool]:  # noqa: ARG004  as authors write it
            other = Bird.table.alias()
            return exists().where(other.c.name == row["name"], other.c.id != row["id"])

    return Bird


@refused("Bird: visible: the rule reads the table birds itself, which PostgreSQL refuses in a policy")
def _() -> type[Subject]:
    class Nest(Subject, name="nest", prefix="nst"):
        name: str = column(max_length=9)

        @staticmethod
        def visible(row: Row, viewer: ColumnElement[UUID]) -> ColumnElement[bool]:  # noqa: ARG004  as authors write it
            return exists().where(Bird.table.c.name == row["name"])

    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        @staticmethod
        def visible(row: Row, viewer: ColumnElement[UUID]) -> ColumnElement[bool]:  # noqa: ARG004  as authors write it
            return exists().where(Nest.table.c.name == row["name"])

    return Bird


@refused("Bird.loud: computed: there is no column 'song'")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)
        loud: bool = computed(lambda row: row["song"] == "x")

    return Bird


@refused("Bird.loud: computed: expected SQL of the row's columns")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)
        loud: bool = computed(lambda row: True)  # type: ignore[arg-type, return-value]  # noqa: ARG005  what is refused

    return Bird


@refused("Bird.song: shared: expected a column that is not private")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        song: str = column(max_length=9, default="x", private=True)
        name: str = column(max_length=9)

        shared = ("song",)

    return Bird


@refused("Bird.mother: shared: expected a column that is no reference: partners learn no internal ids")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)
        mother: "Bird | None" = reference()

        shared = ("name", "mother")

    return Bird


@refused("Bird.granted_fields: shared: grantedFields is a field of each shared row: expected another name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        granted_fields: str = column(max_length=9)

        shared = ("granted_fields",)

    return Bird


@refused("Bird.shared_by_value: shared: shared_by is sharedByValue in shared rows: expected another name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        shared_by: str = column(max_length=9)
        shared_by_value: str = column(max_length=9)

        shared = ("shared_by", "shared_by_value")

    return Bird


@refused("Bird: checks: expected names in lower case with underscores")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)

        checks = {"a name": "true"}  # noqa: RUF012

    return Bird


@refused("Bird.song: unique_together: expected max_length, since it is in an index")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        name: str = column(max_length=9)
        song: str = column()

        unique_together = (("name", "song"),)

    return Bird


@refused("Bird.song: indexes: a column of JSON has no index that could serve an ordering")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        song: JSON = column(default=dict)

        indexes = (("song",),)

    return Bird


@refused("Bird: unique_together: expected tuples of attributes, such as (('song',),)")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd"):
        song: str = column(max_length=9)
        s: str = column(max_length=9)

        unique_together = ("song",)

    return Bird


@refused("Bird.wings: settings: expected a default, or `| None`: the value until somebody changes it")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", settings=True):
        wings: int = column()

    return Bird


@refused("Bird.code: settings: expected a column that clients can change, and that is not unique")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", settings=True):
        code: str | None = column(max_length=10, unique=True)

    return Bird


@refused("Bird.keeper: settings: expected a column that clients can change, and that is not unique")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", settings=True):
        keeper: User | None = reference()

    return Bird


@refused("Bird.number: every version of settings has this attribute: expected another name")
def _() -> type[Subject]:
    class Bird(Subject, name="bird", prefix="brd", settings=True):
        number: int = column(default=1)

    return Bird


@pytest.mark.parametrize("name", ["tenant_id", "ctid", "xmin"])
def test_a_column_that_every_table_has_is_refused(name: str) -> None:
    body = {"__module__": __name__, "__annotations__": {name: int}, name: column()}
    subject = new_class("Bird", (Subject,), {"name": "bird", "prefix": "brd"}, lambda made: made.update(body))
    assert_refused(subject, f"every table has a column {name} already: expected another name")


@pytest.mark.parametrize(
    ("type_", "wrong", "message"),
    [
        (int, {"default": 2**31}, "default: flight: expected -2147483648 to 2147483647"),
        (int, {"default": 2**31, "minimum": 0}, "default: flight: expected 0 to 2147483647"),
        (int, {"maximum": 2**31}, "minimum and maximum: expected values that Int has"),
        (BigInt, {"minimum": -(2**53)}, "minimum and maximum: expected values that BigInt has"),
        (Decimal, {"digits": 0}, "digits: expected at least 1"),
        (float, {"minimum": float("nan")}, "minimum and maximum: expected finite numbers"),
        (datetime, {"minimum": datetime(2026, 1, 1)}, "expected times with an offset from UTC"),  # noqa: DTZ001  as said
        (datetime, {"default": datetime(2026, 1, 1)}, "expected a time with an offset from UTC"),  # noqa: DTZ001  as said
        (StrEnum("Empty", []), {}, "expected Empty to have members"),
        (StrEnum("Odd", {"true": "t"}), {}, "Odd.true: expected another name"),
    ],
)
def test_a_declaration_that_the_database_or_schema_would_refuse_is_refused_first(
    type_: Any, wrong: dict[str, Any], message: str
) -> None:
    body = {"__module__": __name__, "__annotations__": {"flight": type_}, "flight": column(**wrong)}
    subject = new_class("Bird", (Subject,), {"name": "bird", "prefix": "brd"}, lambda made: made.update(body))
    assert_refused(subject, message)


@pytest.mark.parametrize(("message", "declare"), CASES, ids=[message[:60] for message, _ in CASES])
def test_a_declaration_that_does_not_fit_is_refused(message: str, declare: Callable[[], type[Subject]]) -> None:
    with pytest.raises(DeclarationError, match=f"^tests.subjects.test_declaration_errors.*{re.escape(message)}"):
        _complete(declare())


def assert_refused(subject: type[Subject], message: str) -> None:
    with pytest.raises(DeclarationError, match=f"^tests.subjects.test_declaration_errors.*{re.escape(message)}"):
        _complete(subject)
