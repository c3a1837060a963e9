"""Tenants are created completely or not at all, and dropped without a trace."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import func, select

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, NotFound, OperatorError, Refusal
from isola.platform import migrations, provisioning, sessions
from isola.platform.sessions import Lifetimes
from isola.platform.tenants import Status, Tenant, metadata as control_metadata
from isola.subjects import partnerships, resources, shares, users
from isola.subjects.actor import Actor
from isola.subjects.applications import BUILT_IN
from isola.subjects.metadata import metadata
from isola.subjects.permissions import Permission
from isola.testing.consent import make_partners
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import Canary, plant, plant_platform
from isola.testing.waiting import until_someone_waits
from isola_strategies.base import Strategy
from tests.control.conftest import until_alone

EVERYTHING = frozenset({"resource:write", "resource:manage", "share:write"})
MANAGER = Actor(uuid4(), frozenset({Permission.SHARE_MANAGE}))

CREATE = """
import asyncio, sys
from isola.platform import migrations, provisioning
from isola.database.transactions import Database
from isola_strategies import registry

async def run(owner_url, login, strategy):
    async with await Database.open(owner_url, statement_timeout=60) as owner:
        await provisioning.create(owner, registry.load(login), slug="new", name="New", strategy=strategy)

asyncio.run(run(*sys.argv[1:]))
"""


# The platform's tables about two tenants, and their columns.
BETWEEN = {
    "partners": "tenant_id, partner_id",
    "partnership_declines": "tenant_id, offerer_id",
    "partnership_offers": "tenant_id, partner_id",
    "shares": "owner_id, grantee_id",
    "tenant_blocks": "tenant_id, blocked_id",
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Everything on the database server that creating a tenant adds to, except rows in homes."""

    tenants: frozenset[tuple[object, ...]]
    schemas: frozenset[str]
    roles: frozenset[str]
    memberships: frozenset[str]


async def footprint(owner: Database) -> Footprint:
    async with owner.unbound() as transaction:
        directory = await transaction.texts("SELECT to_jsonb(t)::text FROM control.tenants t")
        schemas = await transaction.texts(r"SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\_%'")
        roles = await transaction.texts("SELECT rolname FROM pg_roles")
        memberships = await transaction.texts("SELECT roleid || ' of ' || member FROM pg_auth_members")
    return Footprint(frozenset((row,) for row in directory), *map(frozenset, (schemas, roles, memberships)))


async def made(owner: Database, copy: Copy, strategy: Strategy, slug: str = "new") -> Tenant:
    """A new tenant, which is a partner of all others."""
    tenant = await provisioning.create(
        owner, copy.strategies, slug=slug, name="New", strategy=strategy.name, reuse_slug=True
    )
    await make_partners(owner)
    return tenant


async def fill(database: Database, tenant: Tenant, partner: Tenant) -> UUID:
    """Create a user with a resource in the tenant, shared with a partner."""
    async with database.transaction(tenant) as work:
        user = await users.ensure(work, subject="ada", name=None, email=None)
        actor = Actor(user, EVERYTHING)
        resource = await resources.create(work, actor, name="canary")
        await shares.grant(work, actor, "resource", resource, partner.slug, access=shares.ShareAccess.COMMENT)
    return resource


async def names_in(database: Database, tenant: Tenant) -> list[str]:
    async with database.transaction(tenant) as work:
        return await work.texts("SELECT name FROM resources")


async def received(database: Database, tenant: Tenant) -> list[str]:
    async with database.transaction(tenant) as work:
        return await work.texts("SELECT owner_slug FROM isola.shares_received()")


@contextlib.asynccontextmanager
async def held_up(owner: Database, lock: str) -> AsyncIterator[None]:
    """Hold a lock until the end, so that all others that need it wait."""
    async with owner.unbound() as holder:
        await holder.script(lock)
        yield


# --- creating


async def test_a_new_tenant_is_empty_and_usable_at_once(
    owner: Database, database: Database, copy: Copy, strategy: Strategy
) -> None:
    tenant = await made(owner, copy, strategy)
    assert (tenant.slug, tenant.name, tenant.status, tenant.strategy) == ("new", "New", Status.ACTIVE, strategy.name)
    assert await provisioning.named(owner, "new") == tenant
    assert tenant in await provisioning.every(owner)
    assert await names_in(database, tenant) == []
    async with database.transaction(tenant) as work:
        actor = Actor(await users.ensure(work, subject="ada", name=None, email=None), EVERYTHING)
        await resources.create(work, actor, name="first")
    assert await names_in(database, tenant) == ["first"]


async def test_a_new_tenant_is_made_with_the_control_planes_own_defaults(
    owner: Database, copy: Copy, strategy: Strategy
) -> None:
    tenant = await made(owner, copy, strategy)
    home = strategy.home(tenant.id)
    async with owner.unbound() as transaction:
        row = await transaction.value("SELECT to_jsonb(t)::text FROM control.tenants t WHERE id = $1", tenant.id)
    assert tenant.id.version == 7
    assert '"settings": {}' in row
    assert f'"home": "{home.schema}"' in row
    assert f'"role": "{home.role or "none"}"' in row


@pytest.mark.parametrize(
    "slug",
    [
        "",
        "a",
        "a" * 64,
        "Acme",
        "1acme",
        "-acme",
        "acme-",
        "ac me",
        "acme\n",
        "acme_x",
        "acme.example",
        "\u0430cme",
        "acm\u00e9",
        "acme\u0661",
        "ac\x00me",
        "ac\ud800me",
        'x"; SET ROLE b--',
        "pg_temp",
        "a" * 100_000,
    ],
    ids=lambda slug: ascii(slug)[:30],
)
async def test_an_invalid_slug_is_refused(owner: Database, copy: Copy, slug: str) -> None:
    before = await footprint(owner)
    for strategy in copy.strategies:
        with pytest.raises(BadUserInput, match=r"^slug: ") as refused:
            await provisioning.create(owner, copy.strategies, slug=slug, name="New", strategy=strategy)
        assert len(refused.value.message) < 600
    assert await footprint(owner) == before


@pytest.mark.parametrize("slug", ["ab", "a" * 63, "public", "rls", "control", "isola", "postgres", "t-1"])
async def test_a_slug_with_a_meaning_elsewhere_is_a_name_like_any_other(
    owner: Database, database: Database, copy: Copy, slug: str
) -> None:
    for strategy in copy.strategies.values():
        tenant = await made(owner, copy, strategy, slug)
        assert await names_in(database, tenant) == []
        await provisioning.drop(owner, copy.strategies, slug, notice=0)


@pytest.mark.parametrize("name", ["", "n" * 201, "a\nb", "a\x00b", "a\x1b[31mb", "a\ud800b", "a\u202eb"], ids=ascii)
async def test_an_invalid_name_is_refused(owner: Database, copy: Copy, name: str) -> None:
    before = await footprint(owner)
    for strategy in copy.strategies:
        with pytest.raises(BadUserInput, match=r"^name: expected (1 to 200 characters|visible characters)$"):
            await provisioning.create(owner, copy.strategies, slug="new", name=name, strategy=strategy)
    assert await footprint(owner) == before


async def test_an_unknown_strategy_is_refused_naming_those_there_are(owner: Database, copy: Copy) -> None:
    before = await footprint(owner)
    with pytest.raises(BadUserInput, match=f"^strategy: expected one of {', '.join(sorted(copy.strategies))}"):
        await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy="moon")
    assert await footprint(owner) == before


async def test_a_slug_that_is_taken_is_refused(owner: Database, copy: Copy, strategy: Strategy, a: Tenant) -> None:
    before = await footprint(owner)
    with pytest.raises(Conflict, match="slug"):
        await made(owner, copy, strategy, a.slug)
    await provisioning.suspend(owner, a.slug)
    with pytest.raises(Conflict, match="slug"):
        await made(owner, copy, strategy, a.slug)
    await provisioning.resume(owner, a.slug)
    assert await footprint(owner) == before


async def test_the_same_slug_at_once_gives_one_tenant_and_conflicts(
    owner: Database, copy: Copy, strategy: Strategy
) -> None:
    before = await footprint(owner)
    tried = await asyncio.gather(*(made(owner, copy, strategy) for _ in range(4)), return_exceptions=True)
    (tenant,) = [one for one in tried if isinstance(one, Tenant)]
    assert [type(one) for one in tried].count(Conflict) == 3
    assert await provisioning.named(owner, "new") == tenant
    after = await footprint(owner)
    assert len(after.tenants - before.tenants) == 1
    home = strategy.home(tenant.id)
    assert after.schemas - before.schemas == {home.schema} - before.schemas
    assert after.roles - before.roles == {home.role} - {None} - before.roles


async def test_many_tenants_at_once(owner: Database, database: Database, copy: Copy, strategy: Strategy) -> None:
    tenants = await asyncio.gather(*(made(owner, copy, strategy, f"new-{number}") for number in range(12)))
    assert [await names_in(database, tenant) for tenant in tenants] == [[]] * 12


async def test_a_home_that_is_not_migrated_accepts_no_new_tenant(
    owner: Database, copy: Copy, strategy: Strategy
) -> None:
    shared = strategy.homes([])
    behind = migrations.written({**migrations.parsed(migrations.head("tenant")), BUILT_IN: "0001"})
    async with owner.unbound() as transaction:
        for home in shared:
            await transaction.script(f"COMMENT ON SCHEMA {home.schema} IS '{migrations.MARK}{behind}'")
    before = await footprint(owner)
    if shared:
        message = f"is at {behind}, not at revision {migrations.head('tenant')}: isola migrate"
        with pytest.raises(OperatorError, match=message):
            await made(owner, copy, strategy)
        assert await footprint(owner) == before
    else:
        # A new home is created at the newest revision, however old the others are.
        await made(owner, copy, strategy)


async def test_cancelled_at_any_point_a_tenant_is_there_or_is_not(
    owner: Database, database: Database, copy: Copy, strategy: Strategy
) -> None:
    for milliseconds in range(0, 2000, 2):
        before = await footprint(owner)
        slug = f"new-{milliseconds}"
        making = asyncio.create_task(made(owner, copy, strategy, slug))
        await asyncio.wait({making}, timeout=milliseconds / 1000)
        in_time = not making.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await making
        await until_alone(owner)
        after = await footprint(owner)
        if after != before:
            tenant = await provisioning.named(owner, slug)
            assert await names_in(database, tenant) == []
            assert strategy.home(tenant.id).schema in after.schemas
        if in_time:
            assert after != before
            return
    pytest.fail("it was never left the time to finish")


@pytest.mark.parametrize(
    "point",
    ["LOCK TABLE control.tenants IN SHARE MODE", "LOCK TABLE pg_auth_members IN SHARE MODE"],
    ids=["row", "home"],
)
async def test_killed_midway_leaves_nothing_of_a_tenant(
    owner: Database, copy: Copy, strategy: Strategy, point: str
) -> None:
    if "pg_auth_members" in point and strategy.homes([]):
        point = "LOCK TABLE control.audit_pending IN SHARE MODE"
    before = await footprint(owner)
    assert copy.where.owner
    command = [sys.executable, "-c", CREATE, copy.where.owner, copy.where.tenant_login, strategy.name]
    async with held_up(owner, point):
        making = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2])
        await until_someone_waits(owner)
        making.kill()
        assert await making.wait() == -signal.SIGKILL
    await until_alone(owner)
    assert await footprint(owner) == before
    await made(owner, copy, strategy)


async def test_a_backend_killed_midway_leaves_nothing_of_a_tenant(
    owner: Database, copy: Copy, strategy: Strategy
) -> None:
    before = await footprint(owner)
    async with held_up(owner, "LOCK TABLE control.tenants IN SHARE MODE"):
        making = asyncio.create_task(made(owner, copy, strategy))
        await until_someone_waits(owner)
        async with owner.unbound() as transaction:
            await transaction.value("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted")
        with pytest.raises(Refusal, match="connection"):
            await making
    assert await footprint(owner) == before
    await made(owner, copy, strategy)


# --- suspending


async def test_suspend_and_resume(control: Database, a: Tenant, b: Tenant) -> None:
    suspended = await provisioning.suspend(control, a.slug)
    assert suspended.status is Status.SUSPENDED
    assert await provisioning.named(control, a.slug) == suspended
    assert await provisioning.named(control, b.slug) == b
    assert await provisioning.resume(control, a.slug) == a
    assert await provisioning.named(control, a.slug) == a


async def test_suspending_keeps_the_data(control: Database, database: Database, a: Tenant, b: Tenant) -> None:
    await fill(database, a, b)
    await provisioning.suspend(control, a.slug)
    await provisioning.resume(control, a.slug)
    assert await names_in(database, a) == ["canary"]
    assert await received(database, b) == [a.slug]


async def test_a_suspended_tenant_cannot_be_suspended_nor_an_active_one_resumed(control: Database, a: Tenant) -> None:
    with pytest.raises(Conflict, match="the tenant is active, not suspended"):
        await provisioning.resume(control, a.slug)
    assert (await provisioning.named(control, a.slug)).status is Status.ACTIVE
    await provisioning.suspend(control, a.slug)
    with pytest.raises(Conflict, match="the tenant is suspended, not active"):
        await provisioning.suspend(control, a.slug)
    assert (await provisioning.named(control, a.slug)).status is Status.SUSPENDED


@pytest.mark.parametrize("slug", ["nobody", "", "no\x00body", "no\ud800body", "'; DROP SCHEMA rls --"], ids=ascii)
async def test_an_unknown_tenant_is_not_found(owner: Database, copy: Copy, slug: str) -> None:
    before = await footprint(owner)
    with pytest.raises(NotFound):
        await provisioning.named(owner, slug)
    with pytest.raises(NotFound):
        await provisioning.suspend(owner, slug)
    with pytest.raises(NotFound):
        await provisioning.resume(owner, slug)
    with pytest.raises(NotFound):
        await provisioning.drop(owner, copy.strategies, slug, notice=0)
    assert await footprint(owner) == before


# --- dropping


async def test_drop_leaves_nothing_of_a_tenant_and_everything_of_others(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, a: Tenant, b: Tenant
) -> None:
    await fill(database, b, a)
    before = await footprint(owner)
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    await fill(database, a, tenant)
    async with owner.unbound() as work:
        pair = "$1 IN (tenant_id, partner_id) AND $2 IN (tenant_id, partner_id)"
        await work.value(f"DELETE FROM control.partners WHERE {pair}", tenant.id, b.id)
    for one, offered in ((tenant, "nobody"), (b, tenant.slug)):
        async with database.transaction(one) as work:
            await partnerships.offer(work, MANAGER, offered)
            await partnerships.block(work, MANAGER, "somebody")
    async with owner.unbound() as work:
        await work.value("UPDATE control.tenant_blocks SET blocked_id = $1 WHERE tenant_id = $2", tenant.id, b.id)

    dropped = await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)

    assert (dropped.id, dropped.slug) == (tenant.id, tenant.slug)
    after = await footprint(owner)
    assert (after.schemas, after.roles, after.memberships) == (before.schemas, before.roles, before.memberships)
    async with owner.unbound() as transaction:
        assert await transaction.texts("SELECT grantee_slug FROM control.shares") == [a.slug]
        for table, columns in BETWEEN.items():
            left = f"SELECT count(*) FROM control.{table} WHERE $1 IN ({columns})"
            assert await transaction.value(left, tenant.id) == 0
        # Offers to it and blocks remain as they were written.
        for table in ("partnership_offers", "tenant_blocks"):
            assert await transaction.value(f"SELECT count(*) FROM control.{table}") == 1
        for home in strategy.homes([]):
            for table in metadata.tables:
                left = f"SELECT count(*) FROM {home.schema}.{table} WHERE tenant_id = $1"
                assert await transaction.value(left, tenant.id) == 0
    assert await names_in(database, a) == ["canary"]
    assert await names_in(database, b) == ["canary"]
    assert await received(database, a) == [b.slug]
    assert tenant.id not in [one.id for one in await provisioning.every(owner)]
    with pytest.raises(NotFound):
        await provisioning.named(owner, tenant.slug)


async def test_no_table_of_the_platform_has_data_of_a_deleted_tenant(
    owner: Database, database: Database, copy: Copy, strategy: Strategy
) -> None:
    """Only the directory, the platform's log and the announced changes still mention it."""
    canary = await plant_platform(owner, await plant(database, await made(owner, copy, strategy)))
    planted = set(canary.rows) - set(metadata.tables)
    assert {"api_keys", "domains", "first_answers", "refusals", "sessions", "share_notices", "sign_outs"} <= planted
    assert await traced(owner, canary) >= planted

    await provisioning.drop(owner, copy.strategies, canary.tenant.slug, notice=0)

    assert await traced(owner, canary) == {"audit_entries", "changes", "tenants"}


async def traced(owner: Database, canary: Canary) -> set[str]:
    """The platform's tables that contain any data of a tenant."""
    async with owner.unbound() as work:
        tables = await work.texts(
            "SELECT relname FROM pg_class WHERE relnamespace = 'control'::regnamespace AND relkind = 'r'"
        )
        return {
            table
            for table in tables
            if any(canary.traced_in(row) for row in await work.texts(f"SELECT t::text FROM control.{table} t"))
        }


async def test_dropped_once_is_dropped(owner: Database, copy: Copy, strategy: Strategy) -> None:
    tenant = await made(owner, copy, strategy)
    await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)
    before = await footprint(owner)
    with pytest.raises(NotFound):
        await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)
    with pytest.raises(NotFound):
        await provisioning.suspend(owner, tenant.slug)
    with pytest.raises(NotFound):
        await provisioning.resume(owner, tenant.slug)
    assert await footprint(owner) == before


async def test_a_reused_slug_finds_no_data_of_the_former_tenant(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    gone = await made(owner, copy, strategy)
    resource = await fill(database, gone, a)
    await provisioning.drop(owner, copy.strategies, gone.slug, notice=0)
    for again in copy.strategies.values():
        tenant = await made(owner, copy, again)
        assert tenant.id != gone.id
        assert await names_in(database, tenant) == []
        assert await received(database, a) == []
        async with database.transaction(tenant) as work:
            stranger = Actor(await users.ensure(work, subject="ada", name=None, email=None), EVERYTHING)
            with pytest.raises(NotFound):
                await resources.held(work, stranger, resource)
        await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)


async def test_a_slug_is_free_again_after_a_time_of_grace(
    owner: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    gone = await made(owner, copy, strategy)
    await provisioning.drop(owner, copy.strategies, gone.slug, notice=0)
    before = await footprint(owner)
    again = partial(provisioning.create, owner, copy.strategies, slug=gone.slug, name="Heir", strategy=strategy.name)
    with pytest.raises(Conflict, match=r"the slug was another tenant's until 20\d\d-\d\d-\d\d; free from 20"):
        await again()
    assert await footprint(owner) == before
    async with owner.unbound() as work:
        await work.script(f"UPDATE control.tenants SET deleted_at = now() - interval '91 days' WHERE id = '{gone.id}'")
    heir = await again()
    assert (heir.slug, heir.slug_reused, a.slug_reused) == (gone.slug, True, False)


async def test_a_drop_leaves_nothing_that_was_issued_for_the_tenant(
    owner: Database, database: Database, control: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    """In any of the platform's tables. Orders stay, as the record of what was ordered."""
    gone = await made(owner, copy, strategy)
    await fill(database, gone, a)
    async with database.transaction(gone) as work:
        actor = Actor(await users.ensure(work, subject="ada", name=None, email=None), EVERYTHING)
        await work.value("SELECT isola.sign_out($1, 'ada')", actor.user_id)
        await work.value("SELECT isola.remember_member('ada')")
    async with database.transaction(gone, about={"user": str(actor.user_id)}) as work:
        await work.value("SELECT isola.create_api_key('prefix', sha256('x'), 'key', '{}', $1, NULL)", actor.user_id)
    async with control.unbound() as work:
        lasts = Lifetimes(session=timedelta(days=1), idle=timedelta(days=1))
        await sessions.prepare(work, gone.id, "ada", lasts)
        await work.value(
            "INSERT INTO control.refusals (tenant_id, reason, address, user_agent, count, due_at) "
            "VALUES ($1, 'password', '', '', 1, now())",
            gone.id,
        )
    columns = [
        column
        for table in control_metadata.tables.values()
        for column in table.columns
        if column.name in {"tenant_id", "owner_id", "grantee_id"} and table.name != "orders"
    ]

    async def left() -> dict[str, int]:
        async with owner.unbound() as work:
            counted = {
                str(column): await work.scalar(select(func.count()).where(column == gone.id)) for column in columns
            }
            return {name: count for name, count in counted.items() if count}

    before = await left()
    assert {name.split(".")[-2] for name in before} >= {
        "api_keys",
        "memberships",
        "refusals",
        "sessions",
        "shares",
        "sign_outs",
    }
    await provisioning.drop(owner, copy.strategies, gone.slug, notice=0)
    assert await left() == {}


async def test_a_suspended_tenant_can_be_dropped(owner: Database, copy: Copy, strategy: Strategy) -> None:
    before = await footprint(owner)
    tenant = await made(owner, copy, strategy)
    await provisioning.suspend(owner, tenant.slug)
    await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)
    after = await footprint(owner)
    assert (after.schemas, after.roles) == (before.schemas, before.roles)


async def test_notice_is_given_before_anything_is_erased(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    dropping = asyncio.create_task(provisioning.drop(owner, copy.strategies, tenant.slug, notice=60))
    await until_deleted(owner, tenant)
    # New requests are refused, but running ones still find their data.
    assert await names_in(database, tenant) == ["canary"]
    assert await received(database, a) == []
    dropping.cancel()


async def until_deleted(owner: Database, tenant: Tenant) -> None:
    for _ in range(2000):
        if tenant.id not in [one.id for one in await provisioning.every(owner)]:
            return
        await asyncio.sleep(0.005)
    pytest.fail("it was not marked as deleted")


@pytest.mark.parametrize("interrupted", ["before the erasing", "while erasing"])
async def test_an_interrupted_drop_is_completed_by_a_second_one(
    owner: Database, database: Database, copy: Copy, strategy: Strategy, a: Tenant, interrupted: str
) -> None:
    before = await footprint(owner)
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, a)
    home = strategy.home(tenant.id).schema
    if interrupted == "before the erasing":
        dropping = asyncio.create_task(provisioning.drop(owner, copy.strategies, tenant.slug, notice=60))
        await until_deleted(owner, tenant)
        dropping.cancel()
    else:
        async with held_up(owner, f"LOCK TABLE {home}.users IN SHARE MODE"):
            dropping = asyncio.create_task(provisioning.drop(owner, copy.strategies, tenant.slug, notice=0))
            await until_someone_waits(owner)
            dropping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await dropping
    await until_alone(owner)
    assert await names_in(database, tenant) == ["canary"]
    with pytest.raises(NotFound):
        await provisioning.named(owner, tenant.slug)

    # The slug is free already, and its new tenant keeps it.
    heir = await made(owner, copy, strategy)
    await fill(database, heir, a)
    assert (await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)).id == tenant.id
    assert await names_in(database, heir) == ["canary"]
    assert await received(database, a) == [heir.slug]

    assert (await provisioning.drop(owner, copy.strategies, heir.slug, notice=0)).id == heir.id
    after = await footprint(owner)
    assert (after.schemas, after.roles) == (before.schemas, before.roles)


async def test_two_drops_at_once_both_end_well(owner: Database, copy: Copy, strategy: Strategy) -> None:
    before = await footprint(owner)
    tenant = await made(owner, copy, strategy)
    dropped = await asyncio.gather(
        *(provisioning.drop(owner, copy.strategies, tenant.slug, notice=0.05) for _ in range(2))
    )
    assert [one.id for one in dropped] == [tenant.id] * 2
    after = await footprint(owner)
    assert (after.schemas, after.roles) == (before.schemas, before.roles)


async def test_a_tenant_whose_strategy_is_not_installed_is_not_dropped(owner: Database, copy: Copy, a: Tenant) -> None:
    others = {name: strategy for name, strategy in copy.strategies.items() if name != a.strategy}
    before = await footprint(owner)
    with pytest.raises(OperatorError, match=f"placed under {a.strategy}, which is not installed"):
        await provisioning.drop(owner, others, a.slug, notice=0)
    assert await footprint(owner) == before


async def test_a_drop_under_load_ends_every_transaction_cleanly(
    owner: Database, copy: Copy, strategy: Strategy, a: Tenant
) -> None:
    tenant = await made(owner, copy, strategy)
    ended: list[Exception | None] = []
    foreign: list[str] = []
    others: list[int] = []
    stop = asyncio.Event()

    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=6) as database:
        await fill(database, a, tenant)

        async def traffic() -> None:
            while not stop.is_set():
                try:
                    async with database.transaction(tenant) as work:
                        actor = Actor(await users.ensure(work, subject=str(uuid4()), name=None, email=None), EVERYTHING)
                        await resources.create(work, actor, name="mine")
                        foreign.extend(
                            name for name in await work.texts("SELECT name FROM resources") if name != "mine"
                        )
                    ended.append(None)
                except Exception as error:  # noqa: BLE001  which ones is the question
                    ended.append(error)

        async def neighbour() -> None:
            while not stop.is_set():
                others.append(len(await names_in(database, a)))

        load = [*(asyncio.create_task(traffic()) for _ in range(4)), asyncio.create_task(neighbour())]
        await asyncio.sleep(0.2)
        while None not in ended or not others:  # noqa: ASYNC110  how long the first takes is the machine's business
            await asyncio.sleep(0.02)
        # Without notice, unlike any server: all requests are still in flight.
        await provisioning.drop(owner, copy.strategies, tenant.slug, notice=0)
        await asyncio.sleep(0.2)
        stop.set()
        await asyncio.gather(*load)

    assert None in ended
    assert {type(error) for error in ended if error is not None and not isinstance(error, Refusal)} <= {
        asyncpg.UndefinedTableError
    }
    assert foreign == []
    assert set(others) == {1}
    assert strategy.home(tenant.id).schema not in (await footprint(owner)).schemas or strategy.homes([])
