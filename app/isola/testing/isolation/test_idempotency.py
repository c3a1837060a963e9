"""First answers to mutations with a key: each is one user's, in one tenant, and exists together with its change."""

import asyncio

import pytest
from sqlalchemy import insert

from isola.database.claims import Answered, Claim
from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict
from isola.platform.idempotency import first_answers
from isola.platform.tenants import Tenant
from isola.subjects import resources, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import all_permissions
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, content, tried
from isola.testing.waiting import until_someone_waits

DIGEST, REQUEST = b"d" * 32, b"x" * 32
READ = "SELECT answer FROM isola.first_answer($1, 0, $2)"
ANSWER = "SELECT $1::text"


def claim(request: bytes = REQUEST) -> Claim:
    return Claim(DIGEST, 0, request, "permissions")


async def user(database: Database, tenant: Tenant, subject: str) -> Actor:
    async with database.transaction(tenant) as work:
        key = await users.ensure(work, subject=subject, name=None, email=None)
    return Actor(key, all_permissions())


async def create(database: Database, tenant: Tenant, actor: Actor, answer: str | None, claimed: Claim) -> None:
    async with database.transaction(tenant, about=actor.reader, claim=claimed) as work:
        await resources.create(work, actor, name="claimed")
        if answer is not None:
            await keep(work, claimed, answer)


async def keep(work: Transaction, claimed: Claim, answer: str) -> None:
    sql, values = claimed.keep(ANSWER, (answer,))
    assert await work.value(sql, *values) == answer


async def answers(database: Database, tenant: Tenant, actor: Actor | None, digest: bytes = DIGEST) -> list[str]:
    async with database.transaction(tenant, about=actor.reader if actor else {}) as work:
        return await work.texts(READ, digest, REQUEST)


async def test_nobody_else_reaches_an_answer_even_with_its_digest(
    database: Database, owner: Database, a: Tenant, b: Tenant
) -> None:
    ada, bob, other = [await user(database, tenant, name) for tenant, name in ((a, "ada"), (a, "bob"), (b, "ada"))]
    await create(database, a, ada, "the answer", claim())
    # The same user id in another tenant: only the tenant tells their answers apart.
    elsewhere = b"e" * 32
    async with owner.unbound() as work:
        values = {"digest": elsewhere, "place": 0, "tenant_id": b.id, "user_id": ada.user_id, "request": REQUEST}
        await work.execute(insert(first_answers).values(**values, permissions="", refusal=False, answer="of B"))

    assert await answers(database, a, ada, elsewhere) == []
    assert await answers(database, a, ada) == ["the answer"]
    for tenant, actor in ((a, bob), (b, other), (a, None), (b, None)):
        assert await answers(database, tenant, actor) == []
    async with database.transaction(a, about=ada.reader) as work:
        for sql in ("SELECT * FROM control.first_answers", "DELETE FROM control.first_answers"):
            assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE


async def test_an_answer_and_its_change_exist_together_or_not_at_all(database: Database, a: Tenant) -> None:
    ada = await user(database, a, "ada")
    before = await content(database, a)
    with pytest.raises(BadUserInput, match="cannot be kept"):
        await create(database, a, ada, None, claim())
    with pytest.raises(RuntimeError):
        async with database.transaction(a, about=ada.reader, claim=claim()) as work:
            await resources.create(work, ada, name="claimed")
            await keep(work, claim(), "never")
            raise RuntimeError
    assert await answers(database, a, ada) == []
    # A transaction whose user is not proved keeps nothing.
    with pytest.raises(Exception, match="user_id"):
        async with database.transaction(a, claim=claim()) as work:
            await keep(work, claim(), "nobody's")
    assert await content(database, a) == before


async def test_a_second_request_waits_for_the_first_and_does_not_run(
    database: Database, single: Database, owner: Database, a: Tenant
) -> None:
    ada = await user(database, a, "ada")
    first = claim()
    async with database.transaction(a, about=ada.reader, claim=first) as work:
        await resources.create(work, ada, name="claimed")
        await keep(work, first, "first")
        second = asyncio.create_task(create(single, a, ada, "second", claim()))
        await until_someone_waits(owner)
    with pytest.raises(Answered):
        await second
    with pytest.raises(Conflict, match="another request"):
        await create(database, a, ada, "another", claim(b"y" * 32))
    assert await answers(database, a, ada) == ["first"]
    assert [row["name"] for row in (await content(database, a))["resources"]] == ["claimed"]
