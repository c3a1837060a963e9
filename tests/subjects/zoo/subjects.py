from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, and_, not_

from isola.errors import Conflict
from isola.subjects import (
    JSON,
    Actor,
    BigInt,
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
from isola.subjects.metadata import Row
from isola.subjects.users import User


@deprecated_values(FISH="Fish are kept elsewhere.")
class Class(StrEnum):
    """What an animal is.

    BIRD: It flies.
    """

    BIRD = "bird"
    FISH = "a fish"


class Cage(Subject, name="cage", prefix="cag"):
    number: int = column(unique=True, minimum=1)
    animals: Many["Animal"] = many("cage")


class Food(Subject, name="food", prefix="fod", mutations=frozenset({"create", "update", "delete"})):
    name: str = column(max_length=50, unique=True)
    animals: Many["Animal"] = many("foods")
    diaries: Many["Diary"] = many("foods")

    searched = ("name",)


class Animal(Subject, name="animal", prefix="anm", order=("name",), counted="tame"):
    """One that lives here."""

    name: str = column(max_length=50, min_length=1, index=True)
    # Reserved words of Python, SQL and filters.
    class_: Class = column(default=Class.BIRD, index=True, grouped=True)
    order: int = column(default=0, minimum=-5, maximum=5, index=True, grouped=True)
    from_: str | None = column(max_length=10, deprecated="Use cage.")
    group: date | None = column()
    population: BigInt | None = column()
    weight: float | None = column(minimum=0)
    price: Decimal = column(default=Decimal("1.50"), digits=6, scale=2, minimum=0)
    tame: bool = column(default=False)
    born: date | None = column(minimum=date(2000, 1, 1))
    seen: datetime | None = column(index=True)
    chip: UUID | None = column(unique=True)
    notes: JSON = column(default=dict)
    nicknames: list[str] = column(default=list)
    sizes: list[int] | None = column()
    kin: list[Class] = column(default=list)
    days: list[date] = column(default=lambda: [date(2026, 1, 31)])
    herds: list[BigInt] | None = column()
    weights: list[float] | None = column()
    fees: list[Decimal] | None = column(digits=6, scale=2)
    flags: list[bool] | None = column()
    visits: list[datetime] | None = column()
    chips: list[UUID] | None = column()
    holidays: list[date] | None = column()
    words: list[str] = column(default=lambda: ['a"b', "c\\d", "it's, {e}"])
    ring: str = column(default="none", max_length=10, read_only=True)
    secret: str = column(default="hidden", max_length=10, private=True)
    cage: Cage | None = reference(on_delete="set null", grouped=True)
    mother: "Animal | None" = reference()
    children: Many["Animal"] = many("mother")
    keeper: User = reference(default=caller)
    friends: Many["Animal"] = many()
    liked_by: Many["Animal"] = many("friends", deprecated="Use friends.")
    foods: Many[Food] = many()
    double: int = computed(lambda row: row["order"] * 2)

    unique_together = (("name", "cage"),)
    checks = {"tame_fish": "NOT tame OR class = 'bird'"}  # noqa: RUF012
    samples = {"tame": lambda _, row: row["class"] == "bird"}  # noqa: RUF012
    shared = (
        "name",
        "class",
        "order",
        "from_",
        "group",
        "population",
        "price",
        "notes",
        "nicknames",
        "kin",
        "days",
        "fees",
        "visits",
        "ring",
        "created_at",
    )

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:  # noqa: ARG002
        """A rule receives the values as stored, by attribute."""
        if changes.get("class_") is Class.FISH and self.class_ is Class.BIRD and changes.get("cage", self.cage):
            raise Conflict("class: a bird in a cage stays one", "class")
        if "order" in changes:
            changes["ring"] = f"r{changes['order']}"

    @action(changes=True, deprecated="Use updateAnimal.")
    async def move(self, work: Work, actor: Actor, *, to: Cage, after: "Animal | None" = None, times: int = 1) -> None:
        """Into another cage."""
        await self.update(work, actor, cage=to, order=times if after is None else -times)

    @action(permission="animal:breed")
    async def breed(self, work: Work, actor: Actor, *, name: str, class_: Class) -> "Animal":
        """It has a child."""
        return await Animal.create(work, actor, name=name, class_=class_, mother=self)


class Diary(Subject, name="diary", prefix="dia", plural="diaries"):
    author: User = reference(default=caller, on_delete="cascade")
    text: str = column(max_length=100)
    sealed: bool = column(default=False, index=True, grouped=True, deprecated="Nobody sees those that are.")
    code: str | None = column(max_length=20, unique=True)
    place: str | None = column(max_length=20, fixed=True)
    animal: Animal | None = reference(on_delete="cascade")
    foods: Many[Food] = many()

    searched = ("text", "place")
    searched_as = "english"
    shared = ("text", "sealed")

    @staticmethod
    def visible(row: Row, viewer: ColumnElement[UUID]) -> ColumnElement[bool]:
        """Visible to its author until it is sealed."""
        return and_(row["author_id"] == viewer, not_(row["sealed"]))


class Notice(Subject, name="notice", prefix="ntc"):
    text: str = column(max_length=100)
    published: bool = column(default=True)

    @staticmethod
    def visible(row: Row, viewer: ColumnElement[UUID]) -> ColumnElement[bool]:  # noqa: ARG004  the same for all users
        """Visible to all users, or to none."""
        return row["published"]


class House(Subject, name="house", prefix="hse", settings=True):
    """How the zoo is run."""

    motto: str = column(max_length=20, default='It\'s "wild".')
    opened: bool = column(default=True)
    visitors: int = column(default=100, minimum=1, maximum=500)
    symbol: Class = column(default=Class.FISH)
    fee: Decimal = column(default=Decimal("2.50"), digits=6, scale=2)
    hours: JSON = column(default=lambda: {"from": 9}, max_bytes=100)
    closed: list[date] = column(default=list)
    until: date | None = column()
