"""Branding, as settings of a tenant: it is changed in versions, and shown before anybody has signed in."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import pytest
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.errors import BadUserInput
from isola.identity.branding import TAKES
from isola.platform import provisioning
from isola.subjects.branding import Branding
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client
from tests.http.people import ask

COLOURS = "primaryColour secondaryColour backgroundColour textColour"
VALUES = f"name {COLOURS} logo"
CURRENT = f"{{ currentBranding {{ {VALUES} }} }}"
CHANGE = f"""mutation ($input: ChangeBrandingInput!) {{
  changeBranding(input: $input) {{ branding {{ id number {VALUES} }} }} }}"""
RESTORE = "mutation ($input: RestoreBrandingInput!) { restoreBranding(input: $input) { branding { number name } } }"
HISTORY = """{ brandingHistory(first: 2) { totalCount nodes {
  number name createdAt changedBy { name } previous { number name } } } }"""
SIGN_IN = f"query ($tenant: String) {{ signInChoices(tenant: $tenant) {{ branding {{ {VALUES} }} }} }}"
DEFAULTS = {
    "name": None,
    "primaryColour": "#1f4e8c",
    "secondaryColour": "#5b6b7f",
    "backgroundColour": "#ffffff",
    "textColour": "#1a1a1a",
    "logo": None,
}


async def changed(client: Client, **values: Any) -> Mapping[str, Any]:
    answer = await client.ask(CHANGE, {"input": values})
    return dict(answer.data["changeBranding"]["branding"])


async def seen(api: Api, tenant: str) -> Any:
    return (await ask(api, SIGN_IN, {"tenant": tenant})).data["signInChoices"]["branding"]


def refusal(answer: Answer) -> tuple[str | None, Any]:
    return answer.code, answer.error["extensions"].get("field")


async def test_a_change_is_a_version_that_can_be_restored(alice: Client, eve: Client, bob: Client) -> None:
    assert (await eve.ask(CURRENT)).data == {"currentBranding": DEFAULTS}

    first = await changed(alice, name="Acme", primaryColour="#AABBCC")
    second = await changed(alice, logo="https://images.example/a.png")
    third = await changed(alice, name="Acme Inc.", primaryColour="#000000")
    in_force = {**DEFAULTS, "name": "Acme Inc.", "primaryColour": "#000000", "logo": "https://images.example/a.png"}
    assert (first["number"], first["primaryColour"], second["name"]) == (1, "#aabbcc", "Acme")
    assert third == {"id": third["id"], "number": 3, **in_force}
    assert (await eve.ask(CURRENT)).data == {"currentBranding": in_force}
    assert await changed(alice, name="Acme Inc.") == third

    history = (await eve.ask(HISTORY)).data["brandingHistory"]
    assert history["totalCount"] == 3
    assert [(each["number"], each["name"], each["previous"]) for each in history["nodes"]] == [
        (3, "Acme Inc.", {"number": 2, "name": "Acme"}),
        (2, "Acme", {"number": 1, "name": "Acme"}),
    ]
    assert all(each["changedBy"] for each in history["nodes"])

    restored = await alice.ask(RESTORE, {"input": {"id": first["id"], "expectedNumber": 3}})
    assert restored.data == {"restoreBranding": {"branding": {"number": 4, "name": "Acme"}}}
    expected = {**DEFAULTS, "name": "Acme", "primaryColour": "#aabbcc"}
    assert (await eve.ask(CURRENT)).data == {"currentBranding": expected}
    assert (await bob.ask(CURRENT)).data == {"currentBranding": DEFAULTS}
    assert (await bob.ask(RESTORE, {"input": {"id": first["id"]}})).code == "NOT_FOUND"
    log = (await alice.ask("{ auditLog(first: 1) { nodes { action new } } }")).data["auditLog"]["nodes"]
    assert (log[0]["action"], log[0]["new"]["number"]) == ("branding:create", 4)


async def test_changes_at_once_lose_nothing(alice: Client) -> None:
    at_once = [alice.ask(CHANGE, {"input": {"name": f"name {number}"}}) for number in range(5)]
    codes = [answer.code if "errors" in answer.body else None for answer in await asyncio.gather(*at_once)]
    assert None in codes
    assert set(codes) <= {None, "CONFLICT"}
    assert (await alice.ask(HISTORY)).data["brandingHistory"]["totalCount"] == codes.count(None)
    stale = await alice.ask(CHANGE, {"input": {"name": "other", "expectedNumber": 0}})
    assert refusal(stale) == ("CONFLICT", "input.expectedNumber")


WRONG = [
    ("primaryColour", "red"),
    ("textColour", "#12345"),
    ("backgroundColour", None),
    ("name", ""),
    ("name", "Ac\u202eme"),
    ("logo", "http://images.example/a.png"),
    ("logo", "https://images.example/a.svg') }"),
    ("logo", "https://user@images.example/a.png"),
    ("logo", "data:image/svg+xml,<svg/>"),
    ("logo", "https://images.example/" + "a" * 500),
]


async def test_what_is_not_safe_in_a_page_is_refused_also_of_raw_sql(
    alice: Client, eve: Client, api: Api, database: Database
) -> None:
    for field, value in WRONG:
        answer = await alice.ask(CHANGE, {"input": {field: value}})
        assert refusal(answer) == ("BAD_USER_INPUT", f"input.{field}"), (field, value)
    assert (await alice.ask(CHANGE, {"input": {}})).code == "BAD_USER_INPUT"
    assert (await eve.ask(CHANGE, {"input": {"name": "Acme"}})).code == "FORBIDDEN"
    assert (await alice.ask(HISTORY)).data["brandingHistory"]["totalCount"] == 0

    tenant = await provisioning.named(api.control, alice.tenant)
    async with database.transaction(tenant) as work:
        [user] = await work.texts("SELECT min(id::text) FROM users")
        wrong: list[tuple[str, Any]] = [("primary_colour", "red"), ("logo", "javascript:alert(1)"), ("number", 0)]
        for column, invalid in wrong:
            values = {"number": 1, "changed_by_id": user, column: invalid}
            with pytest.raises(BadUserInput):
                async with work.savepoint():
                    await work.execute(insert(Branding.table).values(values))


async def test_a_sign_in_page_shows_it_and_does_not_tell_whether_a_tenant_exists(
    alice: Client, bob: Client, api: Api
) -> None:
    for name in (alice.tenant, "nowhere", "no\x00where"):
        begun = time.monotonic()
        answer = await ask(api, SIGN_IN, {"tenant": name})
        assert time.monotonic() - begun >= TAKES
        assert answer.data == {"signInChoices": {"branding": DEFAULTS}}

    await changed(alice, name="Acme", logo="https://images.example/a.png")

    async with asyncio.timeout(PATIENCE):
        while await seen(api, alice.tenant) == DEFAULTS:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.3)
    expected = {**DEFAULTS, "name": "Acme", "logo": "https://images.example/a.png"}
    assert await seen(api, alice.tenant) == expected
    # Also where the request names the tenant otherwise; not where it names two.
    named = await ask(api, SIGN_IN, None, **{"x-tenant-id": alice.tenant})
    assert named.data == {"signInChoices": {"branding": expected}}
    other = await ask(api, SIGN_IN, {"tenant": alice.tenant}, **{"x-tenant-id": bob.tenant})
    assert other.data == {"signInChoices": {"branding": DEFAULTS}}
    assert await seen(api, bob.tenant) == DEFAULTS

    await provisioning.suspend(api.control, alice.tenant)
    async with asyncio.timeout(PATIENCE):
        while await seen(api, alice.tenant) == expected:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.3)
    assert await seen(api, alice.tenant) == DEFAULTS
