"""Revoked tokens are rejected, at the cost of one query for each token."""

import time
from collections.abc import Sequence
from uuid import UUID

import pytest
from sqlalchemy import func, select

from isola.database.transactions import Database
from isola.errors import Forbidden, NotFound, Unauthenticated, Unavailable
from isola.identity.claims import Claims
from isola.identity.revocations import Revocations
from isola.platform import revocations as revoked
from isola.platform.changes import Changes
from isola.platform.revocations import Revocable
from isola.platform.tenants import Tenant
from isola.subjects import sessions, users
from isola.subjects.actor import Actor
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import log

ISSUER = "https://id.example"


def claims(
    *, subject: str = "ada", token: str | None = None, session: str | None = None, issued_at: float | None = None
) -> Claims:
    return Claims(
        tenant=None,
        subject=subject,
        role=None,
        name=None,
        email=None,
        expires_at=4e9,
        issuer=ISSUER,
        issued_at=time.time() if issued_at is None else issued_at,
        token_id=token,
        session_id=session,
    )


@pytest.fixture
def known(control: Database, changes: Changes) -> Revocations:
    return Revocations(control, changes)


async def refused(known: Revocations, tenant: Tenant, tokens: Sequence[Claims]) -> list[bool]:
    answers = []
    for each in tokens:
        try:
            await known.refuse_revoked(each, tenant.id)
        except Unauthenticated:
            answers.append(True)
        else:
            answers.append(False)
    return answers


async def revoke(control: Database, *revocables: Revocable) -> None:
    async with control.unbound() as transaction:
        for each in revocables:
            await revoked.revoke(transaction, each)


async def member(database: Database, tenant: Tenant, subject: str) -> UUID:
    async with database.transaction(tenant) as work:
        return await users.ensure(work, subject=subject, name=None, email=None)


async def test_a_token_and_a_session_are_revoked_by_their_issuers_numbers(
    control: Database, changes: Changes, known: Revocations, a: Tenant
) -> None:
    tokens = [
        claims(token="1"),
        claims(token="2", session="1"),
        claims(token="3", session="2"),
        claims(session="2"),
        claims(),
    ]
    assert await refused(known, a, tokens) == [False] * 5

    await revoke(control, Revocable.token(ISSUER, "1"), Revocable.session(ISSUER, "2"))
    await revoke(control, Revocable.token("another", "2"), Revocable.session("another", "1"))
    await changes.poll()

    assert await refused(known, a, tokens) == [True, False, True, True, False]


@pytest.mark.parametrize("odd", ['"', "[", " ", "/", "é", "a" * 255, '"' * 255])
async def test_a_number_may_be_any_text(
    control: Database, changes: Changes, known: Revocations, a: Tenant, odd: str
) -> None:
    tokens = [claims(token=odd), claims(token=f"{odd}2"[-255:])]
    assert await refused(known, a, tokens) == [False, False]

    await revoke(control, Revocable.token(ISSUER, odd))
    await changes.poll()

    assert await refused(known, a, tokens) == [True, False]


async def test_a_user_who_signs_out_everywhere_is_refused_with_all_that_was_issued_before(
    database: Database, changes: Changes, known: Revocations, a: Tenant, b: Tenant
) -> None:
    user = await member(database, a, "ada")
    await member(database, b, "ada")
    before = [claims(), claims(token="1", session="1"), claims(issued_at=0)]
    assert await refused(known, a, before) == [False] * 3

    async with database.transaction(a) as work:
        await sessions.revoke(work, Actor(user, frozenset()), user)
    await changes.poll()

    assert await refused(known, a, before) == [True] * 3
    assert await refused(known, a, [claims(), claims(subject="grace", issued_at=1)]) == [False, False]
    # The same subject in another tenant is another user.
    assert await refused(known, b, before) == [False] * 3


async def test_signing_others_out_requires_the_permission_and_at_least_their_rights(
    database: Database, changes: Changes, known: Revocations, a: Tenant
) -> None:
    admin, ada = [await member(database, a, subject) for subject in ("admin", "ada")]
    nobody = UUID(int=7)
    for user, permissions, refusal in (
        (ada, frozenset[str](), Forbidden),
        (ada, frozenset({"user:read"}), Forbidden),
        (nobody, frozenset({"user:manage"}), NotFound),
    ):
        with pytest.raises(refusal):
            async with database.transaction(a) as work:
                await sessions.revoke(work, Actor(admin, permissions), user)
    before = [claims()]

    async with database.transaction(a) as work:
        await sessions.revoke(work, Actor(admin, frozenset({"user:manage"})), ada)
    await changes.poll()

    assert await refused(known, a, before) == [True]


async def test_signing_out_again_refuses_what_was_issued_in_between(
    database: Database, changes: Changes, known: Revocations, a: Tenant
) -> None:
    user = await member(database, a, "ada")
    for _ in range(2):
        issued = [claims()]
        assert await refused(known, a, issued) == [False]
        async with database.transaction(a) as work:
            await sessions.sign_out(work, user)
        await changes.poll()
        assert await refused(known, a, issued) == [True]


async def test_ending_sessions_is_in_the_log(database: Database, a: Tenant) -> None:
    user = await member(database, a, "ada")
    for _ in range(2):
        async with database.transaction(a, about={"actor": "usr_admin"}) as work:
            await sessions.sign_out(work, user)
    entries = [each for each in await log(database, a) if each["action"].startswith("sign_out:")]
    assert [each["action"] for each in entries] == ["sign_out:create", "sign_out:update"]
    for each in entries:
        assert (each["actor"], each["object"]) == ("usr_admin", f"usr_{user}")


async def test_a_cached_answer_needs_no_database(copy: Copy, changes: Changes, a: Tenant) -> None:
    async with await Database.open(copy.where.control) as closing:
        known = Revocations(closing, changes)
        tokens = [claims(token="1", session="1")]
        assert await refused(known, a, tokens) == [False]
    assert await refused(known, a, tokens) == [False]
    with pytest.raises(Unavailable):
        await refused(known, a, [claims(token="2")])
    changes.fresh_until = time.monotonic()
    with pytest.raises(Unavailable):
        await refused(known, a, tokens)


async def test_expired_entries_are_evicted(control: Database, owner: Database) -> None:
    async with control.unbound() as transaction:
        now = await transaction.value("SELECT now()")
        await revoked.revoke(transaction, Revocable.token(ISSUER, "old"), until=now)
    await revoke(control, Revocable.token(ISSUER, "new"))
    async with owner.unbound() as transaction:
        kept = await transaction.scalar(select(func.array_agg(revoked.revocations.c.key)))
    assert kept == ['["token", "https://id.example", "new"]']
