"""Moves a tenant from one strategy to another: everything in its home, in one transaction of the owner.

After a crash at any point the move is complete or has not happened. The state that blocks requests meanwhile is in the
database, not in the servers: see migrations/control/0001_binding.sql and docs/moving.md.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Table, Update, func, select, update

from isola.database.transactions import DIALECT, Database, Transaction
from isola.errors import Conflict, OperatorError, Refusal, Unavailable
from isola.installed import metadata
from isola.platform import commits, platform_log, proofs, provisioning
from isola.platform.migrations import LOCK_TIMEOUT, create_home, refuse_behind, refuse_strangers
from isola.platform.platform_log import Action, Author
from isola.platform.tenants import COLUMNS, Status, Tenant, entry, tenants
from isola_strategies.base import Home, Strategy

PATIENCE = 10.0
"""Seconds that writing transactions may take to end before their tenant is moved; later they are refused."""

LATELY = "1 hour"
"""How long the database reports a move to servers that still use the tenant's former home."""

Progress = Callable[[str], None]
"""Called at the beginning of each step: a word, and the table concerned if there is one."""


def silent(step: str) -> None:
    """Ignore progress."""


@dataclass(frozen=True, slots=True)
class Place:
    """A home, and its strategy."""

    strategy: Strategy
    home: Home

    def rows(self, table: Table, of: str) -> str:
        """The bound tenant's rows of a table, as text to follow FROM, with the alias ``of``."""
        predicate = self.strategy.predicate(of)
        return f"{self.home.schema}.{table.name} AS {of}{f' WHERE {predicate}' if predicate else ''}"


async def move(
    owner: Database,
    strategies: Mapping[str, Strategy],
    slug: str,
    *,
    to: str,
    by: Author | None = None,
    patience: float = PATIENCE,
    progress: Progress = silent,
) -> Tenant:
    """Move a tenant, with everything in its home, to another strategy; its entry afterwards.

    Until it ends the tenant is marked as moving, and its requests are refused as Unavailable. If it fails, the tenant
    stays in place and the mark is removed; if it is killed, the mark stays, and a second call continues. A call
    with the tenant's current strategy removes the mark. ``by`` is for the logs; by default the operator.

    Raises BadUserInput for a strategy that is not installed, NotFound, Conflict if the tenant is there already, is
    being moved by another process, or proofs are not demanded, Unavailable if others hold required locks for too long,
    and OperatorError if a home is behind, or if a copy differs from the original.
    """
    by = by or platform_log.operator()
    tenant = await _announced(owner, strategies, slug, to)
    if tenant.moving_to is None:
        return tenant
    try:
        progress("waiting for open write transactions")
        await _until_written(owner, strategies[tenant.strategy].home(tenant.id), patience)
        async with owner.unbound() as transaction:
            return await _moved(transaction, strategies, tenant, to, by, progress)
    except BaseException:
        # A caller that gets an error finds the tenant unchanged. If even this fails, the mark stays.
        with suppress(Refusal):
            await asyncio.shield(_opened(owner, _entry(tenant.id, moving_to=to)))
        raise


async def _announced(owner: Database, strategies: Mapping[str, Strategy], slug: str, to: str) -> Tenant:
    """Mark a tenant as moving; remove an existing mark if ``to`` is the tenant's current strategy."""
    provisioning.refuse_unknown(strategies, to)
    async with owner.unbound() as transaction:
        await refuse_behind(transaction)
        await refuse_strangers(transaction)
        if not await proofs.demanded(transaction):
            raise Conflict("moving tenants requires proofs of bindings: isola platform proofs --demand")
    tenant = await provisioning.named(owner, slug)
    if tenant.strategy not in strategies:
        raise OperatorError(f"tenant {slug} is placed under {tenant.strategy}, which is not installed")
    unchanged = _entry(tenant.id, strategy=tenant.strategy, moving_to=tenant.moving_to)
    if tenant.strategy == to:
        opened = await _opened(owner, unchanged) if tenant.moving_to is not None else None
        if opened is None:
            raise Conflict("the tenant is placed under this strategy already", "strategy", value=slug)
        return opened
    async with owner.unbound() as transaction:
        marked = unchanged.where(tenants.c.status != Status.DELETED).values(moving_to=to)
        changed = await transaction.rows(marked.returning(*COLUMNS))
    if not changed:
        raise Conflict("the tenant is being moved or deleted by another process", value=slug)
    return entry(changed[0])


def _entry(tenant: UUID, **expected: str | None) -> Update:
    """An update of a tenant's entry, conditional on the entry as it was read."""
    change = update(tenants).where(tenants.c.id == tenant)
    for name, value in expected.items():
        change = change.where(tenants.c[name].is_not_distinct_from(value))
    return change


async def _opened(owner: Database, expected: Update) -> Tenant | None:
    """Remove the mark, so that the tenant is served in its current home."""
    async with owner.unbound() as transaction:
        rows = await transaction.rows(expected.values(moving_to=None).returning(*COLUMNS))
    return entry(rows[0]) if rows else None


async def _until_written(owner: Database, home: Home, patience: float) -> None:
    """Wait up to ``patience`` seconds for transactions that have written in a home, and for those that commit.

    The former can no longer commit in the marked tenant, but their locks would block the move. The latter may have
    read the tenant before it was marked. Raises Unavailable if one of them takes too long.
    """
    await commits.remaining(owner, _WRITING, [home.schema], patience)
    if not await commits.settled(owner, max(patience, 1)):
        raise Unavailable("a commit in progress takes too long")


# Every role can see the locks of all sessions, but not their transactions.
_WRITING = """
SELECT DISTINCT l.virtualtransaction FROM pg_locks l
JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND l.mode = 'RowExclusiveLock' AND n.nspname = $1
"""


async def _moved(
    transaction: Transaction,
    strategies: Mapping[str, Strategy],
    tenant: Tenant,
    to: str,
    by: Author,
    progress: Progress,
) -> Tenant:
    source, target = (Place(strategies[name], strategies[name].home(tenant.id)) for name in (tenant.strategy, to))
    await _hold(transaction, tenant, source, target)
    progress("making the home")
    for place in (source, target):
        await create_home(transaction, place.strategy, place.home)
    await enter(transaction, tenant)
    # Rows can have circular references.
    await transaction.script("SET CONSTRAINTS ALL DEFERRED")
    tables = metadata.sorted_tables
    for table in tables:
        progress(f"copying {table.name}")
        await transaction.script(_copied(table, source, target))
    for table in tables:
        progress(f"comparing {table.name}")
        if await transaction.value(_digest(table, source)) != await transaction.value(_digest(table, target)):
            raise OperatorError(f"the copy of {table.name} differs from the original: nothing was moved")
    progress("erasing the original rows")
    await transaction.script("; ".join(source.strategy.erase(tenant.id, tables)))
    await enter(transaction, tenant)
    progress("updating the directory")
    placed = _entry(tenant.id).values(
        strategy=to, home=target.home.schema, role=target.home.role or "none", moving_to=None, moved_at=func.now()
    )
    rows = await transaction.rows(placed.returning(*COLUMNS))
    await _note(transaction, tenant, target.home, to, by)
    await transaction.script(_ANNOUNCE)
    progress("committing")
    return entry(rows[0])


# Concurrent moves that are about to update it wait here.
_ANNOUNCE = f"""
SELECT FROM control.binding_key FOR UPDATE;
UPDATE control.binding_key SET moved = (
    SELECT coalesce(array_agg(id), '{{}}') FROM control.tenants WHERE moved_at > now() - interval '{LATELY}'
)
"""


async def _hold(transaction: Transaction, tenant: Tenant, source: Place, target: Place) -> None:
    """Lock out migrations, the tenant's writers and other changes to its entry until the end of the transaction.

    Raises Conflict if the entry has changed since the tenant was marked.
    """
    if source.home.schema == target.home.schema:
        raise OperatorError(f"{source.strategy.name} and {target.strategy.name} have the same home for this tenant")
    for place in (source, target):
        if place.home in place.strategy.homes([]) and place.strategy.predicate("t") is None:
            # Policies do not apply to a superuser: the rows of all tenants would be copied.
            raise OperatorError(f"{place.strategy.name} has shared homes and no predicate to tell tenants apart there")
    await transaction.script(LOCK_TIMEOUT)
    for schema in sorted((source.home.schema, target.home.schema)):
        # Shared: other tenants may move between the same homes. Migrations take the lock exclusively.
        await transaction.value("SELECT pg_advisory_xact_lock_shared(hashtext($1))", schema)
    mine = select(tenants.c.id).where(
        tenants.c.id == tenant.id,
        tenants.c.strategy == tenant.strategy,
        tenants.c.moving_to == target.strategy.name,
        tenants.c.status != Status.DELETED,
    )
    if not await transaction.rows(mine.with_for_update(key_share=True)):
        raise Conflict("the tenant is being moved or deleted by another process", value=tenant.slug)


async def enter(transaction: Transaction, tenant: Tenant) -> None:
    """Act as the tenant for the policies of both homes, which apply to an owner without superuser; set no home."""
    await transaction.script(
        "RESET ROLE; SET LOCAL search_path TO pg_catalog; SET LOCAL isola.home TO ''; "
        f"SET LOCAL isola.tenant TO '{tenant.id}'; SELECT set_config('isola.proof', isola.proof('{tenant.id}'), true)"
    )


def _columns(table: Table) -> list[str]:
    """The columns to copy: all but generated ones."""
    return [DIALECT.identifier_preparer.quote(column.name) for column in table.columns if column.computed is None]


def _copied(table: Table, source: Place, target: Place) -> str:
    names = ", ".join(_columns(table))
    return (
        f"INSERT INTO {target.home.schema}.{table.name} ({names}) OVERRIDING SYSTEM VALUE "
        f"SELECT {names} FROM {source.rows(table, 'copied')}"
    )


def _digest(table: Table, place: Place) -> str:
    """A query for the number of rows and sums over their hashes, independent of their order."""
    values = ", ".join(f"r.{name}" for name in _columns(table))
    return f"""
        SELECT concat_ws(' ', count(*), sum(hashtextextended(written, 0)), sum(hashtextextended(written, 1)))
        FROM (SELECT ROW({values})::text COLLATE "C" AS written FROM {place.rows(table, "r")} OFFSET 0) rows
    """


async def _note(transaction: Transaction, tenant: Tenant, home: Home, to: str, by: Author) -> None:
    """Record the move in the platform's log and in the tenant's, in its new home."""
    old, new = {"strategy": tenant.strategy}, {"strategy": to}
    about = platform_log.about(tenant.slug)
    await platform_log.note(transaction, by.actor, Action.TENANT_MOVE, about, old, new, by.request)
    await transaction.value(
        "SELECT isola.audit_write("
        "$1, $2, $3, NULL, $4, NULL, NULL, ARRAY[$5], ARRAY[$6], ARRAY[$7::jsonb], ARRAY[$8::jsonb])",
        tenant.id,
        home.schema,
        by.actor,
        by.request,
        Action.TENANT_MOVE.value,
        about,
        old,
        new,
    )
