"""API keys: their format and storage, who may create which, and the low cost of an invalid one."""

import asyncio
import logging
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, NotFound, Unauthenticated
from isola.identity.api_keys import KeyVerifier, Mint, Minted
from isola.platform.api_keys import ApiKeys, api_keys as table
from isola.platform.changes import Changes
from isola.platform.sign_in_log import Reason
from isola.platform.tenants import Tenant
from isola.subjects import api_keys, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission, Role, of_role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE

SECRET = b"a secret that only these tests know"
EDITOR = of_role(Role.EDITOR)
Make = Callable[..., Awaitable[Minted]]


@pytest.fixture
def mint() -> Mint:
    return Mint(SECRET)


@pytest.fixture
async def admin(a: Tenant, database: Database) -> Actor:
    async with database.transaction(a) as work:
        return Actor(await users.ensure(work, subject="ada", name=None, email=None), of_role(Role.ADMIN))


@pytest.fixture
def make(a: Tenant, database: Database, mint: Mint, admin: Actor) -> Make:
    async def made(actor: Actor = admin, **values: Any) -> Minted:
        key = mint.make()
        given = {"name": "robot", "permissions": {Permission.RESOURCE_READ}, **values}
        async with database.transaction(a, about=actor.reader) as work:
            await api_keys.create(work, actor, prefix=key.prefix, digest=key.digest, **given)
        return key

    return made


@pytest.fixture
async def known(control: Database) -> AsyncIterator[ApiKeys]:
    async with Changes(control, 0.05) as changes, ApiKeys(control, changes, 60) as known:
        yield known


@pytest.fixture
def verifier(mint: Mint, known: ApiKeys) -> KeyVerifier:
    return KeyVerifier(mint, known, refused)


def refused(tenant: UUID | str, reason: Reason) -> None:
    """Tests over HTTP cover the effect of refusals."""


async def refusal(verifier: KeyVerifier, text: str) -> str:
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(text)
    return caught.value.message


async def stored(owner: Database) -> dict[str, dict[str, Any]]:
    async with owner.unbound() as work:
        return {row["prefix"]: dict(row) for row in await work.rows(select(table))}


# --- The format of a key


def test_a_key_is_returned_once_and_never_shown_again(mint: Mint) -> None:
    key = mint.make()
    assert re.fullmatch(r"isk_[0-9a-f]{12}_[0-9a-f]{56}", key.text)
    assert key.text.startswith(f"isk_{key.prefix}_")
    secret = key.text.rpartition("_")[2]
    assert secret not in f"{key} {key!r}"
    assert len({mint.make().text for _ in range(1000)}) == 1000


def test_a_key_is_valid_only_in_its_own_installation(mint: Mint) -> None:
    key = mint.make()
    assert mint.opened(key.text) == (key.prefix, key.digest)
    assert Mint(b"another secret").opened(key.text) is None
    for position in range(len(key.text)):
        for character in "0f_":
            changed = key.text[:position] + character + key.text[position + 1 :]
            assert changed == key.text or mint.opened(changed) is None
    for odd in ("", "isk_", key.text + "\n", key.text.upper(), key.text[:-1], key.text + "0", "isk_" * 5000, "\ud800"):
        assert mint.opened(odd) is None


# --- What is stored, and the rights of a machine


async def test_a_key_has_its_own_user_with_the_permissions_of_its_creation(
    verifier: KeyVerifier, make: Make, a: Tenant, database: Database, admin: Actor
) -> None:
    key = await make(permissions=[Permission.RESOURCE_READ, Permission.USER_READ])

    found = await verifier.verify(key.text)

    assert (found.tenant, found.created_by) == (str(a.id), admin.user_id)
    assert found.permissions == {"resource:read", "user:read"}
    async with database.transaction(a) as work:
        [machine] = await work.rows(select(users.users).where(users.users.c.id == found.user_id))
    assert (machine["subject"], machine["name"]) == (f"key:{key.prefix}", "robot")


async def test_a_key_is_never_sent_to_the_database(
    make: Make, owner: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = await make()
    secret = key.text.rpartition("_")[2]

    [row] = (await stored(owner)).values()

    assert row["digest"] == sha256(key.text[:-16].encode()).digest()
    assert secret not in str(row)
    assert secret not in caplog.text


async def test_a_key_cannot_exceed_the_permissions_of_its_creator(make: Make, admin: Actor, owner: Database) -> None:
    limited = Actor(admin.user_id, {Permission.API_KEY_MANAGE, Permission.USER_READ})
    for permissions in ([Permission.RESOURCE_READ], [Permission.USER_READ, Permission.RESOURCE_MANAGE]):
        with pytest.raises(Forbidden):
            await make(limited, permissions=permissions)
    with pytest.raises(Forbidden):
        await make(Actor(admin.user_id, EDITOR), permissions=[Permission.USER_READ])
    assert await stored(owner) == {}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\x00b"}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"permissions": []}, "permissions"),
        ({"permissions": ["made:up"]}, "permissions"),
        ({"expires_at": datetime(2026, 1, 1, tzinfo=UTC)}, "expiresAt"),
    ],
    ids=str,
)
async def test_an_invalid_key_is_refused(make: Make, owner: Database, values: dict[str, Any], named: str) -> None:
    with pytest.raises(BadUserInput, match=named):
        await make(**values)
    assert await stored(owner) == {}


# --- Invalid keys


async def test_every_bad_key_gets_the_same_answer(
    verifier: KeyVerifier, make: Make, mint: Mint, a: Tenant, database: Database, admin: Actor, owner: Database
) -> None:
    good, revoked = await make(), await make()
    soon = await make(expires_at=datetime.now(UTC) + timedelta(days=1))
    ids = {prefix: row["id"] for prefix, row in (await stored(owner)).items()}
    async with database.transaction(a) as work:
        await api_keys.revoke(work, admin, ids[revoked.prefix])
    late = KeyVerifier(mint, verifier._keys, refused, lambda: time.time() + 90_000)
    other = mint.make()
    wrong_secret = good.text[:17] + other.text[17:]

    bad = (wrong_secret, other.text, revoked.text, "isk_", "isk_\x00", "")
    refusals = {await refusal(verifier, text) for text in bad}
    refusals.add(await refusal(late, soon.text))

    assert len(refusals) == 1
    assert (await verifier.verify(good.text)).user_id
    assert (await verifier.verify(soon.text)).user_id


async def test_malformed_keys_cause_no_query(copy: Copy, make: Make, mint: Mint) -> None:
    """Even without a database the answer is the same."""
    key = await make()
    closed = await Database.open(copy.where.control)
    async with closed, Changes(closed) as changes:
        verifier = KeyVerifier(mint, ApiKeys(closed, changes, 60), refused)
    invented = [Mint(b"somebody else's").make().text for _ in range(100)]
    wrong = [key.text[:17] + text[17:] for text in invented]

    assert len({await refusal(verifier, text) for text in [*invented, *wrong]}) == 1


async def test_a_key_that_was_revoked_is_refused_soon_on_every_server(
    control: Database, mint: Mint, make: Make, a: Tenant, database: Database, admin: Actor, owner: Database
) -> None:
    key = await make()
    [row] = (await stored(owner)).values()
    async with Changes(control, 0.05) as here, Changes(control, 0.05) as there:
        servers = [KeyVerifier(mint, ApiKeys(control, changes, 60), refused) for changes in (here, there)]
        for server in servers:
            assert (await server.verify(key.text)).id == row["id"]
        async with database.transaction(a) as work:
            await api_keys.revoke(work, admin, row["id"])
        revoked_at = time.monotonic()
        for server in servers:
            while True:
                try:
                    await server.verify(key.text)
                except Unauthenticated:
                    break
                assert time.monotonic() - revoked_at < PATIENCE
                await asyncio.sleep(0.01)


async def test_a_key_can_be_revoked_only_by_its_own_tenant(
    make: Make, b: Tenant, a: Tenant, database: Database, admin: Actor, owner: Database
) -> None:
    await make()
    before = await stored(owner)
    [row] = before.values()

    for key in (row["id"], UUID(int=0)):
        with pytest.raises(NotFound):
            async with database.transaction(b) as work:
                await api_keys.revoke(work, admin, key)
    with pytest.raises(Forbidden):
        async with database.transaction(a) as work:
            await api_keys.revoke(work, Actor(admin.user_id, EDITOR), row["id"])
    assert await stored(owner) == before


async def test_a_tenant_lists_only_its_own_keys(make: Make, a: Tenant, b: Tenant, database: Database) -> None:
    key = await make()
    seen = {}
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            seen[tenant.slug] = await work.texts("SELECT prefix FROM isola.api_keys()")
    assert seen == {a.slug: [key.prefix], b.slug: []}


async def test_the_last_use_of_a_key_is_stored_once_a_minute_in_the_background(
    verifier: KeyVerifier, known: ApiKeys, make: Make, owner: Database
) -> None:
    key = await make()
    for _ in range(10):
        await verifier.verify(key.text)
    await known.__aexit__(None, None, None)
    [first] = (await stored(owner)).values()
    await verifier.verify(key.text)
    await known.__aexit__(None, None, None)
    [second] = (await stored(owner)).values()

    assert first["last_used_at"] is not None
    assert second == first
