"""The permissions and features in the contract are enforced: every field, with and without each of its needs."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from typing import Any

import pytest
import strawberry
from graphql import (
    FieldDefinitionNode,
    GraphQLEnumType,
    GraphQLInterfaceType,
    GraphQLNonNull,
    GraphQLObjectType,
    ListTypeNode,
    NonNullTypeNode,
    ObjectTypeDefinitionNode,
    OperationType,
    TypeNode,
    get_named_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
    parse,
)

from isola.admin.schema import schema as administration
from isola.api.access import requires
from isola.api.execute import Executor
from isola.api.fields import mapped
from isola.api.model import model_of
from isola.api.schema import model, schema
from isola.database.transactions import Transaction
from isola.errors import Unavailable
from isola.query.mapping import MappingError, Parameters
from isola.subjects import features
from isola.subjects.permissions import Permission, all_permissions
from isola.subjects.sessions.fields import OPEN
from tests.api.conftest import Caller, ids, uuid

# The contract as clients read it, without the model behind it.
TYPES: Mapping[str, ObjectTypeDefinitionNode] = {
    each.name.value: each for each in parse(schema.as_str()).definitions if isinstance(each, ObjectTypeDefinitionNode)
}
ALL = all_permissions() | features.known().keys()


def declared(node: ObjectTypeDefinitionNode | FieldDefinitionNode) -> set[str] | None:
    """The permissions that a type or field declares; None if it declares none."""
    found = [each for each in node.directives or () if each.name.value in {"requires", "public"}]
    if not found:
        return None
    return {str(getattr(argument.value, "value", "")) for each in found for argument in each.arguments or ()}


def needed(node: ObjectTypeDefinitionNode | FieldDefinitionNode) -> set[str]:
    """The permissions and features that a type or field requires."""
    features = {
        str(getattr(argument.value, "value", ""))
        for each in node.directives or ()
        if each.name.value == "requiresFeature"
        for argument in each.arguments or ()
    }
    return features | (declared(node) or set())


def named(type_: TypeNode) -> str:
    while isinstance(type_, NonNullTypeNode | ListTypeNode):
        type_ = type_.type
    return str(type_.name.value)  # type: ignore[attr-defined]  # what is neither is named


@dataclass(frozen=True)
class Place:
    """A field of a type, the shortest path to it, and the permissions that the path needs."""

    field: str
    path: tuple[str, ...]
    document: str
    needs: frozenset[str]


def step(type_: str, name: str) -> set[str]:
    """The permissions needed to select a field of a type and to read its object."""
    field = next(each for each in TYPES[type_].fields or () if each.name.value == name)
    needs = needed(TYPES[type_]) | needed(field)
    target = named(field.type)
    if target in TYPES:
        needs |= needed(TYPES[target])
        nodes = [each for each in TYPES[target].fields or () if each.name.value == "nodes"]
        needs |= {need for each in nodes for need in needed(TYPES[named(each.type)])}
    return needs


def places(root: str) -> Iterator[Place]:
    """Every field of every type that is reachable from a root, by the shortest path."""
    waiting: list[tuple[str, tuple[tuple[str, str], ...], frozenset[str]]] = [(root, (), frozenset())]
    seen = {root}
    while waiting:
        type_, way, needs = waiting.pop(0)
        definition = model.schema.type_map[type_]
        assert isinstance(definition, GraphQLObjectType)
        for name, field in definition.fields.items():
            target = get_named_type(field.type)
            required = {each: argument for each, argument in field.args.items() if is_required_argument(argument)}
            given = ", ".join(f"{each}: {listed(argument.type)}" for each, argument in required.items())
            if {"from", "to"} <= required.keys():
                given = given.replace(LITERALS["DateTime"], '"2025-12-31T00:00:00Z"', 1)  # the beginning of a time
            if isinstance(target, GraphQLInterfaceType):
                given = given.replace(ids("res", 1), "of nothing")  # an object that exists needs more: see below
            here = (*way, (name, f"({given})" if given else ""))
            needed = needs | step(type_, name)
            below = "" if is_leaf_type(target) else "{ __typename }"
            document = "".join(f"{{ {each}{arguments} " for each, arguments in here) + below + "}" * len(here)
            yield Place(f"{type_}.{name}", tuple(each for each, _ in here), document, frozenset(needed))
            if not is_leaf_type(target) and not isinstance(target, GraphQLInterfaceType) and target.name not in seen:
                seen.add(target.name)
                waiting.append((target.name, here, frozenset(needed)))


LITERALS = {
    "ID": f'"{ids("res", 1)}"',
    "String": '"executions"',  # also the name of a meter
    "JSON": "{}",
    "Boolean": "true",
    "Date": '"2026-01-01"',
    "DateTime": '"2026-01-01T00:00:00Z"',
    "UUID": f'"{uuid(0, 0)}"',
    **dict.fromkeys(("Int", "BigInt", "Float", "Decimal"), "1"),
}


def value(type_: Any) -> str:
    """A valid value of an argument."""
    if type_.name in LITERALS:
        return LITERALS[type_.name]
    if isinstance(type_, GraphQLEnumType):
        return str(next(iter(type_.values)))
    fields = {each: field for each, field in type_.fields.items() if is_required_input_field(field)}
    return "{" + ", ".join(f"{each}: {listed(field.type)}" for each, field in fields.items()) + "}"


def listed(type_: Any) -> str:
    one = value(get_named_type(type_))
    return f"[{one}]" if str(type_).startswith("[") else one


QUERIES = list(places("Query"))
MUTATIONS = [replace(each, document=f"mutation {each.document}") for each in places("Mutation")]
SUBSCRIPTIONS = [replace(each, document=f"subscription {each.document}") for each in places("Subscription")]


def test_every_field_or_its_type_declares_a_permission() -> None:
    silent = {
        f"{name}.{field.name.value}"
        for name, type_ in TYPES.items()
        for field in type_.fields or ()
        if declared(type_) is None and declared(field) is None
    }
    assert silent == set()


def test_a_declared_permission_or_feature_must_exist() -> None:
    of_types = {need for type_ in TYPES.values() for need in needed(type_)}
    of_fields = {need for type_ in TYPES.values() for each in type_.fields or () for need in needed(each)}
    assert "custom-patterns" in of_types
    assert of_types | of_fields <= ALL


def test_every_field_of_every_type_is_walked() -> None:
    fields = {f"{name}.{field.name.value}" for name, type_ in TYPES.items() for field in type_.fields or ()}
    assert {place.field for place in (*QUERIES, *MUTATIONS, *SUBSCRIPTIONS)} == fields


def test_a_schema_with_a_field_that_declares_no_permission_is_refused() -> None:
    @mapped(Parameters({}))
    @strawberry.type
    class Query:
        covered: str = strawberry.field(directives=[requires(Permission.USER_READ)])
        forgotten: str

    with pytest.raises(MappingError, match=r"Query\.forgotten"):
        model_of(strawberry.Schema(Query))


def holding(caller: Caller, needs: frozenset[str]) -> Caller:
    """The caller with these permissions, in a tenant with these features."""
    permissions = frozenset(need for need in needs if ":" in need)
    return replace(caller, principal=replace(caller.principal, permissions=permissions, features=needs - permissions))


def refusal(missing: str) -> tuple[str, str]:
    """The code and the message of a refusal."""
    if ":" in missing:
        return "FORBIDDEN", f"this needs the permission {missing}"
    plans = "starter or professional or enterprise"
    return "FEATURE_REQUIRED", f"this needs the feature {missing}, which a tenant has with the plan {plans}"


async def test_every_field_of_a_query_is_refused_without_each_of_its_permissions_and_not_with_them(a: Caller) -> None:
    for place in QUERIES:
        for missing in place.needs:
            refused = await holding(a, ALL - {missing}).ask(place.document)
            assert (refused.status, refused.transactions) == (200, 0), place
            assert (refused.code, refused.error["message"]) == refusal(missing), place
            assert refused.error["path"] == list(place.path[: len(refused.error["path"])])
            assert refused.body["data"] == {place.path[0]: None}
        if place.path[0] not in OPEN[OperationType.QUERY]:  # these need a server
            assert "errors" not in (await holding(a, place.needs).ask(place.document)).body, place


class Reached(Caller):
    """A caller whose mutations fail as soon as they open a transaction."""

    def transaction(self, *, read_only: bool = False, claim: object = None) -> AbstractAsyncContextManager[Transaction]:  # noqa: ARG002  the interface
        raise Unavailable("reached")


async def test_every_mutation_is_refused_without_each_of_its_permissions_before_anything_is_done(a: Caller) -> None:
    caller = Reached(a.database, a.principal, a.executor)
    for place in MUTATIONS:
        for missing in place.needs:
            refused = await holding(caller, ALL - {missing}).ask(place.document)
            assert (refused.status, refused.code, refused.error["message"]) == (200, *refusal(missing)), place
            assert refused.error["path"] == list(place.path[: len(refused.error["path"])])
            assert refused.body["data"] == {place.path[0]: None}
        told = await holding(caller, place.needs).ask(place.document)
        assert "this needs the" not in told.text, (place, told.text)


async def test_every_subscription_is_refused_without_each_of_its_permissions(a: Caller) -> None:
    async def refusals(place: Place, permissions: frozenset[str]) -> list[str]:
        caller = holding(a, permissions)
        operation, values = await a.executor.operation(place.document, None, None, None, caller)
        plans = a.executor.compiler.plans(operation, values.coerced)
        assert isinstance(plans, Mapping)
        reading = a.executor.compiler.read(plans[place.path[0]], values, caller.principal)
        return [f"{each.refusal.code} {each.refusal.message}" for each in reading.refused.values()]

    for place in SUBSCRIPTIONS:
        for missing in place.needs:
            assert await refusals(place, ALL - {missing}) == [" ".join(refusal(missing))], place
        assert await refusals(place, place.needs) == [], place


async def test_a_look_up_by_id_requires_the_permission_of_the_type(a: Caller) -> None:
    document = "query ($ids: [ID!]!) { nodes(ids: $ids) { id ... on Span { title author { name } } } }"
    reader = holding(a, frozenset({"resource:read"}))
    assert len((await reader.ask(document, {"ids": [ids("res", 1), "?"]})).data["nodes"]) == 2
    refused = await reader.ask(document, {"ids": [ids("res", 1), ids("spn", 1)]})
    assert (refused.body["data"], refused.transactions) == ({"nodes": None}, 0)
    assert (refused.error["message"], refused.error["path"]) == ("this needs the permission span:read", ["nodes"])
    refused = await holding(a, frozenset({"span:read"})).ask(document, {"ids": [ids("spn", 1)]})
    assert refused.error["message"] == "this needs the permission user:read"
    assert refused.error["path"] == ["nodes", "author"]


async def test_a_field_that_is_skipped_needs_nothing(a: Caller) -> None:
    document = "query ($all: Boolean!) { resources { totalCount } users @include(if: $all) { totalCount } }"
    reader = holding(a, frozenset({"resource:read"}))
    assert (await reader.ask(document, {"all": False})).data.keys() == {"resources"}
    assert (await reader.ask(document, {"all": True})).code == "FORBIDDEN"


def test_every_field_at_a_root_is_nullable() -> None:
    """A field that fails is null, and the others are answered."""
    for contract in (schema, administration):
        for root in (contract._schema.query_type, contract._schema.mutation_type):
            assert root is not None
            assert [name for name, field in root.fields.items() if isinstance(field.type, GraphQLNonNull)] == []


async def test_a_read_of_which_one_field_is_forbidden_answers_the_others(a: Caller) -> None:
    document = """query ($id: ID!, $first: Int) {
      mine: resources(first: 2, orderBy: [{field: NAME}]) { nodes { id name spans(first: 1) { totalCount } } }
      theirs: resources(first: 2) { nodes { id owner { name } } }
      viewer { roles memberships { tenant { slug } } }
      users(first: $first) { totalCount }
      span: node(id: $id) { id }
      __typename
    }"""
    everything = await holding(a, ALL).ask(document, {"id": ids("spn", 1)})
    reader = holding(a, frozenset({"resource:read", "span:read", "ghost:read"}))
    answer = await reader.ask(document, {"id": ids("usr", 1), "first": 1000})
    assert answer.status == 200
    assert answer.transactions == 1
    assert answer.body["data"] == {**everything.data, "theirs": None, "users": None, "span": None}
    assert list(answer.body["data"]) == list(everything.data)
    assert [(error["path"], error["extensions"]) for error in answer.body["errors"]] == [
        (["theirs", "nodes", "owner"], {"code": "FORBIDDEN"}),
        (["users"], {"code": "FORBIDDEN"}),
        (["span"], {"code": "FORBIDDEN"}),
    ]
    assert all(error["locations"] for error in answer.body["errors"])


async def test_a_mutation_of_which_one_field_is_forbidden_does_the_others(a: Caller, executor: Executor) -> None:
    document = """mutation {
      no: createResource(input: {name: "x"}) { resource { id owner { name } } }
      yes: createResource(input: {name: "x"}) { resource { id } }
    }"""
    caller = Reached(a.database, a.principal, executor)
    told = await holding(caller, frozenset({"resource:write", "resource:read"})).ask(document)
    assert [(error["path"], error["extensions"]["code"]) for error in told.body["errors"]] == [
        (["no", "resource", "owner"], "FORBIDDEN"),
        (["yes"], "UNAVAILABLE"),
    ]
