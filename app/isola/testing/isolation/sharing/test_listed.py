"""All rows that partners share of a subject are read at once, each from its owner's home."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from operator import itemgetter
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import insert, update

from isola.database.failures import OWNER_MOVED
from isola.database.transactions import Database
from isola.platform import moves
from isola.subjects import shares
from isola.subjects.spans import Span, Visibility
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import SHARING, Grant, actor, end_partnership, partner_up
from isola.testing.isolation.sharing.reading import LISTED, OF_SHARE, all_shared, row_of, shared
from isola.testing.oracles.canary import Canary, Row
from isola.testing.patience import PATIENCE
from isola.testing.printed import in_plan, plans_of

SHARE = "SELECT share FROM isola.share($1, $2, $3, NULL, NULL, $4)"
SPANS = f"SELECT title, share_id FROM isola.shared_rows('span') AS s (title text, {OF_SHARE}) ORDER BY title"


async def listed(database: Database, canary: Canary) -> Sequence[Row]:
    """The resources shared with a tenant, ordered by their owners; checks that the tenant is bound again afterwards."""
    async with database.transaction(canary.tenant, about=canary.about) as work:
        rows = sorted(await all_shared(work), key=itemgetter("owner_slug"))
        assert await work.value("SELECT isola.proved_tenant_id()") == canary.tenant.id
        assert await work.value("SELECT isola.current_user_id()") == canary.rows["users"]["id"]
        return rows


async def test_a_list_has_the_rows_of_all_owners(
    database: Database, sharer: Canary, stranger: Canary, partner: Canary, grant: Grant
) -> None:
    first = await grant(datetime(2100, 1, 1, tzinfo=UTC))
    async with database.transaction(stranger.tenant, about=stranger.about) as work:
        second = await work.value(SHARE, "resource", stranger.rows["resources"]["id"], partner.tenant.slug, "a note")
    found = await listed(database, partner)
    facts = [(row["share_id"], row["owner_slug"], row["owner_name"], row["ends_at"], row["note"]) for row in found]
    assert sorted(facts) == sorted(
        [
            (first, sharer.tenant.slug, sharer.tenant.name, datetime(2100, 1, 1, tzinfo=UTC), None),
            (second, stranger.tenant.slug, stranger.tenant.name, None, "a note"),
        ]
    )
    names = {row["owner_slug"]: row["name"] for row in found}
    assert names == {each.tenant.slug: each.rows["resources"]["name"] for each in (sharer, stranger)}
    for other in (sharer, stranger):
        assert await listed(database, other) == []


async def test_no_plan_that_injected_sql_prints_has_the_id_of_an_owner(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    await grant()
    async with database.transaction(partner.tenant, about=partner.about) as work, plans_of(work) as printed:
        assert len(await all_shared(work)) == 1
    text = "".join(printed)
    assert ":constvalue" in text
    assert in_plan(sharer.tenant.id.bytes) not in text
    assert in_plan(str(sharer.tenant.id).encode()) not in text


SLEEPING = """
SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()
"""


async def test_a_statement_that_reads_a_list_twice_finds_the_same_rows(
    database: Database, owner: Database, partner: Canary, grant: Grant
) -> None:
    counted = f"(SELECT count(*) FROM {row_of('NULL')})"
    waiting = f"SELECT ARRAY[{counted}, {counted} + (pg_sleep(2) IS NULL)::int, {counted}]"
    async with database.transaction(partner.tenant, about=partner.about) as work:
        found = asyncio.create_task(work._connection.fetchval(waiting))
        async with asyncio.timeout(PATIENCE), owner.unbound() as looking:
            while not await looking.value(SLEEPING):  # noqa: ASYNC110  another process is waited for
                await asyncio.sleep(0.01)
        await grant()
        assert await found == [0, 0, 0]
    assert len(await listed(database, partner)) == 1


async def test_while_an_owner_leaves_its_home_its_rows_are_read_or_it_is_an_error(
    copy: Copy, owner: Database, database: Database, stranger: Canary, partner: Canary, login: asyncpg.Connection
) -> None:
    """A transaction with one snapshot finds the former home, as a statement does that began before the move.

    In shared tables its snapshot still has the rows. A home of the tenant's own is gone.
    """
    async with database.transaction(stranger.tenant, about=stranger.about) as work:
        await work.value(SHARE, "resource", stranger.rows["resources"]["id"], partner.tenant.slug, None)
    before = await listed(database, partner)
    [to] = [name for name in SHARING[:2] if name != stranger.tenant.strategy]
    strategy = copy.strategies[stranger.tenant.strategy]
    async with login.transaction(isolation="repeatable_read"):
        await copy.enter(login, partner.tenant, partner.about)
        await moves.move(owner, copy.strategies, stranger.tenant.slug, to=to)
        if strategy.home(stranger.tenant.id) in strategy.homes([]):
            assert [dict(row) for row in await login.fetch(LISTED)] == before
        else:
            with pytest.raises(asyncpg.PostgresError) as refused:
                await login.fetch(LISTED)
            assert refused.value.sqlstate == OWNER_MOVED
    assert len(before) == 1
    assert await listed(database, partner) == before


async def test_columns_that_are_not_granted_are_null(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await shares.change(work, actor(sharer), share, fields=["kind"])
    [row] = await listed(database, partner)
    assert row["granted_fields"] == ["kind"]
    assert row["kind"] == sharer.rows["resources"]["kind"]
    assert [row[name] for name in ("name", "data", "size_bytes", "created_at", "updated_at")] == [None] * 5


async def test_a_partnership_that_ends_takes_its_rows_out_of_the_list(
    database: Database, sharer: Canary, stranger: Canary, partner: Canary, grant: Grant
) -> None:
    await grant()
    async with database.transaction(stranger.tenant, about=stranger.about) as work:
        await work.value(SHARE, "resource", stranger.rows["resources"]["id"], partner.tenant.slug, None)
    async with database.transaction(sharer.tenant) as work:
        [partnership] = await work._connection.fetch(
            "SELECT id FROM isola.partnerships() WHERE slug = $1", partner.tenant.slug
        )
    await end_partnership(database, sharer, partnership["id"])
    assert [row["owner_slug"] for row in await listed(database, partner)] == [stranger.tenant.slug]
    await partner_up(database, sharer, partner)
    assert [row["owner_slug"] for row in await listed(database, partner)] == [stranger.tenant.slug]


@pytest.mark.usefixtures("spans_are_shared")
async def test_rows_with_a_visibility_rule_are_read_each_as_the_user_who_shared_it(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))
    made: dict[str, UUID] = {}
    for title, about in (("ada", sharer.about), ("bob", {"user": str(another)})):
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            span = await Span.create(work, actor(sharer), title=title, payload={}, visibility=Visibility.PUBLIC)
        async with database.transaction(sharer.tenant, about=about) as work:
            made[title] = await work.value(SHARE, "span", span.id, partner.tenant.slug, None)
    for visibility, titles in (
        (None, ["ada", "bob"]),
        (Visibility.PRIVATE, ["ada"]),
        (Visibility.PUBLIC, ["ada", "bob"]),
    ):
        if visibility is not None:
            async with database.transaction(sharer.tenant, about=sharer.about) as work:
                changed = update(Span.table).where(Span.table.c.title.in_(["ada", "bob"])).values(visibility=visibility)
                assert await work.execute(changed) == 2
        async with database.transaction(partner.tenant, about=partner.about) as work:
            found = [tuple(row) for row in await work._connection.fetch(SPANS)]
            assert found == [(title, made[title]) for title in titles]
            assert await work.value("SELECT isola.current_user_id()") == partner.rows["users"]["id"]


@pytest.mark.usefixtures("spans_are_shared")
async def test_a_share_of_one_subject_grants_no_row_of_another_with_the_same_id(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    row = sharer.rows["resources"]["id"]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        new = insert(Span.table).values(
            id=row, title="ada", payload={}, visibility="public", author_id=sharer.rows["users"]["id"]
        )
        assert await work.execute(new) == 1
        made = await work.value(SHARE, "span", row, partner.tenant.slug, None)
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert [tuple(each) for each in await work._connection.fetch(SPANS)] == [("ada", made)]
        assert await shared(work, made) == []
    assert await listed(database, partner) == []
