"""Live queries: a query with @live is answered again whenever its response has changed."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from isola.platform import provisioning
from isola.testing.served import Api, Client
from isola_strategies.base import Strategy
from tests.http.listening import Ended, Stream, listening, streaming

PAGE = """query ($first: Int!) @live { resources(first: $first, orderBy: [{field: NAME}]) {
    totalCount nodes { name owner { name } } } }"""
SPANS = "query @live { timeline(first: 10) { nodes { title } } }"
RENAME = "mutation ($input: UpdateResourceInput!) { updateResource(input: $input) { resource { id } } }"
WRITE = "mutation ($input: CreateSpanInput!) { createSpan(input: $input) { span { id } } }"
SETTLED = 0.6
"""Seconds after which a response that was going to be sent has arrived."""


def names(page: Any) -> list[str]:
    return [node["name"] for node in page["nodes"]]


async def latest(stream: Stream) -> Any:
    """The last of the responses that have arrived: changes at the same moment may be in one or in several."""
    await asyncio.sleep(SETTLED)
    page = None
    while stream.waiting:
        page = await stream.next()
    return page


async def test_the_page_is_sent_again_when_it_has_changed_and_not_otherwise(alice: Client, bob: Client) -> None:
    async with listening(alice) as listener:
        stream = await listener.subscribe(PAGE, {"first": 2})
        assert await stream.next() == {"totalCount": 0, "nodes": []}
        made = await alice.create("b")
        assert names(await stream.next()) == ["b"]
        await alice.create("c")
        page = await stream.next()
        assert (page["totalCount"], names(page)) == (2, ["b", "c"])
        assert (await alice.ask(RENAME, {"input": {"id": made, "name": "d"}})).data
        assert names(await stream.next()) == ["c", "d"]
        # Neither another tenant's rows nor those that are not selected change the response.
        await bob.create("a")
        assert (await alice.ask(RENAME, {"input": {"id": made, "kind": "map"}})).data
        assert await latest(stream) is None


async def test_a_related_row_changes_the_page_as_well(api: Api, alice: Client) -> None:
    await alice.create("map")
    async with listening(alice) as listener:
        stream = await listener.subscribe(PAGE, {"first": 1})
        [node] = (await stream.next())["nodes"]
        tenant = await provisioning.named(api.control, alice.tenant)
        async with api.tenants.transaction(tenant) as work:
            await work.script("UPDATE users SET name = 'Alice Liddell'")
        assert (await stream.next())["nodes"] == [{**node, "owner": {"name": "Alice Liddell"}}]


async def test_each_user_gets_the_rows_that_they_may_see(ada: Client, eve: Client) -> None:
    async with listening(ada) as one, listening(eve) as other:
        streams = [await each.subscribe(SPANS) for each in (one, other)]
        for stream in streams:
            assert (await stream.next())["nodes"] == []
        assert (await ada.ask(WRITE, {"input": {"title": "private", "visibility": "PRIVATE"}})).data
        assert (await streams[0].next())["nodes"] == [{"title": "private"}]
        assert await latest(streams[1]) is None
        assert (await ada.ask(WRITE, {"input": {"title": "public", "visibility": "PUBLIC"}})).data
        assert (await streams[1].next())["nodes"] == [{"title": "public"}]


async def test_each_user_gets_what_concerns_themselves(api: Api, ada: Client, eve: Client) -> None:
    async with listening(ada) as one, listening(eve) as other:
        streams = [await each.subscribe("query @live { viewer { user { name } } }") for each in (one, other)]
        assert [(await each.next())["user"]["name"] for each in streams] == ["ada", "eve"]
        async with api.tenants.transaction(await provisioning.named(api.control, ada.tenant)) as work:
            await work.script("UPDATE users SET name = name || ' B.'")
        assert [(await each.next())["user"]["name"] for each in streams] == ["ada B.", "eve B."]


async def test_queries_with_other_variables_have_responses_of_their_own(ada: Client) -> None:
    """Python makes the response, from arguments that the statement does not have."""
    document = "query ($from: DateTime!, $to: DateTime!) @live { tenantStats(from: $from, to: $to) { spans } }"
    past, present = (
        {"from": f"{year}-01-01T00:00:00Z", "to": f"{year + 1}-01-01T00:00:00Z"}
        for year in (2001, datetime.now(UTC).year)
    )
    async with listening(ada) as listener:
        streams = [await listener.subscribe(document, variables) for variables in (past, present)]
        assert [(await each.next())["spans"] for each in streams] == [0, 0]
        assert (await ada.ask(WRITE, {"input": {"title": "t", "visibility": "PUBLIC"}})).data
        assert (await streams[1].next())["spans"] == 1
        assert await latest(streams[0]) is None


async def test_a_lowered_role_empties_the_response(api: Api, strategy: Strategy) -> None:
    olga, ada = (api.client(f"{strategy.name}-a", user) for user in ("olga", "ada"))
    listed = (await olga.ask("{ roles { nodes { id name } } }")).data["roles"]["nodes"]
    user = (await ada.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    async with streaming(ada, "query @live { apiKeys { totalCount } }") as events:
        assert (await anext(events))[1] == {"data": {"apiKeys": {"totalCount": 0}}}
        [admin] = [each["id"] for each in listed if each["name"] == "admin"]
        document = "mutation ($u: ID!, $r: ID!) { unassignRole(input: {userId: $u, roleId: $r}) { role { id } } }"
        assert (await olga.ask(document, {"u": user, "r": admin})).data
        body = (await anext(events))[1]
        assert (body["data"], body["errors"][0]["extensions"]["code"]) == ({"apiKeys": None}, "FORBIDDEN")


async def test_what_another_tenant_shares_arrives_without_an_entry_in_the_own_log(alice: Client, bob: Client) -> None:
    document = "query @live { sharedWithMe { nodes { owner { slug } } } }"
    resource = await bob.create("map")
    async with listening(alice) as listener:
        stream = await listener.subscribe(document)
        assert (await stream.next())["nodes"] == []
        share = "mutation ($i: ShareResourceInput!) { shareResource(input: $i) { share { id } } }"
        assert (await bob.ask(share, {"i": {"resourceId": resource, "grantee": alice.tenant}})).data
        assert len((await stream.next())["nodes"]) == 1


async def test_a_list_of_what_is_shared_follows_new_shares_changes_of_the_owner_and_ends(
    alice: Client, bob: Client
) -> None:
    resource = await bob.create("map")
    async with listening(alice) as listener:
        stream = await listener.subscribe("query @live { sharedResources { nodes { name } } }")
        assert (await stream.next())["nodes"] == []
        share = "mutation ($i: ShareResourceInput!) { shareResource(input: $i) { share { id } } }"
        made = await bob.ask(share, {"i": {"resourceId": resource, "grantee": alice.tenant}})
        assert (await stream.next())["nodes"] == [{"name": "map"}]
        await bob.run("UpdateResource", input={"id": resource, "name": "chart"})
        assert (await stream.next())["nodes"] == [{"name": "chart"}]
        await bob.run("RevokeShare", input={"shareId": made.data["shareResource"]["share"]["id"]})
        assert (await stream.next())["nodes"] == []


@pytest.mark.parametrize(
    "document", ["query @live(if: false) { resources { totalCount } }", "{ resources { totalCount } }"]
)
async def test_without_the_directive_a_query_is_answered_once(document: str, alice: Client) -> None:
    async with streaming(alice, document) as events:
        assert [each async for each in events] == [
            ("next", {"data": {"resources": {"totalCount": 0}}}),
            ("complete", None),
        ]


async def test_a_request_that_is_answered_once_is_no_live_query(alice: Client) -> None:
    answer = await alice.ask(PAGE, {"first": 1})
    assert answer.code == "BAD_USER_INPUT"
    assert answer.error["message"].startswith("subscriptions and live queries need a WebSocket")


async def test_whether_it_is_a_live_query_cannot_be_null(alice: Client) -> None:
    document = "query ($live: Boolean = true) @live(if: $live) { resources { totalCount } }"
    answer = await alice.ask(document, {"live": None})
    assert (answer.status, answer.code, answer.error["extensions"]["field"]) == (400, "BAD_USER_INPUT", "if")
    async with listening(alice) as listener:
        stream = await listener.subscribe(document, {"live": None})
        with pytest.raises(Ended) as ended:
            await stream.next()
        assert ended.value.code == "BAD_USER_INPUT"


async def test_a_field_that_is_refused_has_its_error_in_the_first_response(alice: Client) -> None:
    async with listening(alice) as listener:
        stream = await listener.subscribe(PAGE, {"first": 101})
        with pytest.raises(Ended) as ended:
            await stream.next()
        assert ended.value.code == "BAD_USER_INPUT"
