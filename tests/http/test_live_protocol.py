"""Subscriptions on the wire: the order of messages, credentials that end, clients that do not read, and the limits."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from isola.platform import provisioning
from isola.platform.changes import EFFECTIVE_WITHIN
from isola.subjects.permissions import Role
from isola.testing.fixtures import TRIED, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import GRAPHQL_JSON, NO_TLS, Api, Client, serving
from isola_strategies.base import Strategy
from tests.http.listening import Ended, Stream, connected, listening, streaming

CHANGES = "subscription ($after: String) { resourceChanges(after: $after) { kind id cursor node { name } } }"
SKIPPED = "subscription ($no: Boolean!) { resourceChanges @skip(if: $no) { id } }"
TOO_MANY = """subscription { resourceChanges { node { spans(first: 100) { nodes {
    replays(first: 100) { nodes { replays(first: 100) { nodes { id } } } } } } } } }"""
WRITE = "mutation ($i: CreateSpanInput!) { createSpan(input: $i) { span { id } } }"
UNASSIGN = "mutation ($user: ID!, $role: ID!) { unassignRole(input: {userId: $user, roleId: $role}) { role { id } } }"
NEXT = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
HANDSHAKE = (
    b"GET /graphql HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n"
    b"sec-websocket-protocol: graphql-transport-ws\r\n"
)


@pytest.fixture(params=TRIED[:1])
def strategy(request: pytest.FixtureRequest, copy: Copy) -> Strategy:
    """Any strategy: it makes no difference to the protocols."""
    return copy.strategies[request.param]


@pytest.fixture
async def tight(copy: Copy, api: Api) -> AsyncIterator[Api]:
    """A server with small limits."""
    limits = {
        "head_timeout": 1,
        "read_timeout": 2,
        "max_body_bytes": 5000,
        "max_subscriptions_per_connection": 3,
        "max_subscriptions_per_user": 5,
    }
    async with serving(copy, api.settings.model_copy(update=limits)) as server:
        yield server


def bearer(client: Client) -> dict[str, str]:
    return {"Authorization": client.headers["authorization"]}


INVALID = {
    "no JSON": ("{", 4400),
    "bytes": (b"{}", 4400),
    "a list": ("[]", 4400),
    "no type": ("{}", 4400),
    "an unknown type": ('{"type": "start"}', 4400),
    "subscribe without an id": ('{"type": "subscribe", "payload": {"query": "{ __typename }"}}', 4400),
    "subscribe without a payload": ('{"type": "subscribe", "id": "1"}', 4400),
    "a query of another type": ('{"type": "subscribe", "id": "1", "payload": {"query": 1}}', 4400),
    "a long id": ('{"type": "complete", "id": "%s"}' % ("1" * 65), 4400),
    "deep nesting": ("[" * 100_000, 4400),
    "a second connection_init": ('{"type": "connection_init"}', 4429),
}


@pytest.mark.parametrize(("message", "code"), INVALID.values(), ids=INVALID)
async def test_a_wrong_message_closes_the_connection(message: str | bytes, code: int, alice: Client) -> None:
    async with listening(alice) as listener:
        await listener.socket.send(message)
        assert (await listener.closed())[0] == code


async def test_subscribe_before_the_acknowledgement_is_refused(alice: Client) -> None:
    async with connected(alice.http) as listener:
        await listener.send(id="1", type="subscribe", payload={"query": CHANGES})
        assert await listener.closed() == (4401, "Unauthorized")


async def test_without_connection_init_the_connection_is_closed(tight: Api) -> None:
    async with connected(tight.http) as listener:
        assert (await listener.closed())[0] == 4408


async def test_another_protocol_is_refused(alice: Client) -> None:
    async with connected(alice.http, subprotocols=["graphql-ws"]) as listener:
        assert (await listener.closed())[0] == 4406


async def test_an_id_in_use_is_refused_and_one_that_was_used_is_not(alice: Client) -> None:
    async with connected(alice.http) as listener:
        await listener.send(type="connection_init", payload=bearer(alice))
        await listener.receive()
        for _ in range(2):
            await listener.send(id="a", type="subscribe", payload={"query": CHANGES})
            assert (await listener.receive())["type"] == "next"
            await listener.send(id="a", type="complete")
        await listener.send(id="a", type="subscribe", payload={"query": CHANGES})
        await listener.send(id="a", type="subscribe", payload={"query": CHANGES})
        assert (await listener.closed())[0] == 4409


async def test_a_ping_is_answered(alice: Client) -> None:
    async with connected(alice.http) as listener:
        await listener.send(type="ping")
        assert await listener.receive() == {"type": "pong"}


CREDENTIALS: dict[str, tuple[Any, int]] = {
    "none": ({}, 4401),
    "null": (None, 4401),
    "a forged token": ({"Authorization": "Bearer a.b.c"}, 4401),
    "of a wrong type": ({"Authorization": 1}, 4400),
    "another tenant": ({"X-Tenant-Id": "someone-else"}, 4403),
}


@pytest.mark.parametrize(("payload", "code"), CREDENTIALS.values(), ids=CREDENTIALS)
async def test_a_connection_without_a_valid_credential_is_closed(payload: Any, code: int, alice: Client) -> None:
    if code == 4403:
        payload = {**payload, **bearer(alice)}
    async with connected(alice.http) as listener:
        await listener.send(type="connection_init", payload=payload)
        assert (await listener.closed())[0] == code


async def test_the_credential_can_be_in_the_handshake_but_not_in_two_places(alice: Client) -> None:
    async with connected(alice.http, additional_headers=bearer(alice)) as listener:
        await (await (await listener.begin({})).subscribe(CHANGES)).started()
    async with connected(alice.http, additional_headers=bearer(alice)) as listener:
        await listener.send(type="connection_init", payload=bearer(alice))
        assert (await listener.closed())[0] == 4401


REFUSED = {
    "syntax": ("subscription {", None, "BAD_USER_INPUT"),
    "an unknown field": ("subscription { nothing { id } }", None, "BAD_USER_INPUT"),
    "two fields": ("subscription { a: resourceChanges { id } b: userChanges { id } }", None, "BAD_USER_INPUT"),
    "no field": (SKIPPED, {"no": True}, "BAD_USER_INPUT"),
    "a variable": (CHANGES, {"after": 1}, "BAD_USER_INPUT"),
    "too many rows": (TOO_MANY, None, "BAD_USER_INPUT"),
}


@pytest.mark.parametrize(("document", "variables", "code"), REFUSED.values(), ids=REFUSED)
async def test_an_operation_that_is_refused_leaves_the_connection_open(
    document: str, variables: dict[str, Any] | None, code: str, alice: Client
) -> None:
    async with listening(alice) as listener:
        with pytest.raises(Ended) as ended:
            await (await listener.subscribe(document, variables)).next()
        assert ended.value.code == code
        await (await listener.subscribe(CHANGES)).started()
    headers = {**alice.headers, "accept": "text/event-stream"}
    content = json.dumps({"query": document, "variables": variables})
    answer = await alice.http.post("/graphql", content=content, headers=headers)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (400, code)


async def test_a_subscription_needs_the_permission_to_read(alice: Client) -> None:
    made = await alice.ask('mutation { createApiKey(input: {name: "robot", permissions: ["user:read"]}) { key } }')
    robot = alice.saying(f"Bearer {made.data['createApiKey']['key']}")
    async with listening(robot) as listener:
        with pytest.raises(Ended, match="resource:read"):
            await (await listener.subscribe(CHANGES)).next()


async def test_subscriptions_are_limited_for_a_connection_and_for_a_user(tight: Api, strategy: Strategy) -> None:
    ada, eve = (tight.client(f"{strategy.name}-a", user) for user in ("ada", "eve"))
    async with listening(ada) as first, listening(ada) as second, listening(eve) as of_eve:
        streams = [await first.subscribe(CHANGES) for _ in range(3)]
        for each in streams:
            await each.started()
        with pytest.raises(Ended) as ended:
            await (await first.subscribe(CHANGES)).next()
        assert ended.value.code == "RATE_LIMITED"
        assert ended.value.errors[0]["message"] == "expected at most 3 operations at once on one connection"
        for _ in range(2):
            await (await second.subscribe(CHANGES)).started()
        with pytest.raises(Ended) as ended:
            await (await second.subscribe(CHANGES)).next()
        assert ended.value.code == "RATE_LIMITED"
        await (await of_eve.subscribe(CHANGES)).started()
        await streams[0].complete()
        async with asyncio.timeout(10):
            while True:
                try:
                    await (await second.subscribe(CHANGES)).started()
                    break
                except Ended:
                    await asyncio.sleep(0.05)


async def test_a_message_that_is_too_large_closes_the_connection(tight: Api, strategy: Strategy) -> None:
    async with listening(tight.client(f"{strategy.name}-a")) as listener:
        await listener.subscribe(CHANGES, {"after": "x" * 6000})
        assert (await listener.closed())[0] == 1009


async def test_endless_fragments_close_the_connection(alice: Client) -> None:
    async with listening(alice) as listener:

        async def fragments() -> AsyncIterator[str]:
            while True:
                yield ""
                await asyncio.sleep(0)

        sending = asyncio.create_task(listener.socket.send(fragments()))
        assert (await listener.closed())[0] == 1009
        sending.cancel()


async def suspend(api: Api, alice: Client, _: Client) -> None:
    await provisioning.suspend(api.control, alice.tenant)


async def disable(_: Api, alice: Client, ada: Client) -> None:
    user = (await ada.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    document = "mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }"
    assert (await alice.ask(document, {"id": user})).data


async def sign_out(_: Api, __: Client, ada: Client) -> None:
    assert (await ada.run("SignOutEverywhere")).data


@pytest.mark.parametrize(
    ("end", "close", "code"),
    [(suspend, 4403, "TENANT_SUSPENDED"), (disable, 4403, "FORBIDDEN"), (sign_out, 4401, "UNAUTHENTICATED")],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_stream_ends_within_five_seconds_when_its_user_may_no_longer_use_it(
    end: Callable[[Api, Client, Client], Awaitable[None]], close: int, code: str, api: Api, strategy: Strategy
) -> None:
    alice = api.client(f"{strategy.name}-a", "olga")
    ada = api.client(f"{strategy.name}-a", "ada")
    async with listening(ada) as listener, streaming(ada, CHANGES) as events:
        await (await listener.subscribe(CHANGES)).started()
        await anext(events)
        await end(api, alice, ada)
        began = time.monotonic()
        assert (await listener.closed())[0] == close
        name, last = await anext(events)
        assert (name, last["errors"][0]["extensions"]["code"]) == ("next", code)
        assert await anext(events) == ("complete", None)
        assert time.monotonic() - began < EFFECTIVE_WITHIN
        with pytest.raises(StopAsyncIteration):
            await anext(events)


async def test_a_revoked_api_key_ends_its_stream_within_five_seconds(alice: Client) -> None:
    create = """mutation { createApiKey(input: {name: "robot", permissions: ["resource:read", "user:read"]}) {
        key apiKey { id } } }"""
    made = (await alice.ask(create)).data["createApiKey"]
    async with connected(alice.http) as listener:
        await listener.begin({"X-API-Key": made["key"]})
        await (await listener.subscribe(CHANGES)).started()
        revoke = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { revokedId } }"
        assert (await alice.ask(revoke, {"id": made["apiKey"]["id"]})).data
        began = time.monotonic()
        assert (await listener.closed())[0] == 4401
        assert time.monotonic() - began < EFFECTIVE_WITHIN


async def test_a_token_that_expires_ends_the_connection(copy: Copy, api: Api, strategy: Strategy) -> None:
    settings = api.settings.model_copy(update={"token_leeway": 0})
    async with serving(copy, settings) as exact, listening(exact.client(f"{strategy.name}-a", ttl=3)) as listener:
        await (await listener.subscribe(CHANGES)).started()
        assert await listener.closed() == (4401, "TOKEN_EXPIRED: the token has expired")


async def test_a_lowered_role_ends_the_subscriptions_that_need_more(api: Api, strategy: Strategy) -> None:
    olga, ada = (api.client(f"{strategy.name}-a", user) for user in ("olga", "ada"))
    roles = {
        each["name"]: each["id"] for each in (await olga.ask("{ roles { nodes { id name } } }")).data["roles"]["nodes"]
    }
    user = (await ada.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    async with listening(ada) as listener:
        stream: Stream = await listener.subscribe(CHANGES)
        await stream.started()
        document = (
            "mutation ($user: ID!, $role: ID!) { unassignRole(input: {userId: $user, roleId: $role}) { role { id } } }"
        )
        assert (await olga.ask(document, {"user": user, "role": roles["admin"]})).data
        began = time.monotonic()
        with pytest.raises(Ended) as ended:
            await stream.next()
        assert ended.value.code == "FORBIDDEN"
        assert time.monotonic() - began < EFFECTIVE_WITHIN


async def test_a_client_that_does_not_read_is_disconnected_and_others_get_their_events(
    tight: Api, api: Api, strategy: Strategy
) -> None:
    writer = api.client(f"{strategy.name}-a", "ada", Role.EDITOR)
    slow, quick = (tight.client(f"{strategy.name}-a", user) for user in ("ada", "eve"))
    document = "subscription { spanChanges { kind id node { payload } } }"
    async with listening(quick) as listener, connected(slow.http, max_queue=1) as sleeping:
        await sleeping.begin(bearer(slow))
        stream = await listener.subscribe(document)
        await stream.next()
        await sleeping.pause()
        await sleeping.send(id="1", type="subscribe", payload={"query": document})
        made = []
        for _ in range(30):
            span = {"title": "t", "visibility": "PUBLIC", "payload": {"a": "x" * 100_000}}
            answer = await writer.ask(
                "mutation ($i: CreateSpanInput!) { createSpan(input: $i) { span { id } } }", {"i": span}
            )
            made.append(answer.data["createSpan"]["span"]["id"])
        assert [(await stream.next())["id"] for _ in made] == made
        # It does not notice that it was disconnected before it reads.
        await asyncio.sleep(3 * tight.settings.read_timeout)
        assert (await sleeping.closed())[0] in {1006, 1013}


async def test_a_server_that_stops_says_so_and_its_clients_continue_at_another(
    copy: Copy, api: Api, strategy: Strategy
) -> None:
    tenant = f"{strategy.name}-a"
    writer = api.client(tenant, "eve", Role.EDITOR)
    async with AsyncExitStack() as stack:
        async with serving(copy, api.settings) as stopping:
            ada = stopping.client(tenant)
            listener = await stack.enter_async_context(listening(ada))
            after = await (await listener.subscribe(CHANGES)).started()
            http = httpx.AsyncClient(base_url=ada.http.base_url, timeout=PATIENCE, trust_env=False, verify=NO_TLS)
            await stack.enter_async_context(http)
            events = await stack.enter_async_context(streaming(replace(ada, http=http), CHANGES))
            await anext(events)
        assert await listener.closed() == (1001, "the server is stopping")
        name, last = await anext(events)
        assert (name, last["errors"][0]["extensions"]["code"]) == ("next", "UNAVAILABLE")
        assert await anext(events) == ("complete", None)
    made = await writer.create("meanwhile")
    async with listening(api.client(tenant)) as listener:
        stream = await listener.subscribe(CHANGES, {"after": after})
        assert (await stream.next())["id"] == made


NO_HANDSHAKES = {
    "a body": (HANDSHAKE + b"content-length: 4\r\n\r\nGET ", [400]),
    "chunks": (HANDSHAKE + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n", [400]),
    "a request behind it": (HANDSHAKE + b"\r\n" + NEXT, [400, 200]),
    "two protocols": (HANDSHAKE + b"upgrade: h2c\r\n\r\n", [400]),
    "HTTP/1.0": (HANDSHAKE.replace(b"1.1", b"1.0") + b"\r\n", [400]),
    "an old version": (HANDSHAKE.replace(b"13", b"8") + b"\r\n", [400]),
    "no key": (HANDSHAKE.replace(b"sec-websocket-key", b"x") + b"\r\n", [400]),
    "another path": (HANDSHAKE.replace(b"/graphql", b"/livez") + b"\r\n", [200]),
    "another method": (HANDSHAKE.replace(b"GET", b"PUT") + b"\r\n", [405]),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "answers"), NO_HANDSHAKES.values(), ids=NO_HANDSHAKES)
async def test_what_is_no_complete_handshake_is_an_ordinary_request(
    sent: bytes, answers: list[int], alice: Client
) -> None:
    url = alice.http.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    authorization = b"authorization: %b\r\n" % alice.headers["authorization"].encode()
    writer.write(sent.replace(b"host: localhost\r\n", b"host: localhost\r\n" + authorization, 1))
    received = b""
    while received.count(b"HTTP/1.1 ") < len(answers):
        async with asyncio.timeout(10):
            part = await reader.read(65536)
        assert part
        received += part
    writer.close()
    assert [int(each[:3]) for each in received.split(b"HTTP/1.1 ")[1:]] == answers


async def test_a_handshake_with_a_line_that_is_too_long_is_no_handshake(alice: Client) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(alice.http, additional_headers={"x-long": "x" * 9000}):
            pass
    assert refused.value.response.status_code == 401


async def test_the_stream_needs_a_credential_and_another_media_type_is_refused(alice: Client, api: Api) -> None:
    content = json.dumps({"query": CHANGES})
    headers = {"content-type": "application/json", "accept": "text/event-stream"}
    assert (await api.http.post("/graphql", content=content, headers=headers)).status_code == 401
    refused = await alice.ask(CHANGES)
    assert (refused.status, refused.code) == (400, "BAD_USER_INPUT")
    assert "text/event-stream" in refused.error["message"]
    assert httpx.Headers(alice.headers)["accept"] == GRAPHQL_JSON
