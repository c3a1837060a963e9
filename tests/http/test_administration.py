"""Platform administration: its own endpoint, issuer and contract; and temporary read access, always logged."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from graphql import ObjectTypeDefinitionNode, parse
from sqlalchemy import func, update

from isola.admin.schema import schema
from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import audit, provisioning
from isola.platform.grants import access_grants
from isola.platform.tenants import Status
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client, serving
from isola_strategies.base import Strategy
from tests.http.staff import ADMIN, AUDIENCE, LOOK, READ, REASON, StaffClient, admitting, token


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return admitting(settings)


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


@pytest.fixture
def sam(api: Api) -> StaffClient:
    return StaffClient(api.http, token())


async def machine(maker: Client) -> str:
    """Create a machine and return its key."""
    document = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'
    return str((await maker.ask(document)).data["createApiKey"]["key"])


async def accesses(reader: Client) -> list[dict[str, Any]]:
    """The entries about staff access in a tenant's log, oldest first."""
    document = """{ auditLog(filter: {action: {eq: "access:create"}}) {
      nodes { actor onBehalfOf object new request } } }"""
    return list(reversed((await reader.ask(document)).data["auditLog"]["nodes"]))


# --- Authentication


async def test_without_an_issuer_of_staff_administration_does_not_exist(
    copy: Copy, settings: Settings, strategy: Strategy
) -> None:
    async with serving(copy, settings.model_copy(update={"admin_issuer": None})) as api:
        client = StaffClient(api.http, token())
        for path in (ADMIN, f"/admin/t/{strategy.name}-a/graphql"):
            headers = {"authorization": f"Bearer {client.token}"}
            assert (await api.http.post(path, headers=headers)).status_code == 404


async def test_credentials_of_tenants_are_refused_for_administration(api: Api, alice: Client) -> None:
    owner = api.client(alice.tenant, "olga", Role.OWNER)
    key = await machine(owner)
    bearer = owner.headers["authorization"]
    for path in (ADMIN, f"/admin/t/{alice.tenant}/graphql"):
        for headers in ({}, {"authorization": bearer}, {"authorization": f"Bearer {key}"}, {"x-api-key": key}):
            content = {"query": "{ tenants { slug } }"}
            answer = Answer(await api.http.post(path, json=content, headers=headers))
            assert (answer.status, answer.code) == (401, "UNAUTHENTICATED"), (path, headers.keys())


async def test_credentials_of_staff_are_refused_by_tenants(api: Api, sam: StaffClient, alice: Client) -> None:
    await sam.leave(alice.tenant)
    for claims in ({}, {"tenant": alice.tenant, "role": "owner"}, {"tenant": alice.tenant, "aud": ["isola", AUDIENCE]}):
        client = StaffClient(api.http, token(**claims))
        for path in ("/graphql", f"/t/{alice.tenant}/graphql"):
            assert (await client.ask(READ, path)).status == 401


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "isola"},
        {"iss": "isola"},
        {"exp": 1},
        {"sub": "with a blank"},
        {"sub": "quote'"},
        {"sub": "x" * 200},
        {"sub": None},
    ],
)
async def test_invalid_tokens_of_staff_are_refused(api: Api, claims: dict[str, Any]) -> None:
    answer = await StaffClient(api.http, token(**claims)).ask("{ tenants { slug } }")
    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")
    assert answer.reason == ("TOKEN_EXPIRED" if "exp" in claims else None)


async def test_an_issuer_of_tenants_cannot_issue_tokens_of_staff(copy: Copy, settings: Settings) -> None:
    assert settings.admin_issuer is not None
    issuer = settings.admin_issuer.model_copy(update={"token_issuer": settings.token_issuer})
    with pytest.raises(OperatorError, match="ISOLA_ADMIN_ISSUER"):
        async with serving(copy, settings.model_copy(update={"admin_issuer": issuer})):
            pytest.fail("it serves")


async def test_hosts_that_are_not_the_platforms_own_are_refused(api: Api, sam: StaffClient) -> None:
    headers = {"authorization": f"Bearer {sam.token}", "host": "tenant.example.com"}
    answer = Answer(await api.http.post(ADMIN, json={"query": "{ tenants { slug } }"}, headers=headers))
    assert (answer.status, answer.code) == (400, "BAD_USER_INPUT")


# --- The contract


def test_every_type_declares_its_access_rule() -> None:
    types = [each for each in parse(schema.as_str()).definitions if isinstance(each, ObjectTypeDefinitionNode)]
    assert {"Query", "Mutation", "Tenant", "Plan", "ApiKey", "PlatformLogEntry"} <= {each.name.value for each in types}
    for each in types:
        assert [directive.name.value for directive in each.directives or ()] == ["staff"], each.name.value


async def test_tenants_are_listed_page_by_page(api: Api, sam: StaffClient) -> None:
    document = (
        "query ($after: ID, $status: TenantStatus) { tenants(first: 3, after: $after, status: $status) { id slug } }"
    )
    every = [tenant.slug for tenant in await provisioning.every(api.control)]
    found: list[str] = []
    after = None
    while page := (await sam.ask(document, after=after)).data["tenants"]:
        found += [each["slug"] for each in page]
        after = page[-1]["id"]
    assert found == every
    assert (await sam.ask(document, status="SUSPENDED")).data == {"tenants": []}
    for bad in ("{ tenants(first: 101) { id } }", "{ tenants(first: 0) { id } }", '{ tenants(after: "x") { id } }'):
        assert (await sam.ask(bad)).code == "BAD_USER_INPUT"


async def test_tenants_are_suspended_resumed_and_moved(api: Api, sam: StaffClient, alice: Client, bob: Client) -> None:
    document = "mutation ($s: String!) { %s(slug: $s) { status } }"
    suspended = await sam.ask(document % "suspendTenant", s=alice.tenant)
    assert suspended.data == {"suspendTenant": {"status": "SUSPENDED"}}
    assert (await provisioning.named(api.control, alice.tenant)).status is Status.SUSPENDED
    assert (await sam.ask(document % "suspendTenant", s=alice.tenant)).code == "CONFLICT"
    resumed = await sam.ask(document % "resumeTenant", s=alice.tenant)
    assert resumed.data == {"resumeTenant": {"status": "ACTIVE"}}

    place = "mutation ($s: String!, $p: String) { setParent(slug: $s, parent: $p) { parentId } }"
    above = await provisioning.named(api.control, alice.tenant)
    assert (await sam.ask(place, s=bob.tenant, p=alice.tenant)).data["setParent"] == {"parentId": str(above.id)}
    assert (await sam.ask(place, s=alice.tenant, p=bob.tenant)).code == "BAD_USER_INPUT"
    assert (await sam.ask(place, s="nobody", p=bob.tenant)).code == "NOT_FOUND"
    assert (await sam.ask(place, s=bob.tenant)).data["setParent"] == {"parentId": None}


async def test_keys_are_listed_and_revoked_in_sight_of_the_tenant(sam: StaffClient, alice: Client) -> None:
    key = await machine(alice)
    listed = await sam.ask("query ($t: String!) { apiKeys(tenant: $t) { prefix name revokedAt } }", t=alice.tenant)
    [entry] = listed.data["apiKeys"]
    assert entry == {"prefix": key.split("_")[1], "name": "robot", "revokedAt": None}

    revoke = "mutation ($t: String!, $p: String!) { revokeApiKey(tenant: $t, prefix: $p) { revokedAt } }"
    other = f"{alice.tenant[:-1]}b"
    assert (await sam.ask(revoke, t=other, p=entry["prefix"])).code == "NOT_FOUND"
    revoked = await sam.ask(revoke, t=alice.tenant, p=entry["prefix"])
    assert revoked.data["revokeApiKey"]["revokedAt"] is not None
    document = '{ auditLog(filter: {action: {eq: "api_key:update"}}) { nodes { actor } } }'
    assert (await alice.ask(document)).data["auditLog"]["nodes"] == [{"actor": "staff:sam"}]


# --- Temporary read access to a tenant


async def test_read_access_permits_what_a_viewer_may_read(sam: StaffClient, alice: Client) -> None:
    await alice.create("first")
    await sam.leave(alice.tenant)
    seen = (await sam.look(alice.tenant)).data
    assert seen["resources"] == {"totalCount": 1, "nodes": [{"name": "first"}]}
    assert seen["viewer"]["tenant"]["slug"] == alice.tenant
    assert seen["viewer"]["user"] == {"name": "platform staff"}
    assert all(each.endswith(":read") for each in seen["viewer"]["permissions"])


async def test_read_access_does_not_stream(sam: StaffClient, alice: Client) -> None:
    await sam.leave(alice.tenant)
    for document in ("query @live { resources(first: 1) { totalCount } }", "subscription { resourceChanges { kind } }"):
        refused = await sam.look(alice.tenant, document)
        assert (refused.status, refused.code) == (400, "BAD_USER_INPUT")
        assert refused.error["message"] == "this endpoint does not stream: expected no subscription and no live query"


async def test_each_staff_access_is_in_the_tenants_log(api: Api, sam: StaffClient, alice: Client) -> None:
    leave = await sam.leave(alice.tenant)
    assert await accesses(alice) == []
    requests = [(await sam.look(alice.tenant)).response.headers["x-request-id"] for _ in range(3)]
    entries = await accesses(alice)
    assert [entry["request"] for entry in entries] == requests
    for entry in entries:
        assert entry["onBehalfOf"] == "staff:sam"
        assert entry["object"] == f"grant_{leave}"
        assert (entry["new"]["staff"], entry["new"]["reason"]) == ("staff:sam", REASON)
    tenant = await provisioning.named(api.control, alice.tenant)
    assert (await audit.verify(api.control, api.tenants, tenant)).broken is None


async def test_a_staff_access_that_cannot_be_logged_is_refused(
    sam: StaffClient, alice: Client, owner: Database
) -> None:
    await alice.create("secret name")
    await sam.leave(alice.tenant)
    assert (await sam.look(alice.tenant)).status == 200
    async with owner.unbound() as work:
        await work.script("REVOKE INSERT ON control.audit_pending FROM isola_audit")
    answer = await sam.look(alice.tenant)
    assert "secret name" not in answer.response.text
    assert answer.body["data"] == {"viewer": None, "resources": None}
    async with owner.unbound() as work:
        await work.script("GRANT INSERT ON control.audit_pending TO isola_audit")
    # The same if the entry's place in commit order cannot be written, which happens at commit.
    async with owner.unbound() as work:
        await work.script("REVOKE UPDATE (place, at) ON control.audit_pending FROM isola_audit")
    assert "secret name" not in (await sam.look(alice.tenant)).response.text


async def test_staff_cannot_change_anything_in_a_tenant(api: Api, sam: StaffClient, alice: Client) -> None:
    await sam.leave(alice.tenant)
    assert (await sam.look(alice.tenant)).status == 200
    before = await api.content(alice.tenant)
    for document in (
        'mutation { createResource(input: {name: "x"}) { resource { id } } }',
        "mutation { signOutEverywhere { signedOut } }",
    ):
        answer = await sam.look(alice.tenant, document)
        assert not any((answer.body.get("data") or {}).values())
        assert answer.body["errors"]
    assert await api.content(alice.tenant) == before
    # They cannot read more than a viewer either.
    assert (await sam.look(alice.tenant, "{ auditLog { nodes { id } } }")).code == "FORBIDDEN"


async def test_read_access_is_for_one_tenant_and_one_staff_member(
    api: Api, sam: StaffClient, alice: Client, bob: Client
) -> None:
    await sam.leave(alice.tenant)
    tim = StaffClient(api.http, token("tim"))
    refused = [await sam.look(bob.tenant), await tim.look(alice.tenant), await sam.look("nobody")]
    assert {answer.status for answer in refused} == {403}
    assert len({answer.response.content for answer in refused}) == 1
    assert await accesses(alice) == await accesses(bob) == []


async def test_read_access_ends(api: Api, sam: StaffClient, alice: Client, owner: Database) -> None:
    leave = await sam.leave(alice.tenant)
    tim = StaffClient(api.http, token("tim"))
    end = "mutation ($g: ID!) { endAccess(grant: $g) { endedAt } }"
    assert (await tim.ask(end, g=leave)).code == "NOT_FOUND"
    assert (await sam.look(alice.tenant)).status == 200
    assert (await sam.ask(end, g=leave)).data["endAccess"]["endedAt"]
    assert (await sam.look(alice.tenant)).status == 403

    await sam.leave(alice.tenant)
    assert (await sam.look(alice.tenant)).status == 200
    async with owner.unbound() as work:
        await work.execute(update(access_grants).values(expires_at=func.now()))
    assert (await sam.look(alice.tenant)).status == 403
    grants = await sam.ask("query ($t: String!) { accessGrants(tenant: $t) { id } }", t=alice.tenant)
    assert grants.data == {"accessGrants": []}
    assert len(await accesses(alice)) == 2


@pytest.mark.parametrize(
    ("reason", "minutes"),
    [("", 10), ("too short", 10), (" " * 20, 10), ("x" * 501, 10), (REASON, 0), (REASON, -1), (REASON, 481)],
)
async def test_read_access_needs_a_reason_and_an_end(
    sam: StaffClient, alice: Client, reason: str, minutes: int
) -> None:
    assert (await sam.ask(LOOK, t=alice.tenant, r=reason, m=minutes)).code == "BAD_USER_INPUT"
    assert (await sam.look(alice.tenant)).status == 403


async def test_a_tenant_can_disable_a_staff_member(sam: StaffClient, alice: Client) -> None:
    await sam.leave(alice.tenant)
    user = (await sam.look(alice.tenant, "{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    disable = "mutation ($i: DisableUserInput!) { disableUser(input: $i) { user { id } } }"
    assert "errors" not in (await alice.ask(disable, {"i": {"id": user}})).body
    async with asyncio.timeout(PATIENCE):
        while (answer := await sam.look(alice.tenant)).status == 200:
            pass
    assert (answer.status, answer.code) == (403, "FORBIDDEN")


async def test_suspended_tenants_are_unavailable_to_staff_as_well(api: Api, sam: StaffClient, alice: Client) -> None:
    await sam.leave(alice.tenant)
    await provisioning.suspend(api.control, alice.tenant)
    assert (await sam.look(alice.tenant)).code == "TENANT_SUSPENDED"
