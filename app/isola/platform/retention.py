"""Deletes what the plans of tenants do not keep any more: rows of subjects, and the beginning of logs.

The database decides what that is, in the transaction that deletes it: see migrations/control/0001_retention.sql. Every
server does so, one batch of one tenant after another: no transaction is long, and a tenant with much to delete keeps
others waiting for a single batch. Servers skip the rows that another one has locked.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog
from sqlalchemy import Column, Table, func, or_, select, text
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform import overrides
from isola.platform.background import repeating
from isola.platform.plans import plans
from isola.platform.tenants import ENTRY, Status, Tenant, entry, metadata, tenants
from isola.subjects import retention
from isola.subjects.metadata import indexed_text

log = structlog.get_logger()

INTERVAL = 600.0
"""Seconds between two passes."""
AT_ONCE = 500
"""Rows, or entries of a log, that a transaction deletes at most, plus the rest of the last seal."""

# The rows that a transaction deletes, by subject: see isola.audit_expiring. Only triggers and functions write it.
MAX_TRANSACTION = 20
"""The digits of the largest number of 64 bits."""
expiring = Table(
    "expiring",
    metadata,
    indexed_text("transaction", MAX_TRANSACTION, primary_key=True),
    Column("rows", JSONB, nullable=False, server_default=text("'{}'")),
    prefixes=["UNLOGGED"],
)

_EXPIRE = """
SELECT jsonb_build_array(looked, deleted, last, last_id)
FROM isola.expire_rows($1, $2, $3::text::timestamptz, $4::text::uuid)
"""
_CUT = "SELECT jsonb_build_array(removed, broken) FROM isola.cut_log($1)"


@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be deleted in one tenant: rows of a subject after a place, or the beginning of the log."""

    tenant: Tenant
    name: str
    after: tuple[datetime, UUID] | tuple[None, None] = (None, None)


async def concerned(control: Database) -> Sequence[Tenant]:
    """The active tenants whose plans or overrides keep something for a time. Raises Unavailable."""
    of_tenant = overrides.retention_overrides
    overridden = select(of_tenant.c.tenant_id).where(of_tenant.c.days.is_not(None))
    planned = select(plans.c.name).where(plans.c.retention != func.jsonb_build_object())
    question = ENTRY.where(
        tenants.c.status == Status.ACTIVE,
        tenants.c.remote.is_(False),
        or_(tenants.c.plan.in_(planned), tenants.c.id.in_(overridden)),
    )
    async with control.unbound() as work:
        return [entry(row) for row in await work.rows(question.order_by(tenants.c.id))]


async def run(database: Database, of: Sequence[Tenant], at_once: int = AT_ONCE) -> Mapping[str, int]:
    """Delete all that the plans of these tenants do not keep; how much, by name.

    A tenant that is being moved, or for which the database refuses it, is left for the next pass. Raises Unavailable.
    """
    deleted = dict.fromkeys(retention.names(), 0)
    waiting = deque(_Work(tenant, name) for tenant in of for name in retention.names())
    refused: set[UUID] = set()
    while waiting:
        work = waiting.popleft()
        if work.tenant.id in refused:
            continue
        try:
            number, further = await (_cut if work.name == retention.LOG else _expire)(database, work, at_once)
        except Refusal as refusal:
            refused.add(work.tenant.id)
            log.warning("what a plan does not keep was not deleted", tenant=str(work.tenant.id), reason=refusal.code)
            continue
        deleted[work.name] += number
        if further is not None:
            waiting.append(further)
    return deleted


async def _expire(database: Database, work: _Work, at_once: int) -> tuple[int, _Work | None]:
    """Delete a batch of rows; how many, and what is left to do."""
    moment, key = work.after
    async with database.transaction(work.tenant) as transaction:
        looked, deleted, last, last_id = await transaction.value(
            _EXPIRE, work.name, at_once, moment and moment.isoformat(), key and str(key)
        )
    if looked < at_once:
        return deleted, None
    return deleted, replace(work, after=(datetime.fromisoformat(last), UUID(last_id)))


async def _cut(database: Database, work: _Work, at_once: int) -> tuple[int, _Work | None]:
    """Cut a batch of entries off the log; how many, and what is left to do."""
    async with database.transaction(work.tenant) as transaction:
        removed, broken = await transaction.value(_CUT, at_once)
    if broken is not None:
        log.error("a log is broken, and was not cut there", tenant=str(work.tenant.id), entry=broken)
    return removed or 0, work if broken is None and removed and removed >= at_once else None


async def expired(database: Database, tenant: Tenant) -> Mapping[str, int]:
    """How much ``run`` could delete in a tenant at the moment, by name. Raises Unavailable and Conflict."""
    counted = {}
    for name in retention.names():
        async with database.transaction(tenant, read_only=True) as work:
            counted[name] = int(await work.value("SELECT isola.count_expired($1)", name))
    return counted


async def run_every(control: Database, database: Database) -> Mapping[str, int]:
    """Delete what no plan keeps any more, in all active tenants; how much, by name. Raises Unavailable."""
    return await run(database, await concerned(control))


def retaining(control: Database, database: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Deletes what no plan keeps any more every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(run_every, control, database), interval, "what plans do not keep cannot be deleted")
