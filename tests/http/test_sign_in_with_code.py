"""Signing in at an OpenID Connect provider: the whole flow, and failures at each step."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from isola.database.transactions import Database
from isola.identity.seal import Seal
from isola.platform import secrets, sign_in_log
from isola.platform.invitations import digest_of
from isola.settings import ProviderSettings, Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.served import Answer, Api, serving
from tests.http import signing_in
from tests.http.people import (
    after_a_minute,
    client,
    counted,
    entries,
    refresh,
    refusals,
    run,
    session,
    until,
)
from tests.http.signing_in import REDIRECT_URI, Code, authorize

SECRET = "a secret: with/odd+characters"
REFUSED = "the identity provider does not confirm this sign-in"


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with signing_in.provider() as issuer:
        yield issuer


@pytest.fixture
def settings(tmp_path: Path, issuer: str) -> Settings:
    """One client of the provider under several names, right and wrong."""
    confidential = ProviderSettings(
        name="confidential",
        issuer=issuer,
        client_id="isola",
        client_secret=SecretStr(SECRET),
        redirect_uris=frozenset({REDIRECT_URI, f"{REDIRECT_URI}/other"}),
        tenants=frozenset(f"{strategy}-a" for strategy in STRATEGIES),
        role=Role.EDITOR,
    )
    others: dict[str, dict[str, Any]] = {
        "public": {"client_id": "isola-public", "client_secret": None},
        "secretless": {"client_secret": None},
        "mistaken": {"client_secret": SecretStr("wrong")},
        "nowhere": {"issuer": "http://127.0.0.1:9"},
        "impostor": {"issuer": issuer.replace("127.0.0.1", "localhost")},
    }
    providers = [
        confidential,
        *(confidential.model_copy(update={"name": name, **more}) for name, more in others.items()),
    ]
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "sign_in_providers": providers})


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    async with serving(copy, settings) as api:
        yield api


async def exchange(api: Api, tenant: str | None, given: Code, provider: str = "confidential") -> Answer:
    return await run(
        api,
        "SignInWithCode",
        provider=provider,
        tenant=tenant,
        code=given.code,
        codeVerifier=given.code_verifier,
        nonce=given.nonce,
        redirectUri=given.redirect_uri,
    )


@pytest.mark.parametrize(("provider", "client_id"), [("confidential", "isola"), ("public", "isola-public")])
async def test_a_person_signs_in_and_works(api: Api, issuer: str, tenant: str, provider: str, client_id: str) -> None:
    begun = session((await exchange(api, tenant, await authorize(issuer, "ada", client_id), provider)).data)

    ada = client(api, tenant, begun)
    viewer = (await ada.ask("{ viewer { user { name email } tenant { slug } roles } }")).data["viewer"]
    assert viewer == {
        "user": {"name": "Person ada", "email": "ada@example.org"},
        "tenant": {"slug": tenant},
        "roles": ["editor"],
    }
    await ada.create("made after signing in")
    assert (await client(api, tenant, await refresh(api, begun.refresh_token)).run("Viewer")).status == 200
    again = session((await exchange(api, tenant, await authorize(issuer, "ada", client_id), provider)).data)
    assert (await client(api, tenant, again).run("Viewer")).data == (await ada.run("Viewer")).data
    users = (await api.content(tenant))["users"]
    assert [user["subject"] for user in users] == [f"iss:{provider}:ada"]


async def test_an_invitation_links_a_new_user_to_an_identity_of_a_provider(
    api: Api, issuer: str, owner: Database, tenant: str
) -> None:
    token, ada = "t" * 43, api.client(tenant)
    user = (await ada.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    async with owner.unbound() as work:
        sealed = Seal("isi_", await secrets.cursor_secret(work), b"isola invitations").close(token)
        await work.value(
            "INSERT INTO control.invitations (tenant_id, email, role_ids, invited_by, digest, expires_at) "
            "SELECT id, 'invited@example.org', '{}', $2, $3, now() + interval '1 hour' FROM control.tenants "
            "WHERE slug = $1",
            tenant,
            UUID(user.removeprefix("usr_")),
            digest_of(token),
        )
    given = await authorize(issuer, "ada")
    flow = {
        "code": given.code,
        "codeVerifier": given.code_verifier,
        "nonce": given.nonce,
        "redirectUri": given.redirect_uri,
    }
    refused = await run(api, "AcceptInvitation", token=sealed, provider="unknown", **flow)
    assert refused.code == "FORBIDDEN"

    begun = session((await run(api, "AcceptInvitation", token=sealed, provider="confidential", **flow)).data)

    # Without the role that the provider gives.
    assert (await client(api, tenant, begun).ask("{ viewer { roles } }")).data == {"viewer": {"roles": []}}
    found = [(user["subject"], user["name"], user["email"]) for user in (await api.content(tenant))["users"]]
    assert ("iss:confidential:ada", "Person ada", "invited@example.org") in found
    again = session((await exchange(api, tenant, await authorize(issuer, "ada"))).data)
    assert (await client(api, tenant, again).ask("{ viewer { roles } }")).data == {"viewer": {"roles": []}}


async def test_an_email_address_that_the_provider_did_not_verify_is_not_stored(
    api: Api, issuer: str, tenant: str
) -> None:
    begun = session((await exchange(api, tenant, await authorize(issuer, "mallory"))).data)

    viewer = (await client(api, tenant, begun).ask("{ viewer { user { name email } } }")).data["viewer"]

    assert viewer["user"] == {"name": "Person mallory", "email": None}


async def test_a_code_is_valid_once(api: Api, issuer: str, tenant: str) -> None:
    given = await authorize(issuer, "ada")
    assert session((await exchange(api, tenant, given)).data)

    replayed = await exchange(api, tenant, given)

    assert (replayed.code, replayed.error["message"]) == ("UNAUTHENTICATED", REFUSED)


WRONG: dict[str, Any] = {
    "code": {"code": "nonsense"},
    "no code": {"code": ""},
    "half a pair": {"code": "\ud800"},
    "verifier": {"code_verifier": "a" * 43},
    "no verifier": {"code_verifier": ""},
    "nonce": {"nonce": "another"},
    "no nonce": {"nonce": ""},
    "redirect": {"redirect_uri": f"{REDIRECT_URI}/other"},
}


async def test_all_mismatches_get_the_same_refusal(api: Api, issuer: str, tenant: str) -> None:
    before = await api.content(tenant)
    for wrong in WRONG.values():
        refused = await exchange(api, tenant, replace(await authorize(issuer, "ada"), **wrong))
        assert (refused.code, refused.error["message"]) == ("UNAUTHENTICATED", REFUSED), wrong
    assert await api.content(tenant) == before


async def test_successful_and_refused_sign_ins_are_in_the_log(
    api: Api, issuer: str, tenant: str, owner: Database
) -> None:
    assert session((await exchange(api, tenant, await authorize(issuer, "ada"))).data)
    for wrong in ({"code": "nonsense"}, {"nonce": "another"}):
        assert (await exchange(api, tenant, replace(await authorize(issuer, "ada"), **wrong))).code == "UNAUTHENTICATED"
    other = tenant.replace("-a", "-b")
    assert (await exchange(api, other, await authorize(issuer, "ada"))).code == "FORBIDDEN"

    await counted(api, tenant, {"code": 2})
    await counted(api, other, {"other_tenant": 1})
    await after_a_minute(owner)
    await until(api, tenant, lambda log: refusals(log) == {"code": 2})
    await until(api, other, lambda log: refusals(log) == {"other_tenant": 1})
    assert [entry["action"] for entry in await entries(api, tenant)].count("session:create") == 1
    assert [entry["action"] for entry in await entries(api, other)] == ["refusal:create"]


async def test_a_code_of_another_client_is_refused(api: Api, issuer: str, tenant: str) -> None:
    for client_id in ("somebody-else", "isola-public"):
        refused = await exchange(api, tenant, await authorize(issuer, "ada", client_id))
        assert (refused.code, refused.error["message"]) == ("UNAUTHENTICATED", REFUSED)


async def test_an_unregistered_client_gets_no_tokens(api: Api, issuer: str, tenant: str) -> None:
    for provider in ("secretless", "mistaken"):
        refused = await exchange(api, tenant, await authorize(issuer, "ada"), provider)
        assert (refused.code, refused.error["message"]) == ("UNAUTHENTICATED", REFUSED)


async def test_an_unreachable_or_misidentified_provider_is_unavailable(api: Api, issuer: str, tenant: str) -> None:
    for provider in ("nowhere", "impostor"):
        refused = await exchange(api, tenant, await authorize(issuer, "ada"), provider)
        assert refused.code == "UNAVAILABLE"
        assert "127.0.0.1" not in refused.response.text


async def test_a_provider_authenticates_users_of_its_tenants_only(api: Api, issuer: str, tenant: str) -> None:
    for other in (tenant.replace("-a", "-b"), "nowhere"):
        refused = await exchange(api, other, await authorize(issuer, "ada"))
        assert (refused.code, refused.error["message"]) == (
            "FORBIDDEN",
            "this provider is not configured for the tenant",
        )
    unnamed = await exchange(api, None, await authorize(issuer, "ada"))
    assert unnamed.code == "TENANT_REQUIRED"
    unknown = await exchange(api, tenant, await authorize(issuer, "ada"), "unknown")
    assert unknown.code == "NOT_FOUND"


async def test_redirect_uris_must_be_configured(api: Api, issuer: str, tenant: str) -> None:
    given = replace(await authorize(issuer, "ada"), redirect_uri="https://evil.example/callback")

    refused = await exchange(api, tenant, given)

    assert refused.code == "BAD_USER_INPUT"
    assert session((await exchange(api, tenant, replace(given, redirect_uri=REDIRECT_URI))).data)
