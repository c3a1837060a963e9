"""A new subject becomes a user, exactly once."""

import asyncio

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.users import UserKind, users as table
from tests.subjects.nouns.conftest import state


async def test_first_sight_makes_a_user_and_later_ones_find_it(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        first = await users.ensure(work, subject="ada", name="Ada Lovelace", email="Ada@Example.com")
    before = await state(database, a)
    async with database.transaction(a) as work:
        again = await users.ensure(work, subject="ada", name="Somebody Else", email="else@example.com")
        (row,) = await work.rows(select(table.c.id, table.c.name, table.c.email))
    assert again == first
    assert list(row.values()) == [first, "Ada Lovelace", "ada@example.com"]
    assert await state(database, a) == before


async def test_a_user_without_a_name_is_called_by_its_subject(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        for subject, name, email in (("ada", None, None), ("bob", "", "")):
            await users.ensure(work, subject=subject, name=name, email=email)
        rows = await work.rows(select(table.c.name, table.c.email).order_by(table.c.subject))
    assert [dict(row) for row in rows] == [{"name": "ada", "email": None}, {"name": "bob", "email": None}]


async def test_subjects_differ_by_every_character(database: Database, a: Tenant) -> None:
    subjects = ["ada", "Ada", "ada ", "\u0430da", "ad\u0061\u0301", "ad\u00e1"]
    async with database.transaction(a) as work:
        found = {await users.ensure(work, subject=subject, name=None, email=None) for subject in subjects}
    assert len(found) == len(subjects)


async def test_first_sight_by_many_requests_at_once_makes_one_user(database: Database, a: Tenant) -> None:
    async def request() -> object:
        async with database.transaction(a) as work:
            return await users.ensure(work, subject="ada", name=None, email="ada@example.com")

    assert len(set(await asyncio.gather(*(request() for _ in range(8))))) == 1
    assert len((await state(database, a))["users"]) == 1


@pytest.mark.parametrize("fate", ["commits", "rolls back"])
async def test_first_sight_waits_for_another_first_sight(database: Database, a: Tenant, fate: str) -> None:
    async def request() -> object:
        async with database.transaction(a) as work:
            return await users.ensure(work, subject="ada", name="Second", email=None)

    try:
        async with database.transaction(a) as work:
            first = await users.ensure(work, subject="ada", name="First", email=None)
            second = asyncio.create_task(request())
            done, _ = await asyncio.wait({second}, timeout=0.1)
            assert not done
            if fate == "rolls back":
                raise LookupError
    except LookupError:
        pass
    made = await second
    async with database.transaction(a) as work:
        (row,) = await work.rows(select(table.c.id, table.c.name))
    assert dict(row) == {"id": made, "name": "First" if fate == "commits" else "Second"}
    assert (made == first) == (fate == "commits")


# Capitals that Python and PostgreSQL lower differently, and those whose lowercase is longer or depends on context.
ADDRESSES = {
    "ADA@Example.COM": "ada@example.com",
    "\u0130@example.com": "i\u0307@example.com",
    "STRA\u1e9eE@example.com": "stra\u00dfe@example.com",
    "\u039f\u0394\u039f\u03a3@example.com": "\u03bf\u03b4\u03bf\u03c2@example.com",
    "\u01c5@example.com": "\u01c6@example.com",
    " ada@example.com ": "ada@example.com",
    "\u0130" * 200: None,  # too long for an address once lowered
    " ": None,
}


@pytest.mark.parametrize(("email", "kept"), ADDRESSES.items())
async def test_no_email_address_locks_a_user_out(database: Database, a: Tenant, email: str, kept: str | None) -> None:
    async with database.transaction(a) as work:
        users_made = {await users.ensure(work, subject=subject, name=None, email=email) for subject in ("ada", "bob")}
        rows = await work.rows(select(table.c.id, table.c.email))
    assert {row["id"]: row["email"] for row in rows} == dict.fromkeys(users_made, kept)
    assert len(users_made) == 2


async def test_a_user_without_an_address_gets_the_first_one_that_is_verified(database: Database, a: Tenant) -> None:
    for email in (None, "ada@example.com", "other@example.com", None):
        async with database.transaction(a) as work:
            await users.ensure(work, subject="ada", name=None, email=email)
    async with database.transaction(a) as work:
        assert await work.scalar(select(table.c.email)) == "ada@example.com"


@pytest.mark.parametrize(
    ("subject", "kind"),
    {
        "ada": UserKind.PERSON,
        "iss:partner:ada": UserKind.PERSON,
        "iss:key:ada": UserKind.PERSON,
        "key:0123456789ab": UserKind.MACHINE,
        "staff:eve": UserKind.STAFF,
        "parent:0b6ab8f0": UserKind.PARENT,
        "parental": UserKind.PERSON,
    }.items(),
)
async def test_the_kind_of_a_user_follows_from_the_subject(
    database: Database, a: Tenant, subject: str, kind: UserKind
) -> None:
    async with database.transaction(a) as work:
        await users.ensure(work, subject=subject, name=None, email=None)
        assert await work.scalar(select(table.c.kind)) == kind


async def test_another_tenant_may_have_the_same_user(database: Database, a: Tenant, b: Tenant) -> None:
    ids = []
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            ids.append(await users.ensure(work, subject="ada", name=None, email="ada@example.com"))
    assert ids[0] != ids[1]


@pytest.mark.parametrize(
    ("name", "kept"),
    {
        "Mu\u0308ller": "M\u00fcller",
        "  Ada \u3000 Lovelace ": "Ada Lovelace",
        "Ada\u202e\u200b\tLovelace": "Ada Lovelace",
        "\u200b": "ada",
        "": "ada",
        "x" * 255: "x" * 200,
    }.items(),
)
async def test_names_are_stored_without_invisible_characters(
    database: Database, a: Tenant, name: str, kept: str
) -> None:
    async with database.transaction(a) as work:
        await users.ensure(work, subject="ada", name=name, email=None)
        assert await work.scalar(select(table.c.name)) == kept
