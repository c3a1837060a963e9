"""A revocation reaches all other servers within five seconds; a server that misses changes trusts no cached state."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jwt
import pytest

from isola.errors import Unavailable
from isola.identity import keys
from isola.platform import changes as hearing, provisioning, revocations
from isola.platform.changes import EFFECTIVE_WITHIN
from isola.platform.revocations import Revocable
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client, serving
from isola_strategies.base import Strategy

ME = "{ viewer { user { id } } }"
ROLES = "{ roles { nodes { id name } } }"
PERMISSIONS = "{ viewer { permissions } }"
TOKEN_ID = "token-1"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """With the default times of a server: the directory is cached for longer than any test takes."""
    return DEFAULTS.model_copy(update={"data_dir": tmp_path})


@dataclass(frozen=True, slots=True)
class Two:
    """Two servers over one database: an administrator uses one, and the other has cached a client's state."""

    here: Api
    there: Api
    admin: Client
    ada: Client

    @property
    def elsewhere(self) -> Client:
        """The same client with the same credential at the other server."""
        return replace(self.ada, http=self.there.http)


@pytest.fixture
async def two(copy: Copy, settings: Settings, strategy: Strategy) -> AsyncIterator[Two]:
    async with serving(copy, settings) as here, serving(copy, settings) as there:
        tenant = f"{strategy.name}-a"
        admin = here.client(tenant, "admin")
        ada = admin.saying(f"Bearer {numbered(settings, tenant)}")
        made = Two(here, there, admin, ada)
        assert (await admin.ask(ME)).data
        for known in (ada, made.elsewhere):
            assert (await known.ask(ME)).data
        yield made


def numbered(settings: Settings, tenant: str) -> str:
    """A token with an id, by which it can be revoked."""
    now = int(time.time())
    claims = {"iss": settings.token_issuer, "aud": settings.token_audience, "iat": now, "exp": now + 3600}
    own = {"sub": "ada", "tenant": tenant, "role": "admin", "jti": TOKEN_ID}
    return jwt.encode({**claims, **own}, keys.development_key(settings))


async def in_time(client: Client, document: str, holds: Callable[[Answer], bool]) -> Answer:
    """Repeat a request until the answer shows the change, for at most five seconds after the change."""
    committed = time.monotonic()
    while True:
        asked = time.monotonic()
        answer = await client.ask(document)
        if holds(answer):
            return answer
        assert asked - committed < EFFECTIVE_WITHIN
        await asyncio.sleep(0.05)


async def user_id(client: Client) -> str:
    return str((await client.ask(ME)).data["viewer"]["user"]["id"])


async def revoke_token(two: Two) -> None:
    async with two.here.control.unbound() as transaction:
        await revocations.revoke(transaction, Revocable.token(two.here.settings.token_issuer, TOKEN_ID))


async def sign_out_everywhere(two: Two) -> None:
    assert (await two.ada.run("SignOutEverywhere")).data


async def revoke_sessions(two: Two) -> None:
    assert (await two.admin.run("RevokeSessions", input={"userId": await user_id(two.ada)})).data


async def disable_user(two: Two) -> None:
    document = "mutation ($id: ID!) { disableUser(input: {id: $id}) { user { id } } }"
    assert (await two.admin.ask(document, {"id": await user_id(two.ada)})).data


async def suspend_tenant(two: Two) -> None:
    await provisioning.suspend(two.here.control, two.admin.tenant)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (revoke_token, 401, "UNAUTHENTICATED"),
        (sign_out_everywhere, 401, "UNAUTHENTICATED"),
        (revoke_sessions, 401, "UNAUTHENTICATED"),
        (disable_user, 403, "FORBIDDEN"),
        (suspend_tenant, 403, "TENANT_SUSPENDED"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_revocation_on_one_server_applies_on_the_other_within_five_seconds(
    two: Two, change: Callable[[Two], Awaitable[None]], status: int, code: str
) -> None:
    await change(two)
    for client in (two.elsewhere, two.ada):
        answer = await in_time(client, ME, lambda answer: answer.status != 200)
        assert (answer.status, answer.code) == (status, code)


async def test_a_revoked_role_is_revoked_on_the_other_server_within_five_seconds(two: Two) -> None:
    roles = {each["name"]: each["id"] for each in (await two.admin.ask(ROLES)).data["roles"]["nodes"]}
    assert "user:manage" in (await two.elsewhere.ask(PERMISSIONS)).data["viewer"]["permissions"]
    taken = await two.admin.ask(
        "mutation ($user: ID!, $role: ID!) { unassignRole(input: {userId: $user, roleId: $role}) { role { id } } }",
        {"user": await user_id(two.ada), "role": roles["admin"]},
    )
    assert taken.data

    await in_time(two.elsewhere, PERMISSIONS, lambda answer: not answer.data["viewer"]["permissions"])


async def test_a_key_that_is_revoked_is_refused_on_the_other_server_within_five_seconds(two: Two) -> None:
    made = await two.admin.ask(
        'mutation { createApiKey(input: {name: "robot", permissions: ["user:read"]}) { key apiKey { id } } }'
    )
    robot = two.elsewhere.saying(f"Bearer {made.data['createApiKey']['key']}")
    assert (await robot.ask(ME)).data
    revoked = await two.admin.ask(
        "mutation ($id: ID!) { revokeApiKey(input: {apiKeyId: $id}) { revokedId } }",
        {"id": made.data["createApiKey"]["apiKey"]["id"]},
    )
    assert revoked.data

    answer = await in_time(robot, ME, lambda answer: answer.status != 200)

    assert (answer.status, answer.code) == (401, "UNAUTHENTICATED")


async def test_signing_out_does_not_affect_other_users(two: Two) -> None:
    grace = two.there.client(two.admin.tenant, "grace")
    assert (await grace.ask(ME)).data
    await sign_out_everywhere(two)
    while (await two.elsewhere.ask(ME)).status == 200:  # noqa: ASYNC110  only asking tells
        await asyncio.sleep(0.05)
    assert (await grace.ask(ME)).data
    assert (await replace(two.admin, http=two.there.http).ask(ME)).data
    anew = two.there.client(two.admin.tenant, "ada")
    # The issue time of such tokens has a resolution of one second.
    async with asyncio.timeout(PATIENCE):
        while (await anew.ask(ME)).status == 401:
            anew = two.there.client(two.admin.tenant, "ada")
            await asyncio.sleep(0.1)


async def test_a_server_that_cannot_poll_uses_no_cached_data(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hearing.Changes, "poll", deaf)
    await provisioning.suspend(two.here.control, two.admin.tenant)

    answer = await in_time(two.elsewhere, ME, lambda answer: answer.status != 200)

    assert (answer.status, answer.code) == (403, "TENANT_SUSPENDED")


async def deaf(_: hearing.Changes) -> None:
    raise Unavailable("the database cannot be reached")
