"""The storage of a tenant is measured in bytes, the same under every strategy, and what exceeds it is refused."""

import pytest
from sqlalchemy import func, insert, literal_column, select

from isola.database.transactions import Database
from isola.errors import QuotaExceeded
from isola.platform import overrides, sealing, storage
from isola.platform.overrides import Kind
from isola.platform.platform_log import Author
from isola.platform.sign_in_log import carry
from isola.platform.tenants import Tenant
from isola.subjects.organizations import organizations
from isola.testing.fixtures import Cluster
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, log, tried

SAM = Author("staff:sam", None)


async def add(database: Database, tenant: Tenant, number: int, name: str) -> None:
    names = func.concat(name, literal_column("g::text"))
    rows = select(names, names).select_from(func.generate_series(1, number).alias("g"))
    async with database.transaction(tenant) as work:
        await work.execute(insert(organizations).from_select(["name", "name_key"], rows))


async def used(database: Database, tenant: Tenant) -> int:
    async with database.transaction(tenant, read_only=True) as work:
        return int(await work.value("SELECT isola.used('storage')"))


async def measured(control: Database, database: Database) -> None:
    """Measure all tenants now."""
    await sealing.seal(control)
    async with control.unbound() as work:
        await work.script("UPDATE control.storage SET due_at = now() - interval '1 second'")
    await storage.measure_due(control, database)


async def limit(control: Database, tenant: Tenant, most: int) -> None:
    await overrides.put(control, SAM, tenant, Kind.QUOTA, "storage", value=most, reason="a test")


async def test_it_is_measured_page_by_page_and_the_same_under_every_strategy(
    cluster: Cluster, database: Database
) -> None:
    grown = set()
    for tenant in (each for each in cluster.tenants.values() if each.slug.endswith("-a")):
        before = await storage.measure(database, tenant)
        await add(database, tenant, 100, "x")
        after = await storage.measure(database, tenant)
        assert after == await storage.measure(database, tenant, page=7)
        grown.add(after - before)
    # Each has an id of 16 bytes, a moment of 8, and two short texts.
    [bytes_] = grown
    assert 100 * 24 < bytes_ < 100 * 60


async def test_what_would_be_added_over_the_quota_is_refused_once_that_is_measured(
    control: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    await measured(control, database)
    assert await used(database, a) == await storage.measure(database, a)
    await limit(control, a, await used(database, a) + 3000)
    await add(database, a, 100, "x")
    await add(database, a, 1, "not measured yet")
    await measured(control, database)
    with pytest.raises(QuotaExceeded) as refused:
        await add(database, a, 1, "y")
    assert refused.value.message.startswith("storage: the limit is ")
    await add(database, b, 1, "of another tenant")
    async with database.transaction(a) as work:
        await work.script("UPDATE organizations SET name = 'z' WHERE name = 'x1'; DELETE FROM organizations")
    await measured(control, database)
    await add(database, a, 1, "y")


async def test_a_larger_limit_applies_at_once(control: Database, database: Database, a: Tenant) -> None:
    await limit(control, a, 1)
    await add(database, a, 1, "x")
    await measured(control, database)
    with pytest.raises(QuotaExceeded):
        await add(database, a, 1, "y")
    await limit(control, a, 10**9)
    await add(database, a, 1, "y")


async def test_the_log_says_once_that_80_and_100_percent_are_reached(
    control: Database, database: Database, a: Tenant
) -> None:
    await add(database, a, 100, "x")
    await measured(control, database)
    size = await used(database, a)
    for most in (size * 4, size * 10 // 9, size * 10 // 9, size):
        await limit(control, a, most)
        await measured(control, database)
    await carry(database, a)
    warned = [each for each in await log(database, a) if each["action"] == "usage_warning:create"]
    assert [(each["object"], each["new"]["percent"]) for each in warned] == [
        ("quota:storage", 80),
        ("quota:storage", 100),
    ]


async def test_a_tenant_that_has_not_changed_is_not_measured_again(
    control: Database, database: Database, a: Tenant
) -> None:
    await measured(control, database)
    async with control.unbound() as work:
        await work.script(f"UPDATE control.storage SET bytes = 7 WHERE tenant_id = '{a.id}'")
    await measured(control, database)
    assert await used(database, a) == 7
    await add(database, a, 1, "x")
    await measured(control, database)
    assert await used(database, a) == await storage.measure(database, a)


async def test_sql_inside_a_tenant_learns_sizes_of_its_own_rows_and_sets_none(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        for attempt in (
            f"SELECT control.keep_storage('{a.id}', 0, 0, 0)",
            "UPDATE control.storage SET bytes = 0",
            "SET LOCAL ROLE isola_storage",
        ):
            assert await tried(work, attempt) == INSUFFICIENT_PRIVILEGE
