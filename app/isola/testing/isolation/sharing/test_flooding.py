"""However much one tenant shares, a partner reads what others share with it as before."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from isola.database.transactions import Database, Transaction
from isola.domain import shares
from isola.testing.consent import forget
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import received
from isola.testing.oracles.canary import Canary, Row

MANY = 500
_FLOOD = """
INSERT INTO control.shares (owner_id, resource_id, grantee_slug, grantee_id, granted_by)
SELECT $1::uuid, gen_random_uuid(), $2::text, $3::uuid, $1::uuid FROM generate_series(1, $4::int)
"""
_PAGE = "SELECT * FROM isola.page_of_shares_received($1, $2, 2)"
_INDEXES = """
SELECT indexrelid::text FROM pg_index WHERE indrelid = 'control.shares'::regclass
UNION ALL SELECT 'control.shares'::regclass::oid::text
"""
# Entries of an index, and rows of a table that was scanned.
_READ = "SELECT sum(pg_stat_get_xact_tuples_returned(of::oid))::int FROM unnest($1::text[]) of"


@pytest.fixture
async def older(database: Database, owner: Database, stranger: Canary, partner: Canary, sharer: Canary) -> UUID:
    """A share of the stranger's that is older than all of the many that the sharer has made."""
    async with database.transaction(stranger.tenant) as work:
        resource = stranger.rows["resources"]["id"]
        share = await shares.grant(work, actor(stranger), resource, partner.tenant.slug)
    async with owner.unbound() as work:
        await work.value(_FLOOD, sharer.tenant.id, partner.tenant.slug, partner.tenant.id, MANY)
    return share


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


async def test_what_is_read_is_what_a_page_needs(
    database: Database, owner: Database, sharer: Canary, partner: Canary, older: UUID
) -> None:
    async with owner.unbound() as work:
        places = await work.texts(_INDEXES)
        await work.script("ANALYZE control.shares")
    for accepted in (True, False):
        if not accepted:
            await forget(owner, sharer.tenant.id, partner.tenant.id)
        async with database.transaction(partner.tenant) as work:
            before = await work.value(_READ, places)
            await page(work, None)
            assert await work.value("SELECT count(*) FROM isola.share_received($1)", older) == accepted
            offers = await work.texts("SELECT owner_slug FROM isola.share_offers()")
            assert sharer.tenant.slug in offers
            assert await work.value(_READ, places) - before < MANY // 10
