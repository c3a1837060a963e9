"""The platform's log permanently records every action on the platform, with its actor."""

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.errors import Forbidden, Unavailable
from isola.platform import audit, grants, hierarchy, plans, platform_log, provisioning, sealing
from isola.platform.platform_log import Action, Author, announce, intervene, operator
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, tried

SAM, TIM = Author("staff:sam", "request-1"), Author("staff:tim", "request-2")
ENTRIES = "SELECT to_jsonb(e)::text FROM control.audit_entries e ORDER BY id"


async def entries(control: Database) -> list[str]:
    async with control.unbound() as transaction:
        return await transaction.texts(ENTRIES)


def test_actions_are_sorted() -> None:
    names = [action.value for action in Action]
    assert names == sorted(names)


async def test_each_action_has_an_entry(copy: Copy, control: Database, owner: Database, a: Tenant, b: Tenant) -> None:
    began = len(await entries(control))
    await provisioning.suspend(control, a.slug, SAM)
    await provisioning.resume(control, a.slug, SAM)
    await hierarchy.place(control, b.slug, under=a.slug, by=SAM)
    await hierarchy.place(control, b.slug, under=None, by=SAM)
    leave = await grants.grant(control, a, SAM, reason="ticket 4711: totals", lasting=timedelta(minutes=5))
    await grants.end(control, SAM, leave.id)
    await grants.end(control, SAM, leave.id)
    new = await provisioning.create(owner, copy.strategies, slug="new", name="New", strategy=a.strategy)
    await provisioning.drop(owner, copy.strategies, "new", notice=0)

    found = list(reversed(await platform_log.page(control, first=len(await entries(control)) - began)))
    assert [(entry.actor, entry.action, entry.object, entry.old, entry.new) for entry in found] == [
        (SAM.actor, "tenant:suspend", f"tenant:{a.slug}", {"status": "active"}, {"status": "suspended"}),
        (SAM.actor, "tenant:resume", f"tenant:{a.slug}", {"status": "suspended"}, {"status": "active"}),
        (SAM.actor, "tenant:set_parent", f"tenant:{b.slug}", {"parent": None}, {"parent": a.slug}),
        (SAM.actor, "tenant:set_parent", f"tenant:{b.slug}", {"parent": a.slug}, {"parent": None}),
        (
            SAM.actor,
            "access:grant",
            f"tenant:{a.slug}",
            None,
            {"grant": str(leave.id), "reason": leave.reason, "expires_at": leave.expires_at.isoformat()},
        ),
        (SAM.actor, "access:end", f"tenant:{a.slug}", {"grant": str(leave.id)}, None),
        (
            operator().actor,
            "tenant:create",
            "tenant:new",
            None,
            {"id": str(new.id), "name": "New", "strategy": a.strategy, "parent": None, "plan": plans.UNLIMITED},
        ),
        (
            operator().actor,
            "tenant:drop",
            "tenant:new",
            {"id": str(new.id), "name": "New", "status": "active"},
            None,
        ),
    ]
    assert {entry.request for entry in found} == {SAM.request, None}


async def test_rolled_back_actions_have_no_entry_and_unlogged_actions_are_refused(
    control: Database, owner: Database, a: Tenant
) -> None:
    before = await entries(control)
    with pytest.raises(Unavailable):
        async with control.unbound() as transaction:
            await platform_log.note(transaction, SAM.actor, Action.TENANT_SUSPEND, "tenant:nobody")
            raise Unavailable("the end")
    assert await entries(control) == before
    async with owner.unbound() as transaction:
        await transaction.script("REVOKE INSERT ON control.audit_entries FROM isola_audit")
    with pytest.raises(Exception, match="permission denied"):
        await provisioning.suspend(control, a.slug, SAM)
    assert await provisioning.named(control, a.slug) == a
    assert await entries(control) == before


async def test_the_log_is_read_by_its_conditions_and_page_by_page(control: Database, a: Tenant, b: Tenant) -> None:
    async with control.unbound() as transaction:
        noon = await transaction.value("SELECT now()")
    for tenant, by in ((a, SAM), (b, SAM), (a, TIM)):
        await provisioning.suspend(control, tenant.slug, by)
        await provisioning.resume(control, tenant.slug, by)

    async def found(**conditions: object) -> list[tuple[str, str, str]]:
        page = await platform_log.page(control, since=noon, **conditions)  # type: ignore[arg-type]  # by name
        return [(entry.actor, entry.action.removeprefix("tenant:"), entry.object) for entry in page]

    about_a, about_b = f"tenant:{a.slug}", f"tenant:{b.slug}"
    every = [
        (TIM.actor, "resume", about_a),
        (TIM.actor, "suspend", about_a),
        (SAM.actor, "resume", about_b),
        (SAM.actor, "suspend", about_b),
        (SAM.actor, "resume", about_a),
        (SAM.actor, "suspend", about_a),
    ]
    assert await found() == every
    assert await found(actor=TIM.actor) == every[:2]
    assert await found(action="tenant:resume", object=about_a) == [every[0], every[4]]
    assert await found(until=noon) == []
    assert await found(actor="nobody") == []
    page = await platform_log.page(control, since=noon, first=4)
    rest = await platform_log.page(control, since=noon, first=4, after=page[-1].id)
    assert [(entry.actor, entry.action.removeprefix("tenant:"), entry.object) for entry in [*page, *rest]] == every


ATTEMPTS = (
    "UPDATE control.audit_entries SET actor = 'nobody'",
    "DELETE FROM control.audit_entries",
    "TRUNCATE control.audit_entries",
    "INSERT INTO control.audit_entries (action, object, hash) VALUES ('x', 'x', '')",
    "INSERT INTO control.audit_pending (tenant_id, home, ids, hashes) VALUES (NULL, '', '{}', '{}')",
    "DELETE FROM control.audit_pending",
    "SELECT nextval('control.audit_places')",
    "UPDATE control.audit_seals SET first = 1",
    "UPDATE control.audit_heads SET entries = 0",
    "DELETE FROM control.audit_heads",
    "ALTER TABLE control.audit_entries DISABLE TRIGGER ALL",
    "ALTER TABLE control.audit_pending DISABLE TRIGGER place",
    "DROP TABLE control.audit_entries",
    "SET LOCAL ROLE isola_audit",
    "SET LOCAL ROLE isola_quotas",
    "SET LOCAL session_replication_role TO replica",
)


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_logins_of_servers_cannot_change_or_truncate_the_log(
    control: Database, database: Database, a: Tenant, attempt: str
) -> None:
    before = await entries(control)
    async with control.unbound() as transaction:
        assert await tried(transaction, attempt) == INSUFFICIENT_PRIVILEGE
    async with database.transaction(a) as work:
        assert await tried(work, attempt) == INSUFFICIENT_PRIVILEGE
    assert await entries(control) == before


@pytest.mark.parametrize(
    "attempt",
    [
        "SELECT isola.audit_platform('staff:sam', NULL, 'tenant:suspend', 'tenant:a', NULL, NULL)",
        "SELECT * FROM control.audit_entries",
        "INSERT INTO control.interventions (tenant_id, actor, action, object) SELECT id, 'x', 'x', 'x' FROM t",
        "SELECT * FROM control.interventions",
        "SELECT * FROM control.plans",
        "UPDATE control.plans SET quotas = '{}'",
        "UPDATE control.tenants SET plan = 'unlimited'",
        "DELETE FROM control.quota_bounds",
        "UPDATE control.quota_bounds SET at_most = 0",
        "SELECT isola.quota_used(gen_random_uuid(), 'control', 'domains', NULL)",
    ],
)
async def test_tenant_transactions_cannot_access_data_of_the_platform(
    control: Database, database: Database, a: Tenant, attempt: str
) -> None:
    before = await entries(control)
    async with database.transaction(a) as work:
        assert await tried(work, attempt) == INSUFFICIENT_PRIVILEGE
    assert await entries(control) == before


async def test_an_announced_action_of_staff_is_logged_once_in_the_tenant(
    control: Database, database: Database, owner: Database, a: Tenant, b: Tenant
) -> None:
    announced = await announce(control, SAM, Action.API_KEY_REVOKE, a, {"prefix": "p"})
    before = await entries(control)
    # It is not valid in another tenant.
    with pytest.raises(Forbidden):
        async with database.transaction(b) as work:
            await intervene(work, announced)
    # After a rollback it is not logged, and can still be done.
    with pytest.raises(Unavailable):
        async with database.transaction(a) as work:
            await intervene(work, announced)
            raise Unavailable("the end")
    assert await entries(control) == before
    async with database.transaction(a) as work:
        await intervene(work, announced)
    with pytest.raises(Forbidden):
        async with database.transaction(a) as work:
            await intervene(work, announced)
    [entry] = await platform_log.page(control, action=Action.API_KEY_REVOKE)
    assert (entry.actor, entry.request, entry.object) == (SAM.actor, SAM.request, f"tenant:{a.slug}")
    assert len(await entries(control)) == len(before) + 1

    late = await announce(control, SAM, Action.API_KEY_REVOKE, a)
    async with owner.unbound() as transaction:
        await transaction.script("UPDATE control.interventions SET announced_at = now() - interval '2 minutes'")
    with pytest.raises(Forbidden):
        async with database.transaction(a) as work:
            await intervene(work, late)


async def test_concurrent_writers_produce_one_chain(copy: Copy, control: Database) -> None:
    async with await Database.open(copy.where.control, size=4, wait=30) as many:
        before = (await audit.verify_platform(many)).entries
        await asyncio.gather(
            *(plans.create(many, SAM, name=f"plan-{number}", title="Plan", quotas={}) for number in range(12)),
            *(sealing.seal(many) for _ in range(12)),
        )
        verdict = await audit.verify_platform(many)
    assert (verdict.entries, verdict.broken) == (before + 12, None)
    assert len(await entries(control)) == verdict.entries


SECOND = (
    "(SELECT ids[2] FROM control.audit_seals WHERE tenant_id = '00000000-0000-0000-0000-000000000000' AND first = 1)"
)
LAST = "(SELECT id FROM control.audit_entries ORDER BY id DESC LIMIT 1)"


@pytest.mark.parametrize(
    "change",
    [
        f"UPDATE control.audit_entries SET actor = 'nobody' WHERE id = {SECOND}",
        f"UPDATE control.audit_entries SET new = '{{}}' WHERE id = {SECOND}",
        f"DELETE FROM control.audit_entries WHERE id = {SECOND}",
        f"DELETE FROM control.audit_entries WHERE id = {LAST}",
        f"UPDATE control.audit_entries SET actor = 'nobody' WHERE id = {LAST}",
        f"DELETE FROM control.audit_pending WHERE ids[1] = {LAST}",
    ],
)
async def test_changes_of_the_log_by_the_owner_are_detected(
    control: Database, owner: Database, a: Tenant, change: str
) -> None:
    while await sealing.seal(control):
        pass
    await provisioning.suspend(control, a.slug, SAM)
    verdict = await audit.verify_platform(control)
    assert (verdict.unsealed, verdict.broken) == (1, None)
    async with owner.unbound() as transaction:
        await transaction.script(change)
    assert (await audit.verify_platform(control)).broken is not None


async def test_the_chain_of_the_platform_is_none_of_a_tenants(owner: Database) -> None:
    async with owner.unbound() as transaction:
        rows = await transaction.rows(
            select(audit.audit_heads).where(audit.audit_heads.c.tenant_id == platform_log.NOWHERE)
        )
        assert len(rows) == 1
        assert await transaction.texts("SELECT id::text FROM control.tenants WHERE id = $1", platform_log.NOWHERE) == []
