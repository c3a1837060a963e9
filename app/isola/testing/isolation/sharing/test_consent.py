"""A tenant shares only with tenants that agreed to be its partners, until one of the two ends that."""

import asyncio
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, NotFound
from isola.platform import provisioning
from isola.subjects import partnerships, shares
from isola.testing.consent import end_partnerships, make_partners
from isola.testing.isolation.sharing.conftest import (
    Grant,
    actor,
    block,
    end_partnership,
    listed,
    manager,
    offers,
    partner_up,
)
from isola.testing.isolation.sharing.reading import received, seen, shared
from isola.testing.oracles.canary import Canary, Row, log

NOTHING: tuple[Sequence[Row], Sequence[Row]] = ([], [])
NO_PARTNER = r"^grantee: expected the slug of a partner$"


@pytest.fixture(autouse=True)
async def no_partners(owner: Database, sharer: Canary, partner: Canary, stranger: Canary) -> None:
    await end_partnerships(owner, *(canary.tenant.id for canary in (sharer, partner, stranger)))


async def test_partners_share_in_both_directions_once_an_offer_is_accepted(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    async with database.transaction(sharer.tenant) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    with pytest.raises(BadUserInput, match=NO_PARTNER):
        await grant()
    assert [(each["id"], each["offerer_slug"]) for each in await offers(database, partner)] == [
        (offer, sharer.tenant.slug)
    ]
    assert [(each["slug"], each["name"], each["accepted_at"]) for each in await listed(database, sharer)] == [
        (partner.tenant.slug, None, None)
    ]
    assert await listed(database, partner) == await offers(database, stranger) == []

    async with database.transaction(partner.tenant) as work:
        await partnerships.accept(work, manager(partner), offer)

    assert await offers(database, partner) == []
    for one, other in ((sharer, partner), (partner, sharer)):
        [each] = await listed(database, one)
        assert (each["id"], each["slug"], each["name"]) == (offer, other.tenant.slug, other.tenant.name)
        assert each["accepted_at"] is not None
        async with database.transaction(one.tenant) as work:
            share = await shares.grant(work, actor(one), "resource", one.rows["resources"]["id"], other.tenant.slug)
        rows, received_shares = await seen(database, other.tenant, share)
        assert (len(rows), [row["id"] for row in received_shares]) == (1, [share])


async def test_a_share_with_anybody_else_is_refused_like_one_with_nobody(
    database: Database, control: Database, sharer: Canary, partner: Canary, stranger: Canary
) -> None:
    """With an offer in either direction, a declined one, a blocked and a suspended tenant, and with oneself."""

    async def refusal(slug: str) -> str:
        with pytest.raises(BadUserInput, match=NO_PARTNER) as refused:
            async with database.transaction(sharer.tenant) as work:
                await shares.grant(work, actor(sharer), "resource", sharer.rows["resources"]["id"], slug)
        async with database.transaction(sharer.tenant) as work:
            sql = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
            assert await work.value(sql, sharer.rows["resources"]["id"], slug) is None
        return str(refused.value)

    expected = await refusal("nobody")
    for canary in (partner, stranger):
        assert await refusal(canary.tenant.slug) == expected
    async with database.transaction(sharer.tenant) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    async with database.transaction(stranger.tenant) as work:
        await partnerships.offer(work, manager(stranger), sharer.tenant.slug)
    for canary in (partner, stranger):
        assert await refusal(canary.tenant.slug) == expected
    async with database.transaction(partner.tenant) as work:
        await partnerships.decline(work, manager(partner), offer)
    assert await refusal(partner.tenant.slug) == expected
    await block(database, sharer, stranger)
    assert await refusal(stranger.tenant.slug) == expected
    await partner_up(database, sharer, partner)
    await provisioning.suspend(control, partner.tenant.slug)
    for slug in (partner.tenant.slug, sharer.tenant.slug, "No-body", "", "x'; --"):
        assert await refusal(slug) == expected


@pytest.mark.parametrize("how", ["by the owner", "by the partner", "by a block"])
async def test_all_shares_end_with_the_partnership_and_do_not_come_back(
    how: str, database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    partnership = await partner_up(database, sharer, partner)
    there = await grant()
    async with database.transaction(partner.tenant) as work:
        resource = partner.rows["resources"]["id"]
        back = await shares.grant(work, actor(partner), "resource", resource, sharer.tenant.slug)
    # Who ends it, and who reads meanwhile, a share of which the other reads afterwards.
    (ending, _), (reading, share) = [(sharer, back), (partner, there)][:: -1 if how == "by the partner" else 1]
    async with database.transaction(reading.tenant) as work:
        assert len(await shared(work, share)) == len(await received(work)) == 1
        if how == "by a block":
            await block(database, ending, reading)
        else:
            await end_partnership(database, ending, partnership)
        assert await shared(work, share) == await received(work) == []
    assert await seen(database, partner.tenant, there) == await seen(database, sharer.tenant, back) == NOTHING
    if how == "by a block":
        async with database.transaction(ending.tenant) as work:
            await partnerships.unblock(work, manager(ending), reading.tenant.slug)
    assert await listed(database, sharer) == await listed(database, partner) == []
    for canary, own in ((sharer, sharer.rows["resources"]["id"]), (partner, resource)):
        async with database.transaction(canary.tenant) as work:
            assert await work.texts("SELECT id::text FROM isola.own_shares WHERE row_id = $1", own) == []
            assert await work.value("SELECT isola.used('shares')") == 0
    async with database.transaction(sharer.tenant) as work:
        changed = "SELECT changed FROM isola.change_share($1, NULL, NULL, false, NULL, true)"
        assert await work.value(changed, there) is None
        assert await work.value("SELECT row_id FROM isola.revoke_share($1)", there) is None

    assert await partner_up(database, partner, sharer) != partnership

    assert await seen(database, partner.tenant, there) == await seen(database, sharer.tenant, back) == NOTHING
    again = await grant()
    assert again != there
    assert [row["id"] for row in (await seen(database, partner.tenant, again))[1]] == [again]


async def test_a_share_that_is_made_while_the_partnership_ends_ends_with_it(
    database: Database, owner: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    partnership = await partner_up(database, sharer, partner)
    async with database.transaction(sharer.tenant) as work:
        share = await shares.grant(work, actor(sharer), "resource", sharer.rows["resources"]["id"], partner.tenant.slug)
        await end_partnership(database, partner, partnership)
    assert await seen(database, partner.tenant, share) == NOTHING
    await make_partners(owner, sharer.tenant.id, partner.tenant.id)
    assert await seen(database, partner.tenant, share) == NOTHING
    assert await grant() != share


async def test_two_tenants_that_offer_to_each_other_are_partners(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    """Even if one of the offers was declined: to offer is to agree."""
    async with database.transaction(sharer.tenant) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        await partnerships.decline(work, manager(partner), offer)
        made = await partnerships.offer(work, manager(partner), sharer.tenant.slug)
    for canary in (sharer, partner):
        assert [each["id"] for each in await listed(database, canary) if each["accepted_at"]] == [made]
        assert len(await listed(database, canary)) == 1


async def test_tenants_that_accept_each_others_offers_at_once_are_partners_once(
    database: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    for _ in range(5):
        await end_partnerships(owner, sharer.tenant.id)
        async with owner.unbound() as work:
            made = [
                UUID(await work.value(MADE_AT_ONCE, one.tenant.id, other.tenant.slug, other.tenant.id))
                for one, other in ((sharer, partner), (partner, sharer))
            ]

        async def accept(canary: Canary, offer: UUID) -> bool:
            async with database.transaction(canary.tenant) as work:
                answer: bool = await work.value("SELECT isola.accept_partnership($1)", offer)
                return answer

        answers = await asyncio.gather(accept(partner, made[0]), accept(sharer, made[1]))
        assert any(answers)
        [[one], [other]] = [await listed(database, canary) for canary in (sharer, partner)]
        assert one["id"] == other["id"]
        assert None not in (one["accepted_at"], other["accepted_at"])


MADE_AT_ONCE = """
INSERT INTO control.partnership_offers (tenant_id, partner_slug, partner_id) VALUES ($1, $2, $3) RETURNING id::text
"""


async def test_only_the_tenant_that_is_offered_a_partnership_answers(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary
) -> None:
    async with database.transaction(sharer.tenant) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    for canary in (sharer, stranger):
        for wrong in (offer, uuid4()):
            for answer in (partnerships.accept, partnerships.decline):
                with pytest.raises(NotFound, match=r"^there is no such offer$"):
                    async with database.transaction(canary.tenant) as work:
                        await answer(work, manager(canary), wrong)
    for canary in (partner, stranger):
        with pytest.raises(NotFound, match=r"^there is no such partnership$"):
            await end_partnership(database, canary, offer)
    for answer in (partnerships.accept, partnerships.decline, partnerships.end):
        with pytest.raises(Forbidden, match="share:manage"):
            async with database.transaction(partner.tenant) as work:
                await answer(work, actor(partner), offer)
    assert [each["id"] for each in await offers(database, partner)] == [offer]

    await end_partnership(database, sharer, offer)

    assert await offers(database, partner) == await listed(database, sharer) == []
    with pytest.raises(NotFound):
        async with database.transaction(partner.tenant) as work:
            await partnerships.accept(work, manager(partner), offer)


async def test_no_other_tenant_ends_a_partnership(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    partnership = await partner_up(database, sharer, partner)
    share = await grant()
    with pytest.raises(NotFound):
        await end_partnership(database, stranger, partnership)
    assert len((await seen(database, partner.tenant, share))[0]) == 1


async def test_a_suspended_tenant_offers_nothing_and_is_shared_with_again_once_it_is_resumed(
    database: Database, control: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    async with database.transaction(stranger.tenant) as work:
        offer = await partnerships.offer(work, manager(stranger), partner.tenant.slug)
    await partner_up(database, sharer, partner)
    share = await grant()
    for canary in (sharer, stranger):
        await provisioning.suspend(control, canary.tenant.slug)
    assert await offers(database, partner) == []
    with pytest.raises(NotFound):
        async with database.transaction(partner.tenant) as work:
            await partnerships.accept(work, manager(partner), offer)
    assert await seen(database, partner.tenant, share) == NOTHING
    for canary in (sharer, stranger):
        await provisioning.resume(control, canary.tenant.slug)
    assert [each["id"] for each in await offers(database, partner)] == [offer]
    assert len((await seen(database, partner.tenant, share))[0]) == 1


async def test_acceptance_and_end_are_in_both_logs_and_name_no_user_of_the_partner(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async def added(canary: Canary, before: int) -> list[tuple[str, str, bool]]:
        entries = (await log(database, canary.tenant))[before:]
        return [(each["action"], each["object"], each["actor"] is not None) for each in entries]

    before = [len(await log(database, canary.tenant)) for canary in (sharer, partner)]
    async with database.transaction(sharer.tenant, about=acting(sharer)) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    made = ("partnership_offer:create", f"prt_{offer}", True)
    assert [await added(sharer, before[0]), await added(partner, before[1])] == [[made], []]

    async with database.transaction(partner.tenant, about=acting(partner)) as work:
        await partnerships.accept(work, manager(partner), offer)
        # The transaction is bound as before.
        assert await work.value("SELECT isola.current_tenant_id()") == partner.tenant.id
    begun = ("partnership:create", f"prt_{offer}")
    assert await added(sharer, before[0]) == [made, (*begun, False)]
    assert await added(partner, before[1]) == [(*begun, True)]
    entry = (await log(database, sharer.tenant))[-1]
    assert entry["new"]["partner_slug"] == partner.tenant.slug

    async with database.transaction(sharer.tenant, about=acting(sharer)) as work:
        await partnerships.end(work, manager(sharer), offer)
    ended = ("partnership:delete", f"prt_{offer}")
    assert await added(sharer, before[0]) == [made, (*begun, False), (*ended, True)]
    assert await added(partner, before[1]) == [(*begun, True), (*ended, False)]


def acting(canary: Canary) -> dict[str, str]:
    """What a transaction proves about its user, who is then in the log."""
    user = str(canary.rows["users"]["id"])
    return {"user": user, "actor": f"usr_{user}"}


async def test_declines_blocks_and_rules_are_in_no_other_log(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant) as work:
        offer = await partnerships.offer(work, manager(sharer), partner.tenant.slug)
    before = await log(database, sharer.tenant)
    async with database.transaction(partner.tenant) as work:
        mine = manager(partner)
        await partnerships.decline(work, mine, offer)
        await partnerships.block(work, mine, sharer.tenant.slug)
        await partnerships.unblock(work, mine, sharer.tenant.slug)
        await partnerships.add_domain(work, mine, "example.com")
        await partnerships.remove_domain(work, mine, "example.com")
    assert await log(database, sharer.tenant) == before
    assert [(each["action"], each["object"]) for each in (await log(database, partner.tenant))[-5:]] == [
        ("partnership_decline:create", f"prt_{offer}"),
        ("tenant_block:create", sharer.tenant.slug),
        ("tenant_block:delete", sharer.tenant.slug),
        ("partner_domain:create", "example.com"),
        ("partner_domain:delete", "example.com"),
    ]
