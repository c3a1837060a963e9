"""Requests to servers: the contract's operations on resources, and those derived from any declaration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any, Protocol
from uuid import UUID

from isola.installed import APPLICATIONS
from isola.lab.peers import operations as peers
from isola.lab.peers.data import Place
from isola.lab.peers.load import NUMBER
from isola.lab.peers.operations import CONTRACT, VARIANTS, Dialect
from isola.lab.population import Resident
from isola.query.identifiers import encode
from isola.subjects.declaration import Column, Computed, Declaration, Member, Reference, Relation, field_of
from isola.subjects.rows import generate, referred
from isola.subjects.subject import Subject
from isola.subjects.types import BigInt

Values = Mapping[str, Any]
Variables = Callable[[Resident, int], Values]

DIGITS = len(str(NUMBER))
LIST, OUTER, INNER, PAGE = 50, 20, 5, 20


class Operation(Protocol):
    """One repeated request. Its numbered variants differ in their variables."""

    @property
    def name(self) -> str: ...

    @property
    def writes(self) -> bool: ...

    @property
    def document(self) -> str: ...

    def variables(self, resident: Resident, variant: int) -> Values: ...

    def request(self, dialect: Dialect, resident: Resident, variant: int, token: str, port: int) -> str:
        """One HTTP request, head and body."""
        ...


@dataclass(frozen=True, slots=True)
class Contracted:
    """An operation of app/isola/lab/peers, which every peer supports in its own schema."""

    contracted: peers.Operation

    @property
    def name(self) -> str:
        return self.contracted.name

    @property
    def writes(self) -> bool:
        return self.contracted.writes

    @property
    def document(self) -> str:
        return (CONTRACT / f"{self.name}.graphql").read_text(encoding="utf-8")

    def variables(self, resident: Resident, variant: int) -> Values:
        return self.contracted.variables(place(resident), variant)

    def request(self, dialect: Dialect, resident: Resident, variant: int, token: str, port: int) -> str:
        return dialect.request(self.contracted, place(resident), variant, token, port)


@dataclass(frozen=True, slots=True)
class Declared:
    """An operation on an application's declared subjects: only Isola supports it."""

    name: str
    document: str
    make: Variables
    writes: bool = False

    def variables(self, resident: Resident, variant: int) -> Values:
        return self.make(resident, variant)

    def request(self, dialect: Dialect, resident: Resident, variant: int, token: str, port: int) -> str:  # noqa: ARG002  it has only one dialect
        return peers.http(self.document, self.name, self.variables(resident, variant), token, port)


READS: Mapping[str, Operation] = {each.name: Contracted(each) for each in peers.OPERATIONS if not each.writes}
"""The operations that every subject of the lab answers, those of app/isola/lab/peers."""


def place(resident: Resident) -> Place:
    """A resident as a place of app/isola/lab/peers."""
    return Place(str(resident.tenant.id), str(resident.user), [str(each) for each in resident.resources])


@dataclass(frozen=True, slots=True)
class Usual:
    """The operations derived from a declaration, by the similar operation of the contract.

    ``left_out`` has the reason for each kind of operation that is not possible.
    """

    operations: Mapping[str, Operation]
    left_out: Mapping[str, str]


class _UnfitError(Exception):
    """A subject does not support an operation; the message is the reason."""


def most_connected(subjects: Sequence[type[Subject]]) -> type[Subject]:
    """The subject with the most relations, preferring subjects with a to-many relation."""

    def relations(subject: type[Subject]) -> tuple[bool, int]:
        declaration = subject.declaration
        own = [each for each in declaration.members.values() if isinstance(each.declared, Reference | Relation)]
        others = [each for other in subjects for each in other.declaration.references if each.target is subject]
        return any(isinstance(each.declared, Relation) for each in own), len(own) + len(others)

    return max(subjects, key=relations)


def usual(subject: type[Subject]) -> Usual:
    """One row by id, a list with references, nested lists, a filtered page, a create, and an update."""
    made: dict[str, Operation] = {}
    left_out: dict[str, str] = {}
    for like, what, make in (
        ("Resource", "one", _one),
        ("Resources", "a list", _list),
        ("ResourcesWithSpans", "a list of lists", _nested),
        ("SearchResources", "a filtered page", _search),
        ("CreateResource", "making one", _create),
        ("UpdateResource", "changing one", _update),
    ):
        try:
            made[like] = make(subject)
        except _UnfitError as reason:
            left_out[f"{subject.declaration.name}: {what}"] = str(reason)
    return Usual(made, left_out)


def _one(subject: type[Subject]) -> Operation:
    declaration, name = subject.declaration, subject.__name__
    document = (
        f"query {name}($id: ID!) {{ {field_of(declaration.name)}(id: $id) "
        f"{{ {_fields(declaration)} {_references(declaration)} }} }}"
    )
    return Declared(name, document, lambda resident, variant: {"id": key(resident, subject, variant)})


def _list(subject: type[Subject]) -> Operation:
    declaration, name = subject.declaration, _plural(subject)
    document = (
        f"query {name}($first: Int = {LIST}, $after: String) {{ {field_of(declaration.listed_as)}"
        f"(first: $first, after: $after) {{ nodes {{ {_fields(declaration)} {_references(declaration)} }} "
        "pageInfo { hasNextPage endCursor } } }"
    )
    return Declared(name, document, lambda *_: {})


def _nested(subject: type[Subject]) -> Operation:
    declaration = subject.declaration
    many = [each for each in declaration.members.values() if isinstance(each.declared, Relation)]
    if not many:
        raise _UnfitError(f"{declaration.name} has no relation to many rows")
    chosen = next((each for each in many if each.target.application == subject.application), many[0])
    other = chosen.target.declaration
    name = f"{_plural(subject)}With{_capital(chosen.name)}"
    document = (
        f"query {name}($first: Int = {OUTER}, $inner: Int = {INNER}) "
        f"{{ {field_of(declaration.listed_as)}(first: $first) {{ nodes {{ id {_label(declaration)} "
        f"{field_of(chosen.name)}(first: $inner) {{ nodes {{ {_fields(other)} {_references(other)} }} }} }} }} }}"
    )
    return Declared(name, document, lambda *_: {})


def _search(subject: type[Subject]) -> Operation:
    declaration, name = subject.declaration, subject.__name__
    document = (
        f"query Search{_plural(subject)}($filter: {name}Filter, $orderBy: [{name}Order!], $first: Int) "
        f"{{ {field_of(declaration.listed_as)}(filter: $filter, orderBy: $orderBy, first: $first) "
        f"{{ totalCount edges {{ cursor node {{ {_fields(declaration)} }} }} "
        "pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"
    )
    *_, ordered = [each for each in declaration.ordered_by if each != "id"][:1]
    direction = "DESC" if ordered == "created_at" else "ASC"
    condition = _condition(subject)

    def variables(resident: Resident, variant: int) -> Values:
        order = [{"field": ordered.upper(), "direction": direction}]
        return {"filter": condition(resident, variant), "orderBy": order, "first": PAGE}

    return Declared(f"Search{_plural(subject)}", document, variables)


def _condition(subject: type[Subject]) -> Variables:
    """The filter of a page: by an enum or a flag, else by a reference, else by creation time."""
    declaration = subject.declaration
    shown = [each for each in declaration.columns if not each.is_private]
    enums = [(each, each.annotation.enum) for each in shown if each.annotation.enum and not each.annotation.listed]
    flags = [each for each in shown if each.annotation.type is bool and not each.annotation.listed]
    if enums:
        compared, names = field_of(enums[0][0].column), list(enums[0][1].__members__)
        return lambda _, variant: {compared: {"eq": names[variant % len(names)]}}
    if flags:
        flag = field_of(flags[0].column)
        return lambda _, variant: {flag: {"eq": variant % 2 == 0}}
    for each in declaration.references:
        return partial(_referring, each)
    return lambda *_: {"createdAt": {"gte": "2025-01-01T00:00:00Z"}}


def _referring(member: Member, resident: Resident, variant: int) -> Values:
    return {field_of(member.column): {"eq": key(resident, member.target, variant)}}


def _create(subject: type[Subject]) -> Operation:
    declaration, name = subject.declaration, subject.__name__
    if "create" not in declaration.mutations:
        raise _UnfitError(f"clients make no {declaration.plural}")
    numbered = _numbered(subject)
    given = [each for each in declaration.columns if _is_given(each, numbered)]
    rows = _samples(subject)
    document = (
        f"mutation Create{name}($input: Create{name}Input!) {{ {field_of(f'create_{declaration.name}')}(input: $input) "
        f"{{ {field_of(declaration.name)} {{ {_fields(declaration)} {_references(declaration)} }} }} }}"
    )

    def variables(resident: Resident, variant: int) -> Values:
        row = rows[variant % len(rows)]
        values = {}
        for each in given:
            if each.column in numbered:
                values[field_of(each.column)] = numbered[each.column]
            elif isinstance(each.declared, Reference):
                values[field_of(each.column)] = key(resident, each.target, variant)
            elif row[each.column] is not None:
                values[field_of(each.column)] = _plain(row[each.column])
        return {"input": values}

    return Declared(f"Create{name}", document, variables, writes=True)


def _is_given(member: Member, numbered: Mapping[str, Any]) -> bool:
    """Whether to pass a value on create: not an enum's default (maybe a first state), nor an optional reference."""
    if not member.is_settable:
        return False
    if isinstance(member.declared, Reference):
        return not member.annotation.optional
    if getattr(member.declared, "unique", False):
        return member.column in numbered
    return not (member.annotation.enum and member.has_default)


def _numbered(subject: type[Subject]) -> Mapping[str, Any]:
    """Values that must be unique in each new row: they contain a number that the load generator increments."""
    declaration = subject.declaration
    alone = [each for each in declaration.columns if getattr(each.declared, "unique", False) and each.is_settable]
    found = {each.column: _number(subject, each) for each in alone if not each.annotation.optional}
    for names in subject.unique_together:
        together = [each for name in names if (each := declaration.by_column(declaration.column_of(name))) is not None]
        if any(each.column in found for each in together):
            continue
        for each in together:
            if isinstance(each.declared, Column) and each.is_settable and not each.annotation.enum:
                found[each.column] = _number(subject, each)
                break
        else:
            raise _UnfitError(f"no column of {', '.join(names)} can be counted up, which are unique together")
    return found


def _number(subject: type[Subject], member: Member) -> Any:
    """Raises _UnfitError for a column that cannot store the number, or whose values the application sets."""
    declared, type_ = member.declared, member.annotation.type
    if isinstance(declared, Column) and member.attribute not in subject.samples and not member.annotation.listed:
        least, most = declared.minimum, declared.maximum
        fits = (least is None or least <= 10 ** (DIGITS - 1)) and (most is None or most >= 10**DIGITS - 1)
        if type_ is str and (declared.max_length is None or declared.max_length >= DIGITS):
            return str(NUMBER).rjust(declared.min_length, "n")
        if type_ in {int, BigInt} and fits:
            return NUMBER
        if type_ is Decimal and fits and (declared.digits is None or declared.digits - (declared.scale or 0) >= DIGITS):
            return str(NUMBER)
        if type_ is UUID:
            return f"00000000-0000-4000-8000-{NUMBER:012}"
    raise _UnfitError(f"{member.declaration.name}.{member.name} is unique, and cannot be counted up")


def _update(subject: type[Subject]) -> Operation:
    declaration, name = subject.declaration, subject.__name__
    if "update" not in declaration.mutations:
        raise _UnfitError(f"clients change no {declaration.plural}")
    chosen, values = _changed(subject)
    document = (
        f"mutation Update{name}($input: Update{name}Input!) {{ {field_of(f'update_{declaration.name}')}(input: $input) "
        f"{{ {field_of(declaration.name)} {{ {_fields(declaration)} }} }} }}"
    )

    def variables(resident: Resident, variant: int) -> Values:
        value = values[variant % len(values)]
        return {"input": {"id": key(resident, subject, variant), field_of(chosen.column): value}}

    return Declared(f"Update{name}", document, variables, writes=True)


def _changed(subject: type[Subject]) -> tuple[Member, Sequence[Any]]:
    """A column on whose values nothing depends, with values for it; a unique column only if there is no other."""
    together = {each for names in subject.unique_together for each in names}
    settable = [
        each
        for each in subject.declaration.columns
        if isinstance(each.declared, Column) and each.is_settable and not each.annotation.enum
    ]
    settable = [each for each in settable if each.attribute not in subject.samples and each.name not in together]
    alone = [each for each in settable if getattr(each.declared, "unique", False)]
    plain = [each for each in settable if each not in alone]
    if plain:
        chosen = next((each for each in plain if each.annotation.type is str), plain[0])
        return chosen, [_plain(row[chosen.column]) for row in _samples(subject) if row[chosen.column] is not None]
    if alone:
        return alone[0], [_number(subject, alone[0])]
    raise _UnfitError(f"no column of {subject.declaration.name} can be set to any value")


def _samples(subject: type[Subject]) -> Sequence[Values]:
    """Sample rows like those in the homes."""
    counts = {each.declaration.name: 4 * VARIANTS for each in referred([subject])}
    name = subject.declaration.name
    return generate([subject], counts, 0)[name].rows


def key(resident: Resident, subject: type[Subject], variant: int) -> str:
    """The id of one of a resident's rows. Raises KeyError if it is known to have no row of this subject."""
    declaration = subject.declaration
    keys = resident.keys[declaration.name]
    return encode(declaration.prefix, keys[variant % len(keys)])


def _plain(value: Any) -> Any:
    """A value in the form that clients send."""
    match value:
        case Enum():
            return value.name
        case list():
            return [_plain(each) for each in value]
        case date():
            return value.isoformat()
        case Decimal() | UUID():
            return str(value)
    return value


def _fields(declaration: Declaration) -> str:
    shown = [
        field_of(each.column)
        for each in declaration.members.values()
        if isinstance(each.declared, Column | Computed) and not each.is_private
    ]
    return " ".join(["id", *shown, *map(field_of, declaration.times)])


def _references(declaration: Declaration) -> str:
    """The selection of referenced rows: their ids and names."""
    return " ".join(
        f"{field_of(each.name)} {{ id {_label(each.target.declaration)} }}" for each in declaration.references
    )


def _label(declaration: Declaration) -> str:
    texts = [each for each in declaration.columns if each.annotation.type is str and not each.annotation.listed]
    return next((field_of(each.column) for each in texts if not each.is_private), "")


def _plural(subject: type[Subject]) -> str:
    return _capital(subject.declaration.listed_as)


def _capital(name: str) -> str:
    field = field_of(name)
    return field[0].upper() + field[1:]


def of_resources() -> Mapping[str, Operation]:
    """The operations on the built-in nouns: the contract's reads, and writes of resources."""
    [resource] = [each for each in APPLICATIONS["isola"].subjects if each.declaration.name == "resource"]
    return {**READS, **{each.name: each for each in usual(resource).operations.values() if each.writes}}
