"""A user's own sessions: the list, and ending one or all others."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from isola.identity import passwords
from isola.identity.passwords import Person, hashed
from isola.platform import sign_in_log
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import DEFAULTS, STRATEGIES, Copy
from isola.testing.served import OPERATIONS, Api, Client, serving
from tests.http.people import Session, ask, client, entries, refresh, run, session, sign_in, until

PASSWORD = "correct horse battery staple"
EFFECTIVE_WITHIN = 5.0  # docs/changes.md
KEY = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'


@pytest.fixture(scope="session")
def people() -> dict[str, Person]:
    person = Person(password=hashed(PASSWORD), role=Role.ADMIN)
    return {"ada": person, "eve": person}


@pytest.fixture
def settings(tmp_path: Path, people: dict[str, Person]) -> Settings:
    file = tmp_path / "people.json"
    passwords.write(file, {f"{strategy}-{tenant}": people for strategy in STRATEGIES for tenant in "ab"})
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "development_passwords": file})


@pytest.fixture
async def api(copy: Copy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setattr(sign_in_log, "INTERVAL", 0.05)
    async with serving(copy, settings) as api:
        yield api


async def listed(who: Client) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = (await who.run("Sessions")).data["viewer"]["sessions"]["nodes"]
    return nodes


async def until_refused(who: Client) -> float:
    """Wait until a client's token is refused; how long that took."""
    began = time.monotonic()
    async with asyncio.timeout(30):
        while (answer := await who.run("Viewer")).status == 200:  # noqa: ASYNC110  only asking tells
            await asyncio.sleep(0.05)
    assert (answer.status, answer.error["message"]) == (401, "the token was revoked")
    return time.monotonic() - began


async def test_users_see_their_own_sessions_and_nobody_elses(api: Api, tenant: str, other_tenant: str) -> None:
    given = {"input": {"tenant": tenant, "login": "ada", "password": PASSWORD}}
    answer = await ask(api, OPERATIONS["SignIn"], given, **{"user-agent": "Fire\tfox/1" + "x" * 300})
    first = session(answer.data)
    second = await sign_in(api, tenant, "ada", PASSWORD)
    ended = await sign_in(api, tenant, "ada", PASSWORD)
    await run(api, "SignOut", refreshToken=ended.refresh_token)
    eve = client(api, tenant, await sign_in(api, tenant, "eve", PASSWORD))
    elsewhere = client(api, other_tenant, await sign_in(api, other_tenant, "ada", PASSWORD))
    first = await refresh(api, first.refresh_token)
    ada = client(api, tenant, first)

    found = await listed(ada)

    assert [each["current"] for each in found] == [False, True]
    assert [each["current"] for each in await listed(client(api, tenant, second))] == [True, False]
    newer, older = found
    assert older["userAgent"] == ("Firefox/1" + "x" * 300)[:200]
    assert newer["userAgent"].startswith("python-httpx")
    assert older["startedAt"] < newer["startedAt"] < older["refreshedAt"] < older["expiresAt"]
    assert newer["refreshedAt"] is None
    for who in (eve, elsewhere):
        [own] = await listed(who)
        assert own["current"]
        assert own["id"] not in {newer["id"], older["id"]}
    # A token of another issuer for the same user, and a machine that the user has made.
    assert [each["current"] for each in await listed(api.client(tenant, "ada"))] == [False, False]
    key = (await ada.ask(KEY)).data["createApiKey"]["key"]
    assert not await listed(Client(api.http, tenant, {"content-type": "application/json", "x-api-key": key}))
    assert (await ada.ask("mutation { signOutEverywhere { user { id } } }")).data
    assert len(await listed(client(api, tenant, await sign_in(api, tenant, "eve", PASSWORD)))) == 2
    [alone] = await listed(client(api, tenant, await sign_in(api, tenant, "ada", PASSWORD)))
    assert alone["current"]


async def test_a_user_ends_one_session_and_its_tokens_are_refused_within_five_seconds(
    api: Api, tenant: str, other_tenant: str
) -> None:
    mine, lost = [await sign_in(api, tenant, "ada", PASSWORD) for _ in range(2)]
    ada = client(api, tenant, mine)
    theirs = [await sign_in(api, tenant, "eve", PASSWORD), await sign_in(api, other_tenant, "ada", PASSWORD)]
    foreign = [
        (await listed(client(api, where, each)))[0]["id"]
        for where, each in zip((tenant, other_tenant), theirs, strict=True)
    ]
    lost_id, own_id = (each["id"] for each in await listed(ada))

    for wrong in (*foreign, f"ses_{UUID(int=7)}"):
        refused = await ada.run("EndSession", input={"sessionId": wrong})
        assert (refused.code, refused.error["message"]) == ("NOT_FOUND", "there is no such session")
    assert (await ada.run("EndSession", input={"sessionId": "usr_1"})).code == "BAD_USER_INPUT"
    answer = await ada.run("EndSession", input={"sessionId": lost_id})
    assert answer.data == {"endSession": {"endedId": lost_id}}

    assert await until_refused(client(api, tenant, lost)) < EFFECTIVE_WITHIN
    assert (await run(api, "RefreshSession", refreshToken=lost.refresh_token)).code == "UNAUTHENTICATED"
    assert [each["id"] for each in await listed(ada)] == [own_id]
    assert (await ada.run("EndSession", input={"sessionId": lost_id})).code == "NOT_FOUND"
    for where, each in ((tenant, mine), (tenant, theirs[0]), (other_tenant, theirs[1])):
        assert await listed(client(api, where, await refresh(api, each.refresh_token)))
    await until(api, tenant, lambda log: [each["action"] for each in log].count("session:delete") == 1)
    user = (await ada.run("Viewer")).data["viewer"]["user"]["id"]
    said = [each for each in await entries(api, tenant) if each["object"] == f"{user}/{lost_id}"]
    assert [(each["action"], each["actor"]) for each in said] == [
        ("session:create", None),
        ("session:update", user),
        ("session:delete", None),
    ]
    assert said[1]["new"]["ended_for"] == said[2]["old"]["ended_for"] == "sign_out"
    assert not any("user_agent" in str(each) for each in said[1:])


async def test_a_user_ends_all_other_sessions(api: Api, tenant: str) -> None:
    kept, *others = [await sign_in(api, tenant, "ada", PASSWORD) for _ in range(3)]
    eve = await sign_in(api, tenant, "eve", PASSWORD)
    ada = client(api, tenant, kept)

    assert (await ada.run("EndOtherSessions")).data == {"endOtherSessions": {"ended": 2}}

    for each in others:
        assert (await run(api, "RefreshSession", refreshToken=each.refresh_token)).code == "UNAUTHENTICATED"
        assert await until_refused(client(api, tenant, each)) < EFFECTIVE_WITHIN
    [own] = await listed(ada)
    assert own["current"]
    assert (await ada.run("EndOtherSessions")).data == {"endOtherSessions": {"ended": 0}}
    assert len(await listed(client(api, tenant, eve))) == 1
    # A credential that is not of a session keeps none.
    assert (await api.client(tenant, "ada").run("EndOtherSessions")).data == {"endOtherSessions": {"ended": 1}}
    await until_refused(ada)


async def test_a_session_that_ends_while_it_is_refreshed_stays_ended(api: Api, tenant: str) -> None:
    mine, lost = [await sign_in(api, tenant, "ada", PASSWORD) for _ in range(2)]
    ada = client(api, tenant, mine)
    lost_id = (await listed(ada))[0]["id"]

    answers = await asyncio.gather(
        run(api, "RefreshSession", refreshToken=lost.refresh_token),
        ada.run("EndSession", input={"sessionId": lost_id}),
    )

    assert answers[1].data
    won: Session = session(answers[0].data) if "errors" not in answers[0].body else lost
    assert (await run(api, "RefreshSession", refreshToken=won.refresh_token)).code == "UNAUTHENTICATED"
    await until_refused(client(api, tenant, won))
