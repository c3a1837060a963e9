"""A partner reads the columns that a share grants and no others, and an owner reads its own shares and no others."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from isola.database.transactions import Database, Transaction
from isola.subjects import shares
from isola.subjects.resources import resources as table
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import OF_SHARE, received, shared
from isola.testing.isolation.sharing.test_flooding import MANY, flood
from isola.testing.oracles.canary import Canary, Row

SHARED: Sequence[str] = table.info["shared_columns"]
SHARE = "SELECT share, refused FROM isola.share('resource', $1, $2, $3, $4, $5)"
CHANGE = "SELECT changed, refused FROM isola.change_share($1, $2, $3, $4, $5, $6)"
OWN = "SELECT * FROM isola.own_shares"
NEWEST = f"{OWN} ORDER BY granted_at DESC, id DESC LIMIT 5"
ORDERS = {
    "creation": "ORDER BY id",
    "granted_at": "ORDER BY granted_at, id",
    "expires_at": "ORDER BY expires_at DESC, id DESC",
    "grantee": "WHERE grantee_slug = 'nobody-else' ORDER BY granted_at, id",
    "granted by": "WHERE granted_by = '00000000-0000-7000-8000-000000000000' ORDER BY granted_at, id",
    "row": "WHERE row_id = '00000000-0000-7000-8000-000000000000' ORDER BY granted_at, id",
}


def granted(sharer: Canary, *columns: str) -> Row:
    """The row as a share of these columns shows it."""
    row = {name: sharer.rows["resources"][name] if name in columns else None for name in SHARED}
    return {**row, "granted_fields": [name for name in SHARED if name in columns]}


async def own(database: Database, canary: Canary, sql: str = OWN) -> Sequence[Row]:
    async with database.transaction(canary.tenant, about=canary.about) as work:
        return [dict(row) for row in await work._connection.fetch(sql)]


async def change(work: Transaction, share: UUID, **new: Any) -> Mapping[str, Any]:
    end = new.get("until"), "until" not in new
    remark = new.get("remark"), "remark" not in new
    [row] = await work._connection.fetch(CHANGE, share, new.get("chosen"), *end, *remark)
    return dict(row)


async def test_columns_that_are_not_granted_are_null(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    assert await own(database, sharer) == []
    share = await grant()
    for columns in (["name"], ["data", "kind"], SHARED[::-1], ["size_bytes"]):
        async with database.transaction(sharer.tenant) as work:
            assert await change(work, share, chosen=columns) == {"changed": share, "refused": None}
        async with database.transaction(partner.tenant) as work:
            assert await shared(work, share) == [granted(sharer, *columns)]
        [listed] = await own(database, sharer)
        assert listed["fields"] == [name for name in SHARED if name in columns]


async def test_a_change_is_felt_by_the_next_statement(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with database.transaction(partner.tenant) as reading:
        assert await shared(reading, share) == [granted(sharer, *SHARED)]
        async with database.transaction(sharer.tenant) as work:
            await change(work, share, chosen=["kind"])
        assert await shared(reading, share) == [granted(sharer, "kind")]


async def test_what_a_change_omits_stays(database: Database, sharer: Canary, grant: Grant) -> None:
    soon, later = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    share = await grant(soon)
    [first] = await own(database, sharer)
    expected = {**first, "note": None, "expires_at": soon}
    for new, changed in (
        ({"chosen": ["name"]}, {"fields": ["name"]}),
        ({"remark": "a note"}, {"note": "a note"}),
        ({"until": later}, {"expires_at": later}),
        ({}, {}),
        ({"until": None}, {"expires_at": None}),
        ({"remark": None}, {"note": None}),
    ):
        async with database.transaction(sharer.tenant) as work:
            assert (await change(work, share, **new))["changed"] == share
        expected |= changed
        assert await own(database, sharer) == [expected]


async def test_only_declared_columns_are_granted(database: Database, sharer: Canary, partner: Canary) -> None:
    resource = sharer.rows["resources"]["id"]
    refused: Sequence[list[str | None]] = (
        ["owner_id"],
        ["id"],
        ["name", "tenant_id"],
        [],
        [None],
        ["name", None],
        ["NAME"],
    )
    async with database.transaction(sharer.tenant) as work:
        for columns in refused:
            row = await work._connection.fetchrow(SHARE, resource, partner.tenant.slug, columns, None, None)
            assert tuple(row) == (None, "fields")
        made = await work._connection.fetchrow(SHARE, resource, partner.tenant.slug, ["name", "name"], None, "a note")
        assert await work._connection.fetchval("SELECT fields FROM isola.own_shares") == ["name"]
        for columns in refused:
            assert await change(work, made["share"], chosen=columns) == {"changed": None, "refused": "fields"}
        assert await work._connection.fetchval("SELECT fields FROM isola.own_shares") == ["name"]
    async with database.transaction(partner.tenant) as work:
        assert await shared(work, made["share"]) == [granted(sharer, "name")]
        assert [row["note"] for row in await received(work)] == ["a note"]


async def test_a_column_that_the_declaration_shares_no_longer_is_not_served(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    names = [name for name in SHARED if name != "kind"]
    async with owner.unbound() as work:
        await work.script("UPDATE control.subjects SET shared = array_remove(shared, 'kind') WHERE name = 'resource'")
    types = "name text, data jsonb, size_bytes bigint, created_at timestamptz, updated_at timestamptz"
    sql = f"SELECT * FROM isola.shared_rows('resource', $1) s ({types}, {OF_SHARE})"
    async with database.transaction(partner.tenant) as work:
        [row] = await work._connection.fetch(sql, share)
        assert row["granted_fields"] == names
    [listed] = await own(database, sharer)
    assert listed["fields"] == names
    async with database.transaction(sharer.tenant) as work:
        assert (await change(work, share, chosen=["kind"]))["refused"] == "fields"


async def test_sharing_again_changes_nothing(database: Database, sharer: Canary, partner: Canary, grant: Grant) -> None:
    share = await grant(datetime.now(UTC) + timedelta(hours=1))
    async with database.transaction(sharer.tenant) as work:
        await change(work, share, chosen=["name"])
    before = await own(database, sharer)
    async with database.transaction(sharer.tenant) as work:
        resource = sharer.rows["resources"]["id"]
        row = await work._connection.fetchrow(SHARE, resource, partner.tenant.slug, None, None, "more")
        assert tuple(row) == (None, "again")
    assert await own(database, sharer) == before


async def test_an_expired_share_is_replaced(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    ended = await grant(datetime.now(UTC) + timedelta(hours=1))
    async with owner.unbound() as work:
        await work.value("UPDATE control.shares SET expires_at = now() - interval '1 s' WHERE id = $1", ended)
    async with database.transaction(sharer.tenant) as work:
        assert await change(work, ended, until=None) == {"changed": None, "refused": None}
        made = await shares.grant(
            work, actor(sharer), "resource", sharer.rows["resources"]["id"], partner.tenant.slug, fields=["name"]
        )
    assert made != ended
    async with database.transaction(partner.tenant) as work:
        assert await shared(work, ended) == []
        assert await shared(work, made) == [granted(sharer, "name")]


async def test_shares_made_at_once_are_one(database: Database, sharer: Canary, partner: Canary) -> None:
    async def make() -> UUID | None:
        async with database.transaction(sharer.tenant) as work:
            resource = sharer.rows["resources"]["id"]
            share: UUID | None = await work.value(SHARE, resource, partner.tenant.slug, None, None, None)
            return share

    made = await asyncio.gather(*(make() for _ in range(4)))
    assert len([share for share in made if share is not None]) == len(await own(database, sharer)) == 1


async def test_no_other_tenant_changes_or_lists_a_share(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant()
    before = await own(database, sharer)
    assert [row["id"] for row in before] == [share]
    for canary in (partner, stranger):
        assert await own(database, canary) == []
        async with database.transaction(canary.tenant, about=canary.about) as work:
            for each in (share, uuid4()):
                assert await change(work, each, chosen=["name"]) == {"changed": None, "refused": None}
                assert await change(work, each, chosen=["owner_id"]) == {"changed": None, "refused": None}
            assert await work.value("SELECT isola.may_read_own('resource', $1)", before[0]["row_id"]) is False
    assert await own(database, sharer) == before


@pytest.mark.parametrize("order", ORDERS)
async def test_a_page_of_own_shares_reads_its_rows_alone(
    order: str, database: Database, owner: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    """However many there are, and however many other tenants have."""
    await grant()
    for each in (sharer, stranger):
        await flood(owner, each, partner)
        await flood(owner, each, partner, "1 day")
    async with owner.unbound() as work:
        await work.script("ANALYZE control.shares")
        places = await work.texts(
            "SELECT indexrelid::text FROM pg_index WHERE indrelid = 'control.shares'::regclass"
            " UNION ALL SELECT 'control.shares'::regclass::oid::text"
        )
    read = "SELECT sum(pg_stat_get_xact_tuples_returned(of::oid))::int FROM unnest($1::text[]) of"
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        before = await work.value(read, places)
        await work._connection.fetch(f"{OWN} {ORDERS[order]} LIMIT 5")
        assert await work.value(read, places) - before < MANY // 10


async def test_owners_read_their_shares_newest_first(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    made = [await grant(to=each.tenant) for each in (partner, stranger)]
    assert [row["id"] for row in await own(database, sharer, NEWEST)] == made[::-1]
