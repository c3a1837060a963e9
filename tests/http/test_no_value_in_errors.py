"""Invalid input of any kind, at any place: neither an error nor the log repeats its value."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputType,
    GraphQLSchema,
    get_named_type,
    is_composite_type,
    is_input_object_type,
    is_required_argument,
    is_required_input_field,
)

from isola.admin.schema import schema as administration
from isola.api.schema import model
from isola.testing.fixtures import DEFAULTS, Cluster, copied
from isola.testing.oracles.watch import logged
from isola.testing.served import GRAPHQL_JSON, OPERATIONS, Answer, Api, Client, serving
from tests.http.staff import ADMIN, admitting, token

CANARY = "c4n4ry"
SHAPES: list[Any] = [
    CANARY,
    CANARY * 20_000,
    f"{CANARY}\x00",
    f"{CANARY}\ud800",
    [CANARY],
    {"value": CANARY},
    {CANARY: 1},
    [[{"in": [CANARY]}]],
    f"res_{CANARY}",
    f"2026-01-01T00:00:00{CANARY}",
]
PLAIN = {
    "String": "x",
    "ID": "usr_00000000-0000-7000-8000-000000000000",
    "Int": 1,
    "BigInt": 1,
    "Float": 1.5,
    "Decimal": "1.5",
    "UUID": "00000000-0000-7000-8000-000000000000",
    "Date": "2100-01-01",
    "Boolean": True,
    "DateTime": "2100-01-01T00:00:00Z",
    "JSON": {},
}


class Name(str):
    """A value that is written in a document without quotes."""

    __slots__ = ()


@dataclass(frozen=True)
class Place:
    """An argument of a root field, and values that contain the canary."""

    root: str
    field: str
    argument: str
    type: str
    others: Mapping[str, Any]
    values: list[Any]
    selection: str

    def by_variable(self, value: Any) -> tuple[str, Mapping[str, Any]]:
        given = [f"{name}: {literal(each)}" for name, each in self.others.items()] + [f"{self.argument}: $v"]
        return f"{self.root} ($v: {self.type}) {{ {self.field}({', '.join(given)}) {self.selection} }}", {"v": value}

    def by_literal(self, value: Any) -> str:
        given = [f"{name}: {literal(each)}" for name, each in {**self.others, self.argument: value}.items()]
        return f"{self.root} {{ {self.field}({', '.join(given)}) {self.selection} }}"


def literal(value: Any) -> str:
    match value:
        case Name():
            return str(value)
        case dict():
            return "{" + ", ".join(f"{name}: {literal(each)}" for name, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(literal, value)) + "]"
    return json.dumps(value)


def good(type_: GraphQLInputType) -> Any:
    """A valid value of the type."""
    named = get_named_type(type_)
    if is_input_object_type(named):
        value: Any = {n: good(each.type) for n, each in named.fields.items() if is_required_input_field(each)}
    elif isinstance(named, GraphQLEnumType):
        value = Name(next(iter(named.values)))
    else:
        value = PLAIN[named.name]
    return [value] if "[" in str(type_) else value


def planted(type_: GraphQLInputType, depth: int = 0, visited: set[str] | None = None) -> Iterator[Any]:
    """Values with the canary at one place each: every place of a type, and unexpected ones.

    Filters nest in each other: every input type is visited once, where it is found first.
    """
    visited = set() if visited is None else visited
    # Filters have hundreds of places: the deeper a place is nested, the fewer shapes are tried.
    yield from SHAPES if depth < 2 else SHAPES[:1] + SHAPES[4:6]
    named = get_named_type(type_)
    if is_input_object_type(named) and named.name not in visited:
        visited.add(named.name)
        whole = good(named)
        yield {**whole, CANARY: "x"}
        for name, field in named.fields.items():
            for value in planted(field.type, depth + 1, visited):
                yield {**whole, name: [value] if str(field.type).startswith("[") else value}


def places(schema: GraphQLSchema) -> Iterator[Place]:
    for root in (schema.query_type, schema.mutation_type):
        assert root is not None
        for name, field in root.fields.items():
            needed = {each: good(given.type) for each, given in field.args.items() if is_required_argument(given)}
            selection = "{ __typename }" if is_composite_type(get_named_type(field.type)) else ""
            for argument, given in field.args.items():
                others = {each: value for each, value in needed.items() if each != argument}
                values = list(planted(given.type))
                yield Place(root.name.lower(), name, argument, str(given.type), others, values, selection)


def silent(answer: Answer) -> None:
    body = answer.body
    assert CANARY not in json.dumps(body.get("errors")), json.dumps(body["errors"])[:500]
    assert CANARY not in str(answer.response.headers)


@pytest.fixture(scope="module")
async def planted_api(
    cluster: Cluster, server: asyncpg.Connection, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """A separate server for this module, with an endpoint for staff: some of the planted values are stored."""
    settings = admitting(DEFAULTS.model_copy(update={"data_dir": tmp_path_factory.mktemp("planted")}))
    async with copied(cluster, server) as copy, serving(copy, settings) as api:
        yield api


TENANTS = list(places(model.schema))
STAFF = list(places(administration._schema))


async def plant(place: Place, ask: Callable[..., Awaitable[Answer]]) -> int:
    """Plant the canary by variables and by literals; return how many answers have errors."""
    wrong = 0
    for value in place.values:
        document, variables = place.by_variable(value)
        for answer in (await ask(document, variables), await ask(place.by_literal(value))):
            silent(answer)
            wrong += "errors" in answer.body
    for answer in (await ask(document), await ask(place.by_literal(Name(CANARY)))):
        silent(answer)
        wrong += "errors" in answer.body
    return wrong


@pytest.mark.parametrize("place", TENANTS, ids=lambda place: f"{place.field}.{place.argument}")
async def test_no_value_of_an_argument(planted_api: Api, place: Place) -> None:
    """One strategy is enough: the messages come from before the strategy, or from rules that do not depend on it."""
    client = planted_api.client("rls-a")
    with logged() as log:
        assert await plant(place, client.ask)
    assert CANARY not in log.getvalue()


@pytest.mark.parametrize("place", STAFF, ids=lambda place: f"{place.field}.{place.argument}")
async def test_no_value_of_an_argument_of_administration(planted_api: Api, place: Place) -> None:
    headers = {"authorization": f"Bearer {token()}", "accept": GRAPHQL_JSON, "content-type": "application/json"}

    async def ask(document: str, variables: Mapping[str, Any] | None = None) -> Answer:
        content = json.dumps({"query": document, "variables": variables})
        return Answer(await planted_api.http.post(ADMIN, content=content, headers=headers))

    with logged() as log:
        assert await plant(place, ask)
    assert CANARY not in log.getvalue()


@pytest.mark.parametrize("strategy", ["rls-a", "schema-a"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
async def test_no_value_of_the_documents_that_clients_have(planted_api: Api, strategy: str, name: str) -> None:
    client = planted_api.client(strategy)
    variables = ("input", "id", "ids", "first", "after", "filter", "orderBy", "last", "before", "n")
    with logged() as log:
        for value in SHAPES:
            silent(await client.run(name, **dict.fromkeys(variables, value)))
    assert CANARY not in log.getvalue()


DOCUMENTS = [
    f"{{ {CANARY} }}",
    f"{{ viewer {{ {CANARY} }} }}",
    f"{{ viewer({CANARY}: 1) {{ roles }} }}",
    f"{{ viewer @{CANARY} {{ roles }} }}",
    f"{{ viewer @include({CANARY}: true) {{ roles }} }}",
    f'{{ viewer @include(if: "{CANARY}") {{ roles }} }}',
    f"{{ ...{CANARY} }}",
    f"{{ ... on {CANARY} {{ roles }} }}",
    f"{{ viewer {{ roles }} }} fragment {CANARY} on Query {{ __typename }}",
    f"fragment {CANARY} on Query {{ ...{CANARY} }} {{ ...{CANARY} }}",
    f"query {CANARY} {{ viewer }}",
    f"query {CANARY} {{ __typename }} query {CANARY} {{ __typename }}",
    f"query ($a: {CANARY}) {{ viewer {{ roles }} }}",
    f"query ($a: [{CANARY}!]!) {{ resources(first: $a) {{ totalCount }} }}",
    f'query ($a: Int = "{CANARY}") {{ resources(first: $a) {{ totalCount }} }}',
    f"{{ resources(first: ${CANARY}) {{ totalCount }} }}",
    f"{{ resources(filter: {{{CANARY}: {{}}}}) {{ totalCount }} }}",
    f"{{ a: viewer {{ roles }} a: resources {{ totalCount }} }} # {CANARY}",
    f'{{ node(id: {{a: "{CANARY}"}}) {{ id }} }}',
    f'mutation {{ signIn(input: {{login: "a", password: "b" {CANARY}"}}) {{ session {{ expiresAt }} }} }}',
    f'mutation {{ signIn(input: {{login: "a", password: "b", {CANARY}: "c"}}) {{ session {{ expiresAt }} }} }}',
    f'mutation {{ signIn(input: {{login: "a", password: "{CANARY}) {{ session {{ expiresAt }} }} }}',
    f'mutation {{ signIn(input: {{login: "a", password: """{CANARY}) {{ session {{ expiresAt }} }} }}',
    f'mutation {{ signIn(input: {{login: "a", password: "\\u{CANARY}"}}) {{ session {{ expiresAt }} }} }}',
    f"mutation {{ signIn(input: {{login: 'a', password: '{CANARY}'}}) {{ session {{ expiresAt }} }} }}",
    f"mutation {{ signIn(input: {{login: 1, password: 1.{CANARY}}}) {{ session {{ expiresAt }} }} }}",
    f'mutation {{ createSpan(input: {{title: "x", payload: {{n: 1e999999999, v: "{CANARY}"}}}}) {{ __typename }} }}',
    f'mutation ($a: Int!) {{ createResource(input: {{name: "x", data: {{{CANARY}: $a}}}}) {{ __typename }} }}',
    f'{{ resources "{CANARY}" }}',
    f'"{CANARY}"',
    f'"""{CANARY}""" type Query {{ a: Int }}',
    f"subscription {CANARY} {{ {CANARY} }}",
    f"{CANARY}",
]


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_no_value_or_name_of_a_document(planted_api: Api, document: str) -> None:
    client = planted_api.client("rls-a")
    anonymous = Client(client.http, client.tenant, {n: v for n, v in client.headers.items() if n != "authorization"})
    with logged() as log:
        for who in (client, anonymous):
            answer = await who.ask(document)
            assert "errors" in answer.body
            silent(answer)
    assert CANARY not in log.getvalue()


BODIES: list[bytes] = [
    f'{{"query": "{CANARY}'.encode(),
    f"{CANARY}".encode(),
    f'"{CANARY}"'.encode(),
    f'["{CANARY}"]'.encode(),
    f'{{"query": ["{CANARY}"]}}'.encode(),
    f'{{"query": "{{ __typename }}", "variables": "{CANARY}"}}'.encode(),
    f'{{"query": "{{ __typename }}", "operationName": "{CANARY}"}}'.encode(),
    f'{{"query": "{{ __typename }}", "operationName": ["{CANARY}"]}}'.encode(),
    f'{{"query": "{{ __typename }}", "extensions": "{CANARY}"}}'.encode(),
    f'{{"extensions": {{"persistedQuery": {{"sha256Hash": "{CANARY}"}}}}}}'.encode(),
    f'{{"extensions": {{"persistedQuery": "{CANARY}"}}}}'.encode(),
    f'{{"query": "{{ __typename }}", "extensions": {{"persistedQuery": {{"sha256Hash": "{CANARY}"}}}}}}'.encode(),
    f'{{"query": "\xff{CANARY}"}}'.encode("latin-1"),
]
HEADERS = [
    {"content_type": CANARY},
    {"accept": CANARY},
    {"content_encoding": CANARY},
    {"authorization": CANARY},
    {"authorization": f"Bearer {CANARY}"},
    {"authorization": f"Bearer {CANARY}.{CANARY}.{CANARY}"},
    {"authorization": f"Basic {CANARY}"},
    {"x_api_key": f"isk_{CANARY}"},
    {"x_tenant_id": CANARY},
    {"host": CANARY},
]


async def test_no_value_of_an_invalid_request(planted_api: Api) -> None:
    client = planted_api.client("rls-a")
    with logged() as log:
        for body in BODIES:
            answer = await client.send(body)
            assert "errors" in answer.body, body
            silent(answer)
        for headers in HEADERS:
            silent(await client.send('{"query": "{ __typename }"}', **headers))
        for query in (f"query={CANARY}", f"variables={CANARY}", f"query={{__typename}}&extensions={CANARY}"):
            silent(Answer(await client.http.get(f"/graphql?{query}", headers=client.headers)))
    assert CANARY not in log.getvalue()
