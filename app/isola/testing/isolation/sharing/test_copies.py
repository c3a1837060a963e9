"""Lists of what partners share are read from copies: they are what the rows are, and only their recipient reads them.

All other tests of sharing compare them with the rows too: see ``all_shared``.
"""

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete, func, insert, update

from isola.database.transactions import Database
from isola.platform import migrations, moves, provisioning
from isola.subjects import shares
from isola.subjects.resources import resources as table
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import SHARING, Grant, actor
from isola.testing.isolation.sharing.reading import all_shared, shared
from isola.testing.isolation.sharing.test_rules import EVERY, make
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, Row, tried
from isola.testing.waiting import until_someone_waits

DIVISION_BY_ZERO = "22012"
VIEW = "isola.received_resource"
STORED = "SELECT share_id::text FROM received.resources ORDER BY 1"


async def received(database: Database, canary: Canary) -> Sequence[Row]:
    async with database.transaction(canary.tenant, about=canary.about) as work:
        return await all_shared(work)


async def write(database: Database, canary: Canary, *statements: Any) -> None:
    async with database.transaction(canary.tenant, about=canary.about) as work:
        for statement in statements:
            await work.execute(statement)


async def stored(owner: Database) -> Sequence[str]:
    async with owner.unbound() as work:
        return await work.texts(STORED)


async def test_a_copy_follows_its_row(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    key = sharer.rows["resources"]["id"]
    await write(database, sharer, update(table).values(name="new", size_bytes=7))
    [row] = await received(database, partner)
    assert (row["name"], row["size_bytes"], row["kind"]) == ("new", 7, sharer.rows["resources"]["kind"])
    # A column that the log leaves out, and one that is not shared.
    await write(database, sharer, update(table).values(updated_at=func.now(), owner_id=sharer.rows["users"]["id"]))
    await received(database, partner)
    assert await stored(owner) == [str(share)]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await work.value("DELETE FROM spans")
        await work.execute(delete(table).where(table.c.id == key))
    assert await received(database, partner) == []
    assert await stored(owner) == []


async def test_a_copy_has_the_columns_that_are_granted_and_null_for_all_others(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    for fields in (["kind"], ["name", "kind"]):
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            await shares.change(work, actor(sharer), share, fields=fields, note="a note")
        [row] = await received(database, partner)
        assert {name for name in table.info["shared_columns"] if row[name] is not None} == {*fields}
        assert row["note"] == "a note"
    async with owner.unbound() as work:
        # Nobody is bound: the row cannot be copied again.
        await work.value("UPDATE control.shares SET fields = '{kind}', note = NULL WHERE id = $1", share)
    assert await stored(owner) == []


async def test_a_copy_goes_with_its_share(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with owner.unbound() as work:
        await work.value("UPDATE control.shares SET lapsed = true WHERE id = $1", share)
    assert await stored(owner) == []
    async with owner.unbound() as work:
        await work.value("UPDATE control.shares SET revoked_at = now()")
    share = await grant()
    assert await stored(owner) == [str(share)]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await shares.revoke(work, actor(sharer), share)
    assert await stored(owner) == []
    assert await received(database, partner) == []


async def test_a_row_that_is_written_while_it_is_shared_is_copied_as_it_is_afterwards(
    database: Database, copy: Copy, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    async with (
        await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as another,
        another.transaction(sharer.tenant, about=sharer.about) as work,
    ):
        await work.execute(update(table).values(name="first"))
        sharing = asyncio.ensure_future(grant())
        await until_someone_waits(owner)
    share = await sharing
    [row] = await received(database, partner)
    assert (row["share_id"], row["name"]) == (share, "first")


async def test_of_two_that_copy_a_share_at_once_the_second_has_what_the_first_committed(
    database: Database, copy: Copy, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    """One narrows the share by SQL, which locks no row, while the other writes the row."""
    share = await grant()
    narrow = "SELECT changed FROM isola.change_share($1, '{kind}', NULL, true, NULL, true)"
    for writes_first in (True, False):
        async with (
            await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as another,
            another.transaction(sharer.tenant, about=sharer.about) as work,
        ):
            statement = update(table).values(kind=f"{writes_first}", name="not granted")
            change = narrow if writes_first else narrow.replace("kind", "size_bytes,kind")
            if writes_first:
                await work.execute(statement)
                other = asyncio.ensure_future(call(database, sharer, change, share, share))
            else:
                await work.value(change, share)
                other = asyncio.ensure_future(write(database, sharer, statement))
            await until_someone_waits(owner)
        await other
        [row] = await received(database, partner)
        assert (row["kind"], row["name"]) == (f"{writes_first}", None)
    assert row["granted_fields"] == ["kind", "size_bytes"]


@pytest.mark.parametrize("revoked_first", [True, False])
async def test_a_share_that_is_revoked_while_its_row_is_written_is_not_listed(
    database: Database,
    copy: Copy,
    owner: Database,
    sharer: Canary,
    partner: Canary,
    grant: Grant,
    *,
    revoked_first: bool,
) -> None:
    """By SQL, which does not lock the row before."""
    share = await grant()
    revoke, written = "SELECT row_id FROM isola.revoke_share($1)", update(table).values(name="new")
    key = sharer.rows["resources"]["id"]
    async with (
        await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as another,
        another.transaction(sharer.tenant, about=sharer.about) as work,
    ):
        if revoked_first:
            assert await work.value(revoke, share) == key
            other = asyncio.ensure_future(write(database, sharer, written))
        else:
            await work.execute(written)
            other = asyncio.ensure_future(call(database, sharer, revoke, share, key))
        await until_someone_waits(owner)
    await other
    assert await received(database, partner) == []
    assert await stored(owner) == []


async def test_a_share_that_grants_less_than_a_rule_hides_the_rule_also_while_its_user_is_disabled(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))
    await make(database, sharer, partner.tenant.slug, EVERY)
    async with database.transaction(sharer.tenant, about={**sharer.about, "user": str(another)}) as work:
        sql = "SELECT share FROM isola.share('resource', $1, $2, '{kind}', NULL, NULL)"
        share = await work.value(sql, sharer.rows["resources"]["id"], partner.tenant.slug)
    [row] = await received(database, partner)
    assert (row["share_id"], row["name"]) == (share, None)
    await write(database, sharer, update(users).where(users.c.id == another).values(disabled_at=func.now()))
    assert await received(database, partner) == []


async def test_what_a_user_shared_who_was_stored_as_disabled_is_hidden(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    disabled = insert(users).values(subject="another", name="another", disabled_at=func.now()).returning(users.c.id)
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        another = await work.scalar(disabled)
    async with database.transaction(sharer.tenant, about={**sharer.about, "user": str(another)}) as work:
        sql = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
        assert await work.value(sql, sharer.rows["resources"]["id"], partner.tenant.slug) is not None
    assert await received(database, partner) == []


async def call(database: Database, canary: Canary, sql: str, share: object, answer: object) -> None:
    async with database.transaction(canary.tenant, about=canary.about) as work:
        assert await work.value(sql, share) == answer


async def test_what_a_disabled_user_shared_is_hidden_in_lists(
    database: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await shares.grant(work, actor(sharer), "resource", sharer.rows["resources"]["id"], partner.tenant.slug)
    user = update(users).where(users.c.id == sharer.rows["users"]["id"])
    await write(database, sharer, user.values(disabled_at=func.now()))
    assert await received(database, partner) == []
    # Written while it is hidden.
    await write(database, sharer, update(table).values(name="new"))
    assert await received(database, partner) == []
    await write(database, sharer, user.values(disabled_at=None))
    [row] = await received(database, partner)
    assert row["name"] == "new"
    async with owner.unbound() as work:
        assert await work.texts("SELECT user_id::text FROM control.disabled_users") == []


async def test_a_copy_has_the_names_of_its_owner(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    await grant()
    async with owner.unbound() as work:
        await work.value("UPDATE control.tenants SET name = 'Renamed' WHERE id = $1", sharer.tenant.id)
    [row] = await received(database, partner)
    assert row["owner_name"] == "Renamed"


async def test_an_owner_that_moves_or_is_suspended_keeps_its_copies_and_one_that_is_deleted_does_not(
    copy: Copy, owner: Database, control: Database, database: Database, stranger: Canary, partner: Canary
) -> None:
    async with database.transaction(stranger.tenant, about=stranger.about) as work:
        await shares.grant(work, actor(stranger), "resource", stranger.rows["resources"]["id"], partner.tenant.slug)
    before = await received(database, partner)
    [to] = [name for name in SHARING[:2] if name != stranger.tenant.strategy]
    await moves.move(owner, copy.strategies, stranger.tenant.slug, to=to)
    assert await received(database, partner) == before
    await provisioning.suspend(control, stranger.tenant.slug)
    assert await received(database, partner) == []
    await provisioning.resume(control, stranger.tenant.slug)
    assert await received(database, partner) == before
    await provisioning.drop(owner, copy.strategies, stranger.tenant.slug, notice=0)
    assert await received(database, partner) == []
    assert await stored(owner) == []


async def test_tables_of_copies_are_made_anew_from_the_homes(
    copy: Copy, owner: Database, database: Database, partner: Canary, grant: Grant
) -> None:
    await grant()
    before = await received(database, partner)
    async with owner.unbound() as work:
        await work.script("DROP TABLE received.resources CASCADE")
    report = await migrations.migrate(owner, copy.strategies, copy.where)
    assert report.failed == {}
    assert await received(database, partner) == before
    assert len(before) == 1


async def test_injected_sql_reaches_no_copy_of_another_tenant(
    database: Database, owner: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant()
    # It fails for a row of the sharer.
    division = f"SELECT count(*) FROM {VIEW} WHERE 1 / (position('canary-sharer' IN name) = 0)::int = 1"
    for canary, number in ((partner, 1), (stranger, 0), (sharer, 0)):
        async with database.transaction(canary.tenant, about=canary.about) as work:
            for sql in (
                "SELECT * FROM received.resources",
                "SELECT * FROM control.disabled_users",
                "INSERT INTO control.disabled_users VALUES (gen_random_uuid(), gen_random_uuid())",
                f"SELECT isola.copy_all('{sharer.tenant.id}', 'resource')",
                f"SELECT isola.copy_received('{sharer.tenant.id}', 'resource', '{{{share}}}')",
            ):
                assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE
            assert await work.value(f"SELECT count(*) FROM {VIEW}") == number
            assert len(await shared(work, share)) == number
            assert await tried(work, division) == (DIVISION_BY_ZERO if number else [{"count": 0}])
    async with owner.unbound() as work:
        assert await work.value("SELECT name FROM received.resources") == sharer.rows["resources"]["name"]


async def test_rows_of_a_rule_are_listed_once(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    await make(database, sharer, partner.tenant.slug, EVERY)
    share = await grant()
    [row] = await received(database, partner)
    assert row["share_id"] == share
    await write(
        database,
        sharer,
        insert(table).values(id=uuid4(), owner_id=sharer.rows["users"]["id"], name="of the rule", data={}),
    )
    assert len(await received(database, partner)) == 2
