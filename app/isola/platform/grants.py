"""Temporary read access of platform staff to a tenant: with a reason, time-limited, recorded in the tenant's log."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    func,
    insert,
    select,
    update,
)

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Forbidden, NotFound
from isola.platform import platform_log
from isola.platform.platform_log import Action, Author
from isola.platform.tenants import Tenant, metadata, tenants
from isola.subjects.metadata import identifier, moment

SHORTEST_REASON, LONGEST_REASON = 10, 500
LONGEST = timedelta(hours=8)

access_grants = Table(
    "access_grants",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    # The subject of the staff member.
    Column("staff", Text, nullable=False),
    Column("reason", Text, nullable=False),
    moment("granted_at"),
    moment("expires_at", default=None),
    moment("ended_at", nullable=True, default=None),
    CheckConstraint(f"length(reason) BETWEEN {SHORTEST_REASON} AND {LONGEST_REASON}", name="reason_length"),
    CheckConstraint("expires_at <= granted_at + interval '8 hours'", name="at_most_8_hours"),
    Index(None, "tenant_id", "id"),
)


@dataclass(frozen=True, slots=True)
class AccessGrant:
    id: UUID
    staff: str
    reason: str
    granted_at: datetime
    expires_at: datetime
    ended_at: datetime | None


_COLUMNS = tuple(access_grants.c[field.name] for field in fields(AccessGrant))
_LIVE = access_grants.c.ended_at.is_(None) & (access_grants.c.expires_at > func.clock_timestamp())


async def grant(control: Database, tenant: Tenant, by: Author, *, reason: str, lasting: timedelta) -> AccessGrant:
    """Grant a staff member read access to a tenant from now on. Raises BadUserInput."""
    reason = reason.strip()
    if not SHORTEST_REASON <= len(reason) <= LONGEST_REASON or not reason.isprintable():
        raise BadUserInput(f"reason: expected {SHORTEST_REASON} to {LONGEST_REASON} printable characters", "reason")
    if not timedelta() < lasting <= LONGEST:
        raise BadUserInput(f"minutes: expected 1 to {LONGEST // timedelta(minutes=1)}", "minutes")
    until = func.now() + lasting
    new = insert(access_grants).values(tenant_id=tenant.id, staff=by.actor, reason=reason, expires_at=until)
    async with control.unbound() as transaction:
        [row] = await transaction.rows(new.returning(*_COLUMNS))
        access = AccessGrant(**row)
        values = {"grant": str(access.id), "reason": reason, "expires_at": access.expires_at.isoformat()}
        about = platform_log.about(tenant.slug)
        await platform_log.note(transaction, by.actor, Action.ACCESS_GRANT, about, None, values, by.request)
    return access


async def end(control: Database, by: Author, grant_id: UUID) -> AccessGrant:
    """End one's own access. The first end time stays on repeated calls. Raises NotFound."""
    own = (access_grants.c.id == grant_id) & (access_grants.c.staff == by.actor)
    over = update(access_grants).where(own, access_grants.c.ended_at.is_(None)).values(ended_at=func.now())
    into = select(tenants.c.slug).where(tenants.c.id == access_grants.c.tenant_id).correlate(access_grants)
    async with control.unbound() as transaction:
        ended = await transaction.scalar(over.returning(into.scalar_subquery()))
        rows = await transaction.rows(select(*_COLUMNS).where(own))
        if not rows:
            raise NotFound("there is no such grant")
        if ended is not None:
            values, about = {"grant": str(grant_id)}, platform_log.about(ended)
            await platform_log.note(transaction, by.actor, Action.ACCESS_END, about, values, None, by.request)
    return AccessGrant(**rows[0])


async def live(control: Database, tenant: Tenant, staff: str | None = None) -> Sequence[AccessGrant]:
    """Active read access to a tenant, of all staff or of one person, the newest first."""
    query = select(*_COLUMNS).where(access_grants.c.tenant_id == tenant.id, _LIVE)
    if staff is not None:
        query = query.where(access_grants.c.staff == staff)
    async with control.unbound() as transaction:
        rows = await transaction.rows(query.order_by(access_grants.c.id.desc()))
    return [AccessGrant(**row) for row in rows]


async def note(work: Transaction, grant_id: UUID) -> None:
    """Record staff access in the tenant's log, atomically with the transaction.

    Raises Forbidden unless the access is active now.
    """
    if not await work.scalar(select(func.isola.note_access(grant_id))):
        raise Forbidden("there is no read access to this tenant")
