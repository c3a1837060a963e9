"""What a tenant accepts for signing in, for a client without any credential."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from isola.database.transactions import Database
from isola.identity import passwords
from isola.identity.passwords import Person, hashed
from isola.platform import provisioning
from isola.settings import ProviderSettings, Settings
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import OPERATIONS, Answer, Api, make_tenant, serving
from isola_strategies.base import Strategy
from tests.http.people import HEADERS, ask, sign_in

FORM = "signInChoices(tenant: $tenant) { passwords providers { name issuer clientId } }"
VIEWER = "viewer { roles }"


def provider(name: str, *tenants: str) -> ProviderSettings:
    return ProviderSettings(
        name=name,
        issuer=f"https://{name}.example",
        client_id=f"isola-{name}",
        redirect_uris=frozenset({"https://app.example/callback"}),
        tenants=frozenset(tenants),
    )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Two providers for every tenant A, listed out of order, and one for others."""
    file = tmp_path / "people.json"
    passwords.write(file, {f"{strategy}-a": {"ada": Person(password=hashed("secret"))} for strategy in STRATEGIES})
    of_a = [*(f"{strategy}-a" for strategy in STRATEGIES), "doomed"]
    providers = [provider("second", *of_a), provider("first", *of_a, "nowhere"), provider("other", "elsewhere")]
    return DEFAULTS.model_copy(
        update={"data_dir": tmp_path, "development_passwords": file, "sign_in_providers": providers}
    )


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


CHOICES = {
    "passwords": True,
    "providers": [
        {"name": "first", "issuer": "https://first.example", "clientId": "isola-first"},
        {"name": "second", "issuer": "https://second.example", "clientId": "isola-second"},
    ],
}
DEFAULT = {"passwords": True, "providers": []}


async def choices(api: Api, tenant: str | None, **headers: str) -> Answer:
    return await ask(api, OPERATIONS["SignInChoices"], {"tenant": tenant}, **headers)


async def test_a_sign_in_page_learns_what_a_tenant_accepts(api: Api, tenant: str) -> None:
    assert (await choices(api, tenant)).data == {"signInChoices": CHOICES}
    tenant_id = (await provisioning.named(api.control, tenant)).id
    assert (await choices(api, str(tenant_id))).data == {"signInChoices": CHOICES}
    assert (await choices(api, None, **{"x-tenant-id": tenant})).data == {"signInChoices": CHOICES}
    unnamed = await choices(api, None)
    assert (unnamed.code, unnamed.body["data"]) == ("TENANT_REQUIRED", {"signInChoices": None})


async def test_the_answer_does_not_tell_whether_a_tenant_exists(api: Api, tenant: str) -> None:
    expected = (await choices(api, tenant.replace("-a", "-b"))).response.content
    assert json.loads(expected) == {"data": {"signInChoices": DEFAULT}}

    for name in (
        "nowhere",
        "elsewhere",
        "no\x00where",
        "\ud800",
        "",
        "a" * 300,
        "x" * 8000,
        "01980000-0000-7000-8000-0" * 2,
    ):
        other = await ask(api, OPERATIONS["SignInChoices"], {"tenant": name}, **{"x-tenant-id": "nowhere"})
        assert other.response.content == expected, name
    assert (await choices(api, tenant, **{"x-tenant-id": tenant.replace("-a", "-b")})).response.content == expected


@pytest.mark.parametrize("ends", ["suspended", "deleted"])
async def test_a_tenant_that_is_not_active_has_the_answer_of_a_name_of_none(
    copy: Copy, owner: Database, api: Api, strategy: Strategy, ends: str
) -> None:
    await make_tenant(copy, "doomed", strategy.name)
    names = ["doomed", str((await provisioning.named(api.control, "doomed")).id)]
    for name in names:
        assert (await choices(api, name)).data == {"signInChoices": CHOICES}

    if ends == "suspended":
        await provisioning.suspend(api.control, "doomed")
    else:
        await provisioning.drop(owner, copy.strategies, "doomed", notice=0)

    for name in names:
        async with asyncio.timeout(PATIENCE):
            while (answer := await choices(api, name)).data == {"signInChoices": CHOICES}:  # noqa: ASYNC110  only asking tells
                await asyncio.sleep(0.5)
        assert answer.data == {"signInChoices": DEFAULT}


WRITTEN: dict[str, str] = {
    "a named fragment": f"query ($tenant: String) {{ ...f }} fragment f on Query {{ {FORM} }}",
    "an inline fragment": f"query ($tenant: String) {{ ... on Query {{ ... {{ {FORM} }} }} }}",
    "__typename": f"query ($tenant: String) {{ __typename {FORM} }}",
    "an alias": f"query ($tenant: String) {{ viewer: {FORM} }}",
    "directives": f"query ($tenant: String, $yes: Boolean = true) {{ ... @include(if: $yes) {{ {FORM} }} }}",
    "several operations": f"mutation M {{ signOutEverywhere {{ user {{ id }} }} }} query Other {{ {VIEWER} }}"
    f" query Choices($tenant: String) {{ {FORM} }}",
}


@pytest.mark.parametrize("document", WRITTEN.values(), ids=WRITTEN)
async def test_the_query_can_be_written_as_any_operation(api: Api, tenant: str, document: str) -> None:
    body = {"query": document, "variables": {"tenant": tenant}}
    if "query Other" in document:
        body["operationName"] = "Choices"

    asked = Answer(await api.http.post("/graphql", json=body, headers=HEADERS))

    found = {name: value for name, value in asked.data.items() if name != "__typename"}
    assert list(found.values()) == [CHOICES]
    if "query Other" in document:
        for name in ("Other", "M", "None"):
            refused = Answer(await api.http.post("/graphql", json={**body, "operationName": name}, headers=HEADERS))
            assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")


async def test_the_query_by_get_and_by_its_hash(api: Api, tenant: str) -> None:
    document = f"{OPERATIONS['SignInChoices']} # not one of those that the server knows"
    extensions = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(document.encode()).hexdigest()}}
    params = {"extensions": json.dumps(extensions), "variables": json.dumps({"tenant": tenant})}

    async def get(**more: str) -> Answer:
        return Answer(await api.http.get("/graphql", params={**params, **more}, headers=HEADERS))

    assert (await get()).code == "PERSISTED_QUERY_NOT_FOUND"
    for answer in (await get(query=document), await get()):
        assert answer.data == {"signInChoices": CHOICES}


ASKED = 'signInChoices(tenant: "x") { passwords }'
NOT_OPEN = [
    f"{{ {ASKED} {VIEWER} }}",
    f"{{ {ASKED} ... @include(if: false) {{ {VIEWER} }} }}",
    f"{{ ...f }} fragment f on Query {{ {ASKED} {VIEWER} }}",
    f"{{ {ASKED} __schema {{ types {{ name }} }} }}",
    f'{{ {ASKED} __type(name: "Query") {{ name }} }}',
    "{ signInChoices: viewer { roles } }",
    "{ signIn signInChoices2 }",
    f"mutation {{ {ASKED} createResource {{ id }} }}",
    f"query A {{ {ASKED} }} query B {{ {VIEWER} }}",
    "subscription { signInChoices: resourceChanges { change } }",
]


@pytest.mark.parametrize("document", NOT_OPEN)
async def test_nothing_else_can_be_read_beside_it_without_a_credential(api: Api, document: str) -> None:
    refused = await ask(api, document)

    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
    assert "data" not in refused.body


async def test_a_user_can_ask_beside_other_questions(api: Api, tenant: str) -> None:
    user = api.client(tenant)
    named: dict[str, Any] = {"tenant": tenant}

    alone = await user.ask(f"query ($tenant: String) {{ {FORM} }}", named)
    beside = await user.ask(f"query ($tenant: String) {{ {VIEWER} {FORM} }}", named)
    expired = await ask(api, OPERATIONS["SignInChoices"], named, authorization="Bearer not-a-token")

    assert alone.data == expired.data == {"signInChoices": CHOICES}
    assert beside.data["signInChoices"] == CHOICES
    assert beside.data["viewer"]["roles"]


async def test_an_address_can_ask_only_so_often_and_still_sign_in(api: Api, tenant: str) -> None:
    body = "{ " + " ".join(f'a{n}: signInChoices(tenant: "nowhere") {{ passwords }}' for n in range(25)) + " }"
    for _ in range(2):
        assert (await ask(api, body)).status == 200

    limited = Answer((await ask(api, f"{{ {ASKED} }}")).response)

    assert (limited.code, limited.body["data"]) == ("RATE_LIMITED", {"signInChoices": None})
    assert limited.error["extensions"]["retryAfter"] >= 1
    assert await sign_in(api, tenant, "ada", "secret")


@pytest.mark.parametrize("absent", ["passwords", "signing key"])
async def test_a_server_that_accepts_no_passwords_says_so(
    copy: Copy, settings: Settings, tenant: str, absent: str
) -> None:
    update: dict[str, Any] = {"development_passwords": None}
    if absent == "signing key":
        update |= {"production": True, "token_key": SecretStr("k" * 32)}
    async with serving(copy, settings.model_copy(update=update)) as api:
        answer = await choices(api, tenant)
    expected = {**CHOICES, "passwords": False}
    if absent == "signing key":
        expected["providers"] = []
    assert answer.data == {"signInChoices": expected}
