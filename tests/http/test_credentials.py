"""Requests without a valid token: reads and writes alike are rejected before anything else is examined."""

import asyncio
import base64
import json

import pytest

from isola.platform import provisioning
from isola.settings import Settings
from isola.testing.fixtures import Copy
from isola.testing.served import OPERATIONS, Api, Client, serving
from isola_strategies.base import Strategy

CREATE = json.dumps({"query": OPERATIONS["CreateResource"], "variables": {"input": {"name": "x"}}})


def _forged(authorization: str, **claims: object) -> str:
    """The token with other claims and its old signature."""
    header, payload, signature = authorization.split(".")
    said = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps({**said, **claims}).encode()).decode().rstrip("=")
    return f"{header}.{changed}.{signature}"


CREDENTIALS = {
    "none": "",
    "another scheme": "Basic YWRhOmFkYQ==",
    "no token": "Bearer",
    "no token at all": "Bearer nonsense",
    "three parts of nothing": "Bearer a.b.c",
    "far too long": "Bearer " + "a" * 20_000,
}


@pytest.mark.parametrize("authorization", CREDENTIALS.values(), ids=CREDENTIALS)
async def test_without_a_valid_token_the_body_is_not_read(guest: Client, authorization: str) -> None:
    stranger = guest.saying(authorization)

    for body in (CREATE, "not even JSON"):
        refused = await stranger.send(body)
        assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
        assert refused.response.headers["www-authenticate"].startswith("Bearer")
        assert "data" not in refused.body


async def test_a_token_that_was_changed_is_refused(guest: Client) -> None:
    refused = await guest.saying(_forged(guest.headers["authorization"], role="admin", tenant="rls-b")).send(CREATE)

    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")


async def test_an_unknown_tenant_is_refused(standing: Api, guest: Client) -> None:
    refused = await standing.client("nowhere").send(CREATE)

    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
    assert "tenant" in refused.error["message"]
    assert guest.tenant not in refused.response.text


async def test_a_token_is_refused_from_the_moment_it_expires(
    copy: Copy, settings: Settings, strategy: Strategy
) -> None:
    async with serving(copy, settings.model_copy(update={"token_leeway": 0})) as api:
        short = api.client(f"{strategy.name}-a", ttl=0.01)  # valid for up to a second more
        statuses = [(await short.run("Viewer")).status]
        while statuses[-1] == 200:
            await asyncio.sleep(0.05)
            statuses.append((await short.run("Viewer")).status)

        refused = await short.send(CREATE)

    assert (refused.status, refused.code) == (401, "UNAUTHENTICATED")
    assert (refused.reason, refused.error["message"]) == ("TOKEN_EXPIRED", "the token has expired")


async def test_a_new_user_with_the_email_address_of_another_is_a_separate_user(api: Api, alice: Client) -> None:
    people = [
        api.client(alice.tenant, subject, email=email)
        for subject, email in {"one": "same@example.org", "two": "Same@Example.org", "three": None}.items()
    ]

    users = [(await each.run("Viewer")).data["viewer"]["user"] for each in people]

    assert len({user["id"] for user in users}) == 3
    assert [user["email"] for user in users] == ["same@example.org", "same@example.org", None]


async def test_a_suspended_tenant_is_refused_within_the_time_that_the_setting_says(api: Api, alice: Client) -> None:
    await alice.create("kept")
    loop = asyncio.get_running_loop()
    await provisioning.suspend(api.control, alice.tenant)
    suspended = loop.time()
    asked = suspended
    while (refused := await alice.run("Viewer")).status == 200:
        assert asked - suspended < api.settings.directory_ttl
        asked = loop.time()
    assert (refused.status, refused.code) == (403, "TENANT_SUSPENDED")

    await provisioning.resume(api.control, alice.tenant)
    await asyncio.sleep(api.settings.directory_ttl)
    assert (await alice.run("Resources")).data["resources"]["nodes"][0]["name"] == "kept"
