"""Sessions of users, from sign-in to sign-out, for a client without any other credential."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import jwt
import pytest

from isola.database.transactions import Database
from isola.identity import passwords
from isola.identity.keys import development_key
from isola.identity.passwords import Person, hashed
from isola.platform import provisioning, sessions
from isola.platform.sessions import Lifetimes
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.served import OPERATIONS, Answer, Api, serving
from tests.http.people import HEADERS, after_the_interval, ask, client, refresh, run, session, sign_in

PASSWORD = "correct horse battery staple"
VIEWER = "{ viewer { user { name email } tenant { slug } roles } }"


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    return {
        "ada": Person(password=hashed(PASSWORD), name="Ada Lovelace", email="ada@example.org", role=Role.ADMIN),
        "grace": Person(password=hashed("another")),
    }


@pytest.fixture
def settings(tmp_path: Path, people: dict[str, Person]) -> Settings:
    """The same people, with the same passwords, in every tenant except B."""
    file = tmp_path / "people.json"
    passwords.write(file, {f"{strategy}-a": people for strategy in STRATEGIES})
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "development_passwords": file})


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


def said(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The header and the claims of a token."""
    header, payload, _ = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in (*token.split(".")[:2], "e30"))
    return header, payload


async def test_a_person_signs_in_and_works(api: Api, tenant: str) -> None:
    signed_in = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)

    ada = client(api, tenant, session(signed_in.data))
    viewer = (await ada.ask(VIEWER)).data["viewer"]
    assert viewer["user"] == {"name": "Ada Lovelace", "email": "ada@example.org"}
    assert viewer["tenant"]["slug"] == tenant
    assert viewer["roles"] == ["admin"]
    await ada.create("made with a session")
    header, claims = said(session(signed_in.data).access_token)
    assert header["typ"] == "at+jwt"
    assert claims["exp"] - claims["iat"] <= api.settings.session_token_ttl
    shown = signed_in.data["signIn"]["session"]
    assert shown["accessTokenExpiresAt"] < shown["expiresAt"]


async def test_a_tenant_that_the_request_names_need_not_be_named_again(api: Api, tenant: str) -> None:
    signed_in = await ask(
        api, OPERATIONS["SignIn"], {"input": {"login": "ada", "password": PASSWORD}}, **{"x-tenant-id": tenant}
    )
    assert session(signed_in.data)

    unnamed = await run(api, "SignIn", login="ada", password=PASSWORD)
    assert unnamed.code == "TENANT_REQUIRED"


WRONG: list[dict[str, str]] = [
    {"password": "wrong"},
    {"login": "nobody"},
    {"login": "ada", "password": "another"},
    {"tenant": "nowhere"},
    {"tenant": "no\x00where"},
    {"login": "a" * 300},
    {"password": "\ud800"},
    {"login": "key:ada"},
    {"login": ""},
]


async def test_all_failed_sign_ins_get_the_same_response(api: Api, tenant: str) -> None:
    right = {"tenant": tenant, "login": "ada", "password": PASSWORD}
    for wrong in (*WRONG, {"tenant": tenant.replace("-a", "-b")}):
        refused = await run(api, "SignIn", **{**right, **wrong})

        assert refused.code == "UNAUTHENTICATED", wrong
        assert refused.error["message"] == "the tenant, the login or the password is wrong"
        assert refused.body["data"] == {"signIn": None}


async def test_sources_that_name_another_tenant_are_refused(api: Api, tenant: str) -> None:
    other = tenant.replace("-a", "-b")
    variables = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}

    refused = await ask(api, OPERATIONS["SignIn"], variables, **{"x-tenant-id": other})

    assert refused.code == "UNAUTHENTICATED"


async def test_too_many_attempts_on_an_account_are_refused_and_others_go_on(api: Api, tenant: str) -> None:
    codes = [(await run(api, "SignIn", tenant=tenant, login="ada", password="guess")).code for _ in range(7)]

    assert codes == ["UNAUTHENTICATED"] * 5 + ["RATE_LIMITED"] * 2
    refused = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)
    assert refused.code == "RATE_LIMITED"
    assert await sign_in(api, tenant, "grace", "another")


async def test_a_successful_sign_in_restores_all_attempts(api: Api, tenant: str) -> None:
    for _ in range(3):
        for _ in range(4):
            assert (await run(api, "SignIn", tenant=tenant, login="ada", password="guess")).code == "UNAUTHENTICATED"
        assert await sign_in(api, tenant, "ada", PASSWORD)


async def test_a_suspended_tenant_is_refused_and_its_sessions_go_on_after(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    await provisioning.suspend(api.control, tenant)

    refused = await run(api, "RefreshSession", refreshToken=begun.refresh_token)
    assert refused.code == "TENANT_SUSPENDED"

    await provisioning.resume(api.control, tenant)
    assert await refresh(api, begun.refresh_token)


# --- refreshing


async def test_a_session_is_refreshed_with_new_tokens_each_time(api: Api, tenant: str) -> None:
    steps = [await sign_in(api, tenant, "ada", PASSWORD)]
    for _ in range(3):
        steps.append(await refresh(api, steps[-1].refresh_token))

    for tokens in zip(*((step.access_token, step.refresh_token) for step in steps), strict=True):
        assert len(set(tokens)) == len(steps)
    sessions_ = {said(step.access_token)[1]["sid"] for step in steps}
    assert len(sessions_) == 1
    for step in steps:
        assert (await client(api, tenant, step).run("Viewer")).status == 200


async def test_a_refresh_token_that_is_used_again_ends_the_session_and_its_access_tokens(api: Api, tenant: str) -> None:
    first = await sign_in(api, tenant, "ada", PASSWORD)
    other = await sign_in(api, tenant, "ada", PASSWORD)
    second = await refresh(api, first.refresh_token)
    await after_the_interval(api)

    reused = await run(api, "RefreshSession", refreshToken=first.refresh_token)

    assert reused.code == "UNAUTHENTICATED"
    assert (await run(api, "RefreshSession", refreshToken=second.refresh_token)).code == "UNAUTHENTICATED"
    for step in (first, second):
        await until_refused(api, tenant, step)
    assert (await client(api, tenant, other).run("Viewer")).status == 200
    assert await refresh(api, other.refresh_token)


async def test_concurrent_refreshes_get_the_same_next_token_and_the_session_goes_on(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)

    tabs = await asyncio.gather(*(refresh(api, begun.refresh_token) for _ in range(4)))

    assert len({tab.refresh_token for tab in tabs} - {begun.refresh_token}) == 1
    assert len({tab.access_token for tab in tabs}) == len(tabs)
    assert len({said(tab.access_token)[1]["sid"] for tab in tabs}) == 1
    for tab in tabs:
        assert (await client(api, tenant, tab).run("Viewer")).status == 200
    await after_the_interval(api)
    assert await refresh(api, tabs[0].refresh_token)


async def test_a_late_tab_gets_the_last_token_of_its_session(api: Api, tenant: str) -> None:
    first = await sign_in(api, tenant, "ada", PASSWORD)
    second = await refresh(api, first.refresh_token)
    third = await refresh(api, second.refresh_token)

    late = await refresh(api, first.refresh_token)

    assert late.refresh_token == third.refresh_token
    await after_the_interval(api)
    # A thief who had refreshed within the interval has the same token as its owner.
    assert await refresh(api, late.refresh_token)
    await after_the_interval(api)
    assert (await run(api, "RefreshSession", refreshToken=third.refresh_token)).code == "UNAUTHENTICATED"
    await until_refused(api, tenant, late)


async def test_a_session_that_ended_is_not_refreshed_within_the_interval(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    refreshed = await refresh(api, begun.refresh_token)
    await provisioning.suspend(api.control, tenant)
    assert (await run(api, "RefreshSession", refreshToken=begun.refresh_token)).code == "TENANT_SUSPENDED"
    await provisioning.resume(api.control, tenant)
    await run(api, "SignOut", refreshToken=refreshed.refresh_token)

    assert (await run(api, "RefreshSession", refreshToken=begun.refresh_token)).code == "UNAUTHENTICATED"


@pytest.mark.parametrize("interval", [timedelta(), timedelta(seconds=10)])
async def test_without_an_interval_the_second_of_two_concurrent_refreshes_ends_the_session(
    control: Database, database: Database, a: Tenant, interval: timedelta
) -> None:
    lasts = Lifetimes(session=timedelta(days=1), idle=timedelta(days=1), reuse=interval)
    async with control.unbound() as work:
        begun = await sessions.prepare(work, a.id, "ada", lasts)
    async with database.transaction(a) as work:
        await sessions.begin(work, begun.session.id, UUID(int=2))
    async with control.unbound() as late:
        await late.value("SELECT now()")
        async with control.unbound() as early:
            first = await sessions.refresh(early, "isola", begun.refresh_token, lasts, b"key")
        second = await sessions.refresh(late, "isola", begun.refresh_token, lasts, b"key")
    assert first
    assert (second and second.refresh_token) == (first.refresh_token if interval else None)
    async with control.unbound() as work:
        goes_on = await sessions.refresh(work, "isola", first.refresh_token, lasts, b"key")
    assert bool(goes_on) == bool(interval)


FORGERIES: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "mark alone": lambda _: "isr_",
    "seal": lambda token: token[:-1] + ("0" if token[-1] != "0" else "1"),
    "random part": lambda token: token[:4] + ("A" if token[4] != "A" else "B") + token[5:],
    "longer": lambda token: token + "0",
    "no mark": lambda token: token.removeprefix("isr_"),
    "umlauts": lambda _: "isr_" + "ä" * 60,
    "surrogates": lambda _: "isr_" + "\ud800" * 60,
    "huge": lambda _: "isr_" + "a" * 15_000,
}


async def test_a_malformed_refresh_token_is_refused_without_a_query(
    api: Api, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    with monkeypatch.context() as patched:
        patched.setattr(sessions, "refresh", None)
        for name, forge in FORGERIES.items():
            refused = await run(api, "RefreshSession", refreshToken=forge(begun.refresh_token))
            assert refused.code == "UNAUTHENTICATED", name
    assert await refresh(api, begun.refresh_token)


async def test_repeated_use_of_a_refused_refresh_token_is_throttled(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    await refresh(api, begun.refresh_token)
    await after_the_interval(api)

    codes = [(await run(api, "RefreshSession", refreshToken=begun.refresh_token)).code for _ in range(21)]

    assert codes == ["UNAUTHENTICATED"] * 19 + ["RATE_LIMITED"] * 2


async def test_tokens_are_stored_as_hashes_alone(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    async with api.control.unbound() as transaction:
        stored = await transaction.texts(
            "SELECT to_jsonb(t)::text FROM control.refresh_tokens t UNION ALL SELECT to_jsonb(s)::text "
            "FROM control.sessions s"
        )
    assert len(stored) == 2
    for part in (begun.refresh_token[4:20], begun.access_token, PASSWORD):
        assert not any(part in row for row in stored)


# --- signing out


async def test_signing_out_ends_one_session(api: Api, tenant: str) -> None:
    mine, other = [await sign_in(api, tenant, "ada", PASSWORD) for _ in range(2)]

    signed_out = await run(api, "SignOut", refreshToken=mine.refresh_token)

    assert signed_out.data == {"signOut": {"signedOut": True}}
    assert (await run(api, "RefreshSession", refreshToken=mine.refresh_token)).code == "UNAUTHENTICATED"
    await until_refused(api, tenant, mine)
    assert (await client(api, tenant, other).run("Viewer")).status == 200
    assert await refresh(api, other.refresh_token)
    again = await run(api, "SignOut", refreshToken=mine.refresh_token)
    unknown = await run(api, "SignOut", refreshToken="isr_nothing")
    assert again.data == unknown.data == signed_out.data


async def until_refused(api: Api, tenant: str, step: Any) -> None:
    """Wait until a step is refused; other tests measure how long that takes."""
    async with asyncio.timeout(30):
        while (answer := await client(api, tenant, step).run("Viewer")).status == 200:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)
    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")
    assert answer.error["message"] == "the token was revoked"


# --- other requests without a credential


NOT_OPEN = [
    "{ viewer { user { id } } }",
    "{ __typename }",
    "{ __schema { types { name } } }",
    "mutation { __typename }",
    'mutation { createResource(input: {name: "x"}) { resource { id } } }',
    'mutation { signOut(input: {refreshToken: ""}) { signedOut } signOutEverywhere { user { id } } }',
    'mutation A { signOut(input: {refreshToken: ""}) { signedOut } } query B { viewer { user { id } } }',
    'mutation { ...f } fragment f on Mutation { signOut(input: {refreshToken: ""}) { signedOut } signOutEverywhere }',
    'mutation { signOut(input: {refreshToken: ""}) { signedOut } ... { signOutEverywhere @include(if: false) } }',
    'mutation { ...f } fragment f on Mutation { ...f createResource(input: {name: "signOut"}) { resource { id } } }',
    "{ signOut: viewer { roles } }",
    'mutation { signOut(input: {refreshToken: ""}) { signedOut } a: __typename '
    + " " * 20
    + "b: __typename " * 500
    + "}",
    'mutation { signIn: createResource(input: {name: "x"}) { resource { id } } }',
    "mutation {",
    "{" * 5000,
    "",
]


async def test_without_a_credential_only_public_mutations_are_available(api: Api, tenant: str) -> None:
    before = await api.content(tenant)
    for document in NOT_OPEN:
        refused = await ask(api, document)
        assert (refused.status, refused.code) == (401, "UNAUTHENTICATED"), document
        assert refused.response.headers["www-authenticate"].startswith("Bearer")
        assert "data" not in refused.body
    by_get = await api.http.get("/graphql", params={"query": OPERATIONS["SignOut"]}, headers=HEADERS)
    assert by_get.status_code == 405
    assert await api.content(tenant) == before


async def test_a_large_body_without_a_credential_is_refused(api: Api) -> None:
    refused = await run(api, "SignOut", refreshToken="a" * 20_000)
    assert refused.status == 401


async def test_errors_of_a_sign_in_are_reported(api: Api) -> None:
    for document, variables in (
        ("mutation { signIn(input: {login: 7}) { session { accessToken } } }", None),
        (OPERATIONS["SignIn"], {"input": {"login": "ada"}}),
    ):
        refused = await ask(api, document, variables)
        assert refused.status == 400
        assert {error["extensions"]["code"] for error in refused.body["errors"]} == {"BAD_USER_INPUT"}


WRITTEN: dict[str, str] = {
    "a named fragment": """mutation ($input: SignInInput!) { ...f }
        fragment f on Mutation { signIn(input: $input) { ...p } }
        fragment p on SignInPayload { session { ...s } }
        fragment s on Session { accessToken refreshToken __typename }""",
    "an inline fragment": """mutation ($input: SignInInput!) {
        ... on Mutation { ... { signIn(input: $input) { %s } } } }""",
    "__typename": "mutation ($input: SignInInput!) { __typename signIn(input: $input) { __typename %s } }",
    "an alias": "mutation ($input: SignInInput!) { resources: signIn(input: $input) { %s } }",
    "directives": """mutation ($input: SignInInput!, $yes: Boolean = true) {
        signIn(input: $input) @include(if: $yes) { %s }
        signOut(input: {refreshToken: ""}) @skip(if: $yes) { __typename }
    }""",
    "variables of its own": """mutation ($login: String!, $password: String!, $tenant: String) {
        signIn(input: {login: $login, password: $password, tenant: $tenant}) { %s } }""",
    "several operations": """query Viewer { viewer { ...v } } fragment v on Viewer { roles }
        mutation SignIn($input: SignInInput!) { signIn(input: $input) { %s } }
        mutation Create { createResource(input: {name: "x"}) { resource { id } } }""",
}
TOKENS = "session { accessToken refreshToken }"


@pytest.mark.parametrize("document", WRITTEN.values(), ids=WRITTEN)
async def test_a_sign_in_can_be_written_as_any_operation(api: Api, tenant: str, document: str) -> None:
    given = {"tenant": tenant, "login": "ada", "password": PASSWORD}
    body = {"query": document.replace("%s", TOKENS), "variables": {"input": given, **given}, "operationName": "SignIn"}
    if "SignIn(" not in document:
        del body["operationName"]

    signed_in = Answer(await api.http.post("/graphql", json=body, headers=HEADERS))

    [payload] = [value for value in signed_in.data.values() if isinstance(value, dict)]
    assert (await client(api, tenant, session({"signIn": payload})).ask(VIEWER)).status == 200
    if "SignIn(" in document:
        for other in ("Viewer", "Create"):
            refused = Answer(await api.http.post("/graphql", json={**body, "operationName": other}, headers=HEADERS))
            assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
        refused = Answer(await api.http.post("/graphql", json={**body, "operationName": "None"}, headers=HEADERS))
        assert refused.status == 401


async def test_a_sign_in_by_its_hash(api: Api, tenant: str) -> None:
    """As Apollo clients do: first only the hash, and the text as well if the hash is unknown."""
    document = f"{OPERATIONS['SignIn']} # not one of those that the server knows"
    hashed_ = {"persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(document.encode()).hexdigest()}}
    variables = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}

    async def send(**body: Any) -> Answer:
        return Answer(await api.http.post("/graphql", json={"variables": variables, **body}, headers=HEADERS))

    params = {"extensions": json.dumps(hashed_), "variables": json.dumps(variables)}
    for answer in (
        await send(extensions=hashed_),
        Answer(await api.http.get("/graphql", params=params, headers=HEADERS)),
    ):
        assert (answer.status, answer.code) == (200, "PERSISTED_QUERY_NOT_FOUND")
        assert answer.error["message"] == "PersistedQueryNotFound"
    for answer in (await send(query=document, extensions=hashed_), await send(extensions=hashed_)):
        assert session(answer.data)
    assert (await api.http.get("/graphql", params=params, headers=HEADERS)).status_code == 405
    wrong = {"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}
    assert (await send(query=document, extensions=wrong)).status == 400


async def test_documents_of_other_tenants_are_not_found_by_their_hash(api: Api, tenant: str) -> None:
    ada = client(api, tenant, await sign_in(api, tenant, "ada", PASSWORD))
    for document in (f"{VIEWER} # hers", f"{OPERATIONS['SignOut']} # hers"):
        extensions = {"persistedQuery": {"sha256Hash": hashlib.sha256(document.encode()).hexdigest()}}
        assert (await ada.ask(document, {"input": {"refreshToken": ""}}, extensions=extensions)).status == 200
        answer = Answer(await api.http.post("/graphql", json={"extensions": extensions}, headers=HEADERS))
        assert answer.code == "PERSISTED_QUERY_NOT_FOUND"


def expired(api: Api, tenant: str) -> str:
    """A token that was valid an hour ago."""
    _, claims = said(api.client(tenant).headers["authorization"].removeprefix("Bearer "))
    return "Bearer " + jwt.encode({**claims, "exp": claims["exp"] - 7200}, development_key(api.settings))


async def test_a_session_can_be_refreshed_and_ended_despite_other_credentials(api: Api, tenant: str) -> None:
    """Clients send their access token with every request, even if it has expired."""
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    old = expired(api, tenant)
    given = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}
    made = await client(api, tenant, begun).ask(
        'mutation { createApiKey(input: {name: "k", permissions: ["resource:read"]}) { key apiKey { id } } }'
    )
    key = made.data["createApiKey"]
    revoke = "mutation ($i: RevokeApiKeyInput!) { revokeApiKey(input: $i) { revokedId } }"
    assert (await client(api, tenant, begun).ask(revoke, {"i": {"apiKeyId": key["apiKey"]["id"]}})).data
    await until_key_refused(api, key["key"])

    for beside in (
        {"authorization": old},
        {"authorization": f"Bearer {begun.access_token}"},
        {"authorization": "Bearer not-a-token"},
        {"authorization": "Basic YTpi"},
        {"x-api-key": key["key"]},
        {"x-api-key": "isk_nothing"},
        {"authorization": old, "x-api-key": key["key"]},
    ):
        signed_in = session((await ask(api, OPERATIONS["SignIn"], given, **beside)).data)
        refreshed = await ask(
            api, OPERATIONS["RefreshSession"], {"input": {"refreshToken": signed_in.refresh_token}}, **beside
        )
        token = session(refreshed.data).refresh_token
        signed_out = await ask(api, OPERATIONS["SignOut"], {"input": {"refreshToken": token}}, **beside)
        assert signed_out.data == {"signOut": {"signedOut": True}}
        assert (await run(api, "RefreshSession", refreshToken=token)).code == "UNAUTHENTICATED"
    # Users of a suspended tenant can sign out as well.
    await provisioning.suspend(api.control, tenant)
    try:
        assert (await ask(api, OPERATIONS["SignOut"], {"input": {"refreshToken": begun.refresh_token}})).data
    finally:
        await provisioning.resume(api.control, tenant)


async def until_key_refused(api: Api, key: str) -> None:
    async with asyncio.timeout(30):
        while (await ask(api, VIEWER, None, **{"x-api-key": key})).status != 401:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)


async def test_an_invalid_credential_is_refused_for_everything_but_public_mutations(api: Api, tenant: str) -> None:
    for credential in (expired(api, tenant), "Bearer not-a-token"):
        shown = {(await ask(api, document, authorization=credential)).response.content for document in NOT_OPEN}
        assert len(shown) == 1
        assert b"expired" in next(iter(shown)) or b"malformed" in next(iter(shown))
        large = await ask(
            api, OPERATIONS["SignOut"], {"input": {"refreshToken": "a" * 20_000}}, authorization=credential
        )
        assert (large.status, large.response.content) == (401, next(iter(shown)))


async def test_a_throttled_attempt_reports_when_to_retry(api: Api, tenant: str) -> None:
    for _ in range(5):
        assert (await run(api, "SignIn", tenant=tenant, login="eve", password="x")).code == "UNAUTHENTICATED"
    limited = await run(api, "SignIn", tenant=tenant, login="eve", password="x")
    assert (limited.status, limited.code, limited.body["data"]) == (200, "RATE_LIMITED", {"signIn": None})
    assert 1 <= limited.error["extensions"]["retryAfter"] <= 10
    assert "retry-after" not in limited.response.headers


async def test_a_client_with_a_valid_token_can_refresh(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    with_token = client(api, tenant, begun)

    both = await with_token.ask(
        "mutation ($input: RefreshSessionInput!) { refreshSession(input: $input) { session { refreshToken } }"
        ' createResource(input: {name: "x"}) { resource { name } } }',
        {"input": {"refreshToken": begun.refresh_token}},
    )

    assert both.data["createResource"]["resource"]["name"] == "x"
    assert both.data["refreshSession"]["session"]["refreshToken"].startswith("isr_")


async def test_passwords_require_the_setting(copy: Copy, tmp_path: Path, tenant: str) -> None:
    async with serving(copy, DEFAULTS.model_copy(update={"data_dir": tmp_path})) as api:
        refused = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)
        assert refused.code == "FORBIDDEN"
