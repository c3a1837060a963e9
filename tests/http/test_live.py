"""Subscriptions to changes: what arrives, in which order, and for whom."""

import asyncio
import random
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from isola.api.declared.changes import followed
from isola.api.schema import model
from isola.database.transactions import Database
from isola.installed import SUBJECTS
from isola.platform import moves, provisioning
from isola.subjects.permissions import Role
from isola.subjects.subject import Subject
from isola.testing.fixtures import Copy
from isola.testing.oracles import canary
from isola.testing.served import Api, Client, make_tenant
from isola_strategies.base import Strategy
from tests.http.listening import ARRIVAL, Ended, Listener, Stream, listening, streaming

CHANGES = """subscription ($after: String) { resourceChanges(after: $after) {
    kind id cursor node { id name owner { name } } } }"""
SPANS = "subscription ($after: String) { spanChanges(after: $after) { kind id cursor node { id title visibility } } }"
WRITE = "mutation ($input: CreateSpanInput!) { createSpan(input: $input) { span { id } } }"
UPDATE = "mutation ($input: UpdateResourceInput!) { updateResource(input: $input) { resource { id } } }"


async def write(client: Client, visibility: str) -> str:
    made = await client.ask(WRITE, {"input": {"title": "t", "visibility": visibility}})
    return str(made.data["createSpan"]["span"]["id"])


async def set_visibility(api: Api, client: Client, span: str, visibility: str) -> None:
    tenant = await provisioning.named(api.control, client.tenant)
    user = (await client.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    async with api.tenants.transaction(tenant, about={"user": user[4:]}) as work:
        await work.value("UPDATE spans SET visibility = $2 WHERE id::text = $1", span[4:], visibility)


def brief(event: Mapping[str, Any]) -> tuple[str, str]:
    return event["kind"], event["id"]


async def test_changes_arrive_in_order_with_what_was_selected(alice: Client) -> None:
    async with listening(alice) as listener:
        stream = await listener.subscribe(CHANGES)
        started = await stream.next()
        assert (started["kind"], started["id"], started["node"]) == ("STARTED", None, None)
        made = await alice.create("first")
        created = await stream.next()
        assert (created["kind"], created["id"], created["node"]["name"]) == ("CREATED", made, "first")
        assert (await alice.ask(UPDATE, {"input": {"id": made, "name": "second"}})).data
        updated = await stream.next()
        assert (updated["kind"], updated["id"], updated["node"]["name"]) == ("UPDATED", made, "second")
        assert (await alice.run("DeleteResource", input={"id": made})).data
        deleted = await stream.next()
        assert (deleted["kind"], deleted["id"], deleted["node"]) == ("DELETED", made, None)
        assert len({each["cursor"] for each in (started, created, updated, deleted)}) == 4


async def test_events_are_sent_over_http_as_well(alice: Client) -> None:
    async with streaming(alice, CHANGES) as events:
        name, first = await anext(events)
        assert (name, first["data"]["resourceChanges"]["kind"]) == ("next", "STARTED")
        made = await alice.create("first")
        name, second = await anext(events)
        assert (name, brief(second["data"]["resourceChanges"])) == ("next", ("CREATED", made))


async def test_a_query_in_a_stream_is_answered_once(alice: Client) -> None:
    document = "{ resources { totalCount } }"
    async with streaming(alice, document) as events:
        assert [each async for each in events] == [("next", (await alice.ask(document)).body), ("complete", None)]
    async with listening(alice) as listener:
        stream = await listener.subscribe(document)
        assert await stream.next() == (await alice.ask(document)).data["resources"]


async def test_no_event_of_another_tenant_arrives(alice: Client, bob: Client) -> None:
    async with listening(alice) as listener:
        stream = await listener.subscribe(CHANGES)
        await stream.started()
        for number in range(5):
            await bob.create(f"of bob {number}")
        made = await alice.create("of alice")
        assert brief(await stream.next()) == ("CREATED", made)
        assert stream.waiting == 0


@pytest.mark.parametrize("of", ["another tenant", "another user", "another subscription", "nobody"])
async def test_only_ones_own_cursor_is_accepted(of: str, alice: Client, bob: Client, eve: Client) -> None:
    cursor = "x"
    if of != "nobody":
        client, document = {
            "another tenant": (bob, CHANGES),
            "another user": (eve, CHANGES),
            "another subscription": (alice, SPANS),
        }[of]
        async with listening(client) as listener:
            cursor = await (await listener.subscribe(document)).started()
    async with listening(alice) as listener:
        with pytest.raises(Ended) as ended:
            await (await listener.subscribe(CHANGES, {"after": cursor})).next()
        assert ended.value.errors[0]["extensions"] == {"code": "BAD_USER_INPUT", "field": "after"}
        # The connection goes on.
        await (await listener.subscribe(CHANGES)).started()


async def test_a_private_row_of_another_user_causes_no_event(api: Api, ada: Client, eve: Client) -> None:
    async with listening(ada) as of_ada, listening(eve) as of_eve:
        own, other = await of_ada.subscribe(SPANS), await of_eve.subscribe(SPANS)
        await own.started(), await other.started()
        secret, public = await write(ada, "PRIVATE"), await write(ada, "PUBLIC")
        assert [brief(await own.next()), brief(await own.next())] == [("CREATED", secret), ("CREATED", public)]
        assert brief(await other.next()) == ("CREATED", public)
        # Hidden: it is gone for others. Shown again: it is back.
        await set_visibility(api, ada, public, "private")
        gone = await other.next()
        assert (brief(gone), gone["node"]) == (("DELETED", public), None)
        assert brief(await own.next()) == ("UPDATED", public)
        await set_visibility(api, ada, secret, "public")
        shown = await other.next()
        assert (brief(shown), shown["node"]["id"]) == (("UPDATED", secret), secret)
        assert other.waiting == 0


async def test_what_a_row_was_while_it_was_private_is_never_told(api: Api, ada: Client, eve: Client) -> None:
    async with listening(eve) as listener:
        after = await (await listener.subscribe(SPANS)).started()
        hidden = await write(ada, "PUBLIC")
        await set_visibility(api, ada, hidden, "private")
        shown = await write(ada, "PRIVATE")
        await set_visibility(api, ada, shown, "public")
        # Of the first, only that it is gone; of the second, only that it is there.
        later = await listener.subscribe(SPANS, {"after": after})
        events = [await later.next(), await later.next()]
        assert [brief(each) for each in events] == [("DELETED", hidden), ("UPDATED", shown)]
        marker = await write(eve, "PUBLIC")
        assert brief(await later.next()) == ("CREATED", marker)


async def test_users_with_the_same_selection_each_get_what_they_may_see(ada: Client, eve: Client) -> None:
    document = "subscription { resourceChanges { kind node { spans { nodes { id } } } } }"
    async with listening(ada) as of_ada, listening(eve) as of_eve:
        own, other = await of_ada.subscribe(document), await of_eve.subscribe(document)
        await own.next(), await other.next()
        made = await ada.create("with spans")
        await own.next(), await other.next()
        span = {"title": "t", "visibility": "PRIVATE", "resourceId": made}
        assert (await ada.ask(WRITE, {"input": span})).data
        assert (await ada.ask(UPDATE, {"input": {"id": made, "name": "renamed"}})).data
        assert len((await own.next())["node"]["spans"]["nodes"]) == 1
        assert (await other.next())["node"]["spans"]["nodes"] == []


async def test_a_client_that_was_away_continues_without_a_gap_or_a_repetition(alice: Client, ada: Client) -> None:
    random.seed(15)
    made: list[str] = []
    received: list[str] = []

    async def create() -> None:
        for number in range(60):
            made.append(await ada.create(f"number {number}"))  # noqa: PERF401  one after the other

    async with listening(alice) as listener:
        after = await (await listener.subscribe(CHANGES)).started()
    creating = asyncio.create_task(create())
    while len(received) < 60:
        async with listening(alice) as listener:
            stream = await listener.subscribe(CHANGES, {"after": after})
            for _ in range(min(random.randint(0, 7), 60 - len(received))):  # noqa: S311  not a secret
                event = await stream.next()
                received.append(event["id"])
                after = event["cursor"]
            if random.random() < 0.5:  # noqa: S311
                listener.socket.transport.abort()
    await creating
    assert received == made


async def test_a_stream_continues_after_its_tenant_moved_to_another_strategy(
    api: Api, copy: Copy, owner: Database, strategy: Strategy, other: Strategy
) -> None:
    await make_tenant(copy, "mover", strategy.name)
    alice = api.client("mover", "alice")
    async with listening(alice) as listener:
        stream = await listener.subscribe(CHANGES)
        await stream.started()
        made = [await alice.create("before the move")]
        await moves.move(owner, copy.strategies, alice.tenant, to=other.name)
        async with asyncio.timeout(ARRIVAL):
            # The server learns of the move a moment later.
            while (answer := await alice.run("CreateResource", input={"name": "after the move"})).status != 200:
                assert answer.code == "UNAVAILABLE"
                await asyncio.sleep(0.1)
        made.append(answer.data["createResource"]["resource"]["id"])
        assert [brief(await stream.next()) for _ in made] == [("CREATED", each) for each in made]
        assert stream.waiting == 0


async def test_all_subscribers_of_a_tenant_get_the_same_events(alice: Client, bob: Client, eve: Client) -> None:
    async with AsyncExitStack() as stack:
        listeners: list[Listener] = [await stack.enter_async_context(listening(c)) for c in (alice, eve)]
        streams: list[Stream] = [await each.subscribe(CHANGES) for each in listeners for _ in range(5)]
        for each in streams:
            await each.started()
        await bob.create("of bob")
        made = await asyncio.gather(*(alice.create(f"number {number}") for number in range(20)))
        orders = [[brief(await each.next()) for _ in range(20)] for each in streams]
        assert all(each == orders[0] for each in orders)
        assert sorted(orders[0]) == sorted(("CREATED", each) for each in made)


async def test_every_declared_subject_has_events_and_none_of_another_tenant(api: Api, strategy: Strategy) -> None:
    """Rows are written by SQL, for every table of every application."""
    tenants = [f"{strategy.name}-a", f"{strategy.name}-b"]
    async with AsyncExitStack() as stack:
        streams: list[dict[type[Subject], Stream]] = []
        for tenant in tenants:
            listener = await stack.enter_async_context(listening(api.client(tenant, "olga", Role.OWNER)))
            of_tenant = {
                subject: await listener.subscribe(f"subscription {{ {name} {{ kind id node {{ id __typename }} }} }}")
                for name, subject in followed(model.schema).items()
            }
            assert set(of_tenant) == set(SUBJECTS)
            for each in of_tenant.values():
                assert (await each.next())["kind"] == "STARTED"
            streams.append(of_tenant)
        planted = [await canary.plant(api.tenants, await provisioning.named(api.control, tenant)) for tenant in tenants]
        for own, other, of_tenant in zip(planted, reversed(planted), streams, strict=True):
            for subject, stream in of_tenant.items():
                key = f"{subject.declaration.prefix}_{own.rows[subject.table.name]['id']}"
                event: Any = None
                # What was committed just before, such as the user, may come as well. A rule may hide the row.
                while (event is None or event["id"] != key) and (subject.visible is None or stream.waiting):
                    event = await stream.next()
                    assert not other.traced_in(event)
                    assert event["node"] == {"id": event["id"], "__typename": subject.__name__}
