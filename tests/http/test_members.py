"""Users in each tenant, their permissions, and the log of their actions."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from isola.settings import Settings
from isola.subjects.permissions import Role, of_role
from isola.testing.fixtures import STRATEGIES, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy

PERMISSIONS = "{ viewer { roles permissions } }"
MEMBERSHIPS = "{ viewer { m: memberships { t: tenant { slug } roles } } }"
LOG = "query ($filter: AuditFilter) { auditLog(filter: $filter) { nodes { actor request action object old new } } }"


async def viewer(client: Client) -> dict[str, Any]:
    return dict((await client.ask(PERMISSIONS)).data["viewer"])


async def roles(client: Client) -> dict[str, str]:
    found = (await client.ask("{ roles { nodes { id name } } }")).data["roles"]["nodes"]
    return {each["name"]: each["id"] for each in found}


async def user_id(client: Client) -> str:
    return str((await client.run("Viewer")).data["viewer"]["user"]["id"])


async def log(client: Client, **filter_: object) -> list[dict[str, Any]]:
    return list((await client.ask(LOG, {"filter": filter_})).data["auditLog"]["nodes"])


async def test_a_token_can_restrict_the_stored_roles_but_not_extend_them(api: Api, alice: Client) -> None:
    editor = api.client(alice.tenant, "eve", Role.EDITOR)
    assert await viewer(editor) == {"roles": ["editor"], "permissions": sorted(of_role(Role.EDITOR))}
    for claimed in (Role.ADMIN, Role.OWNER):
        more = api.client(alice.tenant, "eve", claimed)
        assert await viewer(more) == {"roles": ["editor"], "permissions": sorted(of_role(Role.EDITOR))}
    less = api.client(alice.tenant, "eve", Role.VIEWER)
    assert await viewer(less) == {"roles": ["editor"], "permissions": sorted(of_role(Role.VIEWER))}


@pytest.mark.parametrize(
    ("changed", "permitted"),
    [
        ({}, of_role(Role.ADMIN)),
        ({"token_roles": False}, of_role(Role.EDITOR)),
        ({"token_roles": False, "new_user_role": Role.VIEWER}, of_role(Role.VIEWER)),
        ({"token_roles": False, "new_user_role": "none"}, frozenset()),
    ],
)
async def test_the_role_of_new_users_is_a_setting(
    copy: Copy, settings: Settings, strategy: Strategy, changed: dict[str, Any], permitted: frozenset[str]
) -> None:
    async with serving(copy, settings.model_copy(update=changed)) as api:
        newcomer = api.client(f"{strategy.name}-a", "new", Role.ADMIN)
        assert (await viewer(newcomer))["permissions"] == sorted(permitted)


def test_in_production_a_token_that_names_no_role_gives_none(settings: Settings) -> None:
    assert settings.first_role is Role.EDITOR
    assert settings.model_copy(update={"production": True}).first_role is None
    assert settings.model_copy(update={"production": True, "new_user_role": Role.VIEWER}).first_role is Role.VIEWER


async def test_a_custom_role_permits_exactly_its_permissions(api: Api, alice: Client) -> None:
    reader = api.client(alice.tenant, "rita", Role.OWNER)
    rita = await user_id(reader)
    made = await alice.ask(
        'mutation { createRole(input: {name: "reader", permissions: ["resource:read"]}) '
        "{ role { id name permissions builtIn } } }"
    )
    role = made.data["createRole"]["role"]
    assert role == {"id": role["id"], "name": "reader", "permissions": ["resource:read"], "builtIn": False}
    boss = api.client(alice.tenant, "olga", Role.OWNER)
    for document, given in (
        ("assignRole", role["id"]),
        ("unassignRole", (await roles(boss))["owner"]),
    ):
        input_ = {"userId": rita, "roleId": given}
        done = await boss.ask(
            f"mutation ($i: {document[0].upper()}{document[1:]}Input!) {{ {document}(input: $i) {{ user {{ id }} }} }}",
            {"i": input_},
        )
        assert done.data
    known = {"permissions": ["resource:read"], "roles": ["reader"]}

    async def is_heard() -> bool:
        return await viewer(reader) == known

    await eventually(is_heard)
    assert (await reader.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 0}}
    refused = await reader.ask("{ resources { nodes { name owner { name } } } }")
    assert (refused.status, refused.code, refused.body["data"]) == (200, "FORBIDDEN", {"resources": None})
    assert refused.error["message"] == "this needs the permission user:read"
    assert refused.error["path"] == ["resources", "nodes", "owner"]


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until a change has reached the server."""
    async with asyncio.timeout(PATIENCE):
        while True:
            if await holds():
                return
            await asyncio.sleep(0.05)


async def test_a_user_lists_only_their_own_tenants(api: Api) -> None:
    tenants = [f"{name}-{letter}" for name in STRATEGIES for letter in "ab"]
    for tenant, role in zip(tenants, (Role.ADMIN, Role.VIEWER, Role.EDITOR, Role.OWNER), strict=True):
        await viewer(api.client(tenant, "ada", role))
    await viewer(api.client(tenants[0], "bob"))
    expected = [
        {"t": {"slug": tenant}, "roles": [role]}
        for tenant, role in zip(tenants, ("admin", "viewer", "editor", "owner"), strict=True)
    ]
    for tenant in tenants:
        assert (await api.client(tenant, "ada").ask(MEMBERSHIPS)).data["viewer"]["m"] == sorted(
            expected, key=lambda each: str(each["t"])
        )
    assert (await api.client(tenants[0], "bob").ask(MEMBERSHIPS)).data["viewer"]["m"] == [
        {"t": {"slug": tenants[0]}, "roles": ["admin"]}
    ]


async def test_the_log_requires_a_permission_and_names_the_actor(api: Api, alice: Client, bob: Client) -> None:
    ada = await user_id(alice)
    create = '{"query": "mutation { createResource(input: {name: \\"map\\"}) { resource { id } } }"}'
    named = await alice.send(create, x_request_id="r-1")
    resource = named.body["data"]["createResource"]["resource"]["id"]
    await alice.run("UpdateResource", input={"id": resource, "name": "atlas"})

    changed, made = await log(alice, object={"eq": resource})
    assert (made["action"], made["actor"], made["request"]) == ("resource:create", ada, "r-1")
    assert (made["old"], made["new"]["name"]) == (None, "map")
    assert (changed["action"], changed["old"]["name"], changed["new"]["name"]) == ("resource:update", "map", "atlas")
    assert (
        await log(alice, action={"startsWith": "resource:"}) == await log(alice, actor={"eq": ada}) == [changed, made]
    )
    assert await log(alice, at={"lt": "2020-01-01T00:00:00Z"}) == []
    assert await log(bob, object={"eq": resource}) == []
    for role in (Role.VIEWER, Role.EDITOR):
        refused = await api.client(alice.tenant, f"a {role}", role).ask(LOG)
        assert (refused.status, refused.code, refused.error["path"]) == (200, "FORBIDDEN", ["auditLog"])


async def test_a_key_acts_on_behalf_of_its_creator_and_is_not_in_the_log(alice: Client) -> None:
    made = await alice.ask(
        'mutation { createApiKey(input: {name: "robot", permissions: ["resource:write", "resource:read"]}) '
        "{ key apiKey { id user { id } } } }"
    )
    key = made.data["createApiKey"]
    robot = alice.saying(f"Bearer {key['key']}")
    await robot.ask('mutation { createResource(input: {name: "by machine"}) { resource { id } } }')
    document = "{ auditLog(first: 3) { nodes { actor onBehalfOf action old new } } }"
    found = await alice.ask(document)
    by_machine, of_key = found.data["auditLog"]["nodes"][:2]
    assert (by_machine["actor"], by_machine["onBehalfOf"]) == (key["apiKey"]["user"]["id"], await user_id(alice))
    assert (of_key["action"], of_key["new"]["name"]) == ("api_key:create", "robot")
    assert "digest" not in of_key["new"]
    assert key["key"] not in found.response.text


@pytest.mark.parametrize("given", ["r-1", "A.b_c-9", "x" * 128])
async def test_a_request_keeps_its_request_id(alice: Client, given: str) -> None:
    answer = await alice.send('{"query": "{ viewer { roles } }"}', x_request_id=given)
    assert answer.response.headers["x-request-id"] == given


@pytest.mark.parametrize("given", [None, "", "a b", "x" * 129, "a'b", "{}"])
async def test_a_request_without_a_valid_request_id_gets_one(alice: Client, given: str | None) -> None:
    headers = {} if given is None else {"x_request_id": given}
    answered = await alice.send('{"query": "{ viewer { roles } }"}', **headers)
    refused = await alice.saying("Bearer nothing").send("{}", **headers)
    assert (answered.status, refused.status) == (200, 401)
    made = {answer.response.headers["x-request-id"] for answer in (answered, refused)}
    assert len(made) == 2
    assert given not in made
