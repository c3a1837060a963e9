"""Orders of the platform's staff to operators: to create and to move tenants.

Servers do not have the owner's login, so they store orders, and an operator's process with that login carries them out.
An order is carried out once, however many processes there are. A process locks the order's row until it is finished: a
running order whose row is not locked was left by a process that died, and is resumed.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import CheckConstraint, Column, Index, Table, Text, Uuid, func, insert, select, text, update

from isola.database.transactions import Database, Transaction
from isola.errors import Conflict, IsolaError, NotFound
from isola.platform import moves, plans, provisioning
from isola.platform.platform_log import Author
from isola.platform.tenants import ENTRY, Status, Tenant, entry, metadata, tenants
from isola.subjects.metadata import identifier, indexed_text, moment
from isola_strategies.base import Strategy

log = structlog.get_logger()


class Kind(StrEnum):
    CREATE = "create"
    MOVE = "move"


class State(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN = text("state IN ('waiting', 'running')")

orders = Table(
    "orders",
    metadata,
    identifier(),
    Column("kind", Text, nullable=False),
    # For an order to create a tenant, the id of the new tenant, so that it is created only once.
    Column("tenant_id", Uuid, nullable=False, server_default=text("isola.uuid_v7()")),
    indexed_text("slug", 63),
    Column("strategy", Text, nullable=False),
    Column("name", Text),
    Column("parent", Text),
    Column("plan", Text),
    Column("ordered_by", Text, nullable=False),
    Column("request", Text),
    moment("ordered_at"),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    # The reason why it failed.
    Column("message", Text),
    moment("finished_at", nullable=True, default=None),
    CheckConstraint("kind IN ('create', 'move')", name="kind"),
    CheckConstraint("state IN ('waiting', 'running', 'done', 'failed', 'cancelled')", name="state"),
    CheckConstraint("(state IN ('waiting', 'running')) = (finished_at IS NULL)", name="finished"),
    Index(None, "tenant_id", unique=True, postgresql_where=OPEN),
    Index(None, "slug", unique=True, postgresql_where=OPEN),
    Index(None, "state", "id"),
)


@dataclass(frozen=True, slots=True)
class Order:
    """One order. ``slug`` is the slug at the time of the order; ``message`` says why it failed."""

    id: UUID
    kind: Kind
    tenant_id: UUID
    slug: str
    strategy: str
    name: str | None
    parent: str | None
    plan: str | None
    ordered_by: str
    request: str | None
    ordered_at: datetime
    state: State
    message: str | None
    finished_at: datetime | None


_COLUMNS = tuple(orders.c[field.name] for field in fields(Order))
_ORDERS = select(*_COLUMNS)


def _order(row: Mapping[str, Any]) -> Order:
    return Order(**{**row, "kind": Kind(row["kind"]), "state": State(row["state"])})


async def create(
    control: Database,
    strategies: Collection[str],
    by: Author,
    *,
    slug: str,
    name: str,
    strategy: str,
    parent: str | None = None,
    plan: str | None = None,
) -> Order:
    """Order a new tenant. Orders that can already be seen to fail are refused, as by ``provisioning.create``."""
    provisioning.refuse_impossible(strategies, slug=slug, name=name, strategy=strategy)
    async with control.unbound() as transaction:
        taken = select(tenants.c.id).where(tenants.c.slug == slug, tenants.c.status != Status.DELETED)
        if await transaction.rows(taken):
            raise Conflict("tenants: there is one with the same slug already", "slug")
        if plan is not None:
            await plans.offered(transaction, plan)
    if parent is not None:
        await provisioning.named(control, parent)
    values = {"kind": Kind.CREATE, "slug": slug, "name": name, "strategy": strategy, "parent": parent, "plan": plan}
    return await _ordered(control, by, values)


async def move(control: Database, strategies: Collection[str], by: Author, *, slug: str, strategy: str) -> Order:
    """Order a tenant's move to another strategy.

    Raises BadUserInput for a strategy that is not installed, NotFound, and Conflict if the tenant is there already.
    After an interrupted move, a tenant can be ordered to its current strategy, which ends that move.
    """
    provisioning.refuse_unknown(strategies, strategy)
    tenant = await provisioning.named(control, slug)
    if tenant.strategy == strategy and tenant.moving_to is None:
        raise Conflict("the tenant is placed under this strategy already", "strategy", value=slug)
    values = {"kind": Kind.MOVE, "tenant_id": tenant.id, "slug": slug, "strategy": strategy}
    return await _ordered(control, by, values)


async def _ordered(control: Database, by: Author, values: Mapping[str, Any]) -> Order:
    new = insert(orders).values(**values, ordered_by=by.actor, request=by.request)
    async with control.unbound() as transaction:
        [row] = await transaction.rows(new.returning(*_COLUMNS))
    return _order(row)


async def find(control: Database, key: UUID) -> Order | None:
    """The order with this id."""
    async with control.unbound() as transaction:
        rows = await transaction.rows(_ORDERS.where(orders.c.id == key))
    return _order(rows[0]) if rows else None


async def page(control: Database, *, state: State | None, after: UUID | None, first: int) -> Sequence[Order]:
    """At most ``first`` orders, the newest first, older than the one with the id ``after``; all or of one state."""
    question = _ORDERS.order_by(orders.c.id.desc()).limit(first)
    if state is not None:
        question = question.where(orders.c.state == state)
    if after is not None:
        question = question.where(orders.c.id < after)
    async with control.unbound() as transaction:
        return [_order(row) for row in await transaction.rows(question)]


async def cancel(control: Database, key: UUID) -> Order:
    """Cancel a waiting order. Raises NotFound, and Conflict for one that is no longer waiting."""
    change = update(orders).where(orders.c.id == key, orders.c.state == State.WAITING)
    async with control.unbound() as transaction:
        rows = await transaction.rows(change.values(state=State.CANCELLED, finished_at=func.now()).returning(*_COLUMNS))
    if rows:
        return _order(rows[0])
    found = await find(control, key)
    if found is None:
        raise NotFound("there is no such order")
    raise Conflict(f"the order is {found.state}, not waiting", "id")


async def carry_out(
    owner: Database, strategies: Mapping[str, Strategy], progress: moves.Progress = moves.silent
) -> Order | None:
    """Carry out the oldest order that no other process has locked; the order afterwards, None if there is none.

    ``owner`` needs three connections. Raises Unavailable when the database is lost: the order is resumed later.
    """
    async with owner.unbound() as transaction:
        taken = await transaction.value(_TAKE)
    if taken is None:
        return None
    async with _locked(owner, taken) as (holding, order):
        if order is None:
            # Another process has taken it meanwhile: it may be done by now.
            return await find(owner, taken)
        message = await _outcome(owner, strategies, order, progress)
        state = State.DONE if message is None else State.FAILED
        ended = update(orders).where(orders.c.id == order.id)
        rows = await holding.rows(
            ended.values(state=state, message=message, finished_at=func.clock_timestamp()).returning(*_COLUMNS)
        )
        log.info("an order was executed", order=str(order.id), kind=order.kind, state=state)
    return _order(rows[0])


# Committed before the long lock on the row, so that the state ``running`` is visible to all.
_TAKE = """
UPDATE control.orders SET state = 'running' WHERE id = (
    SELECT id FROM control.orders WHERE state IN ('waiting', 'running') ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING id
"""


@asynccontextmanager
async def _locked(owner: Database, key: UUID) -> AsyncIterator[tuple[Transaction, Order | None]]:
    """Lock an order and read it; None if another process has it, or if it is finished."""
    async with owner.unbound() as transaction:
        mine = _ORDERS.where(orders.c.id == key, orders.c.state == State.RUNNING).with_for_update(skip_locked=True)
        rows = await transaction.rows(mine)
        yield transaction, _order(rows[0]) if rows else None


async def _outcome(
    owner: Database, strategies: Mapping[str, Strategy], order: Order, progress: moves.Progress
) -> str | None:
    """Carry out an order, unless it is done already; the error message, None on success."""
    try:
        async with owner.unbound() as transaction:
            rows = await transaction.rows(ENTRY.where(tenants.c.id == order.tenant_id))
        tenant = entry(rows[0]) if rows else None
        if order.kind is Kind.CREATE:
            if tenant is None:
                await _create(owner, strategies, order)
        else:
            await _move(owner, strategies, order, tenant, progress)
    except IsolaError as error:
        return error.message
    except Exception:
        log.exception("an order failed", order=str(order.id))
        return "internal error: see the log of the operator's process"
    return None


async def _create(owner: Database, strategies: Mapping[str, Strategy], order: Order) -> None:
    await provisioning.create(
        owner,
        strategies,
        slug=order.slug,
        name=order.name or order.slug,
        strategy=order.strategy,
        parent=order.parent,
        plan=order.plan or plans.UNLIMITED,
        key=order.tenant_id,
        by=Author(order.ordered_by, order.request),
    )


async def _move(
    owner: Database,
    strategies: Mapping[str, Strategy],
    order: Order,
    tenant: Tenant | None,
    progress: moves.Progress,
) -> None:
    if tenant is None or tenant.status is Status.DELETED:
        raise NotFound("the tenant was deleted meanwhile", value=order.slug)
    if (tenant.strategy, tenant.moving_to) == (order.strategy, None):
        return
    by = Author(order.ordered_by, order.request)
    await moves.move(owner, strategies, tenant.slug, to=order.strategy, by=by, progress=progress)
