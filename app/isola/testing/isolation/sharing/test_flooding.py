"""Many shares of one tenant, current or ended, do not slow down a partner's reads of other tenants' shares."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from isola.database.transactions import Database, Transaction
from isola.platform import lapsing
from isola.subjects import shares
from isola.testing.consent import end_partnerships, make_partners
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import received
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, Row, tried
from isola.testing.patience import PATIENCE

MANY = 500
_FLOOD = """
INSERT INTO control.shares
    (owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, fields, expires_at, lapsed)
SELECT tenant_id, 'resource', gen_random_uuid(), partner_slug, partner_id, id, tenant_id, '{name}',
    now() + $4::text::interval, $5
FROM control.partners, generate_series(1, $3::int) WHERE tenant_id = $1 AND partner_id = $2
"""
_END = "UPDATE control.shares SET expires_at = now() - interval '1 second' WHERE id = $1"
_MARKED = "SELECT id::text FROM control.shares WHERE lapsed ORDER BY id"
_PAGE = "SELECT * FROM isola.page_of_shares_received($1, $2, 2)"
_INDEXES = """
SELECT indexrelid::text FROM pg_index WHERE indrelid = 'control.shares'::regclass
UNION ALL SELECT 'control.shares'::regclass::oid::text
"""
# Entries of an index, and rows of a table that was scanned.
_READ = "SELECT sum(pg_stat_get_xact_tuples_returned(of::oid))::int FROM unnest($1::text[]) of"


@pytest.fixture
async def older(database: Database, owner: Database, stranger: Canary, partner: Canary, sharer: Canary) -> UUID:
    """A share of the stranger that is older than all of the sharer's many shares."""
    async with database.transaction(stranger.tenant) as work:
        resource = stranger.rows["resources"]["id"]
        share = await shares.grant(work, actor(stranger), "resource", resource, partner.tenant.slug)
    await flood(owner, sharer, partner)
    return share


async def flood(
    owner: Database, sharer: Canary, partner: Canary, until: str | None = None, *, lapsed: bool = False
) -> None:
    """Make many shares of the sharer with the partner. ``until`` is their end, as an interval from now."""
    async with owner.unbound() as work:
        await work.value(_FLOOD, sharer.tenant.id, partner.tenant.id, MANY, until, lapsed)


async def page(work: Transaction, after: Mapping[str, Any] | None) -> Sequence[Row]:
    keys: tuple[datetime | None, UUID | None] = (after["granted_at"], after["id"]) if after else (None, None)
    return [dict(row) for row in await work._connection.fetch(_PAGE, *keys)]


async def test_pages_together_are_all_that_is_received(
    database: Database, partner: Canary, older: UUID, grant: Grant
) -> None:
    newest = await grant()
    async with database.transaction(partner.tenant) as work:
        everything = await received(work)
        assert (len(everything), everything[0]["id"], everything[-1]["id"]) == (MANY + 2, newest, older)
        found: list[Row] = []
        while rows := await page(work, found[-1] if found else None):
            found += rows
        assert found == everything


async def test_only_the_rows_of_a_page_are_read(
    database: Database, owner: Database, sharer: Canary, partner: Canary, older: UUID
) -> None:
    async with owner.unbound() as work:
        places = await work.texts(_INDEXES)
        await work.script("ANALYZE control.shares")
    for again in (False, True):
        if again:
            # The shares of an earlier partnership are not read either.
            await end_partnerships(owner, sharer.tenant.id)
            await make_partners(owner, sharer.tenant.id, partner.tenant.id)
        async with database.transaction(partner.tenant) as work:
            before = await work.value(_READ, places)
            await page(work, None)
            assert await work.value("SELECT count(*) FROM isola.share_received($1)", older) == 1
            assert await work.value(_READ, places) - before < MANY // 10


async def read_by_partner(work: Transaction, places: Sequence[str]) -> int:
    """The number of entries that the partner's reads scan."""
    before: int = await work.value(_READ, places)
    await page(work, None)
    await work.value("SELECT count(*) FROM isola.shares_received()")
    after: int = await work.value(_READ, places)
    return after - before


async def test_marked_expired_shares_are_not_read(
    database: Database, control: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    await flood(owner, sharer, partner, "-1 second")
    async with owner.unbound() as work:
        places = await work.texts(_INDEXES)
        await work.script("ANALYZE control.shares")
    async with database.transaction(sharer.tenant) as work:
        entries = await work.value("SELECT count(*) FROM audit_entries")
    async with database.transaction(partner.tenant) as work:
        listed = await received(work)
        assert [row["id"] for row in listed] == [share]
        assert await read_by_partner(work, places) > MANY

    assert await lapsing.lapse(control, MANY - 1) == MANY - 1
    assert await lapsing.lapse(control, MANY - 1) == 1
    assert await lapsing.lapse(control, MANY - 1) == 0

    async with database.transaction(partner.tenant) as work:
        assert await received(work) == listed
        # The first of these reads has marked the old index entries as dead, so that PostgreSQL skips them from now on.
        await read_by_partner(work, places)
        assert await read_by_partner(work, places) < MANY // 10
    async with database.transaction(sharer.tenant) as work:
        assert await work.value("SELECT count(*) FROM audit_entries") == entries


async def test_a_pass_with_nothing_to_mark_reads_nothing(
    control: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    await flood(owner, sharer, partner)
    await flood(owner, sharer, partner, "1 day")
    await flood(owner, sharer, partner, "-1 second", lapsed=True)
    async with owner.unbound() as work:
        places = await work.texts(_INDEXES)
    async with control.unbound() as work:
        before = await work.value(_READ, places)
        assert await work.value(lapsing.LAPSE, lapsing.AT_ONCE) == 0
        assert await work.value(_READ, places) == before


async def test_only_what_has_ended_by_its_date_is_marked(
    control: Database,
    owner: Database,
    database: Database,
    sharer: Canary,
    partner: Canary,
    stranger: Canary,
    grant: Grant,
) -> None:
    soon = datetime.now(UTC) + timedelta(days=1)
    ended, revoked = await grant(soon), await grant(soon, to=stranger.tenant)
    async with owner.unbound() as work:
        await work.value(_END, ended)
        await work.value(_END, revoked)
    await flood(owner, sharer, partner)
    await flood(owner, sharer, partner, "1 hour")
    async with database.transaction(sharer.tenant) as work:
        await shares.revoke(work, actor(sharer), revoked)
    async with database.transaction(partner.tenant) as work:
        listed = await received(work)
        assert len(listed) == 2 * MANY
    assert await lapsing.lapse(control) == 1
    async with owner.unbound() as work:
        assert await work.texts(_MARKED) == [str(ended)]
    async with database.transaction(partner.tenant) as work:
        assert await received(work) == listed


@pytest.mark.parametrize("until", [None, datetime(2100, 1, 1, tzinfo=UTC)], ids=["without end", "with a new end"])
async def test_an_expired_share_can_be_shared_again(
    until: datetime | None,
    database: Database,
    control: Database,
    owner: Database,
    partner: Canary,
    grant: Grant,
) -> None:
    share = await grant(datetime.now(UTC) + timedelta(days=1))
    async with owner.unbound() as work:
        await work.value(_END, share)
    assert await lapsing.lapse(control) == 1
    again = await grant(until)
    assert again != share
    async with database.transaction(partner.tenant) as work:
        assert [(row["id"], row["expires_at"]) for row in await received(work)] == [(again, until)]
    assert await lapsing.lapse(control) == 0


async def test_tenants_mark_nothing(database: Database, sharer: Canary, partner: Canary, grant: Grant) -> None:
    share = await grant()
    for tenant in (sharer.tenant, partner.tenant):
        async with database.transaction(tenant) as work:
            for lapsed in ("true", "false"):
                mark = f"UPDATE control.shares SET lapsed = {lapsed} WHERE id = $1"
                assert await tried(work, mark, share) == INSUFFICIENT_PRIVILEGE
    async with database.transaction(partner.tenant) as work:
        assert [row["id"] for row in await received(work)] == [share]


async def test_passes_are_repeated(control: Database, owner: Database, sharer: Canary, partner: Canary) -> None:
    async with lapsing.lapsing(control, 0.05):
        for passed in (1, 2):
            await flood(owner, sharer, partner, "-1 second")
            async with asyncio.timeout(PATIENCE):
                while await marked(owner) < passed * MANY:  # noqa: ASYNC110  the database sends no event
                    await asyncio.sleep(0.05)


async def marked(owner: Database) -> int:
    async with owner.unbound() as work:
        return len(await work.texts(_MARKED))
