"""The tenant of a request: the credential decides, and all other sources must agree with it."""

import itertools
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID

import httpx
import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import Api, Client, serving
from tests.http.naming import DELETED, PLATFORM, SOURCES, SUSPENDED, ask, expired, naming, raw

Credential = Mapping[str, str]
CREATE_KEY = """
mutation ($input: CreateApiKeyInput!) { createApiKey(input: $input) { key } }
"""


@pytest.fixture
async def api(copy: Copy, settings: Settings, owner: Database) -> AsyncIterator[Api]:
    async with naming(copy, settings, owner) as api:
        yield api


@pytest.fixture(params=["token", "key"])
async def credential(request: pytest.FixtureRequest, alice: Client) -> Credential:
    """Each kind of credential of alice's tenant in turn."""
    if request.param == "token":
        return {"authorization": alice.headers["authorization"]}
    return {"x-api-key": await key_of(alice)}


def answered(response: httpx.Response) -> tuple[int, bytes, Mapping[str, str]]:
    """Everything that lets a client distinguish two answers."""
    told = {name: value for name, value in response.headers.items() if name not in {"date", "x-request-id"}}
    return response.status_code, response.content, told


def code(response: httpx.Response) -> tuple[int, str]:
    [error] = response.json()["errors"]
    assert error.keys() == {"message", "extensions"}
    assert error["extensions"].keys() == {"code"}
    return response.status_code, error["extensions"]["code"]


def slug(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()["data"]["viewer"]["tenant"]["slug"]


async def test_every_source_may_agree_with_the_credential(api: Api, alice: Client, credential: Credential) -> None:
    tenant = await provisioning.named(api.control, alice.tenant)
    ways = [SOURCES[source](alice.tenant) for source in SOURCES]
    ways += [SOURCES[source](str(tenant.id)) for source in ("header", "path", "query")]

    assert slug(await ask(api, credential)) == alice.tenant
    for way in ways:
        assert slug(await ask(api, credential, way)) == alice.tenant
    assert slug(await ask(api, credential, *(ways[i] for i in (0, 2, 3)))) == alice.tenant


async def test_sources_that_disagree_get_one_and_the_same_answer(
    api: Api, alice: Client, bob: Client, credential: Credential
) -> None:
    """For any pair of sources, and an active, suspended, deleted or nonexistent other tenant."""
    others = [bob.tenant, SUSPENDED, DELETED, "nobody", str((await provisioning.named(api.control, bob.tenant)).id)]
    ways = [SOURCES[source](other) for source in SOURCES for other in others[: 3 if source == "domain" else 5]]
    ways += [SOURCES["header"](odd) for odd in ("", "*", alice.tenant.upper(), f"{alice.tenant}, {bob.tenant}")]
    # A source that agrees does not make up for one that does not.
    ways_at_once = [
        (SOURCES[one](alice.tenant), SOURCES[other](bob.tenant))
        for one, other in itertools.permutations(("header", "path", "subdomain"), 2)
    ]

    answers = [await ask(api, credential, way) for way in ways]
    answers += [await ask(api, credential, *each) for each in ways_at_once]

    assert {code(answer) for answer in answers} == {(403, "FORBIDDEN")}
    first = answered(answers[0])
    assert all(answered(answer) == first for answer in answers)
    assert all(name not in answers[0].text for name in (alice.tenant, bob.tenant))


@pytest.mark.parametrize("source", SOURCES)
async def test_without_a_credential_every_source_is_refused(api: Api, alice: Client, source: str) -> None:
    refused = [await ask(api, {}, SOURCES[source](name)) for name in (alice.tenant, SUSPENDED, "nobody")]

    assert {code(each) for each in refused} == {(401, "UNAUTHENTICATED")}
    assert len({each.content for each in refused}) == 1


@pytest.mark.parametrize("path", ["/graphql", "/t/{tenant}/graphql", "/graphql?tenant={tenant}"])
@pytest.mark.parametrize(("status", "told"), [(SUSPENDED, "TENANT_SUSPENDED"), (DELETED, "TENANT_DELETED")])
async def test_only_holders_of_credentials_learn_that_a_tenant_is_inactive(
    api: Api, status: str, told: str, path: str
) -> None:
    client = api.client(status)

    refused = await ask(api, client.headers, (path.format(tenant=status), {}))

    assert code(refused) == (403, told)


async def test_several_headers_or_parameters_are_refused_even_if_they_agree(api: Api, alice: Client) -> None:
    twice = [*alice.headers.items(), ("x-tenant-id", alice.tenant), ("X-Tenant-Id", alice.tenant)]
    answers = [
        await api.http.post("/graphql", content="{}", headers=twice),
        await ask(api, alice.headers, (f"/graphql?tenant={alice.tenant}&tenant={alice.tenant}", {})),
        await ask(api, alice.headers, (f"/graphql?tenant={alice.tenant}&%74enant={alice.tenant}", {})),
    ]

    assert [code(answer) for answer in answers] == [(400, "BAD_USER_INPUT")] * 3


@pytest.mark.parametrize(
    "path",
    [
        "/t/{0}/../{1}/graphql",
        "/t/%61cme/graphql",
        "/t/{0}%2fgraphql",
        "/t//graphql",
        "/t/{0}%00/graphql",
        "/t/%E2%82%AC/graphql",
    ],
)
async def test_a_path_is_used_as_sent(api: Api, alice: Client, bob: Client, path: str) -> None:
    """A proxy that routes by the path must not read another name there than this server does."""
    sent = path.format(alice.tenant, bob.tenant).encode()
    authorization = f"Authorization: {alice.headers['authorization']}".encode()

    status, body = await raw(api, sent, b"Host: localhost", authorization)

    assert (status, body["errors"][0]["extensions"]["code"]) == (400, "BAD_USER_INPUT")


async def key_of(client: Client) -> str:
    made = await client.ask(CREATE_KEY, {"input": {"name": "robot", "permissions": ["user:read"]}})
    return str(made.data["createApiKey"]["key"])


async def test_two_credentials_are_refused_as_sources_that_disagree(api: Api, alice: Client, bob: Client) -> None:
    """Only if both are valid: otherwise the error says only that a credential is invalid."""
    one, same, others = await key_of(alice), await key_of(alice), await key_of(bob)
    token = alice.headers["authorization"]
    disagreed = answered(await ask(api, {"authorization": token}, SOURCES["header"](bob.tenant)))

    assert slug(await ask(api, {"authorization": f"Bearer {one}", "x-api-key": one})) == alice.tenant
    for authorization in (f"Bearer {one}", token):
        for other in (same, others):
            assert answered(await ask(api, {"authorization": authorization, "x-api-key": other})) == disagreed
    for two in (
        {"authorization": token, "x-api-key": "isk_nonsense"},
        {"authorization": token, "x-api-key": ""},
        {"authorization": "Bearer a.b.c", "x-api-key": one},
        {"authorization": "Bearer isk_nonsense", "x-api-key": one},
        {"authorization": "Basic YWRhOmFkYQ==", "x-api-key": one},
        {"authorization": "", "x-api-key": one},
    ):
        assert code(await ask(api, two)) == (401, "UNAUTHENTICATED")


async def test_too_many_parameters_are_refused(api: Api, alice: Client) -> None:
    assert code(await ask(api, alice.headers, ("/graphql?" + "a=1&" * 1000, {}))) == (400, "BAD_USER_INPUT")


async def test_a_source_that_is_not_configured_is_not_accepted(copy: Copy, settings: Settings, alice: Client) -> None:
    few = settings.model_copy(update={"tenant_sources": ["token", "query"], "platform_domain": PLATFORM})
    async with serving(copy, few) as api:
        assert slug(await ask(api, alice.headers, SOURCES["query"](alice.tenant))) == alice.tenant
        # Ignored, like any unknown header.
        assert slug(await ask(api, alice.headers, SOURCES["header"]("nobody"))) == alice.tenant
        assert (await ask(api, alice.headers, SOURCES["path"](alice.tenant))).status_code == 404
        for source in ("subdomain", "domain"):
            assert code(await ask(api, alice.headers, SOURCES[source](alice.tenant))) == (400, "BAD_USER_INPUT")
        assert code(await ask(api, {"x-api-key": "isk_"})) == (401, "UNAUTHENTICATED")


async def test_an_issuer_is_accepted_only_for_its_configured_tenants(
    copy: Copy, settings: Settings, api: Api, alice: Client, bob: Client
) -> None:
    id_ = str((await provisioning.named(api.control, alice.tenant)).id)
    disagreed = answered(await ask(api, alice.headers, SOURCES["header"](bob.tenant)))
    for believed in (alice.tenant, id_):
        async with serving(copy, settings.model_copy(update={"token_tenants": frozenset({believed})})) as served:
            assert slug(await ask(served, alice.headers)) == alice.tenant
            assert answered(await ask(served, bob.headers)) == disagreed


# --- Tokens that have expired


def is_expired(response: httpx.Response) -> bool:
    """Whether the client is told that its token has expired. All other refusals have the same content."""
    [error] = response.json()["errors"]
    assert (response.status_code, error["extensions"]["code"]) == (401, "UNAUTHENTICATED")
    if error["extensions"].get("reason") == "TOKEN_EXPIRED":
        assert error["message"] == "the token has expired"
        return True
    assert error == {"message": "the token is not valid", "extensions": {"code": "UNAUTHENTICATED"}}
    return False


async def test_only_a_token_for_the_tenant_that_the_request_names_is_called_expired(
    copy: Copy, settings: Settings, api: Api, alice: Client, bob: Client
) -> None:
    id_ = str((await provisioning.named(api.control, alice.tenant)).id)
    # A token that names a tenant by slug must not be older than the tenant.
    token = expired(api, alice.headers, tenant=id_)
    before = {tenant: await api.content(tenant) for tenant in (alice.tenant, bob.tenant)}
    named = [SOURCES[source](alice.tenant) for source in SOURCES]
    others = [SOURCES[source](name) for source in SOURCES for name in (bob.tenant, "nobody", SUSPENDED)]

    assert is_expired(await ask(api, token))
    assert all([is_expired(await ask(api, token, each)) for each in named])
    assert not any([is_expired(await ask(api, token, each)) for each in others])
    assert not is_expired(await ask(api, token, named[0], SOURCES["path"](bob.tenant)))
    for tenant in ("nobody", str(UUID(int=7)), alice.tenant):
        assert not is_expired(await ask(api, expired(api, alice.headers, tenant=tenant)))
    head, payload, signature = token["authorization"].split(".")
    forged = await ask(api, {"authorization": f"{head}.{payload}.{signature[::-1]}"})
    assert code(forged) == (401, "UNAUTHENTICATED")
    async with serving(copy, settings.model_copy(update={"token_tenants": frozenset({bob.tenant})})) as served:
        assert not is_expired(await ask(served, token))
    assert {tenant: await api.content(tenant) for tenant in before} == before


# --- Tokens that name no tenant


@pytest.fixture
def open_settings(settings: Settings) -> Settings:
    """Settings under which the tokens of these tests name no tenant."""
    return settings.model_copy(update={"token_tenant_required": False, "claim_tenant": "org"})


async def test_where_nothing_names_a_tenant_none_is_guessed(copy: Copy, open_settings: Settings, alice: Client) -> None:
    async with serving(copy, open_settings) as api:
        assert code(await ask(api, alice.headers)) == (400, "TENANT_REQUIRED")


async def test_the_default_tenant_applies_to_requests_that_name_none(
    copy: Copy, open_settings: Settings, alice: Client, bob: Client
) -> None:
    await alice.run("Viewer")
    async with serving(copy, open_settings.model_copy(update={"default_tenant": alice.tenant})) as api:
        assert slug(await ask(api, alice.headers)) == alice.tenant
        assert code(await ask(api, alice.headers, SOURCES["header"](bob.tenant))) == (403, "FORBIDDEN")
        assert code(await ask(api, bob.headers)) == (403, "FORBIDDEN")


async def test_a_token_takes_precedence_over_the_default_tenant(
    copy: Copy, settings: Settings, alice: Client, bob: Client
) -> None:
    async with serving(copy, settings.model_copy(update={"default_tenant": alice.tenant})) as api:
        assert slug(await ask(api, bob.headers)) == bob.tenant
        assert code(await ask(api, {})) == (401, "UNAUTHENTICATED")


async def test_a_token_without_a_tenant_is_valid_where_its_user_is_a_member(
    copy: Copy, api: Api, open_settings: Settings, alice: Client, bob: Client
) -> None:
    await alice.run("Viewer")
    before = await api.content(bob.tenant)

    async with serving(copy, open_settings.model_copy(update={"platform_domain": PLATFORM})) as served:
        for source in SOURCES:
            assert slug(await ask(served, alice.headers, SOURCES[source](alice.tenant))) == alice.tenant
        refused = [
            await ask(served, alice.headers, SOURCES[source](name))
            for source in SOURCES
            for name in (bob.tenant, *(["nobody"] if source != "domain" else []))
        ]
        mixed = await ask(served, alice.headers, SOURCES["header"](alice.tenant), SOURCES["path"](bob.tenant))

        token = expired(served, alice.headers)
        assert is_expired(await ask(served, token, SOURCES["header"](alice.tenant)))
        for name in (bob.tenant, "nobody"):
            assert not is_expired(await ask(served, token, SOURCES["header"](name)))
        assert not is_expired(await ask(served, token))

    assert {answered(each)[:2] for each in [*refused, mixed]} == {answered(refused[0])[:2]}
    assert code(mixed) == (403, "FORBIDDEN")
    assert await api.content(bob.tenant) == before
