"""Lists in the order of a language, under each strategy: tests/subjects/test_languages.py runs this."""

import json
from typing import Any

import pytest
from graphql.execution.values import VariableValues

from isola.api.execute import Executor
from isola.api.schema import model
from isola.api.undescribed import undescribed
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.query.read_plan import ReadPlan
from isola.testing.served import Client
from isola_strategies.base import Strategy
from tests.api.conftest import Principal, uuid
from tests.api.test_plans import nodes

CREATE = "mutation ($items: [CreateSparrowInput!]!) { createSparrows(input: {items: $items}) { createdIds } }"
PAGE = """query ($by: [SparrowOrder!], $first: Int, $last: Int, $after: String, $before: String, $f: SparrowFilter) {
  sparrows(orderBy: $by, first: $first, last: $last, after: $after, before: $before, filter: $f) {
    nodes { id name song } totalCount
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    edges { cursor } } }"""
GERMAN = ["adler", "Adler", "adler", "ål", "Ärla", "Olm", "oriole", "Östersund", "Zebra"]
SWEDISH = ["adler", "Adler", "adler", "Olm", "oriole", "Zebra", "ål", "Ärla", "Östersund"]
SONGS = ["é", "e", None, "f", "É", None, "ea", None, "z"]
PORTUGUESE = ["e", "é", "É", "ea", "f", "z"]


@pytest.fixture
async def sparrows(alice: Client) -> Client:
    items = [{"name": name, "song": song} for name, song in zip(reversed(GERMAN), SONGS, strict=True)]
    made = await alice.ask(CREATE, {"items": items})
    assert len(made.data["createSparrows"]["createdIds"]) == len(items)
    return alice


def by(field: str, language: str | None, **more: str) -> dict[str, str]:
    return {"field": field, **({} if language is None else {"language": language}), **more}


async def page(client: Client, *order: dict[str, str], **arguments: Any) -> dict[str, Any]:
    answer = await client.ask(PAGE, {"by": list(order), **arguments})
    sparrows: dict[str, Any] = answer.data["sparrows"]
    return sparrows


async def listed(client: Client, *order: dict[str, str]) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await page(client, *order))["nodes"]
    return nodes


def test_all_of_the_schema_is_described() -> None:
    assert undescribed(model.schema) == []


@pytest.mark.parametrize(("language", "expected"), [("de", GERMAN), ("sv", SWEDISH)])
async def test_each_language_has_its_own_order(sparrows: Client, language: str, expected: list[str]) -> None:
    names = [each["name"] for each in await listed(sparrows, by("NAME", language))]
    assert [name.lower() for name in names] == [name.lower() for name in expected]
    backwards = [each["name"] for each in await listed(sparrows, by("NAME", language, direction="DESC"))]
    assert backwards == names[::-1]


async def test_without_a_language_the_order_is_that_of_the_database(sparrows: Client) -> None:
    names = [each["name"] for each in await listed(sparrows, by("NAME", None))]
    assert names == [each["name"] for each in await listed(sparrows, {"field": "NAME"})]


@pytest.mark.parametrize(
    ("direction", "nulls", "first"),
    [("ASC", None, False), ("DESC", None, True), ("ASC", "FIRST", True), ("DESC", "LAST", False)],
)
async def test_rows_without_a_value_are_where_they_are_asked_for(
    sparrows: Client, direction: str, nulls: str | None, *, first: bool
) -> None:
    more = {"direction": direction} | ({} if nulls is None else {"nulls": nulls})
    songs = [each["song"] for each in await listed(sparrows, by("SONG", "pt-BR", **more))]
    expected = PORTUGUESE if direction == "ASC" else PORTUGUESE[::-1]
    assert songs == ([None] * 3 + expected if first else [*expected, *[None] * 3])


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(
    "order",
    [
        [by("NAME", "de")],
        [by("NAME", "sv", direction="DESC")],
        [by("SONG", "pt-BR")],
        [by("SONG", "pt-BR", nulls="FIRST")],
        [by("SONG", "pt-BR", direction="DESC", nulls="LAST"), by("NAME", "sv")],
        [by("NEST", None), by("NAME", "de", direction="DESC")],
    ],
)
async def test_pages_follow_each_other_in_both_directions(
    sparrows: Client, order: list[dict[str, str]], size: int
) -> None:
    every = [each["id"] for each in await listed(sparrows, *order)]
    assert len(set(every)) == len(every) == len(GERMAN)
    for size_, cursor, end, more in (
        ("first", "after", "endCursor", "hasNextPage"),
        ("last", "before", "startCursor", "hasPreviousPage"),
    ):
        found: list[str] = []
        at: dict[str, Any] = {}
        while True:
            part = await page(sparrows, *order, **{size_: size}, **at)
            ids = [each["id"] for each in part["nodes"]]
            found = [*found, *ids] if size_ == "first" else [*ids, *found]
            if not part["pageInfo"][more]:
                break
            at = {cursor: part["pageInfo"][end]}
        assert found == every, size_


async def test_a_cursor_is_for_the_language_that_it_was_made_for(sparrows: Client) -> None:
    cursor = (await page(sparrows, by("NAME", "de"), first=1))["pageInfo"]["endCursor"]
    for other in (by("NAME", "sv"), by("NAME", None)):
        answer = await sparrows.ask(PAGE, {"by": [other], "after": cursor})
        assert answer.code == "BAD_USER_INPUT"
        assert answer.error["extensions"]["field"] == "after"


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (by("NAME", "fr"), "orderBy.0.language: expected one of de, sv, for the field NAME"),
        (by("NAME", "DE"), "orderBy.0.language: expected one of de, sv, for the field NAME"),
        (by("NAME", ""), "orderBy.0.language: expected one of de, sv, for the field NAME"),
        (by("NAME", 'de"; DROP'), "orderBy.0.language: expected one of de, sv, for the field NAME"),
        (by("SONG", "de"), "orderBy.0.language: expected one of pt-BR, for the field SONG"),
        (by("NEST", "de"), "orderBy.0.language: expected none, for the field NEST"),
        (by("ID", "de"), "orderBy.0.language: expected none, for the field ID"),
    ],
)
async def test_a_language_that_the_field_does_not_have_is_refused(
    alice: Client, order: dict[str, str], expected: str
) -> None:
    answer = await alice.ask(PAGE, {"by": [order]})
    assert (answer.code, answer.error["message"]) == ("BAD_USER_INPUT", expected)
    assert answer.error["extensions"]["field"] == "orderBy.0.language"


async def test_the_log_has_each_text_once(sparrows: Client) -> None:
    log = await sparrows.ask('{ auditLog(first: 1, filter: {action: {eq: "sparrow:create"}}) { nodes { new } } }')
    [entry] = log.data["auditLog"]["nodes"]
    assert "adler" in json.dumps(entry)
    assert "sorted" not in json.dumps(entry)


async def test_an_index_serves_the_order(control: Database, database: Database, strategy: Strategy) -> None:
    tenant = await provisioning.named(control, f"{strategy.name}-a")
    async with database.transaction(tenant) as work:
        await work.script("INSERT INTO sparrows (name) SELECT 'sparrow ' || i FROM generate_series(1, 20000) i")
    document = '{ sparrows(first: 20, orderBy: [{field: NAME, language: "de"}]) { nodes { name } } }'
    executor = Executor(model, secret=b"x")
    plan = executor.compiler.plans(executor.documents.find(document).operation(None), {})
    assert isinstance(plan, ReadPlan)
    reading = executor.compiler.read(plan, VariableValues({}, {}), Principal(tenant, uuid(0, 0)))
    async with database.transaction(tenant, read_only=True) as work:
        written = executor.compiler.statement(reading, work.strategy)
        values = written.arguments(reading.caller, (), reading.values)
        found = await work.value("EXPLAIN (ANALYZE, FORMAT JSON) " + written.sql, *values)
    [explained] = json.loads(found) if isinstance(found, str) else found
    [read] = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") == "sparrows"]
    assert read["Index Name"] == "ix_sparrows_name_sorted_de_id"
    assert read["Actual Rows"] <= 21
    assert "Sort" not in {node["Node Type"] for node in nodes(explained["Plan"])}
