"""The SQL of rows of several tenants, the descendants of the caller's, in one statement.

A statement is built as for one tenant. What reads tables is written once for each tenant, or each home, in turn: at
that place, tables have the home's schema, and conditions name the tenant. Their ids and schemas are from the directory.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Text,
    Uuid,
    bindparam,
    func,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import Grouping

from isola.subjects.metadata import quoted

if TYPE_CHECKING:
    from isola.query.statement import PlacedCompiler

TENANT = ":tenant"
"""The key of the tenant of a row, which makes its id unique. No column has a colon."""
MEMBER, HOME = ":member", ":home"
TENANT_COLUMN = Column(TENANT, Uuid, nullable=False)


class Places(Protocol):
    """The part of a strategy that reads of several tenants need: see isola_strategies.base."""

    def tenant_of(self, table: str) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Member:
    """A tenant whose rows are read, and the schema of its tables."""

    tenant: UUID
    home: str
    strategy: Places


@dataclass(frozen=True)
class Family:
    """Tenants whose rows are read by one statement."""

    members: tuple[Member, ...]

    @cached_property
    def homes(self) -> Mapping[str, Member]:
        """A member of each home, in the order of their numbers."""
        return {each.home: each for each in reversed(self.members)}

    @cached_property
    def listed(self) -> str:
        """As ``isola.family_list()`` returns it."""
        tenants: dict[str, list[str]] = {}
        for each in self.members:
            tenants.setdefault(each.home, []).append(str(each.tenant))
        return "".join(f"{home} {','.join(sorted(tenants[home]))};" for home in sorted(tenants))

    def predicate(self, table: str) -> str | None:  # noqa: ARG002  a Placement's
        raise TypeError("each place has a predicate of its own")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part of a statement reads. ``tenant`` is SQL; ``number`` is that of the member, from 1."""

    home: str
    strategy: Places
    tenant: str
    number: int = 0
    of_home: int = 0

    def table(self, name: str) -> str:
        return f"{quoted(self.home)}.{name}"

    def predicate(self, table: str) -> str:
        tenant = self.strategy.tenant_of(table)
        return "true" if tenant is None else f"{tenant} = {self.tenant}"


def places(family: Family) -> Iterator[Place]:
    """The place of each member."""
    homes = [*family.homes]
    for number, each in enumerate(family.members, 1):
        yield Place(each.home, each.strategy, f"'{each.tenant}'::uuid", number, homes.index(each.home))


# SQLAlchemy writes statements with a compiler of its own to find the tables in them.
_UNWRITTEN = "NULL"


class OfPlace(ColumnElement[Any]):
    """A constant of the place: its TENANT, MEMBER or HOME."""

    inherit_cache = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.type = Uuid() if name == TENANT else Integer()


@compiles(OfPlace)
def _write_of_place(element: OfPlace, compiler: "PlacedCompiler", **_: Any) -> str:
    if not hasattr(compiler, "place"):
        return _UNWRITTEN
    place = compiler.place
    if place is None:
        raise TypeError(f"there is no place for {element.name}")
    return {TENANT: place.tenant, MEMBER: str(place.number), HOME: str(place.of_home)}[element.name]


class OfRow(ColumnElement[Any]):
    """What reads tables for a row of a page over several tenants: in the home of the row, rows of its tenant."""

    inherit_cache = False

    def __init__(self, element: ColumnElement[Any], family: Family, page: FromClause) -> None:
        self.element = element
        self.family = family
        self.page = page
        self.type = element.type


@compiles(OfRow)
def _write_of_row(element: OfRow, compiler: "PlacedCompiler", **options: Any) -> str:
    if not hasattr(compiler, "place"):
        return _UNWRITTEN
    tenant = compiler.process(element.page.c[TENANT])
    cases = []
    for number, (home, member) in enumerate(element.family.homes.items()):
        with compiler.at(Place(home, member.strategy, tenant)):
            cases.append(f"WHEN {number} THEN ({compiler.process(element.element, **options)})")
    return f"CASE {compiler.process(element.page.c[HOME])} {' '.join(cases)} END"


class OfEach(ColumnElement[Any]):
    """What reads tables at each place, joined by an operator."""

    inherit_cache = False

    def __init__(self, element: ColumnElement[Any], family: Family, operator: str) -> None:
        self.element = element
        self.family = family
        self.operator = operator
        self.type = element.type


@compiles(OfEach)
def _write_of_each(element: OfEach, compiler: "PlacedCompiler", **options: Any) -> str:
    if not hasattr(compiler, "place"):
        return _UNWRITTEN
    written = []
    for place in places(element.family):
        with compiler.at(place):
            written.append(f"({compiler.process(element.element, **options)})")
    return f"({f' {element.operator} '.join(written)})"


class Predicate(ColumnElement[bool]):
    """The condition that a scan has rows of the tenant of the place."""

    inherit_cache = False
    type = Boolean()

    def __init__(self, scan: FromClause) -> None:
        self.scan = scan


@compiles(Predicate)
def _write_predicate(element: Predicate, compiler: "PlacedCompiler", **options: Any) -> str:
    if not hasattr(compiler, "place"):
        return _UNWRITTEN
    if compiler.place is None:
        raise TypeError("a table of a family is read at no place")
    column = compiler.process(next(iter(element.scan.c)), **options)
    return compiler.place.predicate(column.rpartition(".")[0])


def tenant_of(page: FromClause) -> Mapping[str, ColumnElement[str]]:
    """The tenant of a row of a page, for its slug and name."""
    number = page.c[MEMBER]
    return {name: Grouping(_parameter(index, ARRAY(Text())))[number] for index, name in enumerate(("slug", "name"))}


def is_current() -> ColumnElement[bool]:
    """Raises an error in the database if the tenants, or their homes, are others by now."""
    return func.isola.is_family(_parameter(2, Text()), type_=Boolean())


def values(family: Family, slugs: Sequence[str], names: Sequence[str]) -> tuple[object, ...]:
    """The values of a statement's parameters, in place of the values from a mutation."""
    return list(slugs), list(names), family.listed


def _parameter(index: int, type_: Any) -> Any:
    return bindparam(f"v1_{index}", type_=type_)


def constants() -> list[ColumnElement[Any]]:
    """The columns that the rows of a page have besides those of the table."""
    return [OfPlace(name).label(name) for name in (TENANT, MEMBER, HOME)]


@contextmanager
def placed(compiler: "PlacedCompiler", place: Place | None) -> Iterator[None]:
    outer, compiler.place = compiler.place, place
    try:
        yield
    finally:
        compiler.place = outer


PLACE = "place"
"""The execution option of a select that is written at one place."""
