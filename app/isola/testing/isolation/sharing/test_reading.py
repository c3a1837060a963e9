"""A share gives one tenant access to one resource, and to no other or related rows."""

from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from isola.database.transactions import Database
from isola.errors import Conflict, NotFound
from isola.subjects import resources, shares
from isola.subjects.resources import resources as table
from isola.subjects.spans import Span, Visibility
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import OF_SHARE, seen, shared
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, TABLES, Canary, content, forgery, physical, tried


async def test_the_partner_reads_what_is_shared(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    share = await grant()
    granted = table.info["shared_columns"]
    resource = {**{name: sharer.rows["resources"][name] for name in granted}, "granted_fields": granted}
    rows, [listed] = await seen(database, partner.tenant, share)
    assert rows == [resource]
    assert (listed["id"], listed["owner_slug"]) == (share, sharer.tenant.slug)


async def test_no_other_tenant_reads_the_share(
    database: Database, sharer: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant()
    for tenant in (sharer.tenant, stranger.tenant):
        assert await seen(database, tenant, share) == ([], [])


async def test_a_missing_share_looks_like_one_of_another_tenant(
    database: Database, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant(to=stranger.tenant)
    assert await seen(database, partner.tenant, share) == await seen(database, partner.tenant, uuid4()) == ([], [])


async def test_own_tables_and_counts_stay_the_same(
    database: Database, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    before = [await content(database, canary.tenant) for canary in (sharer, partner)]
    await grant()
    assert [await content(database, canary.tenant) for canary in (sharer, partner)] == before
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert await work.rows(select(table).where(table.c.id == sharer.rows["resources"]["id"])) == []
        assert await work.value(f"SELECT count(*) FROM {table.name}") == 1


async def test_rows_next_to_a_shared_one_are_not_readable(
    database: Database, copy: Copy, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    async with database.transaction(sharer.tenant) as work:
        sibling = await work.scalar(
            insert(table).values(owner_id=sharer.rows["users"]["id"], name="canary-sharer").returning(table.c.id)
        )
    await grant()
    strategy = copy.strategies[sharer.tenant.strategy]
    async with database.transaction(partner.tenant) as work:
        for other in (sibling, sharer.rows["resources"]["id"], sharer.rows["spans"]["id"]):
            assert await shared(work, other) == []
        for each in TABLES:
            got = await tried(work, f"SELECT * FROM {physical(strategy, sharer.tenant, each)}")
            assert not sharer.traced_in(got)
        for sql in (
            "SELECT * FROM control.tenants",
            "SELECT * FROM control.shares",
            "SELECT * FROM control.live_shares",
            "SELECT * FROM control.secrets",
            "SET LOCAL ROLE isola_sharing",
        ):
            assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE


async def test_shared_objects_cannot_be_changed(
    database: Database, copy: Copy, sharer: Canary, partner: Canary, grant: Grant
) -> None:
    await grant()
    resource = sharer.rows["resources"]["id"]
    before = [await content(database, canary.tenant) for canary in (sharer, partner)]
    strategy = copy.strategies[sharer.tenant.strategy]
    for attempt in (
        lambda work: resources.update(work, actor(partner), resource, name="mine"),
        lambda work: resources.delete(work, actor(partner), resource),
        lambda work: Span.create(
            work,
            actor(partner),
            title="mine",
            payload={},
            visibility=Visibility.PUBLIC,
            resource_id=resource,
        ),
    ):
        with pytest.raises(NotFound):
            async with database.transaction(partner.tenant) as work:
                await attempt(work)
    with pytest.raises(Conflict):
        async with database.transaction(partner.tenant, about=partner.about) as work:
            await work.execute(update(Span.table).values(resource_id=resource))
    async with database.transaction(partner.tenant, about=partner.about) as work:
        assert await work.execute(update(table).where(table.c.id == resource).values(name="mine")) == 0
        for each in TABLES:
            assert await tried(work, *forgery(strategy, each, sharer)) == INSUFFICIENT_PRIVILEGE
    assert [await content(database, canary.tenant) for canary in (sharer, partner)] == before


async def test_only_the_tenant_of_a_resource_can_share_it(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    """A partner cannot share a resource further; another tenant's resource is handled like a missing one."""
    share = await grant()
    for canary, resource in (
        (partner, sharer.rows["resources"]["id"]),
        (stranger, sharer.rows["resources"]["id"]),
        (stranger, uuid4()),
    ):
        for grantee in (partner.tenant.slug, stranger.tenant.slug, sharer.tenant.slug, "nobody"):
            with pytest.raises(NotFound, match=r"^there is no such resource$"):
                async with database.transaction(canary.tenant) as work:
                    await shares.grant(work, actor(canary), "resource", resource, grantee)
            async with database.transaction(canary.tenant) as work:
                sql = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
                assert await work.value(sql, resource, grantee) is None
    assert await seen(database, stranger.tenant, share) == ([], [])
    rows, listed = await seen(database, partner.tenant, share)
    assert len(rows) == len(listed) == 1


async def test_only_the_owner_of_a_share_can_revoke_it(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, grant: Grant
) -> None:
    share = await grant()
    for canary in (partner, stranger):
        for ended in (share, uuid4()):
            with pytest.raises(NotFound, match=r"^there is no such share$"):
                async with database.transaction(canary.tenant) as work:
                    await shares.revoke(work, actor(canary), ended)
        async with database.transaction(canary.tenant) as work:
            resource = sharer.rows["resources"]["id"]
            await work.value("SELECT isola.revoke_shares_of($1)", resource)
            [*listed] = await work.texts(
                "SELECT id::text FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", resource
            )
            assert listed == []
    assert len((await seen(database, partner.tenant, share))[0]) == 1


async def test_arguments_are_never_sql(database: Database, partner: Canary, grant: Grant) -> None:
    await grant()
    async with database.transaction(partner.tenant) as work:
        for grantee in ("' OR true --", "%I", "$1", "stranger'; DROP SCHEMA control CASCADE; --", "", None):
            sql = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
            assert await work.value(sql, partner.rows["resources"]["id"], grantee) is None
        for subject in ("' OR true --", "%I", "resources", "", None):
            sql = f"SELECT * FROM isola.shared_rows($1) AS s (name text, {OF_SHARE})"
            assert await tried(work, sql, subject) == []


async def test_a_tenant_shares_with_others_only(database: Database, sharer: Canary, partner: Canary) -> None:
    for canary in (sharer, partner):
        async with database.transaction(canary.tenant) as work:
            own = canary.rows["resources"]["id"], canary.tenant.slug
            assert await work.value("SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)", *own) is None
            assert await work.texts("SELECT id::text FROM isola.shares_received()") == []
