"""Documents: their limits, their hashes, and which of them are allowed."""

from asyncio import gather
from hashlib import sha256
from typing import Any

import pytest
from graphql import get_introspection_query

from isola.api.execute import Executor
from isola.api.schema import model
from isola.query.effort import Effort
from isola.query.limits import Limits
from tests.api.conftest import OPERATIONS, SECRET, Caller, ids
from tests.api.evil import EVIL

VIEWER = (OPERATIONS / "Viewer.graphql").read_text()


@pytest.mark.parametrize("name", EVIL)
async def test_an_operation_over_the_limits_is_refused_before_any_statement(a: Caller, name: str) -> None:
    answer = await a.ask(EVIL[name])
    assert answer.code == "BAD_USER_INPUT"
    assert len(answer.text) < 2000
    assert answer.transactions == 0


@pytest.mark.parametrize(
    ("document", "limit", "figure"),
    [
        ("101 aliases", "aliases", "101"),
        ("500 duplicated fields", "fields", "501"),
        ("51 repeats", "repeats", "51"),
        ("rows", "rows", "1010100"),
    ],
)
async def test_limits_are_named_with_the_figure(a: Caller, document: str, limit: str, figure: str) -> None:
    message = (await a.ask(EVIL[document])).error["message"]
    assert f"the limit of {limit} is " in message
    assert figure in message


async def test_rows_are_estimated_from_variables_too(a: Caller) -> None:
    document = """query ($n: Int) { resources(first: $n) { nodes { spans(first: $n) { nodes {
      author { organizations(first: $n) { nodes { name } } } } } } } }"""
    assert (await a.ask(document, {"n": 10})).data
    assert "the limit of rows" in (await a.ask(document, {"n": 100})).error["message"]


COUNTS = "{}: resources(first: 0) {{ totalCount }}"
FILTERED = 'b{}: resources(first: 1, filter: {{name: {{contains: "x"}}}}) {{ nodes {{ id }} }}'
SORTED = "b{}: resources(first: 1, orderBy: [{{field: SIZE_BYTES}}]) {{ nodes {{ id }} }}"
EMPTY = "b{}: resources(first: 0) {{ nodes {{ id }} }}"
BELOW = "{{ resources(first: {}) {{ nodes {{ spans(first: 0) {{ {} }} }} }} }}"


@pytest.mark.parametrize(
    ("document", "cost"),
    [
        ("{ resources(first: 50) { nodes { id } pageInfo { hasNextPage } } }", 50),
        (f"{{ {' '.join(COUNTS.format(f'a{n}') for n in range(100))} }}", 100 * 1001),
        (f"{{ resources {{ {' '.join(f'a{n}: totalCount' for n in range(60))} }} }}", 20 + 60 * 1000),
        (f"{{ {' '.join(FILTERED.format(n) for n in range(60))} }}", 60 * 1001),
        (f"{{ {' '.join(SORTED.format(n) for n in range(60))} }}", 60 * 1001),
        (f"{{ {' '.join(EMPTY.format(n) for n in range(60))} }}", 60),
        (BELOW.format(50, "totalCount"), 50 + 50 * 21),
        (BELOW.format(100, " ".join(f"a{n}: totalCount" for n in range(40))), 100 + 100 * (1 + 40 * 20)),
        ("{ resources(first: 0) { groups { kind { value } more: kind { count } ownerId { count } } } }", 1 + 3 * 1000),
        (BELOW.format(50, "groups { type { count } visibility { count } }"), 50 + 50 * 41),
        ('{ resource(id: "x") { id spans(first: 5) { nodes { id } } } }', 1 + 5),
    ],
)
async def test_scanned_rows_count_towards_the_cost(document: str, cost: int, a: Caller) -> None:
    enough = a.using(Executor(model, secret=SECRET, limits=Limits(rows=cost)))
    assert (await enough.ask(document)).data
    answer = await a.using(Executor(model, secret=SECRET, limits=Limits(rows=cost - 1))).ask(document)
    assert answer.code == "BAD_USER_INPUT"
    assert f"the limit of rows is {cost - 1}; this has {cost}" in answer.error["message"]
    assert answer.transactions == 0
    assert cost <= Limits().rows or (await a.ask(document)).code == "BAD_USER_INPUT"


async def test_the_usual_introspection_is_admitted(a: Caller) -> None:
    query = get_introspection_query(
        specified_by_url=True, directive_is_repeatable=True, schema_description=True, input_value_deprecation=True
    )
    assert (await a.ask(query)).data["__schema"]["queryType"]["name"] == "Query"


def persisted(text: str) -> dict[str, Any]:
    return {"persistedQuery": {"version": 1, "sha256Hash": sha256(text.encode()).hexdigest()}}


async def test_a_document_can_be_sent_by_its_hash(a: Caller) -> None:
    text = "{ viewer { roles } }"
    fresh = a.using(Executor(model, secret=SECRET))
    answer = await fresh.ask(None, extensions=persisted(text))
    assert answer.error["message"] == "PersistedQueryNotFound"
    assert answer.code == "PERSISTED_QUERY_NOT_FOUND"
    assert answer.transactions == 0
    assert (await fresh.ask(text, extensions=persisted(text))).data == {"viewer": {"roles": ["editor"]}}
    assert (await fresh.ask(None, extensions=persisted(text))).data == {"viewer": {"roles": ["editor"]}}


@pytest.mark.parametrize("extensions", [persisted("{ other }"), {"persistedQuery": 1}, {"persistedQuery": {}}])
async def test_hashes_that_are_none(a: Caller, extensions: dict[str, Any]) -> None:
    answer = await a.ask("{ __typename }", extensions=extensions)
    assert answer.code == "BAD_USER_INPUT"
    assert "sha256Hash" in answer.error["message"]


async def test_trusted_documents_only(a: Caller) -> None:
    closed = a.using(Executor(model, secret=SECRET, trusted=[VIEWER], trusted_only=True))
    assert (await closed.ask(VIEWER)).data
    assert (await closed.ask(None, extensions=persisted(VIEWER))).data
    answer = await closed.ask("{ __typename }")
    assert (answer.status, answer.code) == (403, "FORBIDDEN")
    assert (await closed.ask("{ __typename }", extensions=persisted("{ __typename }"))).code == "FORBIDDEN"
    assert (await closed.ask(None, extensions=persisted("{ __typename }"))).code == "PERSISTED_QUERY_NOT_FOUND"


async def test_the_cache_of_documents_is_bounded_by_bytes(a: Caller) -> None:
    executor = Executor(model, secret=SECRET, cache_bytes=600_000, effort=Effort(rate=1))
    a = a.using(executor)
    for index in range(100):
        answer = await a.ask(f"{{ resources(first: {index}) {{ nodes {{ id }} }} }} # {'x' * 100}")
        assert answer.data
        assert 0 < executor.documents.measures()["bytes"] <= 400_000
        assert 0 < executor.compiler.measures()["bytes"] <= 200_000
    first, last = (f"{{ resources(first: {index}) {{ nodes {{ id }} }} }} # {'x' * 100}" for index in (0, 99))
    assert (await a.ask(None, extensions=persisted(first))).code == "PERSISTED_QUERY_NOT_FOUND"
    assert (await a.ask(None, extensions=persisted(last))).data


async def test_a_flood_of_new_documents_drives_out_nobody_elses(a: Caller, b: Caller) -> None:
    executor = Executor(model, secret=SECRET, cache_bytes=600_000, effort=Effort(rate=1))
    a, b = a.using(executor), b.using(executor)
    theirs = "{ resources(first: 7) { nodes { name } } }"
    assert (await b.ask(theirs)).data
    planned = executor.compiler.measures()["plans"]
    for index in range(100):
        assert (await a.ask(f"{{ resources(first: {index}) {{ nodes {{ id }} }} }} # {'x' * 100}")).data
    assert executor.compiler.measures()["plans"] == planned + 100
    misses = executor.compiler.measures()["misses"]
    assert (await b.ask(None, extensions=persisted(theirs))).data
    assert executor.compiler.measures()["plans"] == planned + 100
    assert executor.compiler.measures()["misses"] == misses


WIDE = " ".join(
    f'r{n}: resources(first: 1, filter: {{name: {{eq: "?"}}}}) {{ nodes {{ id name }} }}' for n in range(45)
)


async def test_a_tenant_that_floods_new_documents_slows_down_only_itself(a: Caller, b: Caller) -> None:
    """A caller over its budget waits or gets a retry time. Others, and documents of others, are served as usual."""
    executor = Executor(model, secret=SECRET, effort=Effort(rate=0.001, burst=0.2))
    a, b = a.using(executor), b.using(executor)
    answers = await gather(*(a.ask(f"{{ {WIDE.replace('?', str(index))} }}") for index in range(60)))
    served = [answer for answer in answers if "errors" not in answer.body]
    refused = [answer for answer in answers if "errors" in answer.body]
    assert len(refused) > 20
    assert {(answer.status, answer.code) for answer in refused} <= {(429, "RATE_LIMITED"), (200, "RATE_LIMITED")}
    assert (await a.ask("{ viewer { roles } }")).code == "RATE_LIMITED"
    assert len(served) < 10
    assert (await b.ask("{ viewer { roles } }")).data
    assert (await b.ask(f"{{ {WIDE.replace('?', 'b')} }}")).data


async def test_nothing_of_a_caller_is_remembered(a: Caller, b: Caller) -> None:
    executor = Executor(model, secret=SECRET)
    document = (
        "query ($f: ResourceFilter, $id: ID!) { resources(filter: $f) { edges { cursor } } node(id: $id) { id } }"
    )
    for caller, name in ((a, "x"), (b, "y"), (a.being(3), "z")):
        await caller.using(executor).ask(document, {"f": {"name": {"gt": name}}, "id": ids("res", 1)})
    measures = executor.compiler.measures()
    assert measures["plans"] == 1
    assert measures["misses"] == 1
    assert measures["hits"] == 2
