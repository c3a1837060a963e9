"""Pages while rows change between them. A cursor is a position in an order: see docs/consistency.md."""

from collections import Counter
from collections.abc import AsyncIterator, Callable

import pytest

from isola.testing.served import Client

ROWS = 12
PAGE = """
query ($size: Int!, $after: String, $field: ResourceOrderField!) {
    resources(first: $size, after: $after, orderBy: [{field: $field}]) {
        nodes { id } pageInfo { hasNextPage endCursor }
    }
}
"""
BACK = """
query ($size: Int!, $before: String, $field: ResourceOrderField!) {
    resources(last: $size, before: $before, orderBy: [{field: $field}]) {
        nodes { id } pageInfo { hasPreviousPage startCursor }
    }
}
"""


async def forwards(client: Client, field: str) -> AsyncIterator[list[str]]:
    more, cursor = True, None
    while more:
        page = (await client.ask(PAGE, {"size": 4, "after": cursor, "field": field})).data["resources"]
        yield [node["id"] for node in page["nodes"]]
        more, cursor = page["pageInfo"]["hasNextPage"], page["pageInfo"]["endCursor"]


async def backwards(client: Client, field: str) -> AsyncIterator[list[str]]:
    more, cursor = True, None
    while more:
        page = (await client.ask(BACK, {"size": 4, "before": cursor, "field": field})).data["resources"]
        yield [node["id"] for node in page["nodes"]]
        more, cursor = page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["startCursor"]


async def rename(client: Client, id_: str, name: str) -> None:
    assert (await client.run("UpdateResource", input={"id": id_, "name": name})).data["updateResource"]


@pytest.mark.parametrize("walk", [forwards, backwards])
@pytest.mark.parametrize("field", ["CREATED_AT", "ID", "NAME"])
async def test_paging_returns_unchanged_rows_exactly_once_despite_concurrent_changes(
    alice: Client, field: str, walk: Callable[[Client, str], AsyncIterator[list[str]]]
) -> None:
    ids = [await alice.create(f"row {number:02}") for number in range(ROWS)]
    first, second, last, other = ids[0], ids[1], ids[-1], ids[-2]
    met: Counter[str] = Counter()
    async for page in walk(alice, field):
        if not met:
            # A row already read and one still unread move to the opposite ends; two rows are deleted, one is added.
            await rename(alice, first, "row 99")
            await rename(alice, last, "row")
            for gone in (second, other):
                assert (await alice.run("DeleteResource", input={"id": gone})).data["deleteResource"]
            await alice.create("row 06 and a half")
        met.update(page)

    kept = [id_ for id_ in ids if id_ not in {first, second, last, other}]
    assert [met[id_] for id_ in kept] == [1] * len(kept)
    moved = met[first], met[last]
    if field == "NAME":
        # The order depends on the changed column: a row moved ahead of the cursor repeats, one moved behind is missed.
        assert moved == ((2, 0) if walk is forwards else (0, 2))
    else:
        assert moved == (1, 1)
