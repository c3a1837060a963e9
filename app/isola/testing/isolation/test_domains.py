"""SQL in a tenant cannot take over a domain: only servers write the proof of ownership, out of its reach."""

from uuid import UUID

import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict
from isola.platform.challenges import Challenges
from isola.platform.tenants import Tenant
from isola.subjects import domains
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, tried

NAME = "acme-own.example"
VERIFIED = "SELECT name FROM control.domains WHERE verified_at IS NOT NULL"
PROVE = "UPDATE control.domains SET proven_at = clock_timestamp() WHERE id = $1"
MANAGER = Actor(UUID(int=0), frozenset({Permission.DOMAIN_MANAGE}))


@pytest.fixture
async def claim(database: Database, a: Tenant) -> UUID:
    async with database.transaction(a) as work:
        return await domains.add(work, MANAGER, NAME)


async def test_a_domain_that_no_server_verified_names_no_tenant(
    database: Database, owner: Database, a: Tenant, claim: UUID
) -> None:
    with pytest.raises(Conflict):
        async with database.transaction(a) as work:
            await domains.verify(work, MANAGER, claim)
    async with database.transaction(a) as work:
        assert await tried(work, "SELECT isola.verify_domain($1) AS done", claim) == [{"done": False}]
        for sql in (
            PROVE.replace("$1", f"'{claim}'"),
            "UPDATE control.domains SET verified_at = now()",
            "INSERT INTO control.domains (tenant_id, name) SELECT id, slug FROM control.tenants",
        ):
            assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE
    async with owner.unbound() as work:
        assert await work.texts(VERIFIED) == []


async def test_a_tenant_cannot_choose_its_challenge(database: Database, a: Tenant, claim: UUID) -> None:
    async with database.transaction(a) as work:
        first = await domains.claimed(work, MANAGER, claim)
        assert await domains.add(work, MANAGER, NAME) == claim
        second = await domains.claimed(work, MANAGER, claim)
    assert first.challenge != second.challenge
    assert {len(each.challenge) for each in (first, second)} == {64}


@pytest.mark.parametrize("since", ["a new challenge", "another day", "a removal"])
async def test_a_verification_is_valid_for_its_challenge_and_one_minute(
    database: Database, owner: Database, a: Tenant, claim: UUID, since: str
) -> None:
    moment = "clock_timestamp() - interval '2 min'" if since == "another day" else "clock_timestamp()"
    async with owner.unbound() as work:
        await work.value(PROVE.replace("clock_timestamp()", moment), claim)
    async with database.transaction(a) as work:
        if since == "a new challenge":
            await domains.add(work, MANAGER, NAME)
        elif since == "a removal":
            await domains.remove(work, MANAGER, claim)
            await domains.add(work, MANAGER, NAME)
    with pytest.raises(Conflict):
        async with database.transaction(a) as work:
            await domains.verify(work, MANAGER, claim)
    async with owner.unbound() as work:
        assert await work.texts(VERIFIED) == []


async def test_a_verified_domain_applies_to_one_tenant_only(
    database: Database, owner: Database, a: Tenant, b: Tenant, claim: UUID
) -> None:
    async with database.transaction(b) as work:
        theirs = await domains.add(work, MANAGER, NAME)
    async with owner.unbound() as work:
        await work.value(PROVE, claim)
    for domain in (claim, theirs):
        with pytest.raises(Conflict):
            async with database.transaction(b) as work:
                await domains.verify(work, MANAGER, domain)
    async with database.transaction(a) as work:
        await domains.verify(work, MANAGER, claim)
    async with owner.unbound() as work:
        assert await work.texts("SELECT tenant_id::text FROM control.domains WHERE verified_at IS NOT NULL") == [
            str(a.id)
        ]


@pytest.mark.parametrize("name", ["com", "127.0.0.1", "api.platform.test", "ACME.example", "a.example/b", ""])
async def test_a_malformed_name_is_not_looked_up(control: Database, a: Tenant, name: str) -> None:
    nowhere = ["192.0.2.1"]
    challenges = Challenges(lambda domain: domain.endswith("platform.test"), nowhere, control=control)
    try:
        found = await challenges.prove(a.id, UUID(int=1), name, "challenge")
    except BadUserInput:
        found = False
    assert not found
