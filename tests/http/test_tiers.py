"""Tiers over HTTP: tenants define them and give them to customers, with GraphQL and with the paths beside it."""

import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from isola.subjects.permissions import Role
from isola.testing.served import Api, Client

PAGE = Path(__file__).parents[2] / "docs" / "metering.md"
CURL = re.compile(r"^curl .*?[^\\\\]$", re.MULTILINE | re.DOTALL)
GOLD = {
    "name": "Gold",
    "price": "49.5",
    "currency": "USD",
    "period": "MONTH",
    "usageCaps": {"executions": 5},
    "featureEntitlements": ["export"],
}
GIVE = """mutation ($tier: ID!, $name: String!) {
  upsertTierCustomer(input: {name: $name, tierId: $tier}) { created tierCustomer { name tier { name } } } }"""
TIERS = """{ tiers { nodes {
  name price currency period usageCaps featureEntitlements customers { totalCount nodes { name } } } } }"""
CHECK = """query ($amount: BigInt) { checkUsage(meter: "executions", amount: $amount, customer: "Ada") {
  allowed used usedByCustomer customerLimit customerRemaining limit } }"""
ENTITLED = """{ has: customerEntitlement(customer: "Ada", feature: "export")
  other: customerEntitlement(customer: "Ada", feature: "support")
  nobody: customerEntitlement(customer: "Bob", feature: "export") }"""
USED = "{ usage { nodes { customer quantity limit } } }"


@pytest.fixture
def viewer(api: Api, tenant: str) -> Client:
    return api.client(tenant, "vic", Role.VIEWER)


async def post(client: Client, path: str, body: Any, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.http.post(
        f"/api/v1/{path}", json=body, headers={**client.headers, "accept": "application/json", **named}
    )


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    [found] = response.json()["errors"]
    return response.status_code, found["extensions"]["code"], found["extensions"].get("field")


async def test_a_tier_is_made_given_to_a_customer_and_keeps_its_use(ada: Client, bob: Client) -> None:
    made = await post(ada, "tiers", GOLD)
    assert made.status_code == 201
    tier = made.json()
    assert {name: tier[name] for name in GOLD} == GOLD
    given = (await ada.ask(GIVE, {"tier": tier["id"], "name": "Ada"})).data["upsertTierCustomer"]
    assert given == {"created": True, "tierCustomer": {"name": "Ada", "tier": {"name": "Gold"}}}
    assert (await ada.ask(TIERS)).data["tiers"]["nodes"] == [
        {**GOLD, "customers": {"totalCount": 1, "nodes": [{"name": "Ada"}]}}
    ]
    assert (await ada.ask(ENTITLED)).data == {"has": True, "other": False, "nobody": False}

    event = {"meter": "executions", "quantity": 4, "customer": "Ada", "withinLimit": True}
    tracked = await post(ada, "usage/track", event)
    assert (tracked.status_code, tracked.json()) == (201, {"counted": True})
    assert (await ada.ask(CHECK, {"amount": 1})).data["checkUsage"] == {
        "allowed": True,
        "used": 4,
        "usedByCustomer": 4,
        "customerLimit": 5,
        "customerRemaining": 1,
        "limit": None,
    }
    assert not (await ada.ask(CHECK, {"amount": 2})).data["checkUsage"]["allowed"]
    refused = await post(ada, "usage/track", event)
    assert error(refused) == (429, "QUOTA_EXCEEDED", None)
    assert refused.json()["errors"][0]["message"] == "executions: the limit of the customer is 5"
    used = (await ada.ask(USED)).data["usage"]["nodes"]
    assert {(each["customer"], each["quantity"], each["limit"]) for each in used} == {("Ada", 4, 5), (None, 4, None)}
    assert (await bob.ask(TIERS)).data["tiers"]["nodes"] == []

    kept = await ada.ask("mutation ($id: ID!) { deleteTier(input: {id: $id}) { deletedId } }", {"id": tier["id"]})
    assert (kept.code, kept.error["message"].partition(":")[0]) == ("CONFLICT", "customers have this tier")


async def test_the_paths_have_the_rules_of_graphql(ada: Client, viewer: Client) -> None:
    event = {"meter": "executions"}
    anonymous = replace(ada, headers={"content-type": "application/json"})
    assert error(await post(anonymous, "usage/track", event))[:2] == (401, "UNAUTHENTICATED")
    for path, body in (("usage/track", event), ("tiers", GOLD)):
        assert error(await post(viewer, path, body))[:2] == (403, "FORBIDDEN")
        assert error(await post(ada, path, [body]))[:2] == (400, "BAD_USER_INPUT")
        assert error(await post(ada, path, {**body, "more": 1}))[:2] == (400, "BAD_USER_INPUT")
        assert error(await post(ada, path, {}))[:2] == (400, "BAD_USER_INPUT")
        refused = await ada.http.get(f"/api/v1/{path}", headers={**ada.headers, "accept": "application/json"})
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, OPTIONS")
    assert error(await post(ada, "usage/track", {"meter": "nothing"})) == (400, "BAD_USER_INPUT", "meter")
    nan = {**ada.headers, "accept": "application/json"}
    for cap in ("0", "-1", "NaN", "9007199254740992", "1e400"):
        sent = f'{{"name": "Wrong", "usageCaps": {{"executions": {cap}}}}}'
        assert (await ada.http.post("/api/v1/tiers", content=sent, headers=nan)).status_code == 400
    assert error(await post(ada, "tiers", {**GOLD, "name": ""})) == (400, "BAD_USER_INPUT", "name")
    assert error(await post(ada, "tiers", {**GOLD, "usageCaps": {"x": 1}})) == (400, "BAD_USER_INPUT", "usageCaps")
    assert (await post(ada, "tiers", GOLD)).status_code == 201
    assert error(await post(ada, "tiers", GOLD)) == (409, "CONFLICT", "name")


async def test_a_repetition_under_a_key_is_counted_once(ada: Client) -> None:
    event = {"meter": "executions", "idempotencyKey": "k1"}
    assert [(await post(ada, "usage/track", event)).json() for _ in range(2)] == [{"counted": True}, {"counted": False}]
    assert error(await post(ada, "usage/track", {**event, "quantity": 2})) == (409, "CONFLICT", "idempotencyKey")
    for path, body in (("usage/track", {"meter": "executions"}), ("tiers", GOLD)):
        first, again = [await post(ada, path, body, idempotency_key=path) for _ in range(2)]
        assert (first.status_code, again.status_code, first.json()) == (201, 201, again.json())
        assert error(await post(ada, path, {**body, "x": 1}, idempotency_key=path))[0] == 400
    assert [each["quantity"] for each in (await ada.ask(USED)).data["usage"]["nodes"]] == [2]


async def test_the_examples_of_the_page_run(ada: Client) -> None:
    commands = [shlex.split(each.replace("\\\n", " ")) for each in CURL.findall(PAGE.read_text(encoding="utf-8"))]
    assert len(commands) == 2
    for command in commands:
        [url] = [each for each in command if each.startswith("http://")]
        response = await post(ada, url.partition("/api/v1/")[2], json.loads(command[command.index("-d") + 1]))
        assert response.status_code == 201
