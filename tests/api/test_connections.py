"""Pages: in any order, paging forward and backward returns every row once, in that order."""

from itertools import pairwise
from typing import Any

import pytest

from tests.api.conftest import Caller

PAGE = """
query ($first: Int, $after: String, $last: Int, $before: String, $orderBy: [ResourceOrder!], $filter: ResourceFilter) {
  resources(first: $first, after: $after, last: $last, before: $before, orderBy: $orderBy, filter: $filter) {
    totalCount
    edges { cursor node { id name kind sizeBytes createdAt } }
    nodes { id }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  }
}
"""
ORDERS = [
    None,
    ["ID DESC"],
    ["NAME ASC"],
    ["NAME DESC"],
    ["KIND ASC"],
    ["KIND DESC"],
    ["CREATED_AT DESC"],
    ["KIND ASC", "NAME DESC"],
    ["KIND DESC", "SIZE_BYTES ASC", "NAME ASC"],
    ["SIZE_BYTES DESC", "KIND DESC"],
    ["SIZE_BYTES ASC", "KIND ASC", "ID DESC"],
    ["CREATED_AT ASC", "KIND DESC", "NAME ASC"],
    ["KIND ASC", "KIND DESC"],
    ["KIND ASC FIRST"],
    ["KIND DESC LAST"],
    ["KIND DESC FIRST", "NAME ASC FIRST"],
    ["SIZE_BYTES ASC", "KIND ASC FIRST"],
    ["KIND DESC LAST", "CREATED_AT DESC", "NAME ASC"],
]


def order_by(order: list[str] | None) -> list[dict[str, str]] | None:
    if order is None:
        return None
    return [dict(zip(("field", "direction", "nulls"), each.split(), strict=False)) for each in order]


async def page(a: Caller, **variables: Any) -> dict[str, Any]:
    answer = await a.ask(PAGE, variables)
    found: dict[str, Any] = answer.data["resources"]
    assert [edge["node"]["id"] for edge in found["edges"]] == [node["id"] for node in found["nodes"]]
    cursors = [edge["cursor"] for edge in found["edges"]]
    assert found["pageInfo"]["startCursor"] == (cursors[0] if cursors else None)
    assert found["pageInfo"]["endCursor"] == (cursors[-1] if cursors else None)
    assert found["totalCount"] == 40
    return found


def keys(found: dict[str, Any]) -> list[str]:
    return [node["id"] for node in found["nodes"]]


@pytest.mark.parametrize("order", ORDERS)
async def test_walks_meet_every_row_once(a: Caller, order: list[str] | None) -> None:
    whole = await page(a, first=100, orderBy=order_by(order))
    assert len(set(keys(whole))) == 40
    forward: list[str] = []
    cursor = None
    while True:
        found = await page(a, first=7, after=cursor, orderBy=order_by(order))
        assert found["pageInfo"]["hasPreviousPage"] == (cursor is not None)
        forward += keys(found)
        if not found["pageInfo"]["hasNextPage"]:
            break
        cursor = found["pageInfo"]["endCursor"]
    assert forward == keys(whole)
    backward: list[str] = []
    cursor = None
    while True:
        found = await page(a, last=9, before=cursor, orderBy=order_by(order))
        assert found["pageInfo"]["hasNextPage"] == (cursor is not None)
        backward = keys(found) + backward
        if not found["pageInfo"]["hasPreviousPage"]:
            break
        cursor = found["pageInfo"]["startCursor"]
    assert backward == keys(whole)


@pytest.mark.parametrize("order", ORDERS)
async def test_between_two_cursors(a: Caller, order: list[str] | None) -> None:
    whole = await page(a, first=100, orderBy=order_by(order))
    cursors = [edge["cursor"] for edge in whole["edges"]]
    for low, high in [(3, 20), (0, 39), (10, 11), (20, 3)]:
        after, before = cursors[low], cursors[high]
        between = keys(whole)[low + 1 : high]
        found = await page(a, first=5, after=after, before=before, orderBy=order_by(order))
        assert keys(found) == between[:5]
        found = await page(a, last=5, after=after, before=before, orderBy=order_by(order))
        assert keys(found) == between[-5:]


async def test_null_sorts_as_the_largest(a: Caller) -> None:
    kinds = [edge["node"]["kind"] for edge in (await page(a, first=100, orderBy=order_by(["KIND ASC"])))["edges"]]
    nulls = kinds.count(None)
    assert 0 < nulls < 40
    assert kinds[-nulls:] == [None] * nulls
    assert all(one <= other for one, other in pairwise(kinds[:-nulls]))


@pytest.mark.parametrize(("order", "first"), [("ASC FIRST", True), ("DESC LAST", False), ("ASC LAST", False)])
async def test_null_sorts_where_it_is_asked_for(a: Caller, order: str, first: bool) -> None:  # noqa: FBT001  pytest passes it by name
    kinds = [edge["node"]["kind"] for edge in (await page(a, first=100, orderBy=order_by([f"KIND {order}"])))["edges"]]
    given = [kind for kind in kinds if kind is not None]
    nulls: list[str | None] = [None] * (len(kinds) - len(given))
    assert given == sorted(given, reverse=order.startswith("DESC"))
    assert kinds == (nulls + given if first else given + nulls)


async def test_default_page_and_order(a: Caller) -> None:
    found = await page(a)
    assert len(found["nodes"]) == 20
    assert keys(found) == sorted(keys(found))
    timeline = await a.ask("{ timeline { nodes { id createdAt } } }")
    moments = [(node["createdAt"], node["id"]) for node in timeline.data["timeline"]["nodes"]]
    assert moments == sorted(moments, reverse=True)


async def test_empty_pages(a: Caller) -> None:
    found = await page(a, first=0)
    assert found["edges"] == []
    assert found["pageInfo"] == {
        "hasNextPage": True,
        "hasPreviousPage": False,
        "startCursor": None,
        "endCursor": None,
    }
    for nothing in ("first: 0", "last: 0"):
        answer = await a.ask(f"{{ resources({nothing}) {{ pageInfo {{ startCursor endCursor }} }} }}")
        assert answer.data["resources"]["pageInfo"] == {"startCursor": None, "endCursor": None}
    last = (await page(a, last=1))["pageInfo"]["endCursor"]
    assert (await page(a, first=5, after=last))["pageInfo"]["hasNextPage"] is False


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"first": -1}, "first"),
        ({"first": 101}, "first"),
        ({"first": 10**9}, "first"),
        ({"last": -1}, "last"),
        ({"last": 101}, "last"),
        ({"first": 1, "last": 1}, "first and last"),
        ({"after": ""}, "after"),
        ({"after": "e"}, "after"),
        ({"before": "W10"}, "before"),
        ({"after": "é" * 20}, "after"),
        ({"after": "\ud800"}, "after"),
        ({"after": "x" * 100_000}, "after"),
    ],
)
async def test_arguments_that_make_no_sense(a: Caller, arguments: dict[str, Any], named: str) -> None:
    answer = await a.ask(PAGE, arguments)
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["message"].startswith(named)
    assert (answer.error["path"], answer.error["extensions"]["field"]) == (["resources"], named.rpartition(" ")[2])
    assert (answer.status, answer.body["data"], answer.transactions) == (200, {"resources": None}, 0)


async def test_cursors_are_good_in_their_place_only(a: Caller, b: Caller) -> None:
    mine = (await page(a, first=1, orderBy=order_by(["NAME ASC"])))["pageInfo"]["endCursor"]

    async def refused(caller: Caller, document: str = PAGE, **variables: Any) -> None:
        answer = await caller.ask(document, variables)
        assert answer.code == "BAD_USER_INPUT"
        assert "after" in answer.error["message"]
        assert answer.transactions == 0

    assert keys(await page(a, first=1, after=mine, orderBy=order_by(["NAME ASC"])))
    # Another user of the tenant may use the cursor.
    assert keys(await page(a.being(1), first=1, after=mine, orderBy=order_by(["NAME ASC"])))
    await refused(b, after=mine, orderBy=order_by(["NAME ASC"]))
    await refused(a, after=mine)
    await refused(a, after=mine, orderBy=order_by(["NAME DESC"]))
    await refused(a, after=mine, orderBy=order_by(["NAME ASC"]), filter={"name": {"gt": "A"}})
    await refused(a, "query ($after: String) { users(after: $after) { totalCount } }", after=mine)
    for index in range(len(mine)):
        edited = mine[:index] + ("A" if mine[index] != "A" else "B") + mine[index + 1 :]
        await refused(a, after=edited, orderBy=order_by(["NAME ASC"]))
    await refused(a, after=mine + "=", orderBy=order_by(["NAME ASC"]))
    await refused(a, after=mine[:-1], orderBy=order_by(["NAME ASC"]))


async def test_a_filtered_walk(a: Caller) -> None:
    filter_ = {"or": [{"kind": {"isNull": True}}, {"sizeBytes": {"gte": 77}}]}
    order = order_by(["KIND DESC"])
    answer = await a.ask(PAGE, {"first": 100, "filter": filter_, "orderBy": order})
    whole = answer.data["resources"]
    found: list[str] = []
    cursor = None
    while True:
        answer = await a.ask(PAGE, {"first": 4, "after": cursor, "filter": filter_, "orderBy": order})
        found += keys(answer.data["resources"])
        cursor = answer.data["resources"]["pageInfo"]["endCursor"]
        if not answer.data["resources"]["pageInfo"]["hasNextPage"]:
            break
    assert found == keys(whole)
    assert 0 < whole["totalCount"] < 40


async def test_only_selected_fields_are_computed(a: Caller) -> None:
    answer = await a.ask("{ resources { n: totalCount __typename pageInfo { __typename } } }")
    assert answer.text == (
        '{"data":{"resources":{"n":40,"__typename":"ResourceConnection","pageInfo":{"__typename":"PageInfo"}}}}'
    )
    answer = await a.ask("{ resources(last: 2) { edges { __typename } a: pageInfo { hasPreviousPage } } }")
    assert answer.data["resources"]["edges"] == [{"__typename": "ResourceEdge"}] * 2
    assert answer.data["resources"]["a"] == {"hasPreviousPage": True}
