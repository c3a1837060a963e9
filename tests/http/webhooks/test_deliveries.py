"""Webhooks over HTTP: a server that delivers to receivers on loopback."""

import asyncio
import base64
import hmac
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any
from uuid import UUID

import pytest

from isola.database.transactions import Database
from isola.platform import moves, partnerships, provisioning, sign_in_log, webhooks as platform
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, make_tenant, serving
from isola.webhooks import delivery, sending
from isola_strategies.base import Strategy
from tests.http.people import entries
from tests.http.webhooks.receiver import Received, Receiver, answer, receiving

CREATE = """mutation ($url: String!, $events: [String!]!) {
  createWebhook(input: {url: $url, events: $events}) { secret webhook { id url events enabled lag } }
}"""
STATE = """{ webhooks { totalCount nodes {
  id url enabled delivered succeededAt failures failure nextAttemptAt lag
  deadLetters { nodes { id number action attempts failure } }
} } }"""
REPLAY = "mutation ($input: ReplayWebhookInput!) { replayWebhook(input: $input) { webhook { id delivered } } }"
UPDATE = "mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) { webhook { enabled } } }"
ROTATE = "mutation ($id: ID!) { rotateWebhookSecret(input: {webhookId: $id}) { secret } }"
TEST = "mutation ($id: ID!) { testWebhook(input: {webhookId: $id}) { failure } }"
DELETE = "mutation ($id: ID!) { deleteWebhook(input: {webhookId: $id}) { deletedId } }"
GONE = "doomed"


@pytest.fixture
def settings() -> Settings:
    return DEFAULTS.model_copy(update={"webhook_private": True, "directory_ttl": 0.2})


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    monkeypatch.setattr(delivery, "INTERVAL", 0.02)
    monkeypatch.setattr(delivery, "PAUSE", 0.02)
    # A machine that stalls lets no delivery be repeated.
    monkeypatch.setattr(sending, "TIMEOUT", PATIENCE)
    monkeypatch.setattr(platform, "LEASE", PATIENCE)
    async with serving(copy, settings) as api:
        yield api


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as receiver:
        yield receiver


async def create(client: Client, url: str, *events: str) -> tuple[str, str]:
    """The id and the secret of a new webhook."""
    made = (await client.ask(CREATE, {"url": url, "events": list(events or ["resource:*"])})).data["createWebhook"]
    return made["webhook"]["id"], made["secret"]


async def states(client: Client) -> list[dict[str, Any]]:
    return list((await client.ask(STATE)).data["webhooks"]["nodes"])


async def state(
    client: Client, *, failures: int | None = None, dead: int = 0, lag: int | None = None
) -> dict[str, Any]:
    """The state of the only webhook, once it is as expected."""
    async with asyncio.timeout(PATIENCE):
        while True:
            [found] = await states(client)
            if (
                failures in {None, found["failures"]}
                and len(found["deadLetters"]["nodes"]) == dead
                and lag in {None, found["lag"]}
            ):
                return found
            await asyncio.sleep(0.02)


async def let_time_pass(owner: Database) -> None:
    """Make the next attempts due."""
    async with owner.unbound() as work:
        await work.script("UPDATE control.webhooks SET next_attempt_at = now() WHERE next_attempt_at IS NOT NULL")


def signatures(received: Received, secret: str) -> tuple[str, Sequence[str]]:
    """The signature as a receiver computes it, and those of the request."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{received.id}.{received.headers['webhook-timestamp']}.".encode() + received.body
    expected = f"v1,{base64.b64encode(hmac.digest(key, signed, 'sha256')).decode()}"
    return expected, received.headers["webhook-signature"].split(" ")


async def test_events_arrive_once_in_order_signed_and_without_values(
    api: Api, alice: Client, receiver: Receiver, copy: Copy, settings: Settings
) -> None:
    """Two servers deliver."""
    async with serving(copy, settings):
        key, secret = await create(alice, receiver.url)
        made = [await alice.create(f"confidential {number}") for number in range(5)]
        await alice.run("UpdateResource", input={"id": made[0], "name": "confidential too"})
        await alice.ask('mutation { createOrganization(input: {name: "elsewhere"}) { organization { id } } }')
        await alice.run("DeleteResource", input={"id": made[1]})
        requests = await receiver.received(7)
        await state(alice, lag=0)
    assert receiver.types == [*["resource:create"] * 5, "resource:update", "resource:delete"]
    data = [each.document["data"] for each in requests]
    assert [each["id"] for each in data] == [*made, made[0], made[1]]
    assert [each["number"] for each in data] == sorted(each["number"] for each in data)
    assert all(each.keys() == {"tenant", "number", "action", "id", "actorKind"} for each in data)
    assert (data[0]["tenant"], data[0]["action"], data[0]["actorKind"]) == (alice.tenant, "resource:create", "user")
    assert not any(b"confidential" in each.body for each in requests)
    log = {f"aud_{entry['id']}": entry for entry in await entries(api, alice.tenant)}
    assert [log[each.id]["object"] for each in requests] == [each["id"] for each in data]
    for each in requests:
        expected, given = signatures(each, secret)
        assert given == [expected]
    [entry] = [entry for entry in log.values() if entry["object"] == key]
    assert entry["new"]["origin"] == f"http://127.0.0.1:{receiver.port}"
    assert not any(word in str(entry) for word in ("hidden", "secret=", "key=secret", secret))


async def test_a_failed_event_is_tried_again_before_later_ones_then_given_up_and_replayed(
    alice: Client, receiver: Receiver, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "ATTEMPTS", 3)
    monkeypatch.setattr(delivery, "FIRST_DELAY", 3600.0)
    down = True

    async def reply(_: Received) -> bytes:
        return answer(500) if down else answer(200)

    receiver.reply = reply
    key, _ = await create(alice, receiver.url)
    first, second = await alice.create("first"), await alice.create("second")
    found = await state(alice, failures=1)
    assert (found["failure"], found["nextAttemptAt"] is not None, found["succeededAt"]) == ("HTTP_500", True, None)
    await let_time_pass(owner)
    await state(alice, failures=2)
    assert [each.document["data"]["id"] for each in receiver.requests] == [first, first]
    await let_time_pass(owner)
    # The next event is tried at once.
    found = await state(alice, failures=1, dead=1)
    [dead] = found["deadLetters"]["nodes"]
    assert (dead["action"], dead["attempts"], dead["failure"]) == ("resource:create", 3, "HTTP_500")

    down = False
    await let_time_pass(owner)
    await receiver.received(5)
    replayed = {"input": {"webhookId": key, "deadLetterId": dead["id"]}}
    assert (await alice.ask(REPLAY, replayed)).data["replayWebhook"]["webhook"]["delivered"] == dead["number"] - 1
    requests = await receiver.received(7)
    assert [each.document["data"]["id"] for each in requests] == [first] * 3 + [second] * 2 + [first, second]
    assert len({each.id for each in requests}) == 2
    found = await state(alice, failures=0, lag=0)
    assert (found["failure"], found["nextAttemptAt"], found["succeededAt"] is not None) == (None, None, True)


async def test_an_endpoint_that_does_not_answer_delays_no_other(alice: Client, receiver: Receiver) -> None:
    released = asyncio.Event()

    async def hold(_: Received) -> bytes:
        await released.wait()
        return answer(200)

    async with receiving(hold) as silent:
        await create(alice, silent.url)
        await alice.create("held")
        await silent.received(1)
        await create(alice, receiver.url)
        made = [await alice.create(str(number)) for number in range(3)]
        requests = await receiver.received(3)
        assert [each.document["data"]["id"] for each in requests] == made
        assert len(silent.requests) == 1
        released.set()


async def test_a_server_that_is_killed_before_it_notes_a_delivery_repeats_the_event_with_the_same_id(
    alice: Client, receiver: Receiver, owner: Database
) -> None:
    async def reply(_: Received) -> bytes:
        # As if another server had taken over: what the first one notes changes nothing any more.
        if len(receiver.requests) == 1:
            async with owner.unbound() as work:
                await work.script("UPDATE control.webhooks SET lease = gen_random_uuid(), leased_until = now()")
        return answer(200)

    receiver.reply = reply
    await create(alice, receiver.url)
    await alice.create("first")
    await alice.create("second")
    first, again, second = await receiver.received(3)
    assert first.id == again.id != second.id
    await state(alice, lag=0)
    assert len(receiver.requests) == 3


async def test_redirects_are_not_followed_and_an_endpoint_that_is_gone_is_disabled(
    api: Api, alice: Client, receiver: Receiver, owner: Database
) -> None:
    status = 302

    async def reply(_: Received) -> bytes:
        return answer(status, location=f"http://127.0.0.1:{receiver.port}/other")

    receiver.reply = reply
    key, _ = await create(alice, receiver.url)
    await alice.create("one")
    assert (await state(alice, failures=1))["failure"] == "HTTP_302"
    assert [each.path for each in receiver.requests] == ["/events/hidden?key=secret"]
    status = 410
    await let_time_pass(owner)
    found = await state(alice, failures=2)
    assert (found["enabled"], found["failure"], found["nextAttemptAt"]) == (False, "HTTP_410", None)
    last = [each for each in await entries(api, alice.tenant) if each["object"] == key][-1]
    assert (last["action"], last["actor"], last["new"]["enabled"]) == ("webhook:update", None, False)

    status = 200
    await alice.create("two")
    await alice.ask(UPDATE, {"input": {"webhookId": key, "enabled": True}})
    await receiver.received(4)
    await state(alice, failures=0, lag=0)
    assert len(receiver.requests) == 4


async def test_a_suspended_or_moved_tenant_gets_its_events_later_and_a_dropped_one_none(
    api: Api, copy: Copy, strategy: Strategy, receiver: Receiver, owner: Database
) -> None:
    await make_tenant(copy, GONE, strategy.name)
    client = api.client(GONE)
    held, released = asyncio.Event(), asyncio.Event()

    async def hold(_: Received) -> bytes:
        held.set()
        await released.wait()
        return answer(200)

    receiver.reply = hold
    await create(client, receiver.url, "resource:create")
    first, second = await client.create("first"), await client.create("second")
    await held.wait()
    await provisioning.suspend(owner, GONE)
    released.set()
    # Whoever looks for what is due next finds nothing of this tenant.
    async with asyncio.timeout(PATIENCE), owner.unbound() as work:
        while await work.value("SELECT lease FROM control.webhooks"):  # noqa: ASYNC110  only looking tells
            await asyncio.sleep(0.02)
    assert [each.document["data"]["id"] for each in receiver.requests] == [first]
    await provisioning.resume(owner, GONE)
    assert [each.document["data"]["id"] for each in await receiver.received(2)] == [first, second]
    other = next(name for name in STRATEGIES if name != strategy.name)
    await moves.move(owner, copy.strategies, GONE, to=other)
    third = await created(client)
    assert [each.document["data"]["id"] for each in await receiver.received(3)] == [first, second, third]
    await provisioning.drop(owner, copy.strategies, GONE, notice=0)
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.webhooks") == 0
    assert len(receiver.requests) == 3


async def created(client: Client) -> str:
    """A new resource, as soon as the server knows that the tenant has moved."""
    async with asyncio.timeout(PATIENCE):
        while "errors" in (made := await client.run("CreateResource", input={"name": "third"})).body:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.02)
    return str(made.data["createResource"]["resource"]["id"])


async def test_another_tenants_webhook_is_not_reachable_and_no_secret_readable(
    api: Api, alice: Client, bob: Client, receiver: Receiver, owner: Database, database: Database
) -> None:
    key, secret = await create(alice, receiver.url)
    assert await states(bob) == []
    attempts: list[tuple[str, dict[str, Any]]] = [
        (UPDATE, {"input": {"webhookId": key, "enabled": False}}),
        (ROTATE, {"id": key}),
        (DELETE, {"id": key}),
        (TEST, {"id": key}),
        (REPLAY, {"input": {"webhookId": key, "number": 1}}),
    ]
    for document, variables in attempts:
        assert (await bob.ask(document, variables)).code == "NOT_FOUND"
    editor = api.client(alice.tenant, "eve", Role.EDITOR)
    for document, variables in (*attempts, (CREATE, {"url": receiver.url, "events": ["*"]}), (STATE, {})):
        assert (await editor.ask(document, variables)).code == "FORBIDDEN"
    assert [each["enabled"] for each in await states(alice)] == [True]
    tenant = await provisioning.named(api.control, alice.tenant)
    async with database.transaction(tenant) as work:
        listed = await work.texts("SELECT to_jsonb(w)::text FROM isola.webhooks() w")
    async with owner.unbound() as work:
        stored = await work.texts("SELECT to_jsonb(w)::text FROM control.webhooks w")
    assert not any(secret.removeprefix("whsec_") in each for each in [*listed, *stored])
    assert not any("secret_id" in each for each in listed)


async def test_two_secrets_sign_for_a_day_after_a_rotation(alice: Client, receiver: Receiver, owner: Database) -> None:
    key, former = await create(alice, receiver.url)
    new = (await alice.ask(ROTATE, {"id": key})).data["rotateWebhookSecret"]["secret"]
    assert (await alice.ask(TEST, {"id": key})).data["testWebhook"]["failure"] is None
    [ping] = receiver.requests
    assert (ping.type, ping.document["data"]) == ("ping", {"tenant": alice.tenant})
    assert signatures(ping, new)[1] == [signatures(ping, new)[0], signatures(ping, former)[0]]
    async with owner.unbound() as work:
        await work.script("UPDATE control.webhooks SET former_secret_until = now()")
    await alice.ask(TEST, {"id": key})
    [_, later] = receiver.requests
    assert signatures(later, new)[1] == [signatures(later, new)[0]]


async def test_a_partner_learns_of_shares_and_nobody_of_rows_that_are_not_everybodys(
    alice: Client, bob: Client, receiver: Receiver, owner: Database, api: Api
) -> None:
    tenants = [await provisioning.named(api.control, each.tenant) for each in (alice, bob)]
    async with owner.unbound() as work:
        await partnerships.establish(work, [(tenants[0].id, tenants[1].id)])
    await create(bob, receiver.url, "*")
    for visibility in ("PRIVATE", "PUBLIC"):
        await bob.run("CreateSpan", input={"title": "t", "visibility": visibility})
    resource = await alice.create("shared")
    given = {"resourceId": resource, "grantee": bob.tenant, "fields": ["NAME"]}
    share = (await alice.run("ShareResource", input=given)).data["shareResource"]["share"]["id"]
    await alice.run("RevokeShare", input={"shareId": share})
    async with asyncio.timeout(PATIENCE):
        while "received_share:delete" not in receiver.types:  # noqa: ASYNC110  only looking tells
            await asyncio.sleep(0.02)
    received = [each.document["data"] for each in receiver.requests]
    shares = [each for each in received if each["action"].startswith("received_share:")]
    assert [(each["action"], each["id"], each["owner"], each["actorKind"]) for each in shares] == [
        ("received_share:create", share, alice.tenant, "none"),
        ("received_share:delete", share, alice.tenant, "none"),
    ]
    assert receiver.types.count("span:create") == 1
    assert resource not in json.dumps(received)


NO_HOST = "url: expected the name of a host with a dot in it, or an IP address"
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "http": ({"url": "http://example.com/"}, "url: expected https://"),
    "loopback": ({"url": "https://127.0.0.1/"}, "url: expected a public address"),
    "private": ({"url": "https://10.1.2.3/"}, "url: expected a public address"),
    "localhost": ({"url": "https://localhost/"}, "url: expected a public address"),
    "mapped": ({"url": "https://[::ffff:10.0.0.1]/"}, "url: expected a public address"),
    "as a number": ({"url": "https://2130706433/"}, NO_HOST),
    "user name": ({"url": "https://a:b@example.com/"}, "url: expected a URL without a user name and password"),
    "port": ({"url": "https://example.com:22/"}, "url: expected port 443, or one from 1024 on"),
    "fragment": ({"url": "https://example.com/#a"}, "url: expected a URL without a fragment"),
    "too long": ({"url": f"https://example.com/{'a' * 2000}"}, "url: expected at most 2000 characters"),
    "line break": ({"url": "https://example.com/\r\na: b"}, "url: expected a URL of printable ASCII characters"),
    "no events": ({"events": []}, "events: expected 1 to 100"),
    "unknown event": (
        {"events": ["resources:*"]},
        "events: expected *, or a subject of the log with :create, :update, :delete or :*, such as resource:*",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_bad_input_is_refused_and_changes_nothing(guest: Client, case: str) -> None:
    given, message = REFUSED[case]
    refused = await guest.ask(CREATE, {"url": "https://example.com/", "events": ["*"], **given})
    assert (refused.code, refused.error["message"]) == ("BAD_USER_INPUT", message)
    assert (await guest.ask(STATE)).data["webhooks"]["totalCount"] == 0


async def test_a_tenant_has_at_most_20_webhooks_and_replays_what_was_reached(alice: Client, receiver: Receiver) -> None:
    key, _ = await create(alice, receiver.url)
    for document, wrong, message in (
        (REPLAY, {"number": 0}, "number: expected a number from 1 to the next that is delivered"),
        (REPLAY, {"number": 10**9}, "number: expected a number from 1 to the next that is delivered"),
        (REPLAY, {}, "expected either a number or a dead letter"),
        (UPDATE, {"url": None}, "url: expected a value, not null"),
        (UPDATE, {}, "expected something to change"),
    ):
        refused = await alice.ask(document, {"input": {"webhookId": key, **wrong}})
        assert (refused.code, refused.error["message"]) == ("BAD_USER_INPUT", message)
    missing = {"input": {"webhookId": key, "deadLetterId": f"dlt_{UUID(int=0)}"}}
    assert (await alice.ask(REPLAY, missing)).code == "NOT_FOUND"
    for _ in range(19):
        await create(alice, receiver.url)
    refused = await alice.ask(CREATE, {"url": receiver.url, "events": ["*"]})
    assert (refused.code, refused.error["message"]) == (
        "QUOTA_EXCEEDED",
        "there are 20 webhooks already: delete one first",
    )
    assert len((await alice.ask("{ webhooks(first: 100) { nodes { id } } }")).data["webhooks"]["nodes"]) == 20
