"""A tenant never exceeds its quotas, whoever adds rows, in whatever way, and however many concurrently."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
from sqlalchemy import func, update

from isola.database.failures import NO_PLACE
from isola.database.transactions import Database
from isola.errors import BadUserInput, NotFound, QuotaExceeded
from isola.platform import importing, overrides, plans, platform_log
from isola.platform.overrides import Kind
from isola.platform.shares import shares as share_table
from isola.platform.sign_in_log import SignInLog
from isola.platform.tenants import Tenant
from isola.subjects import resources, roles, shares, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola.subjects.quotas import STORAGE, names
from isola.subjects.resources import Resource
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import log
from tests.subjects.nouns.conftest import state
from tests.subjects.nouns.quotas import SOMEBODY, TAKEN, Scene, allow, used

EACH = pytest.mark.parametrize("quota", [name for name in names() if name != STORAGE])


@pytest.fixture
async def login(copy: Copy) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the login of tenant traffic, bound to no tenant."""
    connection = await asyncpg.connect(copy.where.tenant)
    yield connection
    await connection.close()


@pytest.fixture
async def scene(database: Database, a: Tenant, b: Tenant) -> Scene:
    """The actor takes no place, like a machine. Another user was created and disabled."""
    async with database.transaction(a) as work:
        user = await users.ensure(work, subject="owner", name=None, email=None)
        made = Scene(a, Actor(user, of_role(Role.OWNER)), b.slug)
    async with database.transaction(a, about=made.actor.reader) as work:
        take, give_up = TAKEN["users"]
        await give_up(work, made, await take(work, made))
    return made


@EACH
async def test_a_quota_allows_exactly_its_number(
    database: Database, control: Database, scene: Scene, quota: str
) -> None:
    take, give_up = TAKEN[quota]
    await allow(control, scene.tenant, **{quota: 2})
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        first = await take(work, scene)
        await take(work, scene)
    assert await used(database, scene.tenant, quota) == 2
    before = await state(database, scene.tenant)

    with pytest.raises(QuotaExceeded) as refused:
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)
    assert refused.value.message == f"{quota}: the limit is 2"
    assert await state(database, scene.tenant) == before
    assert await used(database, scene.tenant, quota) == 2

    # A freed place can be taken again, but only once.
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await give_up(work, scene, first)
        await take(work, scene)
    with pytest.raises(QuotaExceeded):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)


@EACH
async def test_of_two_concurrent_writers_one_gets_the_last_place(
    copy: Copy, database: Database, control: Database, scene: Scene, quota: str
) -> None:
    """Neither sees the other's changes, and neither waits for the other to end."""
    take, _ = TAKEN[quota]
    await allow(control, scene.tenant, **{quota: 1})
    # In a pool of three, a tenant may take two connections at once.
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=3) as both:
        with pytest.raises(QuotaExceeded):
            async with both.transaction(scene.tenant, about=scene.actor.reader) as late:
                await take(late, scene)
                async with both.transaction(scene.tenant, about=scene.actor.reader) as early:
                    await take(early, scene)
    assert await used(database, scene.tenant, quota) == 1


async def test_uncommitted_rows_count_when_a_tenant_gets_a_quota(
    copy: Copy, login: asyncpg.Connection, database: Database, control: Database, scene: Scene
) -> None:
    """Without quotas no transaction waits, so a concurrent count does not include it."""
    take, _ = TAKEN["resources"]
    async with login.transaction():
        await copy.enter(login, scene.tenant)
        await login.execute(f"INSERT INTO resources (owner_id, name) VALUES ('{scene.actor.user_id}', 'late')")
        # As at commit.
        await login.execute("SET CONSTRAINTS ALL IMMEDIATE")
        giving = asyncio.create_task(allow(control, scene.tenant, resources=3))
        async with control.unbound() as work:
            while await work.value("SELECT plan FROM control.tenants WHERE id = $1", scene.tenant.id) == "unlimited":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)
        assert not giving.done()
    await giving
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await take(work, scene)
    with pytest.raises(QuotaExceeded):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)
    assert await used(database, scene.tenant, "resources") == 3


async def test_many_concurrent_writers_fill_a_quota_exactly(copy: Copy, control: Database, scene: Scene) -> None:
    await allow(control, scene.tenant, resources=7, users=5)
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=8, wait=30) as many:

        async def add(number: int) -> bool:
            take, _ = TAKEN["resources" if number % 2 else "users"]
            try:
                async with many.transaction(scene.tenant, about=scene.actor.reader) as work:
                    await take(work, scene)
            except QuotaExceeded:
                return False
            return True

        done = await asyncio.gather(*(add(number) for number in range(40)))
        assert done.count(True) == 12
        assert await used(many, scene.tenant, "resources") == 7
        assert await used(many, scene.tenant, "users") == 5


@EACH
async def test_a_smaller_plan_deletes_nothing_and_only_refuses_new_rows(
    database: Database, control: Database, scene: Scene, quota: str
) -> None:
    take, give_up = TAKEN[quota]
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        taken = [await take(work, scene) for _ in range(3)]
    before = await state(database, scene.tenant)
    await allow(control, scene.tenant, **{quota: 1})
    assert await state(database, scene.tenant) == before
    for place in taken[:2]:
        with pytest.raises(QuotaExceeded):
            async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
                await take(work, scene)
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await give_up(work, scene, place)
    await allow(control, scene.tenant, **{quota: 2})
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await take(work, scene)


async def test_a_quota_limits_only_its_rows_and_only_tenants_with_the_plan(
    database: Database, control: Database, scene: Scene, b: Tenant
) -> None:
    await allow(control, scene.tenant, resources=0)
    for quota in ("api_keys", "domains", "users"):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await TAKEN[quota][0](work, scene)
    with pytest.raises(QuotaExceeded):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await TAKEN["resources"][0](work, scene)
    async with database.transaction(b) as work:
        user = await users.ensure(work, subject="owner", name=None, email=None)
        await resources.create(work, Actor(user, of_role(Role.OWNER)), name="elsewhere")
    await plans.give(control, SOMEBODY, scene.tenant, plans.UNLIMITED)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await TAKEN["resources"][0](work, scene)


async def test_a_restored_row_counts_towards_the_quota(
    database: Database, control: Database, owner: Database, scene: Scene
) -> None:
    """A row shared again after its share has ended, and a user enabled again; but not a share that still counts."""
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        resource = await resources.create(work, scene.actor, name="one")
        share = await shares.grant(work, scene.actor, "resource", resource, scene.partner)
        user = await TAKEN["users"][0](work, scene)
    await allow(control, scene.tenant, shares=0, users=0)

    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await shares.change(work, scene.actor, share, expires_at=_later())
    async with owner.unbound() as work:
        await work.execute(update(share_table).values(expires_at=func.now()))
    assert await used(database, scene.tenant, "shares") == 0
    with pytest.raises(QuotaExceeded, match="shares: the limit is 0"):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await shares.grant(work, scene.actor, "resource", resource, scene.partner, expires_at=_later())

    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await roles.disable(work, scene.actor, user)
    with pytest.raises(QuotaExceeded, match="users: the limit is 0"):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await roles.enable(work, scene.actor, user)


async def test_a_statement_on_many_rows_uses_the_quota_by_the_increase(
    database: Database, control: Database, scene: Scene
) -> None:
    """Also if the log records it in parts, and if as many rows start to count as stop."""
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await work.script("INSERT INTO users (subject, name) SELECT 'u' || n, 'u' FROM generate_series(1, 1100) n")
    await allow(control, scene.tenant, users=1050)
    everybody = "UPDATE users SET seen_at = now() WHERE subject ~ '^u[0-9]+$'"
    with pytest.raises(QuotaExceeded, match="users: the limit is 1050"):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await work.script(everybody)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await work.script(f"{everybody} AND length(subject) < 5")
    assert await used(database, scene.tenant, "users") == 999

    await allow(control, scene.tenant, users=10)
    in_turn = (
        "UPDATE users SET disabled_at = CASE WHEN disabled_at IS NULL THEN now() END, seen_at = now() "
        "WHERE subject IN ('u1', 'u2', 'u3')"
    )
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await work.script("UPDATE users SET disabled_at = now() WHERE subject = 'u1'")
        await work.script(in_turn)
    assert await used(database, scene.tenant, "users") == 997
    with pytest.raises(QuotaExceeded, match="users: the limit is 10"):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await work.script(in_turn)


async def test_keys_that_have_expired_and_machines_take_no_place(
    database: Database, control: Database, owner: Database, scene: Scene
) -> None:
    await allow(control, scene.tenant, api_keys=1, users=0)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await TAKEN["api_keys"][0](work, scene)
    async with owner.unbound() as work:
        await work.script("UPDATE control.api_keys SET expires_at = now()")
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await TAKEN["api_keys"][0](work, scene)
    assert await used(database, scene.tenant, "api_keys") == 1
    assert await used(database, scene.tenant, "users") == 0


async def test_writers_at_a_full_quota_do_not_exhaust_the_connections(
    database: Database, control: Database, scene: Scene
) -> None:
    await allow(control, scene.tenant, resources=1)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await TAKEN["resources"][0](work, scene)
    processes = []
    for _ in range(8):
        with pytest.raises(QuotaExceeded):
            async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
                processes.append(await work.value("SELECT pg_backend_pid()"))
                await TAKEN["resources"][0](work, scene)
    assert len(set(processes)) == 1


async def test_an_import_ends_where_the_plan_does(
    database: Database, control: Database, scene: Scene, tmp_path: Path
) -> None:
    file = tmp_path / "resources.jsonl"
    file.write_text("".join(json.dumps({"name": f"row {number}"}) + "\n" for number in range(importing.BATCH + 1)))
    await allow(control, scene.tenant, resources=importing.BATCH)
    told: list[int] = []
    with pytest.raises(QuotaExceeded):
        await importing.load(
            database,
            scene.tenant,
            Resource,
            file,
            owner="import",
            strict=False,
            from_line=1,
            progress=lambda _, outcome: told.append(outcome.loaded),
        )
    assert told == [importing.BATCH]
    assert await used(database, scene.tenant, "resources") == importing.BATCH


async def test_rows_added_without_a_quota_count_once_there_is_one(
    database: Database, control: Database, scene: Scene
) -> None:
    take, give_up = TAKEN["resources"]
    await allow(control, scene.tenant, resources=3)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await take(work, scene)
    await plans.give(control, SOMEBODY, scene.tenant, plans.UNLIMITED)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        first, _ = [await take(work, scene) for _ in range(2)]
    await plans.give(control, SOMEBODY, scene.tenant, f"of-{scene.tenant.slug}")
    with pytest.raises(QuotaExceeded):
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await give_up(work, scene, first)
    async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
        await take(work, scene)
    assert await used(database, scene.tenant, "resources") == 3


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_sql_that_is_smuggled_in_gets_no_further(
    copy: Copy,
    database: Database,
    control: Database,
    login: asyncpg.Connection,
    scene: Scene,
    isolation: Literal["read_committed", "repeatable_read", "serializable"],
) -> None:
    """Whether its snapshot shows that no place is left, or is from before that."""
    await allow(control, scene.tenant, resources=1)
    insert = f"INSERT INTO resources (owner_id, name) VALUES ('{scene.actor.user_id}', 'more')"
    with pytest.raises(asyncpg.PostgresError):
        async with login.transaction(isolation=isolation):
            await copy.enter(login, scene.tenant)
            assert await login.fetchval("SELECT count(*) FROM resources") == 0
            async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
                await TAKEN["resources"][0](work, scene)
            await login.execute(insert)
    for said in ("SET CONSTRAINTS ALL IMMEDIATE", "SET CONSTRAINTS ALL DEFERRED"):
        with pytest.raises(asyncpg.PostgresError) as refused:
            async with login.transaction(isolation=isolation):
                await copy.enter(login, scene.tenant)
                await login.execute(f"{said}; {insert}")
        assert refused.value.sqlstate == NO_PLACE
    assert await used(database, scene.tenant, "resources") == 1


async def test_a_tenant_has_the_limit_of_its_override_exactly_until_that_ends(
    database: Database, control: Database, owner: Database, scene: Scene
) -> None:
    take, _ = TAKEN["resources"]
    tenant, end = scene.tenant, _later()
    await allow(control, tenant, resources=1)

    async def limit(moment: datetime) -> int | None:
        async with owner.unbound() as work:
            asked = "SELECT isola.quota_limit($1, 'resources', $2)"
            found: int | None = await work.value(asked, tenant.id, moment)
            return found

    async def add(most: int) -> None:
        for _ in range(most):
            async with database.transaction(tenant, about=scene.actor.reader) as work:
                await take(work, scene)
        with pytest.raises(QuotaExceeded):
            async with database.transaction(tenant, about=scene.actor.reader) as work:
                await take(work, scene)

    await overrides.put(control, SOMEBODY, tenant, Kind.QUOTA, "resources", value=3, reason="a trial", ends_at=end)
    assert (await limit(end - timedelta(microseconds=1)), await limit(end)) == (3, 1)
    await add(3)
    async with owner.unbound() as work:
        # As if the time had passed.
        await work.execute(update(overrides.quota_overrides).values(ends_at=func.now()))
    await add(0)
    assert [each.ended for each in await overrides.every(control, tenant)] == [True]
    await overrides.put(control, SOMEBODY, tenant, Kind.QUOTA, "resources", value=None, reason="a friend")
    assert (await limit(end - timedelta(days=1)), await limit(end + timedelta(days=9999))) == (None, None)
    async with database.transaction(tenant, about=scene.actor.reader) as work:
        await take(work, scene)
    await overrides.remove(control, SOMEBODY, tenant, "resources")
    await add(0)
    with pytest.raises(NotFound, match="no such override"):
        await overrides.remove(control, SOMEBODY, tenant, "resources")


async def test_an_override_limits_a_tenant_whose_plan_does_not_and_no_other(
    database: Database, control: Database, b: Tenant, scene: Scene
) -> None:
    take, _ = TAKEN["resources"]

    async def add() -> None:
        async with database.transaction(scene.tenant, about=scene.actor.reader) as work:
            await take(work, scene)

    await add()
    await overrides.put(control, SOMEBODY, scene.tenant, Kind.QUOTA, "resources", value=2, reason="it does not pay")
    await add()
    with pytest.raises(QuotaExceeded, match="resources: the limit is 2"):
        await add()
    assert await overrides.every(control, b) == []
    await overrides.remove(control, SOMEBODY, scene.tenant, "resources")
    await add()
    # What was added without a limit is counted.
    await overrides.put(control, SOMEBODY, scene.tenant, Kind.QUOTA, "resources", value=3, reason="it does not pay")
    with pytest.raises(QuotaExceeded):
        await add()


async def test_overrides_are_logged_by_the_platform_and_in_the_tenant(
    database: Database, control: Database, scene: Scene
) -> None:
    end = _later()
    await overrides.put(control, SOMEBODY, scene.tenant, Kind.QUOTA, "users", value=5, reason="a trial", ends_at=end)
    await overrides.put(control, SOMEBODY, scene.tenant, Kind.QUOTA, "users", value=None, reason="a friend")
    await overrides.remove(control, SOMEBODY, scene.tenant, "users")
    trial = {"limit": 5, "reason": "a trial", "until": end.isoformat()}
    friend = {"limit": None, "reason": "a friend", "until": None}
    changes = [("create", None, trial), ("update", trial, friend), ("delete", friend, None)]

    async with SignInLog(control, database):
        pass
    own = [each for each in await log(database, scene.tenant) if each["object"] == "quota:users"]
    assert [(each["action"], each["old"], each["new"]) for each in own] == [
        (f"quota_override:{action}", old, new) for action, old, new in changes
    ]
    entries = await platform_log.page(control, object=f"tenant:{scene.tenant.slug}", first=3)
    assert [(each.action, each.old, each.new) for each in reversed(entries)] == [
        ("tenant:override", None, {"quota": "users", **trial}),
        ("tenant:override", {"quota": "users", **trial}, {"quota": "users", **friend}),
        ("tenant:end_override", {"quota": "users", **friend}, None),
    ]
    assert {each.actor for each in entries} == {SOMEBODY.actor}


async def test_an_invalid_override_is_refused(control: Database, scene: Scene) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    for quota, most, reason, ends_at, field in (
        ("wings", 1, "a trial", None, "quotas"),
        ("users", -1, "a trial", None, "quotas"),
        ("users", 1, " ", None, "reason"),
        ("users", 1, "x" * 501, None, "reason"),
        ("users", 1, "a trial", past, "until"),
    ):
        with pytest.raises(BadUserInput) as refused:
            await overrides.put(
                control, SOMEBODY, scene.tenant, Kind.QUOTA, quota, value=most, reason=reason, ends_at=ends_at
            )
        assert refused.value.field == field
    assert await overrides.every(control, scene.tenant) == []


def _later() -> datetime:
    return datetime.now(UTC) + timedelta(days=1)
