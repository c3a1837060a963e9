"""The hierarchy of tenants: no cycles and a limited depth, whatever changes run concurrently."""

import asyncio
from collections.abc import Sequence

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound, Refusal, Unavailable
from isola.identity.descendants import Descendants
from isola.platform import hierarchy, migrations, provisioning
from isola.platform.changes import Changes
from isola.platform.directory import Directory
from isola.platform.hierarchy import LEVELS
from isola.platform.tenants import Status, Tenant
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.reading import row_of
from isola.testing.sql_sessions import analyst


async def make(owner: Database, copy: Copy, *slugs: str) -> Sequence[Tenant]:
    """Create tenants without a parent."""
    strategies, strategy = copy.strategies, min(copy.strategies)
    return [await provisioning.create(owner, strategies, slug=slug, name=slug, strategy=strategy) for slug in slugs]


async def parents(control: Database) -> dict[str, str | None]:
    tenants = await provisioning.every(control)
    slugs = {tenant.id: tenant.slug for tenant in tenants}
    return {tenant.slug: slugs[tenant.parent_id] for tenant in tenants if tenant.parent_id is not None}


async def test_a_tenant_is_made_below_another_and_moved(owner: Database, control: Database, copy: Copy) -> None:
    await make(owner, copy, "top", "other")
    made = await provisioning.create(
        owner, copy.strategies, slug="child", name="child", strategy=min(copy.strategies), parent="top"
    )
    assert (await provisioning.named(control, "child")) == made
    assert await parents(control) == {"child": "top"}

    await hierarchy.place(control, "top", under="other")
    assert await parents(control) == {"child": "top", "top": "other"}
    await hierarchy.place(control, "child", under=None)
    assert await parents(control) == {"top": "other"}


async def test_invalid_hierarchies_are_refused_and_change_nothing(
    owner: Database, control: Database, copy: Copy
) -> None:
    await make(owner, copy, "top", "middle", "bottom")
    await hierarchy.place(control, "middle", under="top")
    await hierarchy.place(control, "bottom", under="middle")
    before = await parents(control)

    for slug, under in (("top", "top"), ("top", "middle"), ("top", "bottom")):
        with pytest.raises(BadUserInput, match="not below itself"):
            await hierarchy.place(control, slug, under=under)
    for slug, under in (("nobody", "top"), ("top", "nobody")):
        with pytest.raises(NotFound):
            await hierarchy.place(control, slug, under=under)
    with pytest.raises(Conflict, match="move or delete them first"):
        await provisioning.drop(owner, copy.strategies, "middle", notice=0)
    assert await parents(control) == before
    assert (await provisioning.named(control, "middle")).status is Status.ACTIVE


async def test_the_number_of_levels_is_limited(owner: Database, control: Database, copy: Copy) -> None:
    chain = [f"level-{number}" for number in range(1, LEVELS + 2)]
    await make(owner, copy, *chain)
    for below, above in zip(chain[1:LEVELS], chain, strict=False):
        await hierarchy.place(control, below, under=above)

    with pytest.raises(BadUserInput, match="at most 8 levels"):
        await hierarchy.place(control, chain[LEVELS], under=chain[LEVELS - 1])
    with pytest.raises(BadUserInput, match="at most 8 levels"):
        await hierarchy.place(control, chain[0], under=chain[LEVELS])
    await hierarchy.place(control, chain[LEVELS], under=chain[LEVELS - 2])


async def test_concurrent_changes_create_no_cycle(owner: Database, control: Database, copy: Copy) -> None:
    """Each change alone would be valid: the last one is rejected."""
    ring = ["one", "two", "three", "four"]
    await make(owner, copy, *ring)
    async with await Database.open(copy.where.control, size=len(ring)) as many:
        for _ in range(10):
            outcomes = await asyncio.gather(
                *(hierarchy.place(many, slug, under=ring[index - 1]) for index, slug in enumerate(ring)),
                return_exceptions=True,
            )
            refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
            assert len(refused) == 1
            assert all(isinstance(each, Refusal) for each in refused)
            assert len(await parents(control)) == len(ring) - 1
            for slug in ring:
                await hierarchy.place(many, slug, under=None)


async def test_a_change_that_waited_for_another_sees_its_result(owner: Database, copy: Copy) -> None:
    one, two = await make(owner, copy, "one", "two")
    placed = "UPDATE control.tenants SET parent_id = $2 WHERE id = $1"
    async with owner.unbound() as first:
        await first.value(placed, one.id, two.id)

        async def second() -> None:
            async with owner.unbound() as work:
                await work.value(placed, two.id, one.id)

        waiting = asyncio.create_task(second())
        held = "SELECT count(*) FROM pg_locks WHERE relation = 'control.tenants'::regclass AND NOT granted"
        while not await first.value(held):  # noqa: ASYNC110  only looking shows that somebody waits
            await asyncio.sleep(0.01)
    with pytest.raises(BadUserInput, match="not below itself"):
        await waiting


async def test_sql_without_rights_cannot_delay_a_change_of_the_hierarchy(
    owner: Database, control: Database, copy: Copy, server: asyncpg.Connection
) -> None:
    await make(owner, copy, "top", "below")
    async with analyst(copy, server) as stranger:
        session = await stranger.session()
        await session.execute("SELECT pg_advisory_lock(hashtext('isola.hierarchy'))")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute("BEGIN; LOCK TABLE control.tenants IN SHARE UPDATE EXCLUSIVE MODE")
        async with asyncio.timeout(5):
            await hierarchy.place(control, "below", under="top")
            await provisioning.suspend(control, "below")
    assert len(await parents(control)) == 1


async def test_a_change_of_the_hierarchy_waits_a_bounded_time(owner: Database, control: Database, copy: Copy) -> None:
    await make(owner, copy, "one")
    async with owner.unbound() as work:
        await work.script("ALTER FUNCTION control.keep_hierarchy() SET lock_timeout = '0.2s'")
    async with owner.unbound() as holder:
        await holder.script(hierarchy.TURN)
        with pytest.raises(Unavailable, match="another session did not release a lock in time: try again"):
            await provisioning.suspend(control, "one")


async def test_no_snapshot_from_before_is_trusted(owner: Database, copy: Copy) -> None:
    one, two = await make(owner, copy, "one", "two")
    with pytest.raises(Refusal):
        async with owner.unbound() as work:
            await work.script("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await work.value("UPDATE control.tenants SET parent_id = $2 WHERE id = $1", one.id, two.id)


async def test_suspending_one_suspends_all_below(
    owner: Database, control: Database, database: Database, changes: Changes, a: Tenant, b: Tenant, copy: Copy
) -> None:
    await make(owner, copy, "top")
    await hierarchy.place(control, a.slug, under="top")
    await hierarchy.place(control, b.slug, under=a.slug)
    directory = Directory(control, changes, 3600, migrations.unprotected)

    async def status(tenant: Tenant) -> Status:
        await changes.poll()
        found = await directory.find(tenant.slug)
        assert found is not None
        return found.status

    assert [await status(tenant) for tenant in (a, b)] == [Status.ACTIVE, Status.ACTIVE]
    await provisioning.suspend(control, "top")
    assert [await status(tenant) for tenant in (a, b)] == [Status.SUSPENDED, Status.SUSPENDED]
    with pytest.raises(Forbidden):
        async with database.transaction(b) as work:
            await work.value("SELECT isola.bound_tenant()")
    # Their own status is unchanged.
    assert (await provisioning.named(control, b.slug)).status is Status.ACTIVE

    await hierarchy.place(control, b.slug, under=None)
    assert [await status(tenant) for tenant in (a, b)] == [Status.SUSPENDED, Status.ACTIVE]
    await provisioning.resume(control, "top")
    assert await status(a) is Status.ACTIVE


async def test_shares_of_a_tenant_below_a_suspended_one_are_refused(
    owner: Database, control: Database, database: Database, a: Tenant, b: Tenant, copy: Copy
) -> None:
    await make(owner, copy, "top")
    await hierarchy.place(control, a.slug, under="top")
    async with database.transaction(a) as work:
        user = await work.value("INSERT INTO users (subject, name) VALUES ('u', 'u') RETURNING id")
        resource = await work.value(
            "INSERT INTO resources (name, kind, owner_id) VALUES ('r', 'document', $1) RETURNING id", user
        )
        share = await work.value(
            "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)", resource, b.slug
        )
    received = "SELECT count(*) FROM isola.shares_received()"
    async with database.transaction(b) as work:
        assert await work.value(received) == 1
    await provisioning.suspend(control, "top")
    async with database.transaction(b) as work:
        assert await work.value(received) == 0
        assert await work.value(f"SELECT count(*) FROM {row_of()}", share) == 0


async def test_descendants_are_found_only_from_their_ancestors(
    owner: Database, control: Database, changes: Changes, copy: Copy
) -> None:
    top, child, grandchild, sibling = await make(owner, copy, "top", "child", "grandchild", "sibling")
    for slug, under in (("child", "top"), ("sibling", "top"), ("grandchild", "child")):
        await hierarchy.place(control, slug, under=under)
    descendants = Descendants(control, changes, ttl=3600)

    async def found(above: Tenant) -> set[str]:
        names = ["top", "child", "grandchild", "sibling", "nobody", "no slug", str(grandchild.id)]
        return {each.slug for name in names if (each := await descendants.tenant(above.id, name)) is not None}

    assert await found(top) == {"child", "grandchild", "sibling"}
    assert await found(child) == {"grandchild"}
    assert await found(sibling) == await found(grandchild) == set()
    await hierarchy.place(control, "child", under=None)
    await changes.poll()
    assert await found(top) == {"sibling"}
