"""A tenant receives only shares that it accepted, and the owner does not learn whether the recipient exists."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from isola.database.transactions import Database
from isola.errors import Conflict, Forbidden, NotFound
from isola.platform import provisioning
from isola.platform.tenants import Tenant, tenants
from isola.subjects import shares
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.testing.consent import withdraw_answers
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import seen
from isola.testing.oracles.canary import Canary, Row, log

NOBODY: tuple[Sequence[Row], Sequence[Row]] = ([], [])


def manager(canary: Canary) -> Actor:
    return Actor(canary.rows["users"]["id"], frozenset({Permission.SHARE_MANAGE}))


async def offers(database: Database, tenant: Tenant) -> Sequence[Row]:
    async with database.transaction(tenant) as work:
        return [dict(row) for row in await work._connection.fetch("SELECT * FROM isola.share_offers()")]


async def answer(database: Database, canary: Canary, share: UUID, *, accepted: bool) -> None:
    async with database.transaction(canary.tenant) as work:
        await shares.answer(work, manager(canary), share, accepted=accepted)


@pytest.fixture(autouse=True)
async def nothing_answered(owner: Database, sharer: Canary, partner: Canary, stranger: Canary) -> None:
    await withdraw_answers(owner, *(canary.tenant.id for canary in (sharer, partner, stranger)))


async def test_nothing_is_received_until_it_is_accepted_and_nothing_once_it_is_declined(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    assert await seen(database, partner.tenant, share) == NOBODY
    [offer] = await offers(database, partner.tenant)
    assert (offer["id"], offer["owner_slug"], offer["accepted"]) == (share, sharer.tenant.slug, None)

    for accepted in (True, False, True):
        await answer(database, partner, share, accepted=accepted)

        rows, listed = await seen(database, partner.tenant, share)
        assert (len(rows), len(listed)) == (accepted, accepted)
        [offer] = await offers(database, partner.tenant)
        assert offer["accepted"] is accepted


async def test_consent_covers_all_shares_of_one_tenant_and_none_of_others(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    first = await grant()
    await answer(database, partner, first, accepted=True)
    async with database.transaction(sharer.tenant) as work:
        await shares.revoke(work, actor(sharer), first)
    second = await grant()
    async with database.transaction(stranger.tenant) as work:
        third = await shares.grant(
            work, actor(stranger), "resource", stranger.rows["resources"]["id"], partner.tenant.slug
        )

    assert len((await seen(database, partner.tenant, second))[0]) == 1
    rows, listed = await seen(database, partner.tenant, third)
    assert (rows, [each["id"] for each in listed]) == ([], [second])
    assert {each["owner_slug"]: each["accepted"] for each in await offers(database, partner.tenant)} == {
        sharer.tenant.slug: True,
        stranger.tenant.slug: None,
    }


async def test_only_recipients_with_the_permission_answer_shares(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant()
    for canary in (sharer, stranger):
        for wrong in (share, uuid4()):
            with pytest.raises(NotFound, match=r"^there is no such share$"):
                await answer(database, canary, wrong, accepted=True)
        assert await offers(database, canary.tenant) == []
    with pytest.raises(Forbidden, match="share:manage"):
        async with database.transaction(partner.tenant) as work:
            await shares.answer(work, actor(partner), share, accepted=True)
    assert await seen(database, partner.tenant, share) == NOBODY


async def test_an_answer_is_in_the_recipients_log_and_not_in_the_sharers(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    before = await log(database, sharer.tenant)

    await answer(database, partner, share, accepted=True)

    assert await log(database, sharer.tenant) == before
    noted = (await log(database, partner.tenant))[-1]
    assert (noted["action"], noted["object"]) == ("share_answer:create", f"shr_{share}")
    assert (noted["new"]["owner_slug"], noted["new"]["accepted"]) == (sharer.tenant.slug, True)


async def test_sharing_with_an_unknown_tenant_looks_like_sharing_with_an_existing_one(
    database: Database, owner: Database, sharer: Canary, partner: Canary
) -> None:
    """In the result, the list and the audit log, also if the share is changed, and with a suspended tenant."""

    async def granted(grantee: str) -> list[Any]:
        found: list[Any] = []
        resource = sharer.rows["resources"]["id"]
        async with database.transaction(sharer.tenant) as work:
            share = await shares.grant(work, actor(sharer), "resource", resource, grantee)
        for until in (datetime(2100, 1, 1, tzinfo=UTC), None):
            async with database.transaction(sharer.tenant) as work:
                await shares.change(work, actor(sharer), share, expires_at=until)
                [row] = await work.texts(
                    "SELECT to_jsonb(s) - '{granted_at}'::text[] || '{\"id\": 0}'"
                    " FROM isola.own_shares s WHERE subject = 'resource' AND row_id = $1 AND id = $2",
                    resource,
                    share,
                )
            entry = (await log(database, sharer.tenant))[-1]
            found.append(
                (type(share), row, entry["action"], _without_times(entry["old"]), _without_times(entry["new"]))
            )
            found.append(share)
        with pytest.raises(Conflict):
            async with database.transaction(sharer.tenant) as work:
                await shares.grant(work, actor(sharer), "resource", resource, grantee)
        return [str(each).replace(str(found[1]), "share").replace(grantee, "slug") for each in found]

    await provisioning.suspend(owner, "stranger")
    answers = [await granted(grantee) for grantee in (partner.tenant.slug, "nobody", "stranger")]
    assert answers[0] == answers[1] == answers[2]


def _without_times(values: Any) -> Any:
    return values and {name: value for name, value in values.items() if name != "granted_at"}


async def test_a_reused_slug_receives_no_earlier_shares(
    database: Database, owner: Database, copy: Copy, placements: tuple[str, str], sharer: Canary, grant: Grant
) -> None:
    async def made(slug: str) -> Tenant:
        return await provisioning.create(owner, copy.strategies, slug=slug, name=slug, strategy=placements[1])

    async with database.transaction(sharer.tenant) as work:
        resource = sharer.rows["resources"]["id"]
        early = await shares.grant(work, actor(sharer), "resource", resource, "latecomer")
    latecomer = await made("latecomer")
    first = await made("heir")
    lost = await grant(to=first)
    await provisioning.drop(owner, copy.strategies, "heir", notice=0)
    async with owner.unbound() as work:
        # Even if a slug is free again immediately.
        await work.execute(update(tenants).where(tenants.c.id == first.id).values(slug="gone"))
    heir = await made("heir")

    for tenant, share in ((latecomer, early), (heir, lost)):
        assert await offers(database, tenant) == []
        async with database.transaction(tenant) as work:
            with pytest.raises(NotFound):
                await shares.answer(work, Actor(uuid4(), {Permission.SHARE_MANAGE}), share, accepted=True)
    # For the owner nothing has changed. A new share is for the tenant that has the slug now.
    async with database.transaction(sharer.tenant) as work:
        assert sorted(
            await work.texts(
                "SELECT grantee_slug FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", resource
            )
        ) == [
            "heir",
            "latecomer",
        ]
        await shares.revoke(work, actor(sharer), lost)
    found = await grant(to=heir)
    assert [each["id"] for each in await offers(database, heir)] == [found]
