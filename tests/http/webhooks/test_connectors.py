"""Connectors to PostHog and Slack over HTTP: a server that sends to receivers on loopback."""

import asyncio
import json
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import provisioning, webhooks as platform
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client
from isola.webhooks import delivery
from tests.http.people import entries
from tests.http.webhooks.receiver import Received, Receiver, answer, receiving
from tests.http.webhooks.test_deliveries import TEST, api, let_time_pass, receiver, settings, state

__all__ = ["api", "receiver", "settings"]
# How events are read from a tenant's home is tested with webhooks, under every strategy.
once = pytest.mark.parametrize("strategy", ["rls"], indirect=True)

KEY = "phc_0123456789secretkey"
SLACK_PATH = "/services/T0000/B0000/verysecretpart"
POSTHOG = """mutation ($input: CreatePosthogConnectorInput!) {
  createPosthogConnector(input: $input) { webhook { id kind url template } }
}"""
SLACK = """mutation ($input: CreateSlackConnectorInput!) {
  createSlackConnector(input: $input) { webhook { id kind url template } }
}"""
UPDATE = "mutation ($input: UpdateWebhookInput!) { updateWebhook(input: $input) { webhook { id url template } } }"
ROTATE = "mutation ($id: ID!) { rotateWebhookSecret(input: {webhookId: $id}) { secret } }"
SENT = """{ webhooks { nodes { connectorEvents { totalCount nodes {
  number at firstEntry lastEntry entries attempt failure bytes
} } } } }"""


def origin(receiver: Receiver) -> str:
    return f"http://127.0.0.1:{receiver.port}"


async def posthog(client: Client, receiver: Receiver, **given: Any) -> str:
    values = {"url": origin(receiver), "key": KEY, "events": ["resource:*"], **given}
    return str((await client.ask(POSTHOG, {"input": values})).data["createPosthogConnector"]["webhook"]["id"])


async def slack(client: Client, receiver: Receiver, **given: Any) -> dict[str, Any]:
    values = {"url": f"{origin(receiver)}{SLACK_PATH}", "events": ["resource:*"], **given}
    made: dict[str, Any] = (await client.ask(SLACK, {"input": values})).data["createSlackConnector"]["webhook"]
    return made


async def sent(client: Client, count: int) -> list[dict[str, Any]]:
    """The requests of the only connector, newest first, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            [found] = (await client.ask(SENT)).data["webhooks"]["nodes"]
            if found["connectorEvents"]["totalCount"] >= count:
                return list(found["connectorEvents"]["nodes"])
            await asyncio.sleep(0.02)


@once
async def test_a_sink_that_was_down_gets_every_event_once_and_in_order(
    api: Api, alice: Client, receiver: Receiver, owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "FIRST_DELAY", 3600.0)
    down = True

    async def reply(_: Received) -> bytes:
        return answer(503) if down else answer(200)

    receiver.reply = reply
    await posthog(alice, receiver)
    made = [await alice.create("confidential 0")]
    await receiver.received(1)
    made += [await alice.create(f"confidential {number}") for number in range(1, 5)]
    await state(alice, failures=1)
    down = False
    await let_time_pass(owner)
    await receiver.received(3)
    await state(alice, failures=0, lag=0)

    # After a failure the first event alone, then all others in one request.
    batches = [each.document["batch"] for each in receiver.requests]
    assert [len(each) for each in batches] == [1, 1, 4]
    captured = [*batches[1], *batches[2]]
    assert [each["properties"]["id"] for each in captured] == made
    assert batches[0] == batches[1]
    assert {each.path for each in receiver.requests} == {"/batch/"}
    assert {each.document["api_key"] for each in receiver.requests} == {KEY}
    log = {entry["object"]: entry for entry in await entries(api, alice.tenant) if entry["action"] == "resource:create"}
    assert [each["uuid"] for each in captured] == [str(log[each]["id"]) for each in made]
    tenant = f"ten_{(await provisioning.named(api.control, alice.tenant)).id}"
    first = captured[0]
    assert first.keys() == {"event", "distinct_id", "uuid", "timestamp", "properties"}
    assert (first["event"], first["distinct_id"]) == ("resource:create", tenant)
    assert (first["properties"]["tenant_id"], first["properties"]["$groups"]) == (tenant, {"tenant": tenant})
    assert not any(b"confidential" in each.body or b"usr_" in each.body for each in receiver.requests)

    newest, again, failed = await sent(alice, 3)
    assert [each["failure"] for each in (failed, again, newest)] == ["HTTP_503", None, None]
    assert [each["attempt"] for each in (failed, again, newest)] == [1, 2, 1]
    assert (newest["entries"], newest["firstEntry"], newest["lastEntry"]) == (
        4,
        captured[1]["properties"]["number"],
        captured[4]["properties"]["number"],
    )
    assert newest["bytes"] == len(receiver.requests[2].body)


@once
async def test_a_message_names_declared_fields_and_escapes_them(alice: Client, receiver: Receiver) -> None:
    made = await slack(alice, receiver, template="*{action}* {id} of {tenant} by a {actorKind}{owner}")
    assert (made["kind"], made["url"]) == ("SLACK", origin(receiver))
    first = await alice.create("confidential")
    for template in ("{id} verysecretpart", "{secret}"):
        refused = await alice.ask(UPDATE, {"input": {"webhookId": made["id"], "template": template}})
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.template")
    [received] = await receiver.received(1)
    assert received.path == SLACK_PATH
    assert received.document == {"text": f"*resource:create* {first} of {alice.tenant} by a user"}
    assert (await alice.ask(TEST, {"id": made["id"]})).data["testWebhook"]["failure"] is None
    assert alice.tenant in receiver.requests[1].document["text"]


@once
async def test_no_secret_is_in_an_answer_the_log_or_the_database_and_none_goes_to_another_url(
    api: Api, alice: Client, receiver: Receiver, owner: Database, database: Database
) -> None:
    key = await posthog(alice, receiver)
    message = (await slack(alice, receiver))["id"]
    tenant = await provisioning.named(api.control, alice.tenant)
    async with owner.unbound() as work:
        stored = await work.texts(
            "SELECT to_jsonb(w)::text || encode(sealed, 'escape') FROM control.webhooks w WHERE kind <> 'webhook'"
        )
    async with database.transaction(tenant) as work:
        listed = await work.texts("SELECT to_jsonb(w)::text FROM isola.webhooks() w")
    log = [str(each) for each in await entries(api, alice.tenant)]
    assert not any("secretkey" in each or "verysecret" in each for each in [*stored, *listed, *log])
    assert not any("sealed" in each for each in [*listed, *log])

    async with receiving() as other:
        moved = {"webhookId": key, "url": origin(other)}
        refused = await alice.ask(UPDATE, {"input": moved})
        assert (refused.code, refused.error["message"]) == (
            "BAD_USER_INPUT",
            "key: expected the key again, since the URL changes",
        )
        assert (await alice.ask(ROTATE, {"id": key})).code == "BAD_USER_INPUT"
        # SQL inside the tenant changes the URL, and the template.
        async with database.transaction(tenant) as work:
            for webhook, url in ((key, origin(other)), (message, origin(receiver))):
                changed = "SELECT isola.update_webhook($1, $2, '', '{*}', true, '', 'isk_{id}')"
                changed = changed if webhook == message else changed.replace("'isk_{id}'", "''")
                assert await work.value(changed, webhook.partition("_")[2], url)
        assert (await alice.ask(TEST, {"id": key})).data["testWebhook"]["failure"] == "SECRET"
        await alice.create("one")
        async with asyncio.timeout(PATIENCE):
            while True:
                nodes = (await alice.ask("{ webhooks { nodes { failure } } }")).data["webhooks"]["nodes"]
                if [each["failure"] for each in nodes] == ["SECRET", "INVALID_TEMPLATE"]:
                    break
                await asyncio.sleep(0.02)
        assert other.requests == receiver.requests == []
        await alice.ask(UPDATE, {"input": {**moved, "key": f"{KEY}2"}})
        [received, *_] = await other.received(1)
        assert received.document["api_key"] == f"{KEY}2"


@once
async def test_a_redirect_is_not_followed_and_slack_is_disabled_when_it_answers_404(
    alice: Client, receiver: Receiver
) -> None:
    async with receiving() as hidden:
        statuses = iter((302, 404))

        async def reply(_: Received) -> bytes:
            return answer(next(statuses), location=f"{origin(hidden)}/metadata")

        receiver.reply = reply
        made = await slack(alice, receiver)
        assert (await alice.ask(TEST, {"id": made["id"]})).data["testWebhook"]["failure"] == "HTTP_302"
        await alice.create("one")
        async with asyncio.timeout(PATIENCE):
            while (await state(alice))["enabled"]:  # noqa: ASYNC110  only looking tells
                await asyncio.sleep(0.02)
        assert (len(receiver.requests), hidden.requests) == (2, [])


@once
async def test_the_last_requests_are_kept_for_the_tenant_alone(
    alice: Client,
    bob: Client,
    receiver: Receiver,
    database: Database,
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "KEPT_REQUESTS", 2)
    key = (await slack(alice, receiver))["id"]
    for number in range(1, 4):
        await alice.create("one")
        await receiver.received(number)
        await state(alice, lag=0)
    assert [each["number"] for each in await sent(alice, 2)] == [3, 2]
    tenant = await provisioning.named(api.control, bob.tenant)
    async with database.transaction(tenant) as work:
        assert await work.texts("SELECT e::text FROM isola.connector_events($1) e", key.partition("_")[2]) == []


FIELDS = "template: expected in braces only names of fields: action, actorKind, id, number, owner, tenant, time"
TEXT = "template: expected a text without keys, tokens and secret URLs"
TEMPLATES = {
    "": "template: expected 1 to 300 characters in one line",
    "{name}": FIELDS,
    "{id.__class__}": FIELDS,
    "{{id}}": FIELDS,
    "{id}" * 11: "template: expected at most 10 fields",
    "xoxb-1 {id}": TEXT,
    "isk_0123 {id}": TEXT,
    "Bearer abc": TEXT,
    "https://hooks.slack.com/services/T/B/x": TEXT,
    "verysecretpart": TEXT,
}


async def test_bad_input_is_refused_without_its_value(guest: Client) -> None:
    url = f"https://hooks.example.com{SLACK_PATH}"
    for template, message in TEMPLATES.items():
        refused = await guest.ask(SLACK, {"input": {"url": url, "events": ["*"], "template": template}})
        assert (refused.code, refused.error["message"]) == ("BAD_USER_INPUT", message)
    for wrong, message in (
        ({"key": "phx_personal"}, "key: expected the key of a project (phc_…), 1 to 200 printable ASCII characters"),
        ({"key": ""}, "key: expected the key of a project (phc_…), 1 to 200 printable ASCII characters"),
        ({"url": "https://10.0.0.1/"}, "url: expected a public address"),
        ({"url": "https://a.example.com/?a"}, "url: expected a URL without a query"),
        ({"events": []}, "events: expected 1 to 100"),
    ):
        given = {"url": "https://a.example.com", "key": KEY, "events": ["*"], **wrong}
        refused = await guest.ask(POSTHOG, {"input": given})
        assert (refused.code, refused.error["message"]) == ("BAD_USER_INPUT", message)
        assert KEY not in json.dumps(refused.body)
    assert (await guest.ask("{ webhooks { totalCount } }")).data["webhooks"]["totalCount"] == 0
