"""An offer of a partnership reveals nothing about the tenant of the slug, unless that tenant accepts it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict, NotFound, QuotaExceeded
from isola.platform import provisioning
from isola.platform.tenants import Tenant, tenants
from isola.subjects import partnerships
from isola.testing.consent import end_partnerships
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import block, end_partnership, listed, manager, offers, partner_up
from isola.testing.oracles.canary import Canary, log

MOST = 100
DOMAIN = "partner.example"
# What a transaction has done to each table: scans, and rows written.
WORK = """
SELECT relname, concat_ws(' ', seq_scan, idx_scan, n_tup_ins, n_tup_upd, n_tup_del, n_tup_hot_upd)
FROM pg_stat_xact_all_tables WHERE schemaname = 'control' ORDER BY 1
"""
FOUND = "SELECT idx_tup_fetch FROM pg_stat_xact_all_tables WHERE schemaname = 'control' AND relname = 'tenants'"
# Without those of plans.
LOCKS = """
SELECT DISTINCT concat_ws(' ', mode, locktype, relation::regclass) FROM pg_locks
WHERE pid = pg_backend_pid() AND mode <> 'AccessShareLock' ORDER BY 1
"""


@pytest.fixture(autouse=True)
async def no_partners(owner: Database, sharer: Canary, partner: Canary, stranger: Canary) -> None:
    await end_partnerships(owner, *(canary.tenant.id for canary in (sharer, partner, stranger)))


async def offer(database: Database, canary: Canary, slug: str) -> UUID:
    async with database.transaction(canary.tenant) as work:
        return await partnerships.offer(work, manager(canary), slug)


async def seen_by_offerer(database: Database, canary: Canary, slug: str) -> list[Any]:
    """Everything that a tenant sees of its offers of a slug: made, made again, withdrawn, and made again."""
    found: list[Any] = []
    for withdrawn in (False, True, False):
        made = await offer(database, canary, slug)
        assert await offer(database, canary, slug) == made
        [each] = [each for each in await listed(database, canary) if each["slug"] == slug]
        found.append((type(made), each["id"] == made, each["name"], each["accepted_at"]))
        entries = [each for each in await log(database, canary.tenant) if each["object"] == f"prt_{made}"]
        found.append([(each["action"], _plain(each["old"]), _plain(each["new"])) for each in entries])
        if withdrawn:
            await end_partnership(database, canary, made)
    return [str(each).replace(slug, "slug") for each in found]


def _plain(values: Mapping[str, Any] | None) -> Any:
    return values and {name: None if name in {"id", "offered_at"} else value for name, value in values.items()}


async def test_offers_to_all_kinds_of_tenants_look_like_one_to_nobody(
    database: Database,
    control: Database,
    owner: Database,
    copy: Copy,
    sharer: Canary,
    partner: Canary,
    stranger: Canary,
) -> None:
    """To one that does not answer, declines, has blocked the tenant, is suspended, or was deleted."""
    expected = await seen_by_offerer(database, sharer, "nobody")
    assert await seen_by_offerer(database, sharer, partner.tenant.slug) == expected
    made = await offer(database, sharer, partner.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        await partnerships.decline(work, manager(partner), made)
    [declined] = [each for each in await listed(database, sharer) if each["id"] == made]
    assert (declined["name"], declined["accepted_at"]) == (None, None)
    assert await offer(database, sharer, partner.tenant.slug) == made
    await end_partnership(database, sharer, made)
    await block(database, partner, sharer)
    assert await seen_by_offerer(database, sharer, partner.tenant.slug) == expected
    await provisioning.suspend(control, stranger.tenant.slug)
    assert await seen_by_offerer(database, sharer, stranger.tenant.slug) == expected
    await provisioning.drop(owner, copy.strategies, stranger.tenant.slug, notice=0)
    before = await listed(database, sharer)
    assert [each["accepted_at"] for each in before] == [None] * len(before)
    for each in before:
        await end_partnership(database, sharer, each["id"])
    assert await seen_by_offerer(database, sharer, stranger.tenant.slug) == expected


async def test_an_offer_does_the_same_work_and_takes_the_same_locks_for_all_slugs(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary
) -> None:
    """The first time, and again. The other may have a rule for other domains, or have blocked the tenant."""
    async with database.transaction(stranger.tenant) as work:
        for name in ("a.example", "b.example"):
            await partnerships.add_domain(work, manager(stranger), name)
        await partnerships.block(work, manager(stranger), sharer.tenant.slug)

    async def effort(slug: str) -> tuple[Mapping[str, Sequence[int]], Sequence[str]]:
        async with database.transaction(sharer.tenant) as work:
            before = await done(work)
            await work.value("SELECT partnership FROM isola.offer_partnership($1)", slug)
            after = await done(work)
            return {
                table: [new - old for new, old in zip(counts, before[table], strict=True)]
                for table, counts in after.items()
            }, await work.texts(LOCKS)

    # PostgreSQL plans the first executions of a connection one by one, and then once.
    for _ in range(10):
        await effort("somebody")
    for _ in range(2):
        expected = await effort("nobody")
        assert expected[0]["partnership_offers"] != [0] * 6
        for canary in (partner, stranger):
            found = await effort(canary.tenant.slug)
            assert {table for table, counts in expected[0].items() if found[0][table] != counts} == set()
            assert found[1] == expected[1]


async def test_statistics_reveal_to_injected_sql_whether_a_slug_has_a_tenant(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    """What remains: PostgreSQL counts the rows that a transaction found, also those that a function found for it."""

    async def found(slug: str) -> int:
        async with database.transaction(sharer.tenant) as work:
            before = int(await work.value(FOUND))
            await work.value("SELECT partnership FROM isola.offer_partnership($1)", slug)
            return int(await work.value(FOUND)) - before

    for _ in range(10):
        await found("somebody")
    assert await found(partner.tenant.slug) > await found("nobody")


async def done(work: Transaction) -> Mapping[str, Sequence[int]]:
    return {row[0]: [int(count) for count in row[1].split()] for row in await work._connection.fetch(WORK)}


async def test_a_declined_offer_is_listed_no_more_until_it_is_withdrawn_and_made_again(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    made = await offer(database, sharer, partner.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        await partnerships.decline(work, manager(partner), made)
    assert await offer(database, sharer, partner.tenant.slug) == made
    assert await offers(database, partner) == []
    # The answer can be changed.
    async with database.transaction(partner.tenant) as work:
        await partnerships.accept(work, manager(partner), made)
    assert [each["id"] for each in await listed(database, partner)] == [made]
    await end_partnership(database, partner, made)
    again = await offer(database, sharer, partner.tenant.slug)
    assert [each["id"] for each in await offers(database, partner)] == [again]


async def test_offers_of_a_blocked_tenant_are_not_listed_and_not_accepted(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    made = await offer(database, sharer, partner.tenant.slug)
    await block(database, partner, sharer)
    assert await offers(database, partner) == []
    with pytest.raises(NotFound):
        async with database.transaction(partner.tenant) as work:
            await partnerships.accept(work, manager(partner), made)
    with pytest.raises(Conflict, match="blocked"):
        await offer(database, partner, sharer.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        await partnerships.unblock(work, manager(partner), sharer.tenant.slug)
    assert [each["id"] for each in await offers(database, partner)] == [made]


async def test_blocking_nobody_looks_like_blocking_a_tenant(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    found = []
    for slug in (partner.tenant.slug, "nobody"):
        async with database.transaction(sharer.tenant) as work:
            await partnerships.block(work, manager(sharer), slug)
            [each] = await work._connection.fetch("SELECT * FROM isola.blocked_tenants() WHERE slug = $1", slug)
            assert each["blocked_at"] is not None
        entry = (await log(database, sharer.tenant))[-1]
        found.append(str((entry["action"], sorted(entry["new"]), entry["object"])).replace(slug, "slug"))
    assert found[0] == found[1]


async def verified(owner: Database, tenant: Tenant, name: str = DOMAIN) -> None:
    async with owner.unbound() as work:
        await work.value(
            "INSERT INTO control.domains (tenant_id, name, challenge, challenge_expires_at, verified_at)"
            " VALUES ($1, $2, '', now(), now())",
            tenant.id,
            name,
        )


async def test_offers_from_a_verified_domain_that_a_tenant_trusts_are_accepted_at_once(
    database: Database, owner: Database, sharer: Canary, partner: Canary, stranger: Canary
) -> None:
    async with database.transaction(partner.tenant) as work:
        await partnerships.add_domain(work, manager(partner), DOMAIN)
    async with database.transaction(sharer.tenant) as work:
        # Claimed, and not verified.
        await work.value("SELECT isola.add_domain($1)", DOMAIN)
    made = await offer(database, sharer, partner.tenant.slug)
    assert [each["id"] for each in await offers(database, partner)] == [made]
    async with owner.unbound() as work:
        await work.script("UPDATE control.domains SET verified_at = now()")

    assert await offer(database, sharer, partner.tenant.slug) == made

    assert [each["accepted_at"] is None for each in await listed(database, sharer)] == [False]
    assert (await log(database, sharer.tenant))[-1]["new"]["by_domain"] is None
    assert (await log(database, partner.tenant))[-1]["new"]["by_domain"] == DOMAIN
    # Another tenant, and another domain.
    await verified(owner, stranger.tenant, "another.example")
    made = await offer(database, stranger, partner.tenant.slug)
    assert [each["id"] for each in await offers(database, partner)] == [made]


@pytest.mark.parametrize("reason", ["blocked", "suspended", "moving", "removed"])
async def test_a_rule_accepts_nothing_for_a_tenant_that_does_not_want_or_cannot(
    reason: str, database: Database, control: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    await verified(owner, sharer.tenant)
    async with database.transaction(partner.tenant) as work:
        await partnerships.add_domain(work, manager(partner), DOMAIN)
        if reason == "removed":
            await partnerships.remove_domain(work, manager(partner), DOMAIN)
        if reason == "blocked":
            await partnerships.block(work, manager(partner), sharer.tenant.slug)
    if reason == "suspended":
        await provisioning.suspend(control, partner.tenant.slug)
    if reason == "moving":
        async with owner.unbound() as work:
            await work.execute(update(tenants).where(tenants.c.id == partner.tenant.id).values(moving_to="elsewhere"))
    await offer(database, sharer, partner.tenant.slug)
    assert [(each["name"], each["accepted_at"]) for each in await listed(database, sharer)] == [(None, None)]


async def test_a_tenant_has_a_limited_number_of_open_offers_and_each_other_tenant_one_of_them(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    """The error depends only on the tenant's own offers."""
    async with database.transaction(sharer.tenant) as work:
        for number in range(MOST):
            await partnerships.offer(work, manager(sharer), f"nobody-{number}")
    for slug in ("one-more", partner.tenant.slug):
        with pytest.raises(QuotaExceeded, match=r"^there are too many open offers: end one first$"):
            await offer(database, sharer, slug)
    made = await offer(database, sharer, "nobody-1")
    await end_partnership(database, sharer, made)
    for _ in range(3):
        await offer(database, sharer, partner.tenant.slug)
    assert len(await offers(database, partner)) == 1
    with pytest.raises(QuotaExceeded):
        await offer(database, sharer, "one-more")


@pytest.mark.parametrize("slug", ["No-body", "", "x'; --", "\u0430cme", "a", "a" * 64])
async def test_malformed_slugs_and_the_own_are_refused(slug: str, database: Database, sharer: Canary) -> None:
    for wrong in (slug, sharer.tenant.slug):
        for ask in (partnerships.offer, partnerships.block):
            with pytest.raises(BadUserInput, match=r"^slug: expected the slug of another tenant$"):
                async with database.transaction(sharer.tenant) as work:
                    await ask(work, manager(sharer), wrong)


async def test_a_partner_is_not_offered_a_partnership(database: Database, sharer: Canary, partner: Canary) -> None:
    await partner_up(database, sharer, partner)
    for one, other in ((sharer, partner), (partner, sharer)):
        with pytest.raises(Conflict, match="partner already"):
            await offer(database, one, other.tenant.slug)


async def test_a_reused_slug_receives_no_earlier_offers(
    database: Database, owner: Database, copy: Copy, placements: tuple[str, str], sharer: Canary
) -> None:
    async def made(slug: str) -> Tenant:
        return await provisioning.create(owner, copy.strategies, slug=slug, name=slug, strategy=placements[1])

    async def offered(tenant: Tenant) -> Sequence[str]:
        async with database.transaction(tenant) as work:
            return await work.texts("SELECT id::text FROM isola.partnership_offers()")

    early = await offer(database, sharer, "latecomer")
    latecomer, first = await made("latecomer"), await made("heir")
    lost = await offer(database, sharer, "heir")
    assert await offered(first) == [str(lost)]
    await provisioning.drop(owner, copy.strategies, "heir", notice=0)
    async with owner.unbound() as work:
        # Even if a slug is free again immediately.
        await work.execute(update(tenants).where(tenants.c.id == first.id).values(slug="gone"))
    heir = await made("heir")

    for tenant in (latecomer, heir):
        assert await offered(tenant) == []
    # For the tenant that offers nothing has changed; to offer it again is for the tenant that has the slug now.
    assert {each["slug"] for each in await listed(database, sharer)} == {"latecomer", "heir"}
    for slug, tenant, same in (("latecomer", latecomer, early), ("heir", heir, lost)):
        assert await offer(database, sharer, slug) == same
        assert await offered(tenant) == [str(same)]


async def test_a_block_ends_what_is_being_accepted(
    database: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    """The tenant blocks another while a rule of its accepts the other's offer."""
    await verified(owner, sharer.tenant)
    async with database.transaction(partner.tenant) as work:
        await partnerships.add_domain(work, manager(partner), DOMAIN)
    async with database.transaction(sharer.tenant) as work:
        await partnerships.offer(work, manager(sharer), partner.tenant.slug)
        blocking = asyncio.create_task(block(database, partner, sharer))
        await asyncio.sleep(0.3)
        assert not blocking.done()
    await blocking
    assert await listed(database, sharer) == await listed(database, partner) == []


async def test_a_block_and_an_offer_at_once_do_not_wait_for_each_other(
    database: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    """The tenant that blocks has offered the other a partnership itself, and has a rule that accepts the other's."""
    await verified(owner, sharer.tenant)
    await offer(database, partner, sharer.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        await partnerships.add_domain(work, manager(partner), DOMAIN)
    async with owner.unbound() as work:
        await work.value("SELECT count(*) FROM (SELECT FROM control.partnership_offers FOR UPDATE) locked")
        offering = asyncio.create_task(offer(database, sharer, partner.tenant.slug))
        await asyncio.sleep(0.3)
        blocking = asyncio.create_task(block(database, partner, sharer))
        await asyncio.sleep(0.3)
        assert not offering.done()
        assert not blocking.done()
    await asyncio.gather(offering, blocking)
    assert await listed(database, sharer) == await listed(database, partner) == []
