"""What the directory caches, and for how long."""

import asyncio

import pytest

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import directory, migrations, provisioning
from isola.platform.changes import Changes
from isola.platform.directory import Directory
from isola.platform.tenants import Status, Tenant
from isola.testing.fixtures import Copy

LONG = 60.0


@pytest.fixture
def first(copy: Copy) -> str:
    return min(copy.strategies)


@pytest.fixture
async def tenant(first: str, control: Database) -> Tenant:
    return await provisioning.named(control, f"{first}-a")


async def test_finds_a_tenant_by_slug_and_by_id(changes: Changes, control: Database, tenant: Tenant) -> None:
    known = Directory(control, changes, LONG, migrations.unprotected)
    assert await known.find(tenant.slug) == tenant
    assert await known.find(str(tenant.id)) == tenant
    assert await known.find(tenant.id.hex.upper()) == tenant


@pytest.mark.parametrize(
    "name",
    [
        "nobody",
        "01a1fb20-0000-7000-8000-000000000000",
        "",
        "no\x00body",
        "no\ud800body",
        "Rls-a",
        "rls-a ",
        "x" * 1_000_000,
    ],
    ids=lambda name: ascii(name)[:20],
)
async def test_an_unused_name_finds_no_tenant(changes: Changes, control: Database, name: str) -> None:
    assert await Directory(control, changes, LONG, migrations.unprotected).find(name) is None


async def test_a_cached_status_is_at_most_as_old_as_the_ttl(
    changes: Changes, control: Database, tenant: Tenant
) -> None:
    steady, brief, forgetful = (
        Directory(control, changes, LONG, migrations.unprotected),
        Directory(control, changes, 0.05, migrations.unprotected),
        Directory(control, changes, 0, migrations.unprotected),
    )
    for known in (steady, brief, forgetful):
        assert await known.find(tenant.slug) == tenant

    suspended = await provisioning.suspend(control, tenant.slug)

    assert await forgetful.find(tenant.slug) == suspended
    assert await steady.find(tenant.slug) == tenant
    await asyncio.sleep(0.06)
    assert await brief.find(tenant.slug) == suspended


async def test_cached_answers_need_no_database(changes: Changes, copy: Copy, tenant: Tenant) -> None:
    async with await Database.open(copy.where.control) as closing:
        known = Directory(closing, changes, LONG, migrations.unprotected)
        assert await known.find(tenant.slug) == tenant
        assert await known.find("nobody") is None
    assert await known.find(tenant.slug) == tenant
    assert await known.find("nobody") is None
    with pytest.raises(Unavailable):
        await known.find("somebody-else")


async def test_a_failure_is_not_cached(changes: Changes, copy: Copy, tenant: Tenant) -> None:
    async with await Database.open(copy.where.control, wait=1) as busy:
        known = Directory(busy, changes, LONG, migrations.unprotected)
        async with busy.unbound():
            with pytest.raises(Unavailable):
                await known.find(tenant.slug)
        assert await known.find(tenant.slug) == tenant


async def test_a_cached_negative_answer_is_invalidated(
    changes: Changes, control: Database, owner: Database, copy: Copy, first: str
) -> None:
    steady, forgetful = (
        Directory(control, changes, LONG, migrations.unprotected),
        Directory(control, changes, 0, migrations.unprotected),
    )
    assert await steady.find("new") is None
    assert await forgetful.find("new") is None
    made = await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=first)
    assert await steady.find("new") is None
    assert await forgetful.find("new") == made


async def test_a_flood_of_names_does_not_fill_the_memory(
    changes: Changes, control: Database, tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "MAX_CACHED", 3)
    known = Directory(control, changes, LONG, migrations.unprotected)
    for number in range(20):
        assert await known.find(f"nobody-{number}") is None
        assert len(known._cache) <= 3
    assert await known.find(tenant.slug) == tenant


async def test_a_reused_slug_names_the_new_tenant(
    changes: Changes, control: Database, owner: Database, copy: Copy, first: str
) -> None:
    forgetful = Directory(control, changes, 0, migrations.unprotected)
    for _ in range(2):
        gone = await provisioning.create(
            owner, copy.strategies, slug="new", name="Old", strategy=first, reuse_slug=True
        )
        await provisioning.drop(owner, copy.strategies, "new", notice=0)
        found = await forgetful.find("new")
        assert found is not None
        assert (found.id, found.status) == (gone.id, Status.DELETED)
    heir = await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=first, reuse_slug=True)
    assert await forgetful.find("new") == heir
    by_id = await forgetful.find(str(gone.id))
    assert by_id is not None
    assert by_id.status is Status.DELETED
