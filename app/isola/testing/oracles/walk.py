"""Documents generated from the schema: every path to every type, and every mutation with every kind of id.

Additions to the schema in later versions are covered automatically.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count, product
from typing import Any, TypeVar

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInputType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_leaf_type,
    is_list_type,
    is_non_null_type,
    is_required_argument,
    is_required_input_field,
)

# The most relations on one path from the result of a root field.
RELATIONS = 2
CONNECTION = ("edges", "nodes", "node")
# How many ids of other types a field gets besides all of its own type, and how many sets of ids a mutation gets.
STRANGERS, SETS = 60, 2000

Prefixes = Callable[[str, str], Collection[str]]
"""The id prefixes of an input field, by the names of the input type and the field; nothing if any type is possible."""


Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Document:
    """``path`` is its path through the schema. ``variables`` are all sets of ids to run it with."""

    path: str
    text: str
    variables: Mapping[str, Any]

    def __str__(self) -> str:
        return self.path


def reads(schema: GraphQLSchema, ids: Sequence[str], prefixes: Mapping[str, str]) -> Iterator[Document]:
    """A document for every path from the root, with ``ids`` in turn for each required id argument.

    These are all ids of its type, and on the shortest path also others. ``prefixes`` are by the names of types.
    """
    assert schema.query_type
    for name, field in schema.query_type.fields.items():
        required = {each for each, argument in field.args.items() if is_required_argument(argument)}
        # A look-up by one id returns the same as a look-up by several, which follows all paths.
        relations = 1 if required == {"id"} else RELATIONS
        for path, selection in _selections(schema, get_named_type(field.type), relations):
            where = f"{name}{path}"
            if required == {"id"}:
                for id_ in _fitting(ids, prefixes, path, get_named_type(field.type).name):
                    yield Document(where, f"query ($id: ID!) {{ {name}(id: $id) {selection} }}", {"id": id_})
            elif required == {"ids"}:
                text = f"query ($ids: [ID!]!) {{ {name}(ids: $ids) {selection} }}"
                yield Document(where, text, {"ids": list(ids)})
            elif not required:
                yield Document(where, f"{{ {name}{_page(field)} {selection} }}", {})
            else:
                types = {each: argument.type for each, argument in field.args.items() if each in required}
                variables = ", ".join(f"${each}: {type_}" for each, type_ in types.items())
                arguments = ", ".join(f"{each}: ${each}" for each in types)
                yield Document(where, f"query ({variables}) {{ {name}({arguments}) {selection} }}", _around_now(types))


def _around_now(types: Mapping[str, GraphQLInputType]) -> dict[str, Any]:
    """Values of arguments: the moments are in order, the first before now, and the others after it."""
    moments = (datetime.now(UTC) + timedelta(days=2 * number - 1) for number in count())
    return {
        name: next(moments).isoformat() if get_named_type(type_).name == "DateTime" else _given(type_, name, {})
        for name, type_ in types.items()
    }


def _fitting(ids: Sequence[str], prefixes: Mapping[str, str], path: str, type_: str) -> Iterator[str]:
    shortest = not path.partition(".")[2]
    prefix = prefixes.get(path.removeprefix(":").partition(".")[0] or type_, "")
    fitting = [id_ for id_ in ids if id_.startswith(f"{prefix}_")] if prefix else list(ids)
    yield from fitting
    if shortest:
        yield from _some([id_ for id_ in ids if id_ not in fitting], STRANGERS)


def _some(items: Sequence[Item], most: int) -> Sequence[Item]:
    """Items spread evenly over a sequence, at most about ``most``."""
    return items[:: 1 + len(items) // most]


def writes(
    schema: GraphQLSchema, own: Sequence[str], foreign: Sequence[str], texts: Mapping[str, str], prefixes: Prefixes
) -> Iterator[Document]:
    """Every mutation with a foreign id in each of its id inputs, alone and with own ids in the other inputs.

    ``texts`` are values for inputs of these names; other required inputs get valid values. Inputs for ids of a type
    get ids of this type, and foreign ones of other types in turn.
    """
    assert schema.mutation_type
    for name, field in schema.mutation_type.fields.items():
        if not field.args:
            continue  # it takes no ids
        [argument] = field.args.values()
        type_ = get_named_type(argument.type)
        assert isinstance(type_, GraphQLInputObjectType)
        given = {
            each: _given(part.type, each, texts)
            for each, part in type_.fields.items()
            if is_required_input_field(part) or each in texts
        }
        keys = [each for each, part in type_.fields.items() if get_named_type(part.type).name == "ID"]
        required = [each for each in keys if is_required_input_field(type_.fields[each])]
        text = f"mutation ($input: {argument.type}) {{ {name}(input: $input) {_payload(get_named_type(field.type))} }}"

        def those(ids: Sequence[str], key: str, of: str = type_.name) -> list[str]:
            begins = tuple(f"{prefix}_" for prefix in prefixes(of, key))
            return [id_ for id_ in ids if id_.startswith(begins)] if begins else list(ids)

        for chosen in _some(list(product(*(those([*own, *foreign], key) for key in required))), SETS):
            here = given | dict(zip(required, chosen, strict=True))
            if not set(foreign).isdisjoint(chosen):
                yield Document(name, text, {"input": here})
            if set(own).issuperset(chosen):
                for optional in sorted(set(keys) - set(required)):
                    yield from (
                        Document(name, text, {"input": here | {optional: id_}}) for id_ in those(foreign, optional)
                    )
                for key in required:
                    strangers = [id_ for id_ in foreign if id_ not in those(foreign, key)]
                    yield from (
                        Document(name, text, {"input": here | {key: id_}}) for id_ in _some(strangers, STRANGERS)
                    )


def _given(type_: GraphQLInputType, name: str, texts: Mapping[str, str]) -> Any:
    if is_non_null_type(type_):
        return _given(type_.of_type, name, texts)
    if is_list_type(type_):
        return [_given(type_.of_type, name, texts)]
    if isinstance(type_, GraphQLInputObjectType):
        required = {each: part for each, part in type_.fields.items() if is_required_input_field(part)}
        return {each: _given(part.type, each, texts) for each, part in required.items()}
    if isinstance(type_, GraphQLEnumType):
        return texts.get(name, next(iter(type_.values)))
    named = {"DateTime": "2099-01-01T00:00:00Z", "Boolean": True, "Int": 1, "BigInt": 1, "Float": 1, "JSON": {}}
    return texts.get(name, named.get(get_named_type(type_).name, "x"))


def _payload(type_: GraphQLNamedType) -> str:
    """The leaf fields of a payload, and those of each object in it."""
    assert isinstance(type_, GraphQLObjectType)
    parts = ["__typename"]
    for name, field in type_.fields.items():
        target = get_named_type(field.type)
        if isinstance(target, GraphQLObjectType):
            parts.append(f"{name} {{ {' '.join(each for each, part in target.fields.items() if _is_value(part))} }}")
        else:
            parts.append(name if _is_value(field) else f"{name} {{ __typename }}")
    return f"{{ {' '.join(parts)} }}"


def _page(field: GraphQLField) -> str:
    return "(first: 10)" if "first" in field.args else ""


def _selections(schema: GraphQLSchema, type_: GraphQLNamedType, relations: int) -> Iterator[tuple[str, str]]:
    """Each path from a type, with the selection for it, including all leaf fields on the way."""
    if isinstance(type_, GraphQLInterfaceType):
        for possible in schema.get_possible_types(type_):
            for path, selection in _selections(schema, possible, relations):
                yield f":{possible}{path}", f"{{ __typename ... on {possible} {selection} }}"
        return
    if not isinstance(type_, GraphQLObjectType):
        yield "", ""
        return
    values = " ".join(["__typename", *(name for name, field in type_.fields.items() if _is_value(field))])
    further = {name: field for name, field in type_.fields.items() if not _is_value(field)}
    within = {name: field for name, field in further.items() if name in CONNECTION or name == "pageInfo"}
    if within:
        yield from _connections(schema, type_, values, relations)
        return
    # The shortest path, and each longer one.
    yield "", f"{{ {values} }}"
    if relations:
        for name, field in further.items():
            for path, selection in _selections(schema, get_named_type(field.type), relations - 1):
                yield f".{name}{path}", f"{{ {values} {name}{_page(field)} {selection} }}"


def _connections(
    schema: GraphQLSchema, type_: GraphQLObjectType, values: str, relations: int
) -> Iterator[tuple[str, str]]:
    """Through both ``edges`` and ``nodes``: different code writes them."""
    node = get_named_type(type_.fields["nodes"].type)
    groups = ""
    if field := type_.fields.get("groups"):
        grouped = get_named_type(field.type)
        assert isinstance(grouped, GraphQLObjectType)
        groups = f"groups {{ {' '.join(f'{each} {{ value count }}' for each in grouped.fields)} }} "
    page_info = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
    for path, selection in _selections(schema, node, relations):
        # Once for each connection: they cost as much as the rows.
        further = "" if path else groups
        yield f"[]{path}", f"{{ {values} {further}{page_info} edges {{ cursor node {selection} }} nodes {selection} }}"


def _is_value(field: GraphQLField) -> bool:
    return is_leaf_type(get_named_type(field.type))
