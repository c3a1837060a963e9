"""What a worker does inside tenants: for whom, with which rights, and what the log says."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select

import isola
from isola.database.transactions import Database
from isola.errors import Forbidden, NotFound, OperatorError, TenantDeleted, TenantSuspended
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects import organizations, resources, users
from isola.subjects.audit import audit_log
from isola.subjects.users import UserKind
from isola.testing.fixtures import Copy
from isola.workers import Worker

TENANTS, TASKS = 50, 1000


async def logged(database: Database, tenant: Tenant, key: UUID) -> Mapping[str, object]:
    """The only log entry about a resource."""
    async with database.transaction(tenant, read_only=True) as work:
        [entry] = await work.rows(select(audit_log).where(audit_log.c.object == f"res_{key}"))
    return entry


async def test_without_a_user_the_worker_acts_as_a_machine_of_the_tenant(
    worker: Worker, database: Database, a: Tenant
) -> None:
    with isola.run_with_tenant(a.slug):
        async with worker.transaction() as inside:
            made = await resources.create(inside.work, inside.actor, name="made at night")
            machine = await inside.work.rows(select(users.users).where(users.users.c.id == inside.actor.user_id))

    assert (inside.tenant, inside.user_id, inside.organization_id) == (a, None, None)
    assert (machine[0]["subject"], machine[0]["kind"]) == ("worker:nightly", UserKind.MACHINE)
    entry = await logged(database, a, made)
    assert (entry["actor"], entry["on_behalf_of"]) == ("worker:nightly", None)


@pytest.mark.parametrize("by_id", [False, True])
async def test_with_a_user_it_has_the_rights_of_the_user_and_the_log_names_both(
    *, by_id: bool, worker: Worker, database: Database, a: Tenant, ada: UUID
) -> None:
    with isola.run_with_tenant(a.id if by_id else a.slug, user=ada if by_id else "ada"):
        async with worker.transaction() as inside:
            made = await resources.create(inside.work, inside.actor, name="made for Ada")
        with pytest.raises(Forbidden, match="role:manage"):
            inside.actor.require("role:manage")

    assert (inside.user_id, inside.actor.user_id) == (ada, ada)
    entry = await logged(database, a, made)
    assert (entry["actor"], entry["on_behalf_of"]) == ("worker:nightly", f"usr_{ada}")


async def test_an_organization_is_found_by_name_and_by_id(
    worker: Worker, database: Database, a: Tenant, ada: UUID, sales: UUID
) -> None:
    async with database.transaction(a) as work:
        await work.execute(insert(organizations.memberships).values(organization_id=sales, user_id=ada))
    for organization in ("Sales", "SALES", sales):
        for user in ("ada", None):
            with isola.run_with_tenant(a.slug, user=user, organization=organization):
                async with worker.transaction(read_only=True) as inside:
                    assert inside.organization_id == sales


async def test_whoever_is_not_there_is_not_found(worker: Worker, a: Tenant, b: Tenant, ada: UUID, sales: UUID) -> None:
    nobody = {"user": "nobody"}, {"user": uuid4()}, {"user": "worker:nightly"}
    nothing = {"organization": "Nothing"}, {"organization": uuid4()}
    for tenant, others in (
        ("no-such-tenant", {}),
        (uuid4(), {}),
        (b.slug, {"user": "ada"}),
        (b.slug, {"user": ada}),
        (b.slug, {"organization": "Sales"}),
        (b.slug, {"organization": sales}),
        *((a.slug, each) for each in (*nobody, *nothing)),
    ):
        with isola.run_with_tenant(tenant, **others), pytest.raises(NotFound):  # type: ignore[arg-type]  # each has its kind
            async with worker.transaction():
                pytest.fail("it was entered")


async def test_a_subject_that_is_the_text_of_an_id_is_not_the_user_with_that_id(
    worker: Worker, a: Tenant, ada: UUID
) -> None:
    with isola.run_with_tenant(a.slug, user=ada):
        async with worker.transaction(read_only=True) as inside:
            assert inside.user_id == ada
    with isola.run_with_tenant(a.slug, user=str(ada)), pytest.raises(NotFound):
        async with worker.transaction():
            pytest.fail("it was entered")


async def test_it_is_refused_what_its_user_would_be(
    worker: Worker, database: Database, a: Tenant, ada: UUID, sales: UUID
) -> None:
    assert sales
    with isola.run_with_tenant(a.slug, user="ada", organization="Sales"), pytest.raises(Forbidden, match="member"):
        async with worker.transaction():
            pytest.fail("it was entered")
    async with database.transaction(a) as work:
        await work.execute(users.users.update().where(users.users.c.id == ada).values(disabled_at=func.now()))
    with isola.run_with_tenant(a.slug, user=ada), pytest.raises(Forbidden, match="disabled"):
        async with worker.transaction():
            pytest.fail("it was entered")


async def test_a_tenant_that_is_suspended_or_deleted_is_refused(
    copy: Copy, reached: Settings, owner: Database, a: Tenant
) -> None:
    await provisioning.suspend(owner, a.slug)
    b = await provisioning.create(owner, copy.strategies, slug="doomed", name="Doomed", strategy=a.strategy)
    await provisioning.drop(owner, copy.strategies, b.slug, notice=0)
    async with Worker.open("nightly", reached) as worker:
        for tenant, refusal in ((a, TenantSuspended), (b, TenantDeleted)):
            with isola.run_with_tenant(tenant.id), pytest.raises(refusal):
                async with worker.transaction():
                    pytest.fail("it was entered")


async def test_without_a_tenant_nothing_begins(worker: Worker) -> None:
    with pytest.raises(RuntimeError, match="run_with_tenant"):
        async with worker.transaction():
            pytest.fail("it was entered")


async def test_an_error_rolls_back(worker: Worker, database: Database, a: Tenant) -> None:
    with isola.run_with_tenant(a.slug), pytest.raises(KeyError):
        async with worker.transaction() as inside:
            await resources.create(inside.work, inside.actor, name="never made")
            raise KeyError
    async with database.transaction(a, read_only=True) as work:
        assert await work.value("SELECT count(*) FROM resources WHERE name = 'never made'") == 0


async def test_a_transaction_stays_in_its_tenant_when_the_scope_changes(
    worker: Worker, database: Database, a: Tenant, b: Tenant
) -> None:
    with isola.run_with_tenant(a.slug):
        async with worker.transaction() as inside:
            with isola.run_with_tenant(b.slug):
                made = await resources.create(inside.work, inside.actor, name="of the outer one")
    async with database.transaction(a, read_only=True) as work:
        assert await work.value("SELECT name FROM resources WHERE id = $1", made) == "of the outer one"


async def test_a_thousand_interleaved_tasks_in_fifty_tenants_are_never_mixed(
    copy: Copy, reached: Settings, owner: Database
) -> None:
    slugs = [f"many-{number}" for number in range(TENANTS)]
    for number, slug in enumerate(slugs):
        strategy = sorted(copy.strategies)[number % len(copy.strategies)]
        await provisioning.create(owner, copy.strategies, slug=slug, name=slug, strategy=strategy)

    async def write(worker: Worker, number: int) -> None:
        slug = slugs[number % TENANTS]
        with isola.run_with_tenant(slug):
            await asyncio.sleep(0)
            async with worker.transaction() as inside:
                await asyncio.sleep(0)
                await resources.create(inside.work, inside.actor, name=f"{slug} {number}")

    found: Counter[str] = Counter()
    async with Worker.open("busy", reached) as worker:
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(write(worker, number))
        for slug in slugs:
            with isola.run_with_tenant(slug):
                async with worker.transaction(read_only=True) as inside:
                    names = await inside.work.texts("SELECT name FROM resources")
            assert {name.partition(" ")[0] for name in names} == {slug}
            found.update(names)
    assert len(found) == found.total() == TASKS


@pytest.mark.parametrize("name", ["", "Nightly", "9", "a b", "a\n", "a" * 64])
async def test_a_bad_name_is_refused_before_anything_is_opened(name: str, settings: Settings) -> None:
    with pytest.raises(OperatorError, match="the name of a worker"):
        async with Worker.open(name, settings):
            pytest.fail("it was opened")
