"""Sign-ins in the tenant's log: begun and ended sessions, and counts of refusals."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import jwt
import pytest

from isola.database.transactions import Database
from isola.identity import passwords
from isola.identity.api_keys import Mint
from isola.identity.keys import development_key
from isola.identity.passwords import Person, hashed
from isola.platform import audit, provisioning, sign_in_log
from isola.platform.sign_in_log import Reason, SignInLog
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.served import OPERATIONS, Api, serving
from isola_strategies.base import Strategy
from tests.http.people import (
    Session,
    after_a_minute,
    after_the_interval,
    ask,
    client,
    counted,
    entries,
    refresh,
    refusals,
    run,
    sign_in,
    until,
)

PASSWORD = "correct horse battery staple"
LOG = "{ auditLog(first: 50) { nodes { actor action object request old new } } }"
KEY = """mutation ($expires: DateTime) { createApiKey(
  input: {name: "robot", permissions: ["resource:read"], expiresAt: $expires}) { key apiKey { id } } }"""


@pytest.fixture(scope="session")
def person() -> Person:
    return Person(password=hashed(PASSWORD), name="Ada Lovelace", email="ada@example.org", role=Role.ADMIN)


@pytest.fixture
def settings(tmp_path: Path, person: Person) -> Settings:
    file = tmp_path / "people.json"
    passwords.write(file, {f"{strategy}-{tenant}": {"ada": person} for strategy in STRATEGIES for tenant in "ab"})
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "development_passwords": file, "directory_ttl": 0.2})


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    async with serving(copy, settings) as api:
        yield api


async def verified(api: Api, tenant: str) -> None:
    found = await provisioning.named(api.control, tenant)
    assert (await audit.verify(api.control, api.tenants, found)).broken is None


async def sessions_of(api: Api, tenant: str) -> list[dict[str, Any]]:
    """The entries about sessions."""
    return [dict(each) for each in await entries(api, tenant) if each["action"].startswith("session:")]


async def until_ended(api: Api, tenant: str, why: str) -> dict[str, Any]:
    """Wait for the entry about the only ended session, and return it."""
    await until(api, tenant, lambda log: any(each["action"] == "session:delete" for each in log))
    [begun, ended] = await sessions_of(api, tenant)
    assert (begun["action"], ended["action"], ended["object"]) == ("session:create", "session:delete", begun["object"])
    assert ended["old"].keys() == {"id", "user_id", "created_at", "expires_at", "ended_at", "ended_for"}
    assert (ended["old"]["ended_for"], ended["new"]) == (why, None)
    async with api.control.unbound() as work:
        # The control plane keeps no copy of logged sessions.
        assert await work.value("SELECT count(*) FROM control.sessions WHERE ended_at IS NOT NULL") == 0
    await verified(api, tenant)
    return ended


# --- begun and ended sessions


async def test_a_session_begins_with_an_entry(api: Api, tenant: str, other_tenant: str) -> None:
    given = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}
    before = await entries(api, other_tenant)

    answer = await ask(api, OPERATIONS["SignIn"], given, **{"x-request-id": "a-sign-in"})

    begun = Session(*(answer.data["signIn"]["session"][name] for name in ("accessToken", "refreshToken")))
    shown = (await client(api, tenant, begun).ask(LOG)).data["auditLog"]["nodes"]
    [entry] = [each for each in shown if each["action"] == "session:create"]
    [user] = (await api.content(tenant))["users"]
    assert entry["object"] == f"usr_{user['id']}/ses_{entry['new']['id']}"
    assert entry["new"].keys() == {"id", "user_id", "created_at", "expires_at", "address", "user_agent"}
    assert (entry["new"]["address"], entry["new"]["user_agent"][:12]) == ("127.0.0.1", "python-httpx")
    assert entry["new"]["user_id"] == str(user["id"])
    assert (entry["actor"], entry["request"], entry["old"]) == (None, "a-sign-in", None)
    # A new user is a separate entry.
    assert [each["request"] for each in shown if each["action"] == "user:create"] == ["a-sign-in"]
    written = json.dumps(shown)
    assert not any(secret in written for secret in (PASSWORD, begun.access_token, begun.refresh_token[4:40]))
    assert await entries(api, other_tenant) == before
    await verified(api, tenant)


async def test_entries_have_the_address_behind_the_proxy_and_what_the_client_calls_itself(
    copy: Copy, settings: Settings, owner: Database, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    given = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}
    wrong = {"input": {**given["input"], "password": "wrong"}}
    headers = {"x-forwarded-for": "192.0.2.1, 198.51.100.7", "user-agent": f"Browser\t{'x' * 300}"}
    async with serving(copy, settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})) as api:
        assert (await ask(api, OPERATIONS["SignIn"], given, **headers)).data
        assert (await ask(api, OPERATIONS["SignIn"], wrong, **headers)).code == "UNAUTHENTICATED"
        assert (
            await ask(api, OPERATIONS["Viewer"], {}, authorization="Bearer no", **headers)
        ).code == "UNAUTHENTICATED"
        assert (await api.client(tenant).saying("Bearer no").send("{}", x_tenant_id=tenant, **headers)).status == 401
        await counted(api, tenant, {"password": 1, "token": 1})
        await after_a_minute(owner)
        await until(api, tenant, lambda log: sum(refusals(log).values()) == 2)
        log = await entries(api, tenant)
    found = [each["new"] for each in log if each["action"] in {"session:create", "refusal:create"}]
    assert [each["address"] for each in found] == ["198.51.100.7"] * 3
    assert {each["user_agent"] for each in found} == {f"Browser{'x' * 193}"}


async def test_a_flood_from_many_addresses_is_few_entries(
    copy: Copy, settings: Settings, owner: Database, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.02)
    async with serving(copy, settings.model_copy(update={"trusted_proxies": ["127.0.0.0/8"]})) as api:
        for last in range(30):
            refused = api.client(tenant).saying("Bearer no")
            await refused.send("{}", x_tenant_id=tenant, x_forwarded_for=f"192.0.2.{last}")
            await asyncio.sleep(0.005)
        await counted(api, tenant, {"token": 30})
        await after_a_minute(owner)
        await until(api, tenant, lambda log: sum(refusals(log).values()) == 30)
        log = await entries(api, tenant)
    found = [each["new"] for each in log if each["action"] == "refusal:create"]
    assert len(found) == sign_in_log.CLIENTS + 1
    assert [each["count"] for each in found if each["address"] is None] == [30 - sign_in_log.CLIENTS]


async def test_the_first_request_of_a_new_user_is_logged(api: Api, tenant: str) -> None:
    assert (await api.client(tenant, "grace").run("Viewer")).data
    assert [each["action"] for each in await entries(api, tenant)].count("user:create") == 1
    assert await sessions_of(api, tenant) == []


async def test_signing_out_is_an_entry(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    for _ in range(3):
        assert (await run(api, "SignOut", refreshToken=begun.refresh_token)).data
    await until_ended(api, tenant, "sign_out")


async def test_a_refresh_token_that_is_used_again_is_an_entry(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    next_ = await refresh(api, begun.refresh_token)
    await after_the_interval(api)
    for _ in range(3):
        for token in (begun.refresh_token, next_.refresh_token):
            assert (await run(api, "RefreshSession", refreshToken=token)).code == "UNAUTHENTICATED"
    await until_ended(api, tenant, "reuse")


async def test_signing_out_everywhere_is_logged_for_the_user_and_each_session(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    everywhere = await client(api, tenant, begun).ask("mutation { signOutEverywhere { user { id } } }")
    user = everywhere.data["signOutEverywhere"]["user"]["id"]

    assert (await run(api, "RefreshSession", refreshToken=begun.refresh_token)).code == "UNAUTHENTICATED"

    await until_ended(api, tenant, "revocation")
    [signed_out] = [each for each in await entries(api, tenant) if each["action"] == "sign_out:create"]
    assert (signed_out["actor"], signed_out["object"]) == (user, user)


# --- refusals


async def test_many_refusals_are_one_entry(api: Api, owner: Database, tenant: str, other_tenant: str) -> None:
    before = await entries(api, tenant), await entries(api, other_tenant)
    logins = [f"nobody-{number}@example.org" for number in range(12)]
    guesses = [run(api, "SignIn", tenant=tenant, login=login, password=f"guess of {login}") for login in logins]
    assert {answer.code for answer in await asyncio.gather(*guesses)} == {"UNAUTHENTICATED"}
    for _ in range(8):
        await run(api, "SignIn", tenant=tenant, login="ada", password="a guess")
    # Refusals for unknown tenant names are not logged.
    assert (await run(api, "SignIn", tenant="nowhere", login="ada", password=PASSWORD)).code == "UNAUTHENTICATED"

    await counted(api, tenant, {"password": 17, "attempts": 3})
    assert (await entries(api, tenant), await entries(api, other_tenant)) == before
    await after_a_minute(owner)

    await until(api, tenant, lambda log: len(log) == len(before[0]) + 2)
    found = (await entries(api, tenant))[len(before[0]) :]
    assert refusals(found) == Counter(password=17, attempts=3)
    # Whole words: ids and digests are hexadecimal, and some contain "ada".
    written = re.findall(r"\w+", json.dumps([dict(each) for each in found], default=str))
    assert not {"nobody", "ada", "guess", "example"} & set(written)
    assert await entries(api, other_tenant) == before[1]
    # Later refusals are counted separately, in a new minute.
    await run(api, "SignIn", tenant=tenant, login="eve", password="a guess")
    await counted(api, tenant, {"password": 1})
    assert len(await entries(api, tenant)) == len(before[0]) + 2
    await verified(api, tenant)


async def test_refusals_do_not_wait_for_the_log(api: Api, owner: Database, tenant: str) -> None:
    """Refusals are answered even while the heads of all logs and the counts are locked."""
    async with owner.unbound() as work:
        await work.script("LOCK control.audit_heads, control.refusals IN ACCESS EXCLUSIVE MODE")
        for number in range(3):
            refused = await run(api, "SignIn", tenant=tenant, login=f"eve-{number}", password="a guess")
            assert refused.code == "UNAUTHENTICATED"
    await counted(api, tenant, {"password": 3})


async def test_each_reason_is_counted_for_itself(api: Api, owner: Database, tenant: str, other_tenant: str) -> None:
    ada = api.client(tenant, "chief", Role.OWNER)
    made = (await ada.ask(KEY, {"expires": None})).data["createApiKey"]
    expired = (await ada.ask(KEY, {"expires": "2999-01-01T00:00:00Z"})).data["createApiKey"]
    revoke = "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { revokedId } }"
    assert (await ada.ask(revoke, {"id": made["apiKey"]["id"]})).data
    async with owner.unbound() as work:
        await work.script("UPDATE control.api_keys SET expires_at = now() WHERE revoked_at IS NULL")
    for key in (made["key"], expired["key"]):
        assert (await ask(api, LOG, None, **{"x-api-key": key})).status == 401
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    everywhere = await client(api, tenant, begun).ask("mutation { signOutEverywhere { user { id } } }")
    async with asyncio.timeout(30):
        while (await client(api, tenant, begun).run("Viewer")).status == 200:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)
    user = everywhere.data["signOutEverywhere"]["user"]["id"]
    disable = "mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }"
    assert (await ada.ask(disable, {"id": user})).data
    sessions = len(await sessions_of(api, tenant))
    assert (await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)).code == "FORBIDDEN"
    given = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}
    assert (await ask(api, OPERATIONS["SignIn"], given, **{"x-tenant-id": other_tenant})).code == "UNAUTHENTICATED"
    expected = {
        "disabled_user": 1,
        "expired_key": 1,
        "other_tenant": 1,
        "revoked_key": 1,
        "revoked_token": 1,
    }
    await counted(api, tenant, expected)
    await after_a_minute(owner)

    await until(api, tenant, lambda log: refusals(log) == expected)
    assert refusals(await entries(api, other_tenant)) == Counter()
    assert len(await sessions_of(api, tenant)) == sessions
    await verified(api, tenant)


def token(api: Api, **claims: object) -> str:
    """A token signed with the development key, for a subject without a user so far."""
    now = int(time.time())
    settings = api.settings
    own = {"iss": settings.token_issuer, "aud": settings.token_audience, "sub": "eve", "iat": now, "exp": now + 3600}
    return jwt.encode({**own, **claims}, development_key(settings))


def forged(token: str) -> str:
    head, payload, _ = token.split(".")
    return f"{head}.{payload}.{'A' * 86}"


async def refused(api: Api, status: int, token: str, named: str | None = None) -> None:
    """Check that a token is refused, with or without a tenant named in the request."""
    headers = {} if named is None else {"x-tenant-id": named}
    answer = await ask(api, LOG, None, authorization=f"Bearer {token}", **headers)
    assert answer.status == status, answer.response.text


async def nobody_came_in(api: Api, before: Mapping[str, int]) -> None:
    assert {tenant: len((await api.content(tenant))["users"]) for tenant in before} == before


async def test_refused_tokens_are_counted_for_the_tenant_that_they_name(
    api: Api, owner: Database, tenant: str, other_tenant: str
) -> None:
    users = {each: len((await api.content(each))["users"]) for each in (tenant, other_tenant)}
    tenant_id = str((await provisioning.named(api.control, tenant)).id)
    past = int(time.time()) - 3600
    # Counted by the tenant that the token claims, in any spelling.
    for name in (tenant, tenant_id, tenant_id.upper()):
        await refused(api, 401, forged(token(api, tenant=name)))
        for _ in range(2):  # the second time the cached refusal answers, without verifying the signature
            await refused(api, 401, token(api, tenant=name, exp=past))
    await refused(api, 401, token(api, tenant=tenant, aud="another"))
    await refused(api, 401, token(api, tenant=tenant, iss="https://elsewhere.example"))
    # Counted by the tenant that the request names, if any.
    await refused(api, 401, "nonsense", tenant)
    await refused(api, 401, forged(token(api, tenant="nowhere")), tenant)
    key = Mint(b"another installation").make().text
    assert (await ask(api, LOG, None, **{"x-api-key": key, "x-tenant-id": tenant})).status == 401
    # These name no tenant.
    for name in ("nowhere", "", "\x00", "a" * 300, str(uuid4())):
        await refused(api, 401, forged(token(api, tenant=name)))
    await refused(api, 401, "nonsense")
    await refused(api, 401, "nonsense", "nowhere")
    assert (await ask(api, LOG, None, **{"x-api-key": key})).status == 401

    await counted(api, tenant, {"expired_token": 6, "key": 1, "token": 7})
    assert await nowhere_else(api, tenant)
    await nobody_came_in(api, users)
    await after_a_minute(owner)
    await until(api, tenant, lambda log: refusals(log) == Counter(expired_token=6, key=1, token=7))
    assert refusals(await entries(api, other_tenant)) == Counter()
    await verified(api, tenant)


async def nowhere_else(api: Api, *counted_for: str) -> bool:
    """Whether refusals are counted for these tenants only."""
    async with api.control.unbound() as work:
        found = await work.texts("SELECT slug FROM control.refusals JOIN control.tenants t ON t.id = tenant_id")
    return {*found} == {*counted_for}


async def test_a_valid_credential_of_another_tenant_is_counted_for_both(
    api: Api, owner: Database, tenant: str, other_tenant: str
) -> None:
    ada = api.client(tenant, "chief", Role.OWNER)
    key = (await ada.ask(KEY, {"expires": None})).data["createApiKey"]["key"]
    for name in (other_tenant, "nowhere"):
        await refused(api, 403, token(api, tenant=tenant), name)
        assert (await ask(api, LOG, None, **{"x-api-key": key, "x-tenant-id": name})).status == 403

    # The tenant's own log does not reveal whether the other tenant exists.
    await counted(api, tenant, {"other_tenant": 4})
    await counted(api, other_tenant, {"other_tenant": 2})
    assert await nowhere_else(api, tenant, other_tenant)
    assert not [each for each in (await api.content(other_tenant))["users"] if each["subject"] == "eve"]
    await after_a_minute(owner)
    await until(api, other_tenant, lambda log: refusals(log) == Counter(other_tenant=2))
    await verified(api, other_tenant)


async def test_refresh_tokens_that_are_refused_are_counted_for_the_tenant_that_the_request_names(
    api: Api, owner: Database, tenant: str
) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    async with owner.unbound() as work:
        await work.script("DELETE FROM control.refresh_tokens")
    for refresh_token in (begun.refresh_token, "isr_unknown", "nonsense"):
        given = {"input": {"refreshToken": refresh_token}}
        named: tuple[dict[str, str], ...] = ({"x-tenant-id": tenant}, {"x-tenant-id": "nowhere"}, {})
        for headers in named:
            assert (await ask(api, OPERATIONS["RefreshSession"], given, **headers)).code == "UNAUTHENTICATED"
    await counted(api, tenant, {"refresh_token": 3})
    assert await nowhere_else(api, tenant)


async def test_the_number_of_cached_unknown_names_is_bounded(
    api: Api, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 3600)
    monkeypatch.setattr(sign_in_log, "_COUNTED", 10)
    async with SignInLog(api.control, api.tenants) as log:
        log.refuse(tenant, Reason.TOKEN)
        for number in range(100):
            log.refuse(f"invented-{number}", Reason.TOKEN)
            log.refuse(tenant, Reason.TOKEN)
        assert len(log._refused) == 10
    await counted(api, tenant, {"token": 101})


async def test_requests_with_a_good_credential_are_not_counted(api: Api, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    assert (await client(api, tenant, begun).run("Viewer")).data
    before = await entries(api, tenant)
    assert (await client(api, tenant, begun).run("Viewer")).data
    assert (await client(api, tenant, await refresh(api, begun.refresh_token)).run("Viewer")).data
    await counted(api, tenant, {})
    assert await entries(api, tenant) == before


# --- if the log cannot be written


async def prepared(api: Api) -> int:
    """How many sessions have not begun."""
    async with api.control.unbound() as work:
        return int(await work.value("SELECT count(*) FROM control.sessions WHERE user_id IS NULL"))


async def test_no_session_begins_without_its_entry(api: Api, owner: Database, strategy: Strategy, tenant: str) -> None:
    assert await sign_in(api, tenant, "ada", PASSWORD)
    before = await entries(api, tenant)
    found = await provisioning.named(api.control, tenant)
    table = f"{strategy.home(found.id).schema}.audit_entries"
    async with owner.unbound() as work:
        await work.script(f"REVOKE INSERT ON {table} FROM isola_audit")

    refused = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)

    assert refused.body["data"] == {"signIn": None}
    assert await prepared(api) == 1
    assert (await run(api, "SignIn", tenant=tenant, login="ada", password="a guess")).code == "UNAUTHENTICATED"
    await counted(api, tenant, {"password": 1})
    await after_a_minute(owner)
    async with owner.unbound() as work:
        await work.script(f"GRANT INSERT ON {table} TO isola_audit")
    await until(api, tenant, lambda log: refusals(log) == Counter(password=1))
    assert len(await entries(api, tenant)) == len(before) + 1
    await verified(api, tenant)


async def test_events_during_a_move_are_in_the_tenants_log_afterwards(api: Api, owner: Database, tenant: str) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    before = await entries(api, tenant)
    mark = f"UPDATE control.tenants SET moving_to = %s WHERE slug = '{tenant}'"
    async with owner.unbound() as work:
        await work.script(mark % "strategy")

    assert (await run(api, "SignIn", tenant=tenant, login="ada", password="a guess")).code == "UNAUTHENTICATED"
    refused = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)
    assert (refused.code, refused.body["data"]) == ("UNAVAILABLE", {"signIn": None})
    assert (await run(api, "SignOut", refreshToken=begun.refresh_token)).data
    await counted(api, tenant, {"password": 1})
    await after_a_minute(owner)
    async with owner.unbound() as work:
        await work.script(mark % "NULL")

    await until(api, tenant, lambda log: len(log) == len(before) + 2)
    await until_ended(api, tenant, "sign_out")
    assert refusals(await entries(api, tenant)) == Counter(password=1)


async def test_events_during_a_suspension_are_in_the_tenants_log_afterwards(
    api: Api, owner: Database, tenant: str
) -> None:
    begun = await sign_in(api, tenant, "ada", PASSWORD)
    await provisioning.suspend(owner, tenant)
    given = {"tenant": tenant, "login": "ada", "password": PASSWORD}
    async with asyncio.timeout(30):
        # Until the change reaches the server, the database rejects sign-ins.
        while (await run(api, "SignIn", **given)).code != "TENANT_SUSPENDED":  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)
    assert (await run(api, "SignOut", refreshToken=begun.refresh_token)).data
    await counted(api, tenant, {"suspended_tenant": 1})
    await after_a_minute(owner)
    await provisioning.resume(owner, tenant)

    await until(api, tenant, lambda log: refusals(log) == Counter(suspended_tenant=1))
    await until_ended(api, tenant, "sign_out")


async def test_a_read_only_database_refuses_invalid_credentials_and_begins_no_session(
    copy: Copy, owner: Database, settings: Settings, tenant: str
) -> None:
    async with owner.unbound() as work:
        name = await work.value("SELECT quote_ident(current_database())")
        await work.script(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with serving(copy, settings) as api:
        assert (await run(api, "SignIn", tenant=tenant, login="ada", password="a guess")).code == "UNAUTHENTICATED"
        refused = await run(api, "SignIn", tenant=tenant, login="ada", password=PASSWORD)
        assert (refused.code, refused.body["data"]) == ("UNAVAILABLE", {"signIn": None})
        assert await prepared(api) == 0


async def test_counts_are_stored_before_a_server_stops(
    copy: Copy, settings: Settings, tenant: str, control: Database
) -> None:
    async with serving(copy, settings) as api:
        assert (await run(api, "SignIn", tenant=tenant, login="ada", password="a guess")).code == "UNAUTHENTICATED"
    async with control.unbound() as work:
        assert await work.pairs("SELECT reason, count::text FROM control.refusals") == {"password": "1"}
