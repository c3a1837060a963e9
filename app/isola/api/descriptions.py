"""Descriptions for all that a schema has: those that follow from declarations, and the permissions that are enforced.

What has a description keeps it. What follows from the declaration of a subject, or from the conventions of connections,
filters and mutations, gets a sentence that says so. The permissions come from the rules that the compiler enforces.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_non_null_type,
)

from isola.subjects import sentences
from isola.subjects.declaration import Declaration, Member, field_of
from isola.subjects.sentences import of_needs, words
from isola.subjects.subject import Subject

_ROOTS = {
    "Query": "What can be read.",
    "Mutation": "What can be changed. The fields of an operation run in order, each in a transaction of its own.",
    "Subscription": "The changes that can be followed.",
}
_COMPARISONS = {
    "eq": "Equal to this.",
    "in": "Equal to one of these. An empty list: no rows.",
    "gt": "Greater than this.",
    "gte": "Greater than this, or equal.",
    "lt": "Less than this.",
    "lte": "Less than this, or equal.",
    "isNull": "Whether there is no value.",
    "and": "All of these hold.",
    "or": "At least one of these holds.",
    "not": "This does not hold.",
    "some": "At least one of them satisfies this.",
    "none": "None of them satisfies this.",
}
_FIELDS = {
    "id": "The global id.",
    "edges": "The items of the page, each with its cursor.",
    "nodes": "The items of the page.",
    "pageInfo": "Where the page is in the list.",
    "createdAt": "When it was created.",
    "updatedAt": "When it was last changed; when created, if never.",
}
_ARGUMENTS = {
    "input": "The input.",
    "filter": "Only items that satisfy this.",
    "orderBy": "The order of the items: the first entry counts most.",
    "id": "The global id.",
    "ids": "The global ids.",
}
_CHANGED = {"kind": "What happened.", "id": "The id of the object; null if the event is about none."}
_ORDERING = {
    "field": "What to order by.",
    "direction": "In which direction.",
    "nulls": "Where rows without a value are. By default they are last in ascending order, first in descending order.",
}
_GIVEN = {"id": "The id of the object.", "items": "The inputs, at most 1,000.", "ids": "The ids, at most 1,000."}
_ENDED = re.compile(r"(\w+ed)Ids?")
_TIME = re.compile(r"(\w+ed)At")


def complete(
    schema: GraphQLSchema,
    requires: Mapping[str, Sequence[str]],
    subjects: Iterable[type[Subject]] = (),
    *,
    arguments: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Describe what has no description, and add the permissions and features of types and fields.

    ``requires`` are those that are enforced, by ``Type`` and ``Type.field``. ``arguments`` describe arguments
    by their names.
    """
    declarations = {subject.__name__: subject.declaration for subject in subjects}
    for type_ in schema.type_map.values():
        if type_.name.startswith("__"):
            continue
        _complete(schema, type_, declarations, {**_ARGUMENTS, **arguments})
        type_.description = _with(type_.description, requires.get(type_.name, ()))
        if isinstance(type_, GraphQLObjectType):
            for name, field in type_.fields.items():
                field.description = _with(field.description, requires.get(f"{type_.name}.{name}", ()))
    for directive in schema.directives:
        for argument in directive.args.values():
            argument.description = argument.description or directive.description


def _with(description: str | None, needs: Sequence[str]) -> str | None:
    return " ".join(filter(None, (description, of_needs(needs) if needs else None))) or None


def _complete(
    schema: GraphQLSchema,
    type_: GraphQLNamedType,
    declarations: Mapping[str, Declaration],
    arguments: Mapping[str, str],
) -> None:
    name = type_.name
    type_.description = type_.description or _type(schema, type_, declarations)
    declaration, base = _declaration(name, declarations)
    if isinstance(type_, GraphQLEnumType):
        for key, value in type_.values.items():
            value.description = value.description or (f"By {words(key)}." if name.endswith("OrderField") else None)
    elif isinstance(type_, GraphQLInputObjectType):
        for key, field in type_.fields.items():
            member = _member(declaration, key) or _attribute(declaration, key)
            field.description = field.description or _input(name, key, member, field.type)
            if member and member.declared.deprecated and not is_non_null_type(field.type):
                field.deprecation_reason = member.declared.deprecated
    elif fields := getattr(type_, "fields", None):
        for key, field in fields.items():
            member = _attribute(declaration, key) if base == name else None
            field.description = field.description or _field(type_, key, member, field.type)
            if member and member.declared.deprecated:
                field.deprecation_reason = member.declared.deprecated
            for argument, each in field.args.items():
                each.description = each.description or arguments.get(argument)


def _declaration(name: str, declarations: Mapping[str, Declaration]) -> tuple[Declaration | None, str]:
    """The subject that a type or an input belongs to, and its name."""
    found = re.fullmatch(r"(?:(?:Change|Create|Update|Upsert)(\w+)Input)|(\w+)Filter|(\w+)", name)
    base = next(filter(None, found.groups())) if found else name
    return declarations.get(base), base


def _member(declaration: Declaration | None, key: str) -> Member | None:
    """The member for an input's field."""
    members = declaration.members.values() if declaration else ()
    return next((each for each in members if field_of(each.column) == key), None)


def _attribute(declaration: Declaration | None, key: str) -> Member | None:
    """The member for an object's field."""
    members = declaration.members.values() if declaration else ()
    return next((each for each in members if field_of(each.name) == key), None)


def _type(schema: GraphQLSchema, type_: GraphQLNamedType, declarations: Mapping[str, Declaration]) -> str | None:
    name = type_.name
    if name in _ROOTS:
        return _ROOTS[name]
    if name in declarations:
        return sentences.of_subject(declarations[name])
    said: tuple[tuple[str, Callable[[str], str]], ...] = (
        ("Connection", lambda of: f"A page of a list of {of}."),
        ("Edge", lambda of: f"An item of a list of {of}, with its cursor."),
        ("Filter", lambda of: f"Compares values of {of}. Conditions are combined with AND; null is refused."),
        ("OrderField", lambda of: f"What a list of {of} can be ordered by."),
        ("Order", lambda of: f"What a list of {of} is ordered by."),
        ("Change", lambda of: f"A change to an object of type {of}."),
        ("Input", lambda of: f"The input of {of[0].lower()}{of[1:]}."),
        ("Payload", lambda of: f"The result of {of[0].lower()}{of[1:]}."),
    )
    for suffix, sentence in said:
        of: str | None = name.removesuffix(suffix)
        if of and of != name and suffix in {"Input", "Payload"}:
            of = _mutation(schema, name, of)
        if of and of != name:
            return sentence(of)
    return None


def _mutation(schema: GraphQLSchema, type_: str, like: str) -> str | None:
    """The mutation that an input or a payload is of: named like it, unless a class is not named like its subject."""
    fields = schema.mutation_type.fields if schema.mutation_type else {}
    if f"{like[0].lower()}{like[1:]}" in fields:
        return like
    for name, field in fields.items():
        if type_ in {
            get_named_type(each).name for each in (field.type, *(given.type for given in field.args.values()))
        }:
            return str(name)
    return None


def _input(type_: str, key: str, member: Member | None, of: Any) -> str | None:
    if type_.endswith("Filter"):
        return _COMPARISONS.get(key) or f"A condition on {words(key)}."
    if type_.endswith("Order"):
        return _ORDERING.get(key)
    if member:
        return sentences.of_input(member)
    if key.endswith("Id") and get_named_type(of).name == "ID":
        return f"The id of the {words(key.removesuffix('Id'))}."
    return _GIVEN.get(key)


def _field(type_: GraphQLNamedType, key: str, member: Member | None, of: Any) -> str | None:
    if member:
        return sentences.of_member(member)
    if type_.name.endswith("Change") and key in _CHANGED:
        return _CHANGED[key]
    return _FIELDS.get(key) or _by_name(key, of) or _result(type_.name, key, of)


def _by_name(key: str, of: Any) -> str | None:
    """What a field is whose name says it: deletedIds, revokedAt."""
    if key == "expiresAt":
        return f"When it expires{'' if is_non_null_type(of) else '; null if never'}."
    if ended := _ENDED.fullmatch(key):
        return f"The {'ids' if key.endswith('s') else 'id'} of what was {ended[1]}."
    if time := _TIME.fullmatch(key):
        return f"When it was {words(time[1])}{'' if is_non_null_type(of) else '; null if it was not'}."
    return None


def _result(type_: str, key: str, of: Any) -> str | None:
    """What a mutation returns, and an item of a page."""
    if type_.endswith("Edge") and key == "node":
        return "The item."
    if type_.endswith("Payload"):
        return f"The {words(key)} as it is now.{'' if is_non_null_type(of) else ' Null if the caller may not see it.'}"
    return None
