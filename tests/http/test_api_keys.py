"""API keys of machines, from creation to revocation and expiry."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isola.platform import provisioning
from isola.subjects.permissions import Role
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client

KEY = "id prefix name permissions createdAt expiresAt lastUsedAt revokedAt user { id name } createdBy { id name }"
CREATE = f"mutation ($input: CreateApiKeyInput!) {{ createApiKey(input: $input) {{ key apiKey {{ {KEY} }} }} }}"
REVOKE = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { revokedId } }"
LIST = f"{{ apiKeys {{ totalCount nodes {{ {KEY} }} }} }}"
ME = "{ viewer { user { id name } tenant { slug } roles permissions } }"
SOME = ["resource:read", "resource:write", "user:read"]


async def make(client: Client, *permissions: str, **values: Any) -> Any:
    given = {"name": "robot", "permissions": list(permissions or SOME), **values}
    return (await client.ask(CREATE, {"input": given})).data["createApiKey"]


def machine(client: Client, key: str, header: str = "x-api-key") -> Client:
    """The client with an API key instead of its own credential."""
    headers = {name: value for name, value in client.headers.items() if name != "authorization"}
    return replace(client, headers={**headers, header: f"Bearer {key}" if header == "authorization" else key})


async def until(ask: Callable[[], Any], expected: tuple[int, str]) -> None:
    """Repeat a request until this is the answer: changes reach servers a moment later."""
    loop = asyncio.get_running_loop()
    latest = loop.time() + PATIENCE
    while True:
        answer: Answer = await ask()
        if "errors" in answer.body and (answer.status, answer.code) == expected:
            return
        assert loop.time() < latest, answer.response.text
        await asyncio.sleep(0.05)


async def test_a_machine_authenticates_with_the_key_that_was_returned_once(alice: Client) -> None:
    made = await make(alice, expiresAt=(datetime.now(UTC) + timedelta(days=1)).isoformat())
    key, about = made["key"], made["apiKey"]

    for header in ("x-api-key", "authorization"):
        me = (await machine(alice, key, header).ask(ME)).data["viewer"]
        assert me == {
            "user": {"id": about["user"]["id"], "name": "robot"},
            "tenant": {"slug": alice.tenant},
            "roles": [],
            "permissions": sorted(SOME),
        }
    assert key.startswith(f"isk_{about['prefix']}_")
    listed = await alice.ask(LIST)
    assert [each["id"] for each in listed.data["apiKeys"]["nodes"]] == [about["id"]]
    assert key.rpartition("_")[2] not in listed.response.text
    assert about["createdBy"]["id"] == (await alice.ask(ME)).data["viewer"]["user"]["id"]


async def test_users_are_filtered_by_kind(alice: Client) -> None:
    made = await make(alice)
    await alice.run("Viewer")
    asked = "query ($kinds: [UserKind!]) { users(filter: {kind: {in: $kinds}}) { nodes { id kind } } }"

    machines = (await alice.ask(asked, {"kinds": ["MACHINE", "STAFF"]})).data["users"]["nodes"]
    people = (await alice.ask(asked, {"kinds": ["PERSON"]})).data["users"]["nodes"]

    assert machines == [{"id": made["apiKey"]["user"]["id"], "kind": "MACHINE"}]
    assert {each["kind"] for each in people} == {"PERSON"}


async def test_a_machine_owns_what_it_creates_and_is_limited_by_its_key(api: Api, alice: Client, bob: Client) -> None:
    made = await make(alice)
    robot = machine(alice, made["key"])

    created = await robot.create("by a machine")

    shown = await robot.ask("query ($id: ID!) { resource(id: $id) { owner { id } } }", {"id": created})
    assert shown.data["resource"]["owner"]["id"] == made["apiKey"]["user"]["id"]
    before = await api.content(alice.tenant)
    refused = [
        await robot.ask(CREATE, {"input": {"name": "another", "permissions": ["user:read"]}}),
        await robot.ask(REVOKE, {"id": made["apiKey"]["id"]}),
        await robot.ask(LIST),
        await robot.run("ShareResource", input={"resourceId": created, "grantee": bob.tenant}),
    ]
    assert {each.code for each in refused} == {"FORBIDDEN"}
    assert await api.content(alice.tenant) == before


@pytest.mark.parametrize("permissions", [["api_key:manage"], ["nothing:known"], [], ["resource:read\x00"]], ids=str)
async def test_a_key_cannot_get_permissions_that_its_creator_lacks_or_that_create_keys(
    api: Api, alice: Client, permissions: list[str]
) -> None:
    refused = await alice.ask(CREATE, {"input": {"name": "robot", "permissions": permissions}})

    assert refused.code in {"FORBIDDEN", "BAD_USER_INPUT"}
    assert (await alice.ask(LIST)).data["apiKeys"]["totalCount"] == 0
    assert all(not user["subject"].startswith("key:") for user in (await api.content(alice.tenant))["users"])


async def test_a_key_is_valid_only_in_its_own_tenant(alice: Client, bob: Client) -> None:
    made = await make(alice)

    assert (await machine(bob, made["key"]).ask(ME)).data["viewer"]["tenant"]["slug"] == alice.tenant
    assert (await bob.ask(REVOKE, {"id": made["apiKey"]["id"]})).code == "NOT_FOUND"
    assert (await bob.ask(LIST)).data["apiKeys"]["totalCount"] == 0
    assert (await machine(alice, made["key"]).ask(ME)).status == 200


async def test_a_revoked_key_is_refused_soon(alice: Client) -> None:
    made = await make(alice)
    robot = machine(alice, made["key"])
    assert (await robot.ask(ME)).status == 200

    for _ in range(2):
        assert (await alice.ask(REVOKE, {"id": made["apiKey"]["id"]})).data

    await until(lambda: robot.ask(ME), (401, "UNAUTHENTICATED"))
    [listed] = (await alice.ask(LIST)).data["apiKeys"]["nodes"]
    assert listed["revokedAt"] is not None


async def test_a_key_expires(alice: Client) -> None:
    made = await make(alice, expiresAt=(datetime.now(UTC) + timedelta(seconds=2)).isoformat())
    robot = machine(alice, made["key"])

    await until(lambda: robot.ask(ME), (401, "UNAUTHENTICATED"))

    past = await alice.ask(
        CREATE, {"input": {"name": "late", "permissions": SOME, "expiresAt": "2026-01-01T00:00:00Z"}}
    )
    assert past.code == "BAD_USER_INPUT"


async def test_the_keys_of_a_suspended_tenant_are_refused_soon(api: Api, alice: Client) -> None:
    robot = machine(alice, (await make(alice))["key"])
    assert (await robot.ask(ME)).status == 200

    await provisioning.suspend(api.control, alice.tenant)

    await until(lambda: robot.ask(ME), (403, "TENANT_SUSPENDED"))


async def test_when_a_key_was_used_is_shown(alice: Client) -> None:
    made = await make(alice)
    assert made["apiKey"]["lastUsedAt"] is None
    await machine(alice, made["key"]).ask(ME)

    loop = asyncio.get_running_loop()
    latest = loop.time() + PATIENCE
    while (await alice.ask(LIST)).data["apiKeys"]["nodes"][0]["lastUsedAt"] is None:
        assert loop.time() < latest
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
async def test_keys_are_for_those_who_may_manage_them(api: Api, alice: Client, role: Role) -> None:
    made = await make(alice)
    member = api.client(alice.tenant, "mia", role)

    refused = [
        await member.ask(CREATE, {"input": {"name": "robot", "permissions": ["user:read"]}}),
        await member.ask(REVOKE, {"id": made["apiKey"]["id"]}),
        await member.ask(LIST),
    ]

    assert {each.code for each in refused} == {"FORBIDDEN"}
    assert (await machine(alice, made["key"]).ask(ME)).status == 200


async def test_neither_answers_nor_logs_repeat_a_key(
    api: Api, alice: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    made = await make(alice)
    robot = machine(alice, made["key"])
    secret = made["key"].rpartition("_")[2]
    answers = [
        await robot.ask(ME),
        await robot.ask("{ nothing }"),
        await robot.send("no JSON"),
        await machine(alice, made["key"] + "0").ask(ME),
        await machine(alice, made["key"], "authorization").ask("{ resources(first: -1) { totalCount } }"),
    ]
    await alice.ask(REVOKE, {"id": made["apiKey"]["id"]})
    await until(lambda: robot.ask(ME), (401, "UNAUTHENTICATED"))

    assert all(secret not in answer.response.text + str(answer.response.headers) for answer in answers)
    assert secret not in "".join(capfd.readouterr())
    assert secret not in str(await api.content(alice.tenant))


async def test_a_key_loses_the_permissions_that_its_creator_loses(api: Api, alice: Client) -> None:
    maker = api.client(alice.tenant, "eve")
    robot = machine(alice, (await make(maker))["key"])
    eve = (await maker.ask(ME)).data["viewer"]["user"]["id"]
    assert (await robot.ask(ME)).data["viewer"]["permissions"] == sorted(SOME)
    given = (await alice.ask("{ roles { nodes { id name } } }")).data["roles"]["nodes"]
    roles = {each["name"]: each["id"] for each in given}

    for change, role in (("assignRole", "viewer"), ("unassignRole", "admin")):
        changing = (
            f"mutation ($input: {change[0].upper()}{change[1:]}Input!) {{ {change}(input: $input) {{ __typename }} }}"
        )
        assert (await alice.ask(changing, {"input": {"userId": eve, "roleId": roles[role]}})).data

    await until(lambda: robot.run("CreateResource", input={"name": "no more"}), (200, "FORBIDDEN"))
    assert (await robot.ask(ME)).data["viewer"]["permissions"] == ["resource:read", "user:read"]


@pytest.mark.parametrize("disabled", ["maker", "machine"])
async def test_a_key_whose_creator_is_disabled_is_refused(api: Api, alice: Client, disabled: str) -> None:
    maker = api.client(alice.tenant, "eve")
    made = await make(maker)
    robot = machine(alice, made["key"])
    assert (await robot.ask(ME)).status == 200
    user = made["apiKey"]["createdBy" if disabled == "maker" else "user"]["id"]

    disable = "mutation ($id: ID!) { disableUser(input: {id: $id}) { __typename } }"
    assert (await alice.ask(disable, {"id": user})).data

    await until(lambda: robot.ask(ME), (403, "FORBIDDEN"))
