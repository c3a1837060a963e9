"""The platform's log: actions of staff and operators on tenants and plans, written in the same transaction.

It is insert-only and readable, also for the control plane's login. Its entries form a hash chain, like those of a
tenant's own log: see docs/audit.md.
"""

import os
import pwd
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Column, ForeignKey, Index, Table, Text, Uuid, func, insert, select
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database, Transaction
from isola.errors import Forbidden
from isola.platform.tenants import Tenant, metadata
from isola.subjects.audit import audit_entries
from isola.subjects.metadata import identifier, moment

NOWHERE = UUID(int=0)
"""The id under which the log is chained. No tenant has it."""

entries = audit_entries.to_metadata(metadata, schema="control")

# Announced actions of staff inside a tenant. They run in a transaction of the tenant, and the database does not trust
# such a transaction's claims about staff.
interventions = Table(
    "interventions",
    metadata,
    identifier(),
    Column("tenant_id", Uuid, ForeignKey("control.tenants.id"), nullable=False),
    Column("actor", Text, nullable=False),
    Column("request", Text),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("new", JSONB),
    moment("announced_at"),
    moment("done_at", nullable=True, default=None),
    Index(None, "tenant_id"),
)


class Action(StrEnum):
    """``subject:action``, sorted."""

    ACCESS_END = "access:end"
    ACCESS_GRANT = "access:grant"
    API_KEY_REVOKE = "api_key:revoke"
    BINDING_KEY_ROTATE = "binding_key:rotate"
    INCIDENT_CLOSE = "incident:close"
    INCIDENT_NOTE = "incident:note"
    INCIDENT_OPEN = "incident:open"
    PLAN_CHANGE = "plan:change"
    PLAN_CREATE = "plan:create"
    PLAN_DELETE = "plan:delete"
    PLAN_RETIRE = "plan:retire"
    PROOFS_BELIEVE = "proofs:believe"
    PROOFS_DEMAND = "proofs:demand"
    TENANT_ADOPT = "tenant:adopt"
    TENANT_CREATE = "tenant:create"
    TENANT_DROP = "tenant:drop"
    TENANT_END_OVERRIDE = "tenant:end_override"
    TENANT_MOVE = "tenant:move"
    TENANT_OVERRIDE = "tenant:override"
    TENANT_RESUME = "tenant:resume"
    TENANT_SET_PARENT = "tenant:set_parent"
    TENANT_SET_PLAN = "tenant:set_plan"
    TENANT_SUSPEND = "tenant:suspend"


@dataclass(frozen=True, slots=True)
class Author:
    """The author of a platform change, and its request. ``actor``: ``staff:<subject>`` or ``operator:<name>``."""

    actor: str
    request: str | None = None

    @property
    def attribution(self) -> Mapping[str, str]:
        """The attribution of a transaction inside a tenant, in the tenant's own log."""
        return {"actor": self.actor} if self.request is None else {"actor": self.actor, "request": self.request}


def operator() -> Author:
    """The user who runs this process, by their name in the operating system."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = str(os.getuid())  # in a container there may be no names
    return Author(f"operator:{name}")


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log. ``old`` and ``new`` contain the changed values."""

    id: UUID
    at: datetime
    actor: str
    request: str | None
    action: str
    object: str
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


async def note(
    transaction: Transaction,
    actor: str,
    action: Action,
    object: str,  # noqa: A002  as the log calls it
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    request: str | None = None,
) -> None:
    """Write an entry to the log, if and when this transaction of the control plane or the owner commits.

    ``object`` is ``tenant:<slug>``, ``plan:<name>``, ``incident:<id>`` or ``platform:<what>``; ``old`` and ``new`` are
    the changed values, as JSON.
    """
    await transaction.value(
        "SELECT isola.audit_platform($1, $2, $3, $4, $5, $6)", actor, request, action.value, object, old, new
    )


def about(slug: str) -> str:
    """The name in the log of the tenant with this slug."""
    return f"tenant:{slug}"


async def announce(
    control: Database, by: Author, action: Action, tenant: Tenant, new: Mapping[str, Any] | None = None
) -> UUID:
    """Announce an action of staff inside a tenant, for ``intervene``."""
    announced = insert(interventions).values(
        tenant_id=tenant.id, actor=by.actor, request=by.request, action=action.value, object=about(tenant.slug), new=new
    )
    async with control.unbound() as transaction:
        key: UUID = await transaction.scalar(announced.returning(interventions.c.id))
    return key


async def intervene(work: Transaction, intervention: UUID) -> None:
    """Write an announced action to the log, in the transaction inside the tenant that carries it out.

    Raises Forbidden unless it was announced within the last minute, and is used for the first time.
    """
    if not await work.scalar(select(func.isola.note_intervention(intervention))):
        raise Forbidden("this action was not announced")


async def page(
    control: Database,
    *,
    actor: str | None = None,
    action: str | None = None,
    object: str | None = None,  # noqa: A002  as the log calls it
    since: datetime | None = None,
    until: datetime | None = None,
    after: UUID | None = None,
    first: int = 20,
) -> Sequence[Entry]:
    """At most ``first`` entries that meet all given conditions, the newest first, after the given one.

    ``since`` is inclusive, ``until`` exclusive.
    """
    filters = {entries.c.actor: actor, entries.c.action: action, entries.c.object: object}
    question = select(*_COLUMNS).order_by(entries.c.id.desc()).limit(first)
    question = question.where(*(column == value for column, value in filters.items() if value is not None))
    if since is not None:
        question = question.where(entries.c.at >= since)
    if until is not None:
        question = question.where(entries.c.at < until)
    if after is not None:
        question = question.where(entries.c.id < after)
    async with control.unbound() as transaction:
        return [Entry(**row) for row in await transaction.rows(question)]


_COLUMNS = tuple(entries.c[each.name] for each in fields(Entry))
