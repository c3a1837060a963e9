"""Limits of single tenants: instead of their plan's, for a reason, and until a moment if one is given.

The database uses them where it uses the plan's, up to their very end: see migrations/control/0001_quotas.sql.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Table, Text, Uuid, delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, NotFound
from isola.platform import plans, platform_log
from isola.platform.platform_log import Action, Author
from isola.platform.shares import share_notices
from isola.platform.tenants import Status, Tenant, metadata, tenants
from isola.subjects import names
from isola.subjects.metadata import indexed_text, moment

MAX_REASON = 500

quota_overrides = Table(
    "quota_overrides",
    metadata,
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), primary_key=True),
    indexed_text("quota", 100, primary_key=True),
    # NULL for no limit.
    Column("at_most", BigInteger),
    Column("reason", Text, nullable=False),
    moment("created_at"),
    moment("ends_at", nullable=True, default=None),
    CheckConstraint("at_most >= 0", name="at_most"),
    CheckConstraint(f"length(reason) BETWEEN 1 AND {MAX_REASON}", name="reason_length"),
)


@dataclass(frozen=True, slots=True)
class Override:
    """A limit of a tenant. ``at_most`` is None for no limit, ``ends_at`` for no end; ``ended`` if that has passed."""

    quota: str
    at_most: int | None
    reason: str
    created_at: datetime
    ends_at: datetime | None
    ended: bool


_KEY = (quota_overrides.c.tenant_id, quota_overrides.c.quota)
_COLUMNS = (
    quota_overrides.c.quota,
    quota_overrides.c.at_most,
    quota_overrides.c.reason,
    quota_overrides.c.created_at,
    quota_overrides.c.ends_at,
    func.coalesce(quota_overrides.c.ends_at <= func.clock_timestamp(), False).label("ended"),
)


async def every(control: Database, tenant: Tenant) -> Sequence[Override]:
    """A tenant's overrides by quota, including those that have ended and were not removed."""
    question = select(*_COLUMNS).where(quota_overrides.c.tenant_id == tenant.id).order_by(quota_overrides.c.quota)
    async with control.unbound() as transaction:
        return [Override(**row) for row in await transaction.rows(question)]


async def put(
    control: Database,
    by: Author,
    tenant: Tenant,
    quota: str,
    at_most: int | None,
    *,
    reason: str,
    ends_at: datetime | None = None,
) -> Override:
    """Give a tenant a limit of its own, instead of the plan's or of its earlier override. None for no limit.

    Raises BadUserInput naming the invalid input, and NotFound for a tenant that was deleted.
    """
    plans.check_quotas({quota: at_most})
    reason = names.checked("reason", reason, MAX_REASON)
    values = {"at_most": at_most, "reason": reason, "ends_at": ends_at}
    new = upsert(quota_overrides).values(tenant_id=tenant.id, quota=quota, **values)
    replaced = new.on_conflict_do_update(index_elements=_KEY, set_={**values, "created_at": func.now()})
    async with control.unbound() as transaction:
        await _lock(transaction, tenant)
        if ends_at is not None and ends_at <= await transaction.scalar(select(func.clock_timestamp())):
            raise BadUserInput("until: expected a moment in the future", "until")
        before = await _found(transaction, tenant, quota)
        await transaction.execute(replaced)
        made = await _found(transaction, tenant, quota)
        if made is None:
            raise RuntimeError("the override was not stored")
        await _note(transaction, by, tenant, Action.TENANT_OVERRIDE, quota, before, made)
    await plans.recount(control, tenant)
    return made


async def remove(control: Database, by: Author, tenant: Tenant, quota: str) -> None:
    """End an override: the limit of the plan applies. Raises NotFound."""
    async with control.unbound() as transaction:
        await _lock(transaction, tenant)
        before = await _found(transaction, tenant, quota)
        if before is None:
            raise NotFound("the tenant has no such override", value=quota)
        await transaction.execute(delete(quota_overrides).where(*_own(tenant, quota)))
        await _note(transaction, by, tenant, Action.TENANT_END_OVERRIDE, quota, before, None)
    await plans.recount(control, tenant)


async def _lock(transaction: Transaction, tenant: Tenant) -> None:
    """Serialise changes to the overrides of a tenant, and its deletion."""
    own = select(tenants.c.id).where(tenants.c.id == tenant.id, tenants.c.status != Status.DELETED)
    if await transaction.scalar(own.with_for_update()) is None:
        raise NotFound("there is no such tenant", value=tenant.slug)


def _own(tenant: Tenant, quota: str) -> Sequence[Any]:
    return quota_overrides.c.tenant_id == tenant.id, quota_overrides.c.quota == quota


async def _found(transaction: Transaction, tenant: Tenant, quota: str) -> Override | None:
    rows = await transaction.rows(select(*_COLUMNS).where(*_own(tenant, quota)))
    return Override(**rows[0]) if rows else None


async def _note(
    transaction: Transaction,
    by: Author,
    tenant: Tenant,
    action: Action,
    quota: str,
    old: Override | None,
    new: Override | None,
) -> None:
    """Log a change in the platform, and on its way to the tenant's log, which may not be writable now."""
    before, after = _logged(old), _logged(new)
    about = platform_log.about(tenant.slug)
    named = {"quota": quota}
    was, is_ = before and {**named, **before}, after and {**named, **after}
    await platform_log.note(transaction, by.actor, action, about, was, is_, by.request)
    changed = "create" if before is None else "delete" if after is None else "update"
    notice = {"action": f"quota_override:{changed}", "object": f"quota:{quota}", "old": before, "new": after}
    # Inline: the id of the row must not be read.
    await transaction.execute(insert(share_notices).inline().values(tenant_id=tenant.id, **notice))


def _logged(override: Override | None) -> Mapping[str, Any] | None:
    if override is None:
        return None
    until = None if override.ends_at is None else override.ends_at.isoformat()
    return {"limit": override.at_most, "reason": override.reason, "until": until}
