"""Acting in a descendant tenant: it takes a permission and is logged, and reveals nothing else about the ancestor."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from isola.platform import hierarchy, provisioning
from isola.subjects.permissions import Role, of_role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, make_tenant, serving
from isola_strategies.base import Strategy
from tests.http.naming import SOURCES, ask, expired
from tests.http.test_members import log

VIEWER = "{ viewer { tenant { slug } roles permissions user { id kind name } memberships { tenant { slug } } } }"


def below(client: Client, tenant: str) -> Client:
    """The same client, naming another tenant."""
    return replace(client, tenant=tenant, headers={**client.headers, "x-tenant-id": tenant})


@pytest.fixture
async def api(copy: Copy, settings: Any, strategy: Strategy) -> AsyncIterator[Api]:
    """A server where b, which has a child of its own, is below a."""
    await make_tenant(copy, "grandchild", strategy.name)
    async with serving(copy, settings.model_copy(update={"platform_domain": "platform.test"})) as api:
        await hierarchy.place(api.control, f"{strategy.name}-b", under=f"{strategy.name}-a")
        await hierarchy.place(api.control, "grandchild", under=f"{strategy.name}-b")
        yield api


@pytest.fixture
async def owner_above(api: Api, strategy: Strategy) -> Client:
    client = api.client(f"{strategy.name}-a", "olga", Role.OWNER)
    assert (await client.ask("{ viewer { roles } }")).data["viewer"]["roles"] == ["owner"]
    return client


async def test_an_owner_can_access_all_descendants(owner_above: Client, bob: Client) -> None:
    own = (await owner_above.ask(VIEWER)).data["viewer"]
    for tenant in (bob.tenant, "grandchild"):
        there = (await below(owner_above, tenant).ask(VIEWER)).data["viewer"]
        assert there["tenant"]["slug"] == tenant
        assert there["permissions"] == own["permissions"] == sorted(of_role(Role.OWNER))
        assert there["roles"] == there["memberships"] == []
        assert there["user"]["id"] != own["user"]["id"]
        assert (there["user"]["name"], there["user"]["kind"]) == ("parent", "PARENT")
    made = await below(owner_above, bob.tenant).create("from above")
    assert (await bob.ask("query ($id: ID!) { node(id: $id) { id } }", {"id": made})).data["node"] == {"id": made}
    # Requests to the own tenant work as before.
    assert (await owner_above.ask(VIEWER)).data["viewer"] == own


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "domain"])
async def test_descendants_can_be_named_by_every_source(
    api: Api, owner_above: Client, bob: Client, source: str
) -> None:
    answer = await ask(api, {"authorization": owner_above.headers["authorization"]}, SOURCES[source](bob.tenant))
    assert answer.json() == {"data": {"viewer": {"tenant": {"slug": bob.tenant}}}}


async def test_an_expired_token_is_called_so_where_it_was_valid(
    api: Api, owner_above: Client, alice: Client, bob: Client
) -> None:
    id_ = str((await provisioning.named(api.control, alice.tenant)).id)
    for client, expected in ((owner_above, "TOKEN_EXPIRED"), (alice, None)):
        old = replace(client, headers={**client.headers, **expired(api, client.headers, tenant=id_)})
        assert (await old.ask(VIEWER)).reason == "TOKEN_EXPIRED"
        assert (await below(old, bob.tenant).ask(VIEWER)).reason == expected
        assert (await below(old, "nobody").ask(VIEWER)).reason is None


async def test_the_log_names_the_user_and_the_person_of_the_ancestor(owner_above: Client, bob: Client) -> None:
    above = (await owner_above.ask(VIEWER)).data["viewer"]["user"]["id"]
    there = below(owner_above, bob.tenant)
    me = (await there.ask(VIEWER)).data["viewer"]["user"]["id"]
    made = await there.create("from above")

    document = "query ($f: AuditFilter) { auditLog(filter: $f) { nodes { actor onBehalfOf action } } }"
    [entry] = (await bob.ask(document, {"f": {"object": {"eq": made}}})).data["auditLog"]["nodes"]
    assert entry == {"actor": me, "onBehalfOf": f"parent:{above}", "action": "resource:create"}
    assert not await log(owner_above, object={"eq": made})


async def same_refusal(client: Client, *names: str) -> bytes:
    """The answer to a client without permission, identical for each of these names."""
    answers = [await below(client, name).ask(VIEWER) for name in names]
    assert {answer.status for answer in answers} == {403}
    [said] = {answer.response.content for answer in answers}
    return said


async def test_all_other_tenants_get_the_same_refusal(
    api: Api, owner_above: Client, alice: Client, bob: Client
) -> None:
    grandchild = (await provisioning.named(api.control, "grandchild")).id
    assert (await bob.ask(VIEWER)).status == 200
    other = next(t.slug for t in await provisioning.every(api.control) if not t.slug.startswith(alice.tenant[:3]))
    before = {slug: await api.content(slug) for slug in (alice.tenant, bob.tenant, "grandchild")}
    refusals = {
        # An admin lacks the permission, as does a client whose token claims a lesser role than it has.
        await same_refusal(alice, bob.tenant, "grandchild", str(grandchild), "nobody", other),
        await same_refusal(api.client(alice.tenant, "olga"), bob.tenant, "grandchild", "nobody"),
        # An unknown user, whatever role the token claims.
        await same_refusal(api.client(alice.tenant, "new", Role.OWNER), bob.tenant, "nobody"),
        # Owners reach neither ancestors, nor siblings, nor tenants that do not exist.
        await same_refusal(owner_above, other, "nobody", "not a slug"),
        await same_refusal(bob, alice.tenant, other, "nobody"),
    }
    assert len(refusals) == 1
    after = {slug: await api.content(slug) for slug in before}
    assert {slug: content["resources"] for slug, content in after.items()} == {
        slug: content["resources"] for slug, content in before.items()
    }
    assert len(after[bob.tenant]["users"]) == len(before[bob.tenant]["users"])


async def test_sources_that_disagree_on_what_is_below_are_refused(api: Api, owner_above: Client, bob: Client) -> None:
    credential = {"authorization": owner_above.headers["authorization"]}
    for one, two in ((bob.tenant, "grandchild"), (bob.tenant, owner_above.tenant), (owner_above.tenant, bob.tenant)):
        answer = await ask(api, credential, SOURCES["path"](one), SOURCES["header"](two))
        assert answer.status_code == 403
        assert answer.json()["errors"][0]["extensions"]["code"] == "FORBIDDEN"


async def test_a_descendant_reveals_nothing_about_its_ancestors(api: Api, owner_above: Client, bob: Client) -> None:
    """The log names an actor from an ancestor, by an id that identifies no one."""
    above = await provisioning.named(api.control, owner_above.tenant)
    there = below(owner_above, bob.tenant)
    await there.create("from above")
    content = await api.content(bob.tenant)
    for table, rows in content.items():
        assert str(above.id) not in str(rows), table
        assert above.slug not in str(rows), table
        assert "olga" not in str(rows), table


async def awaited(client: Client, code: str | None) -> None:
    """Wait until a change has reached the server."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        body: Mapping[str, Any] = (await client.ask("{ viewer { tenant { slug } } }")).body
        if ([each["extensions"]["code"] for each in body.get("errors", ())] or [None]) == [code]:
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"never heard of: expected {code}, got {body}")


async def test_a_revocation_takes_effect(api: Api, owner_above: Client, bob: Client) -> None:
    there, further = below(owner_above, bob.tenant), below(owner_above, "grandchild")
    for client in (there, further, bob):
        await awaited(client, None)
    await provisioning.suspend(api.control, bob.tenant)
    for client in (there, further, bob):
        await awaited(client, "TENANT_SUSPENDED")
    await awaited(owner_above, None)
    await provisioning.resume(api.control, bob.tenant)
    for client in (there, further, bob):
        await awaited(client, None)
    await hierarchy.place(api.control, bob.tenant, under=None)
    for client in (there, further):
        await awaited(client, "FORBIDDEN")
    await awaited(bob, None)


async def test_a_descendant_can_disable_a_person_of_an_ancestor(owner_above: Client, bob: Client) -> None:
    there = below(owner_above, bob.tenant)
    user = (await there.ask(VIEWER)).data["viewer"]["user"]["id"]
    disable = "mutation ($i: DisableUserInput!) { disableUser(input: $i) { user { id } } }"
    assert (await bob.ask(disable, {"i": {"id": user}})).status == 200
    await awaited(there, "FORBIDDEN")
    assert (await owner_above.ask(VIEWER)).status == 200


async def test_a_machine_with_the_permission_can_access_descendants(api: Api, owner_above: Client, bob: Client) -> None:
    document = "mutation ($i: CreateApiKeyInput!) { createApiKey(input: $i) { key } }"
    keys = []
    for permissions in (["descendant:enter", "resource:read"], ["resource:read"]):
        made = await owner_above.ask(document, {"i": {"name": "k", "permissions": permissions}})
        keys.append(made.data["createApiKey"]["key"])
    able, unable = [await ask(api, {"x-api-key": key}, SOURCES["header"](bob.tenant)) for key in keys]
    assert able.json()["data"]["viewer"]["tenant"]["slug"] == bob.tenant
    assert unable.status_code == 403
