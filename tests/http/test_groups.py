"""Numbers of rows by the values of a column, over HTTP: their limit, and live queries."""

from isola.testing.served import Client
from tests.http.listening import listening

CREATE = "mutation ($input: CreateResourcesInput!) { createResources(input: $input) { createdIds } }"
GROUPS = "{ resources(first: 0) { totalCount groups { kind { value count } ownerId { value count } } } }"


async def test_at_most_a_hundred_groups_are_returned_the_largest(alice: Client, bob: Client) -> None:
    kinds = [f"k{number:03}" for number in range(130)] + ["k129", "k129", "k007", None, None]
    items = [{"name": "n", "kind": kind} for kind in kinds]
    assert (await alice.ask(CREATE, {"input": {"items": items}})).data
    found = (await alice.ask(GROUPS)).data["resources"]
    groups = [(each["value"], each["count"]) for each in found["groups"]["kind"]]
    expected = [("k129", 3), ("k007", 2), (None, 2), *((f"k{number:03}", 1) for number in range(98) if number != 7)]
    assert groups == expected
    assert found["totalCount"] - sum(count for _, count in groups) == 31
    assert [each["count"] for each in found["groups"]["ownerId"]] == [135]
    # Another tenant's rows are in no group.
    assert (await bob.ask(GROUPS)).data["resources"] == {"totalCount": 0, "groups": {"kind": [], "ownerId": []}}


async def test_a_live_query_has_the_present_numbers(alice: Client) -> None:
    async with listening(alice) as listener:
        stream = await listener.subscribe("query @live { resources(first: 0) { groups { kind { count } } } }")
        assert await stream.next() == {"groups": {"kind": []}}
        await alice.create("one")
        assert await stream.next() == {"groups": {"kind": [{"count": 1}]}}
        await alice.create("two")
        assert await stream.next() == {"groups": {"kind": [{"count": 2}]}}
