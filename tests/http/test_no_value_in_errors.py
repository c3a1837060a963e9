"""Whatever is wrong with what a client sent: no error repeats it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from graphql import (
    GraphQLInputObjectType,
    GraphQLInputType,
    OperationDefinitionNode,
    get_named_type,
    is_input_object_type,
    parse,
    type_from_ast,
)

from app.api.schema import model
from tests.http.served import OPERATIONS, Client

CANARY = "c4n4ry"
SHAPES: list[Any] = [
    CANARY,
    CANARY * 2000,
    f"{CANARY}\x00",
    [CANARY],
    {"value": CANARY},
    {"eq": {"a": [CANARY]}},
    [[{"in": [CANARY]}]],
    f"res_{CANARY}",
    f"2026-01-01T00:00:00{CANARY}",
]


def mistakes(type_: GraphQLInputType, depth: int = 0) -> Iterator[Any]:
    """Values that bring the canary to every place of a type, one at a time."""
    yield from SHAPES
    named = get_named_type(type_)
    if is_input_object_type(named) and depth < 2:
        for name, field in named.fields.items():
            for value in mistakes(field.type, depth + 1):
                yield {**required(named), name: value}


def required(type_: GraphQLInputObjectType) -> dict[str, Any]:
    return {name: "x" for name, field in type_.fields.items() if str(field.type).endswith("!")}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_no_error_repeats_a_value(name: str, alice: Client) -> None:
    document = OPERATIONS[name]
    [operation] = [node for node in parse(document).definitions if isinstance(node, OperationDefinitionNode)]
    for definition in operation.variable_definitions or ():
        type_ = type_from_ast(model.schema, definition.type)
        assert type_ is not None
        for value in mistakes(type_):  # type: ignore[arg-type]  # a variable is of an input type
            variable = definition.variable.name.value
            by_variable = await alice.ask(document, {variable: value})
            assert_silent(by_variable.response.text)


@pytest.mark.parametrize(
    "document",
    [
        f'{{ resources(first: "{CANARY}") {{ totalCount }} }}',
        f'{{ resources(filter: {{name: {{eq: ["{CANARY}"]}}}}) {{ totalCount }} }}',
        f'{{ resources(filter: {{createdAt: {{gt: "{CANARY}"}}}}) {{ totalCount }} }}',
        f'{{ resources(after: "{CANARY}") {{ totalCount }} }}',
        f'mutation {{ createResource(input: {{name: ["{CANARY}"]}}) {{ resource {{ id }} }} }}',
        f'mutation {{ signIn(input: {{login: "b", password: {{p: "{CANARY}"}}}}) {{ session {{ accessToken }} }} }}',
        f'mutation {{ createSpan(input: {{title: "x", payload: {{}}, visibility: "{CANARY}"}}) {{ span {{ id }} }} }}',
        f'mutation {{ createSpan(input: {{title: "x", payload: {{}}, visibility: {CANARY}}}) {{ span {{ id }} }} }}',
        f'{{ resources "{CANARY}" }}',
        f'{{ resources(first: 1 "{CANARY}") }}',
        f'"{CANARY}"',
        f'{{ viewer @include(if: "{CANARY}") {{ user {{ id }} }} }}',
    ],
)
async def test_nor_does_one_of_a_document(document: str, alice: Client) -> None:
    answer = await alice.send(json.dumps({"query": document}))
    assert "errors" in answer.body
    assert_silent(answer.response.text)


def assert_silent(text: str) -> None:
    if '"errors"' in text:
        errors = json.dumps(json.loads(text)["errors"])
        assert CANARY not in errors, errors[:500]
