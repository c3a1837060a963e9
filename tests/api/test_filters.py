"""Each comparison against the result of Python for the same rows."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from sqlalchemy import delete, insert

from isola.api.execute import Executor
from isola.api.schema import model
from isola.query.effort import Effort
from isola.subjects.organizations import organizations
from isola.testing.fixtures import STRATEGIES
from tests.api.conftest import SECRET, Caller, Principal, World, ids, uuid

QUERY = """query ($filter: ResourceFilter) { resources(first: 100, filter: $filter) {
  totalCount nodes { id name kind sizeBytes createdAt owner { id } } } }"""
Node = dict[str, Any]
BIG = 2**53 - 1

CASES: list[tuple[dict[str, Any], Callable[[Node], bool]]] = [
    ({}, lambda _: True),
    ({"name": {"eq": "Ada"}}, lambda n: n["name"] == "Ada"),
    ({"name": {"in": ["Ada", "ada", "漢字", "O'Neil"]}}, lambda n: n["name"] in {"Ada", "ada", "漢字", "O'Neil"}),
    ({"name": {"in": []}}, lambda _: False),
    ({"name": {"contains": "_%"}}, lambda n: "_%" in n["name"]),
    ({"name": {"contains": "\\"}}, lambda n: "\\" in n["name"]),
    ({"name": {"contains": "'"}}, lambda n: "'" in n["name"]),
    ({"name": {"startsWith": "A"}}, lambda n: n["name"].startswith("A")),
    ({"name": {"startsWith": "_"}}, lambda n: n["name"].startswith("_")),
    ({"name": {"startsWith": ""}}, lambda _: True),
    ({"name": {"startsWith": "漢"}}, lambda n: n["name"].startswith("漢")),
    ({"name": {"startsWith": "%"}}, lambda n: n["name"].startswith("%")),
    ({"name": {"startsWith": "\U0010ffff"}}, lambda n: n["name"].startswith("\U0010ffff")),
    ({"not": {"name": {"startsWith": "A"}}}, lambda n: not n["name"].startswith("A")),
    ({"kind": {"startsWith": "im"}}, lambda n: (n["kind"] or "").startswith("im")),
    ({"kind": {"isNull": True}}, lambda n: n["kind"] is None),
    ({"kind": {"isNull": False}}, lambda n: n["kind"] is not None),
    ({"not": {"kind": {"eq": "image"}}}, lambda n: n["kind"] != "image"),
    ({"not": {"not": {"kind": {"eq": "image"}}}}, lambda n: n["kind"] == "image"),
    ({"not": {}}, lambda _: False),
    ({"or": []}, lambda _: False),
    ({"and": []}, lambda _: True),
    ({"and": [{}, {"or": [{}]}]}, lambda _: True),
    ({"sizeBytes": {"gt": 1}}, lambda n: n["sizeBytes"] > 1),
    ({"sizeBytes": {"gte": 1, "lt": BIG}}, lambda n: 1 <= n["sizeBytes"] < BIG),
    ({"sizeBytes": {"lte": "77"}}, lambda n: n["sizeBytes"] <= 77),
    ({"sizeBytes": {"eq": BIG}}, lambda n: n["sizeBytes"] == BIG),
    ({"sizeBytes": {"in": [0, 77]}}, lambda n: n["sizeBytes"] in {0, 77}),
    (
        {"createdAt": {"gte": "2026-01-01T00:10:00+00:00"}},
        lambda n: n["createdAt"] >= "2026-01-01T00:10:00",
    ),
    (
        {"createdAt": {"lt": "2026-01-01T05:40:00+05:30"}},
        lambda n: n["createdAt"] < "2026-01-01T00:10:00",
    ),
    ({"ownerId": {"eq": ids("usr", 2)}}, lambda n: n["owner"]["id"] == ids("usr", 2)),
    ({"id": {"in": [ids("res", 3), ids("res", 99)]}}, lambda n: n["id"] == ids("res", 3)),
    (
        {"or": [{"kind": {"eq": "text"}}, {"name": {"eq": "Ada"}}], "sizeBytes": {"lt": 77}},
        lambda n: (n["kind"] == "text" or n["name"] == "Ada") and n["sizeBytes"] < 77,
    ),
    (
        {"and": [{"not": {"kind": {"in": ["text", "image"]}}}, {"or": [{"sizeBytes": {"eq": 0}}, {"not": {}}]}]},
        lambda n: n["kind"] not in {"text", "image"} and n["sizeBytes"] == 0,
    ),
]


@pytest.fixture(scope="module")
def executors() -> dict[bool, Executor]:
    """By whether the database is known to sort by code points, as that of the tests does."""
    return {
        known: Executor(model, secret=SECRET, effort=Effort(rate=1), by_code_point=known) for known in (False, True)
    }


@pytest.mark.parametrize("by_code_point", [False, True])
@pytest.mark.parametrize(("filter_", "holds"), CASES)
async def test_comparisons(
    a: Caller,
    filter_: dict[str, Any],
    holds: Callable[[Node], bool],
    executors: dict[bool, Executor],
    by_code_point: bool,  # noqa: FBT001  pytest passes it by name
) -> None:
    a = a.using(executors[by_code_point])
    every = (await a.ask(QUERY)).data["resources"]["nodes"]
    found = (await a.ask(QUERY, {"filter": filter_})).data["resources"]
    assert found["nodes"] == [node for node in every if holds(node)]
    assert found["totalCount"] == len(found["nodes"])


async def test_literals_are_as_good_as_variables(a: Caller) -> None:
    answer = await a.ask(
        """query ($kinds: [String!], $name: String!) { resources(first: 100, filter: {
             kind: {in: $kinds}, or: [{name: {startsWith: $name}}, {sizeBytes: {eq: "0"}}]}) { totalCount } }""",
        {"kinds": ["image", "text"], "name": "A"},
    )
    given = {"kind": {"in": ["image", "text"]}, "or": [{"name": {"startsWith": "A"}}, {"sizeBytes": {"eq": 0}}]}
    assert (
        answer.data["resources"]["totalCount"]
        == (await a.ask(QUERY, {"filter": given})).data["resources"]["totalCount"]
    )


async def test_enums_are_compared_by_their_names(a: Caller) -> None:
    query = "query ($f: SpanFilter) { timeline(first: 100, filter: $f) { nodes { visibility } } }"
    answer = await a.ask(query, {"f": {"visibility": {"in": ["PUBLIC", "ORGANIZATION"]}}})
    assert {node["visibility"] for node in answer.data["timeline"]["nodes"]} == {"PUBLIC", "ORGANIZATION"}
    assert (await a.ask(query, {"f": {"visibility": {"eq": "public"}}})).code == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    ("filter_", "named"),
    [
        ({"name": None}, "filter.name"),
        ({"name": {"eq": None}}, "filter.name.eq"),
        ({"kind": {"in": None}}, "filter.kind.in"),
        ({"not": None}, "filter.not"),
        ({"and": [{"or": [{"name": {"lt": None}}]}]}, "filter.and.0.or.0.name.lt"),
        ({"id": {"eq": "nonsense"}}, "filter.id.eq"),
        ({"id": {"eq": ids("usr", 0)}}, "filter.id.eq"),
        ({"ownerId": {"in": [ids("usr", 0), ids("usr", 0).upper()]}}, "filter.ownerId.in.1"),
        ({"name": {"eq": "a\0b"}}, "filter.name.eq"),
        ({"name": {"contains": "\ud800"}}, "filter.name.contains"),
        ({"name": {"in": ["x"] * 1001}}, "filter.name.in"),
        ({"and": [{"name": {"eq": "x"}}] * 101}, "a filter"),
    ],
)
async def test_conditions_that_make_no_sense(a: Caller, filter_: dict[str, Any], named: str) -> None:
    answer = await a.ask(QUERY, {"filter": filter_})
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["message"].startswith(named)
    assert answer.transactions == 0


@pytest.mark.parametrize(
    "filter_",
    [
        {"nonsense": 1},
        {"name": "x"},
        {"sizeBytes": {"eq": "1.5"}},
        {"sizeBytes": {"eq": 2**53}},
        {"sizeBytes": {"eq": True}},
        {"createdAt": {"eq": "2026-01-01"}},
        {"createdAt": {"eq": "2026-01-01T00:00:00"}},
        {"createdAt": {"eq": "0001-01-01T00:00:00+14:00"}},
        {"createdAt": {"eq": 5}},
        "x",
        [[]],
    ],
)
async def test_values_of_the_wrong_type(a: Caller, filter_: object) -> None:
    answer = await a.ask(QUERY, {"filter": filter_})
    assert answer.code == "BAD_USER_INPUT"
    assert "$filter" in answer.error["message"]
    assert answer.transactions == 0


NAMES = (
    "Ada",
    "ADAM",
    "äther",
    "ÄTHER",
    "İzmir",
    "izmir",
    "ΣΊΣΥΦΟΣ",
    "a\U0010ffff\U0010ffffb",
    "a%",
    "straße",
    "STRASSE",
)
INSENSITIVE = "query ($f: OrganizationFilter) { organizations(first: 100, filter: $f) { nodes { name } totalCount } }"


def lower(text: str) -> str:
    """As the embedded database does it: each character becomes one other at most."""
    return "".join("i" if each == "İ" else each.lower() for each in text)


@pytest.fixture(scope="module", params=STRATEGIES)
async def named(request: pytest.FixtureRequest, world: World) -> AsyncIterator[Caller]:
    """A tenant with organizations of these names, which are gone afterwards."""
    a = world.tenants[f"{request.param}-a"]
    async with world.database.transaction(a) as work:
        new = [{"name": name, "name_key": f"key of {name}"} for name in NAMES]
        await work.execute(insert(organizations).values(new))
    yield Caller(world.database, Principal(a, uuid(0, 0)), Executor(model, secret=SECRET, effort=Effort(rate=1)))
    async with world.database.transaction(a) as work:
        await work.execute(delete(organizations).where(organizations.c.name_key.in_([f"key of {n}" for n in NAMES])))


@pytest.mark.parametrize(
    "given", ["", "ad", "ADA", "Ä", "iZ", "σίσυφοσ", "A\U0010ffff", "a%", "STRASSE", "_", "straße"]
)
async def test_comparisons_without_regard_to_case(named: Caller, given: str) -> None:
    every = [node["name"] for node in (await named.ask(INSENSITIVE)).data["organizations"]["nodes"]]
    assert set(NAMES) <= set(every)
    for comparison, holds in (("eqInsensitive", str.__eq__), ("startsWithInsensitive", str.startswith)):
        found = (await named.ask(INSENSITIVE, {"f": {"name": {comparison: given}}})).data["organizations"]
        assert [node["name"] for node in found["nodes"]] == [name for name in every if holds(lower(name), lower(given))]
        assert found["totalCount"] == len(found["nodes"])
        others = (await named.ask(INSENSITIVE, {"f": {"not": {"name": {comparison: given}}}})).data["organizations"]
        assert found["totalCount"] + others["totalCount"] == len(every)
