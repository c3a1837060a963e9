"""Creates, changes and deletes tenants. Needs the owner's connections: homes consist of schemas and roles."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, exists, func, insert, or_, select, update

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Conflict, NotFound, OperatorError, Unavailable
from isola.installed import metadata
from isola.platform import commits, federation, leases, overrides, plans, platform_log, received, usage
from isola.platform.api_keys import api_keys
from isola.platform.audit import audit_checkpoints, audit_heads, audit_pending, audit_seals
from isola.platform.domains import domains
from isola.platform.grants import access_grants
from isola.platform.idempotency import first_answers
from isola.platform.incidents import incident_tenants
from isola.platform.invitations import invitations
from isola.platform.memberships import memberships
from isola.platform.migrations import create_home, lock_in_turn, refuse_behind, refuse_strangers
from isola.platform.partnerships import (
    partner_domains,
    partners,
    partnership_declines,
    partnership_offers,
    tenant_blocks,
)
from isola.platform.platform_log import Action, Author, interventions, operator
from isola.platform.request_records import hourly_members, hourly_metrics, request_records
from isola.platform.revocations import sign_outs
from isola.platform.sessions import sessions
from isola.platform.shares import disabled_users, received_shares, share_comments, share_notices, share_rules, shares
from isola.platform.sign_in_log import logged_reads, reads, refusals
from isola.platform.storage import storage
from isola.platform.tenants import COLUMNS, ENTRY, SLUG, SLUG_FORM, Status, Tenant, entry, tenants
from isola.platform.tickets import tickets
from isola.platform.webhooks import connector_events, dead_letters, webhooks
from isola.subjects import names
from isola_strategies.base import Strategy

MAX_NAME = 200
SLUG_GRACE = timedelta(days=90)
"""How long the slug of a deleted tenant stays reserved."""
PATIENCE = 10.0
"""Seconds that transactions which are about to commit may take to end before a deleted tenant is erased."""

# The partners' logs have the end of their partnerships with an erased tenant. isola.note_sign_ins() copies the entries.
_PARTNERS_LOGS = """
INSERT INTO control.share_notices (tenant_id, action, object, old)
SELECT p.tenant_id, 'partnership:delete', concat('prt_', p.id), to_jsonb(p.*) - '{tenant_id,partner_id}'::text[]
FROM control.partners p WHERE p.partner_id = $1 ORDER BY p.tenant_id
"""


async def create(
    owner: Database,
    strategies: Mapping[str, Strategy],
    *,
    slug: str,
    name: str,
    strategy: str,
    parent: str | None = None,
    plan: str = plans.UNLIMITED,
    key: UUID | None = None,
    reuse_slug: bool = False,
    by: Author | None = None,
) -> Tenant:
    """Create a tenant and its home in one transaction: after a crash at any point, all of it exists or nothing.

    ``key`` is its id; by default a new one. The slug of a deleted tenant is free again after ``SLUG_GRACE``, or at once
    with ``reuse_slug``: links, settings and people may still use it for the former tenant. ``by`` is for the platform's
    log, here and below: by default the operator who runs this process.

    Raises BadUserInput for an invalid slug, name or strategy, and for a parent that is too deep in the hierarchy;
    NotFound for an unknown parent or plan, Conflict when the slug is taken or the plan is retired, OperatorError when
    the database has not been migrated.
    """
    refuse_impossible(strategies, slug=slug, name=name, strategy=strategy)
    name = names.checked("name", name, MAX_NAME)
    chosen = strategies[strategy]
    async with owner.unbound() as transaction:
        await refuse_behind(transaction)
        tenant: UUID = key or await transaction.value("SELECT isola.uuid_v7()")
        home = chosen.home(tenant)
        await plans.offered(transaction, plan)
        reused = await _reused(transaction, slug, insists=reuse_slug)
        new = insert(tenants).values(
            id=tenant,
            slug=slug,
            slug_reused=reused,
            name=name,
            strategy=strategy,
            home=home.schema,
            role=home.role or "none",
            parent_id=None if parent is None else await _parent(transaction, parent),
            plan=plan,
        )
        rows = await transaction.rows(new.returning(*COLUMNS))
        # Needed from the beginning: a log without a head counts as tampered with.
        await transaction.execute(insert(audit_heads).values(tenant_id=tenant))
        await create_home(transaction, chosen, home)
        made = {"id": str(tenant), "name": name, "strategy": strategy, "parent": parent, "plan": plan}
        await _note(transaction, by, Action.TENANT_CREATE, slug, None, made)
    return entry(rows[0])


async def _parent(transaction: Transaction, slug: str) -> UUID:
    tenant = await _named(transaction, slug)
    _refuse_remote(tenant, slug)
    return tenant.id


async def _reused(transaction: Transaction, slug: str, *, insists: bool) -> bool:
    """Whether a deleted tenant had the slug. Raises Conflict while it is still reserved."""
    former = select(func.max(func.coalesce(tenants.c.deleted_at, tenants.c.created_at))).where(
        tenants.c.slug == slug, tenants.c.status == Status.DELETED
    )
    deleted_at: datetime | None = await transaction.scalar(former)
    if deleted_at is None:
        return False
    free_at = deleted_at + SLUG_GRACE
    if free_at > datetime.now(UTC) and not insists:
        until, since = f"{deleted_at:%Y-%m-%d}", f"{free_at:%Y-%m-%d}"
        raise Conflict(f"tenants: the slug was another tenant's until {until}; free from {since}", "slug")
    return True


def refuse_impossible(strategies: Collection[str], *, slug: str, name: str, strategy: str) -> None:
    """Raise BadUserInput for an invalid slug, name or strategy."""
    if not SLUG.fullmatch(slug):
        raise BadUserInput(f"slug: {SLUG_FORM}", "slug", value=slug)
    names.checked("name", name, MAX_NAME)
    refuse_unknown(strategies, strategy)


def refuse_unknown(strategies: Collection[str], strategy: str) -> None:
    """Raise BadUserInput for a strategy that is not installed."""
    if strategy not in strategies:
        raise BadUserInput(f"strategy: expected one of {', '.join(sorted(strategies))}", "strategy", value=strategy)


async def every(control: Database) -> Sequence[Tenant]:
    """All tenants that are not deleted, oldest first."""
    async with control.unbound() as transaction:
        rows = await transaction.rows(ENTRY.where(tenants.c.status != Status.DELETED).order_by(tenants.c.id))
    return [entry(row) for row in rows]


async def page(control: Database, *, status: Status | None, after: UUID | None, first: int) -> Sequence[Tenant]:
    """At most ``first`` tenants created after the one with the id ``after``, oldest first.

    With a status, only tenants whose own status it is, whatever their ancestors'; else all that are not deleted.
    """
    condition = tenants.c.status == status if status else tenants.c.status != Status.DELETED
    question = ENTRY.where(condition).order_by(tenants.c.id).limit(first)
    if after is not None:
        question = question.where(tenants.c.id > after)
    async with control.unbound() as transaction:
        return [entry(row) for row in await transaction.rows(question)]


async def named(control: Database, slug: str, *, remote: bool = False) -> Tenant:
    """The tenant with this slug. Raises NotFound, and, unless ``remote``, Conflict for one that is remote."""
    async with control.unbound() as transaction:
        tenant = await _named(transaction, slug)
    if not remote:
        _refuse_remote(tenant, slug)
    return tenant


def _refuse_remote(tenant: Tenant, slug: str) -> None:
    if tenant.remote:
        raise Conflict("it stands for a partner on another installation: see docs/federation.md", "slug", value=slug)


async def suspend(control: Database, slug: str, by: Author | None = None) -> Tenant:
    """Refuse all requests of a tenant; its data stays. Raises NotFound, and Conflict if it is already suspended."""
    return await _turn(control, slug, Status.ACTIVE, Status.SUSPENDED, Action.TENANT_SUSPEND, by)


async def resume(control: Database, slug: str, by: Author | None = None) -> Tenant:
    """Undo ``suspend``. Raises NotFound, and Conflict if the tenant is not suspended."""
    return await _turn(control, slug, Status.SUSPENDED, Status.ACTIVE, Action.TENANT_RESUME, by)


async def drop(
    owner: Database, strategies: Mapping[str, Strategy], slug: str, *, notice: float, by: Author | None = None
) -> Tenant:
    """Delete a tenant, then erase its data, its home, and what the platform stores about it.

    It is first marked as deleted: transactions that begin to commit later are rejected. ``notice`` seconds later, when
    every server has noticed, all of it is erased in one transaction. If that is interrupted, a second call continues.
    Raises NotFound, Conflict while other tenants are below it, and Unavailable if a transaction that began to commit
    before it was marked takes too long.
    """
    async with owner.unbound() as transaction:
        await refuse_behind(transaction)
        await refuse_strangers(transaction)
        tenant = await _named(transaction, slug, to_erase=True)
        if tenant.strategy not in strategies:
            raise OperatorError(f"tenant {slug} is placed under {tenant.strategy}, which is not installed")
        if await transaction.scalar(select(exists().where(tenants.c.parent_id == tenant.id))):
            raise Conflict("there are tenants below it: move or delete them first")
        if tenant.status is not Status.DELETED:
            was = {"id": str(tenant.id), "name": tenant.name, "status": tenant.status}
            await _note(transaction, by, Action.TENANT_DROP, slug, was, None)
        # A running move has ended by now, and none can begin: the entry has the tenant's final home.
        deleted = (
            update(tenants)
            .where(tenants.c.id == tenant.id)
            .values(
                status=Status.DELETED,
                deleted_at=func.coalesce(tenants.c.deleted_at, func.now()),
                moving_to=None,
            )
        )
        tenant = entry((await transaction.rows(deleted.returning(*COLUMNS)))[0])
        remote = [row["slug"] for row in await transaction.rows(federation.of_owner(tenant.id))]
    for each in remote:
        await drop(owner, strategies, each, notice=0, by=by)
    await asyncio.sleep(notice)
    if not await commits.settled(owner, PATIENCE):
        raise Unavailable("a commit in progress takes too long")
    strategy = strategies[tenant.strategy]
    async with owner.unbound() as transaction:
        await lock_in_turn(transaction, strategy.home(tenant.id))
        # Until it commits, nothing else is counted for the tenant; later, it is not active.
        await transaction.value("SELECT pg_advisory_xact_lock(isola.usage_lock($1))", tenant.id)
        await transaction.value(_PARTNERS_LOGS, tenant.id)
        for table, other in (
            (share_comments, share_comments.c.grantee_id),
            (shares, shares.c.grantee_id),
            (received_shares, received_shares.c.grantee_id),
            (share_rules, share_rules.c.grantee_id),
            (partners, partners.c.partner_id),
            (partnership_declines, partnership_declines.c.offerer_id),
        ):
            own = table.c.owner_id if "owner_id" in table.c else table.c.tenant_id
            await transaction.execute(delete(table).where(or_(own == tenant.id, other == tenant.id)))
        await received.erase(transaction, tenant.id)
        # For tenants that offered it a partnership or blocked it nothing changes: they never learnt whether it existed.
        for column in (partnership_offers.c.partner_id, tenant_blocks.c.blocked_id):
            nobody = {column.name: func.gen_random_uuid()}
            await transaction.execute(update(column.table).where(column == tenant.id).values(nobody))
        for table in (
            access_grants,
            api_keys,
            audit_checkpoints,
            audit_heads,
            audit_pending,
            audit_seals,
            disabled_users,
            domains,
            first_answers,
            hourly_members,
            hourly_metrics,
            interventions,
            invitations,
            memberships,
            partner_domains,
            partnership_offers,
            overrides.feature_overrides,
            overrides.meter_overrides,
            overrides.quota_overrides,
            overrides.rate_overrides,
            overrides.retention_overrides,
            leases.rate_levels,
            plans.quota_bounds,
            plans.quota_turns,
            usage.usage,
            usage.usage_events,
            usage.usage_keys,
            usage.usage_values,
            reads,
            logged_reads,
            refusals,
            incident_tenants,
            federation.remote_owners,
            federation.remote_partners,
            federation.remote_tokens,
            request_records,
            sessions,
            share_notices,
            storage,
            sign_outs,
            tenant_blocks,
            tickets,
            connector_events,
            dead_letters,
            webhooks,
        ):
            await transaction.execute(delete(table).where(table.c.tenant_id == tenant.id))
        await transaction.script("; ".join(strategy.erase(tenant.id, metadata.sorted_tables)))
        await transaction.execute(update(tenants).where(tenants.c.id == tenant.id).values(home=None))
    return tenant


async def _named(transaction: Transaction, slug: str, *, to_erase: bool = False) -> Tenant:
    condition = tenants.c.home.is_not(None) if to_erase else tenants.c.status != Status.DELETED
    # The slug may have been reused while its former tenant still waits to be erased: take the former one first.
    question = ENTRY.where(tenants.c.slug == slug, condition).order_by(tenants.c.id).limit(1)
    # The database may reject a text that is not a valid slug.
    rows = await transaction.rows(question) if SLUG.fullmatch(slug) else []
    if not rows:
        raise NotFound("there is no such tenant", value=slug)
    return entry(rows[0])


async def _turn(
    control: Database, slug: str, before: Status, after: Status, action: Action, by: Author | None
) -> Tenant:
    async with control.unbound() as transaction:
        tenant = await _named(transaction, slug)
        change = update(tenants).where(tenants.c.id == tenant.id, tenants.c.status == before).values(status=after)
        if not await transaction.execute(change):
            raise Conflict(f"the tenant is {tenant.status}, not {before}", "slug", value=slug)
        await _note(transaction, by, action, slug, {"status": before}, {"status": after})
    return replace(tenant, status=after)


async def _note(
    transaction: Transaction,
    by: Author | None,
    action: Action,
    slug: str,
    old: Mapping[str, object] | None,
    new: Mapping[str, object] | None,
) -> None:
    by = by or operator()
    await platform_log.note(transaction, by.actor, action, platform_log.about(slug), old, new, by.request)
