"""Copies the rows of a source into a tenant of the application that has adopted it: all of them or none.

Batches of rows are committed to staging tables. One transaction then moves them into the tenant's home and compares
them with the source: see docs/adopting.md.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from hashlib import sha256

from sqlalchemy import CheckConstraint, Table, UniqueConstraint, select

from isola.adopting import catalogue, staging
from isola.adopting.copying import Plan, TablePlan
from isola.adopting.staging import Progress, Stage, quote
from isola.database.transactions import Database, Transaction
from isola.errors import Conflict, IsolaError, OperatorError
from isola.installed import metadata
from isola.platform import platform_log, provisioning
from isola.platform.migrations import LOCK_TIMEOUT
from isola.platform.moves import Place, enter
from isola.platform.platform_log import Action, Author
from isola.platform.tenants import Status, Tenant, tenants
from isola.subjects import search
from isola.subjects.table import DIGITS, SCALE
from isola_strategies.base import Strategy

ROUNDED = {"numeric": f"numeric({DIGITS}, {SCALE})", "numeric[]": f"numeric({DIGITS}, {SCALE})[]"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows of each source table were copied."""

    tenant: Tenant
    rows: Mapping[str, int]


async def load(
    owner: Database,
    strategies: Mapping[str, Strategy],
    source: Database,
    plan: Plan,
    slug: str,
    *,
    by: Author | None = None,
    progress: Progress,
) -> Loaded:
    """Copy all rows of a source into a tenant that has no rows of the application yet.

    ``owner`` and ``source`` have two connections each. A killed run leaves its staged rows, and the next run resumes.
    Any other outcome is atomic: either nothing has changed, or all rows are copied.

    Raises NotFound; Conflict if the tenant has rows already or another run is in progress; OperatorError if the source
    is not the adopted one or changes during the run, and for a row that violates a constraint.
    """
    tenant = await provisioning.named(owner, slug)
    if tenant.strategy not in strategies:
        raise OperatorError(f"tenant {slug} is placed under {tenant.strategy}, which is not installed")
    strategy = strategies[tenant.strategy]
    place = Place(strategy, strategy.home(tenant.id))
    tables = _tables(plan)
    async with owner.unbound() as turn:
        if not await turn.value("SELECT pg_try_advisory_xact_lock(hashtext($1))", f"isola.adopt {tenant.id}"):
            raise Conflict("another process is copying rows into this tenant", value=slug)
        await _refuse_unready(owner, tenant, place, tables)
        stage = _stage(tenant)
        async with source.unbound() as reading:
            await catalogue.isolate(reading)
            await _refuse_other_shape(reading, plan)
            mark = await _mark(reading, plan)
            await staging.prepare(owner, stage, place.home, list(plan.tables), mark)
            try:
                for each in plan.tables:
                    await staging.copy(owner, reading, stage, each, progress)
                rows = await _settle(owner, source, reading, stage, place, tenant, plan, by or platform_log.operator())
            except Exception as error:
                reason = await _diagnosis(owner, reading, stage, plan, tables)
                await staging.remove(owner, stage)
                if reason is None or (isinstance(error, IsolaError) and not _is_of_rows(error)):
                    raise
                raise OperatorError(f"{reason}: nothing was copied") from error
    return Loaded(tenant, rows)


def _is_of_rows(error: IsolaError) -> bool:
    """Whether the database rejected rows, not the operation itself."""
    return not isinstance(error, OperatorError)


def _tables(plan: Plan) -> Mapping[str, Table]:
    """The declared tables by name. Raises OperatorError if the application has changed since it was adopted."""
    found = {}
    for each in plan.tables:
        table = metadata.tables.get(each.target)
        missing = [name for name in each.columns if table is None or name not in table.columns]
        if table is None or missing:
            what = f"{each.target}.{missing[0]}" if table is not None else each.target
            raise OperatorError(f"{plan.application} has no {what}, where {each.table} was to go: see its adopted.json")
        found[each.target] = table
    return found


async def _refuse_unready(owner: Database, tenant: Tenant, place: Place, tables: Mapping[str, Table]) -> None:
    """Raise OperatorError if the home lacks the tables, Conflict if the tenant has rows in them."""
    async with owner.unbound() as transaction:
        await enter(transaction, tenant)
        for table in tables.values():
            name = f"{place.home.schema}.{quote(table.name)}"
            if await transaction.value("SELECT to_regclass($1)::text", name) is None:
                raise OperatorError(f"the tenant's home has no table {table.name}: isola migrate")
            if await transaction.value(f"SELECT EXISTS (SELECT FROM {place.rows(table, 'r')})"):
                raise Conflict(f"the tenant has rows in {table.name} already: expected none", value=tenant.slug)


def _stage(tenant: Tenant) -> Stage:
    made = tenant.created_at.astimezone(UTC)
    return Stage(
        f"isola_adopting_{tenant.id.hex}",
        f"{int(made.timestamp() * 1000):012x}",
        str(tenant.id),
        made.isoformat(timespec="microseconds"),
    )


async def _refuse_other_shape(source: Transaction, plan: Plan) -> None:
    tables = {table.name: table for table in (await catalogue.read(source, plan.schema_name)).tables}
    for each in plan.tables:
        if each.table not in tables:
            raise OperatorError(f"the source has no table {each.table}: expected the tables that were adopted")
        if tables[each.table].shape != each.shape:
            raise OperatorError(
                f"the columns or keys of {each.table} are not those that were adopted: adopt the database anew"
            )
    new = tables.keys() - {each.table for each in plan.tables} - set(plan.left_out)
    if new:
        raise OperatorError(f"the source has a table {min(new)} that was not adopted: adopt the database anew")


async def _mark(source: Transaction, plan: Plan) -> str:
    """A fingerprint of the run: staged rows are reused only by a run with the same one."""
    where = await source.value(
        "SELECT concat_ws(' ', current_database(), oid) FROM pg_database WHERE datname = current_database()"
    )
    return sha256(f"{where}\n{plan.model_dump_json()}".encode()).hexdigest()


async def _settle(
    owner: Database,
    source: Database,
    reading: Transaction,
    stage: Stage,
    place: Place,
    tenant: Tenant,
    plan: Plan,
    by: Author,
) -> Mapping[str, int]:
    """In one transaction: move the staged rows into the home, compare them with the source, log the copy."""
    expected = asyncio.create_task(_source_digests(source, stage, plan))
    try:
        async with owner.unbound() as transaction:
            await _hold(transaction, place, tenant)
            await enter(transaction, tenant)
            await transaction.script(catalogue.WRITTEN)
            await _insert(transaction, stage, place, plan)
            found = {each.target: await transaction.value(_digest_in(place, each)) for each in plan.tables}
            wanted = await expected
            for each in plan.tables:
                if found[each.target] != wanted[each.target]:
                    was = await reading.value(_digest_of(stage, each))
                    raise OperatorError(_difference(each, found[each.target], wanted[each.target], was))
            rows = {each.table: int(found[each.target].partition(" ")[0]) for each in plan.tables}
            # Drop cached quota counts, so that they are counted again.
            await transaction.value("DELETE FROM control.quota_bounds WHERE tenant_id = $1", tenant.id)
            about = platform_log.about(tenant.slug)
            new = {"application": plan.application, "rows": sum(rows.values())}
            await platform_log.note(transaction, by.actor, Action.TENANT_ADOPT, about, None, new, by.request)
            await transaction.script(f"DROP SCHEMA {stage.schema} CASCADE")
    finally:
        expected.cancel()
        await asyncio.gather(expected, return_exceptions=True)
    return rows


async def _insert(transaction: Transaction, stage: Stage, place: Place, plan: Plan) -> None:
    """Move the staged rows into the home.

    If the owner has the privilege, references are checked once per table instead of once per row. The result is the
    same: all referenced rows come from this transaction and are not visible to others yet.
    """
    together = await transaction.value("SELECT has_parameter_privilege('session_replication_role', 'SET')")
    for each in plan.tables:
        await transaction.script(f"ANALYZE {stage.table(each)}")
    for each in plan.tables:
        await _refuse_unfit(transaction, stage, each)
        if together:
            await _refuse_astray(transaction, stage, each, plan)
    before = "session_replication_role TO replica" if together else "CONSTRAINTS ALL DEFERRED"
    after = "session_replication_role TO origin" if together else "CONSTRAINTS ALL IMMEDIATE"
    await transaction.script(f"SET {'LOCAL ' if together else ''}{before}")
    for each in plan.tables:
        names = ", ".join(map(quote, each.columns))
        target = f"{place.home.schema}.{quote(each.target)}"
        await transaction.script(f"INSERT INTO {target} ({names}) SELECT {names} FROM {stage.table(each)}")
        await _insert_words(transaction, place, metadata.tables[each.target])
    await transaction.script(f"SET {'LOCAL ' if together else ''}{after}")


async def _insert_words(transaction: Transaction, place: Place, table: Table) -> None:
    """Make the words of searched rows: triggers leave out what the owner writes."""
    words = search.words_of(table)
    if words is not None:
        target = f"{place.home.schema}.{words.table.name}"
        made = search.of_rows(table, place.rows(table, "r"))
        await transaction.script(f"INSERT INTO {target} ({words.key}, word) {made}")


async def _hold(transaction: Transaction, place: Place, tenant: Tenant) -> None:
    """Block migrations and moves of the tenant until the transaction ends."""
    await transaction.script(LOCK_TIMEOUT)
    await transaction.value("SELECT pg_advisory_xact_lock_shared(hashtext($1))", place.home.schema)
    mine = select(tenants.c.id).where(
        tenants.c.id == tenant.id,
        tenants.c.strategy == tenant.strategy,
        tenants.c.moving_to.is_(None),
        tenants.c.status != Status.DELETED,
    )
    if not await transaction.rows(mine.with_for_update(key_share=True)):
        raise Conflict("the tenant is being moved or deleted by another process", value=tenant.slug)


async def _refuse_unfit(transaction: Transaction, stage: Stage, plan: TablePlan) -> None:
    """Raise Conflict for staged values that their target columns would round."""
    conditions = [f"({each}) IS NOT FALSE" for each in plan.fits.values()]
    if conditions and await transaction.value(
        f"SELECT EXISTS (SELECT FROM {stage.table(plan)} s WHERE NOT ({' AND '.join(conditions)}))"
    ):
        raise Conflict(f"{plan.table}: a value does not fit its column")


async def _refuse_astray(transaction: Transaction, stage: Stage, plan: TablePlan, all_: Plan) -> None:
    """Raise Conflict for a reference without a matching staged row."""
    for what, query in _references(stage, plan, metadata.tables[plan.target], all_.tables):
        if await transaction.value(_first(query)) is not None:
            raise Conflict(f"{plan.table}: {what}")


def _digest(query: str) -> str:
    """A query for the row count and sums over row hashes, which do not depend on the order of rows."""
    return (
        "SELECT concat_ws(' ', count(*), sum(hashtextextended(written, 0)), sum(hashtextextended(written, 1))) "
        f"FROM ({query} OFFSET 0) rows"
    )


def _digest_in(place: Place, plan: TablePlan) -> str:
    names = ", ".join(f"r.{quote(name)}" for name in plan.columns)
    return _digest(
        f'SELECT ROW({names})::text COLLATE "C" AS written FROM {place.rows(metadata.tables[plan.target], "r")}'
    )


def _digest_of(stage: Stage, plan: TablePlan) -> str:
    names = ", ".join(
        f'r."{name}"::{ROUNDED[plan.wide[name]]}' if name in plan.wide else f'r."{name}"' for name in plan.columns
    )
    return _digest(f'SELECT ROW({names})::text COLLATE "C" AS written FROM ({stage.filled(plan.sql)}) r')


async def _source_digests(source: Database, stage: Stage, plan: Plan) -> Mapping[str, str]:
    """Digests of the source as it is now, which may be newer than the copied snapshot."""
    async with source.unbound() as later:
        await catalogue.isolate(later)
        return {each.target: str(await later.value(_digest_of(stage, each))) for each in plan.tables}


def _difference(plan: TablePlan, copied: str, wanted: str, was: str) -> str:
    if copied == was:
        return (
            f"{plan.table} has changed in the source while it was copied, or since an earlier run that was killed: "
            "nothing was copied; expected a source without concurrent writes"
        )
    count, expected = copied.partition(" ")[0], wanted.partition(" ")[0]
    return (
        f"{plan.table}: {count} rows were copied, and the source has {expected}, or some are not alike: nothing was "
        "copied; if it has changed since a run that was killed, run it again"
    )


async def _diagnosis(
    owner: Database, source: Transaction, stage: Stage, plan: Plan, tables: Mapping[str, Table]
) -> str | None:
    """The first staged row found that violates a constraint, and which one; None if there is none."""
    async with owner.unbound() as transaction:
        if await transaction.value("SELECT to_regnamespace($1)::text", stage.schema) is None:
            return None
        for each in plan.tables:
            for what, query in _rules(stage, each, tables[each.target], plan.tables):
                row = await transaction.value(_first(query))
                if row is not None:
                    key = await _key(source, stage, each, json.loads(row))
                    return f"{each.table}, row {key}: {what}"
    return None


async def _key(source: Transaction, stage: Stage, plan: TablePlan, row: Mapping[str, str]) -> str:
    """The source key of a row, from its new key."""
    same = " AND ".join(f"({plan.columns[name]}) = '{row[name]}'::uuid" for name in plan.order)
    return str(await source.value(stage.filled(f"SELECT {plan.key} FROM {plan.source} WHERE {same} LIMIT 1")))


def _rules(stage: Stage, plan: TablePlan, table: Table, plans: Sequence[TablePlan]) -> list[tuple[str, str]]:
    """A description of each constraint of a table, and a query for the keys of staged rows that violate it."""
    rows = f"SELECT {_row(plan)} FROM {stage.table(plan)} s WHERE"
    rules = [(f"{name}: {_EXPECTED_FIT}", f"{rows} NOT ({fits})") for name, fits in plan.fits.items()]
    rules += [
        (f"{column.name}: expected a value, not null", f"{rows} s.{quote(column.name)} IS NULL")
        for column in table.columns
        if not column.nullable and column.name in plan.columns
    ]
    for constraint in sorted(table.constraints, key=lambda each: str(each.name)):
        match constraint:
            case CheckConstraint() if set(_mentioned(constraint, table)) <= plan.columns.keys():
                condition = str(constraint.sqltext)
                rules.append((f"expected {condition}", f"{rows} NOT ({condition})"))
            case UniqueConstraint() if columns := [each.name for each in constraint.columns]:
                same = " AND ".join(f"o.{quote(name)} = s.{quote(name)}" for name in columns)
                other = " OR ".join(f"o.{quote(name)} <> s.{quote(name)}" for name in plan.order)
                rules.append(
                    (
                        f"{', '.join(columns)}: another row has the same: expected it once",
                        f"{rows} EXISTS (SELECT FROM {stage.table(plan)} o WHERE {same} AND ({other}))",
                    )
                )
    return [*rules, *_references(stage, plan, table, plans)]


def _references(stage: Stage, plan: TablePlan, table: Table, plans: Sequence[TablePlan]) -> list[tuple[str, str]]:
    """The same for its references to staged rows."""
    staged = {each.target: each for each in plans}
    found = []
    for column in table.columns:
        for key in column.foreign_keys:
            referred = staged.get(key.column.table.name)
            if column.name in plan.columns and referred is not None:
                there = f"EXISTS (SELECT FROM {stage.table(referred)} o WHERE o.id = s.{quote(column.name)})"
                astray = f"s.{quote(column.name)} IS NOT NULL AND NOT {there}"
                what = f"{column.name}: expected a row of {referred.table}, which is not there"
                found.append((what, f"SELECT {_row(plan)} FROM {stage.table(plan)} s WHERE {astray}"))
    return found


def _first(query: str) -> str:
    """A query for one row of another query. LIMIT would favour a plan that assumes that matches are frequent."""
    return f"SELECT min(broken.key) FROM ({query}) broken"


def _row(plan: TablePlan) -> str:
    """A row's key in its home, as JSON."""
    return "json_build_object(" + ", ".join(f"'{name}', s.{quote(name)}" for name in plan.order) + ")::text AS key"


_EXPECTED_FIT = (
    f"expected a number of at most {DIGITS - SCALE} digits before the point and {SCALE} behind it, or a list of one "
    "dimension"
)


def _mentioned(constraint: CheckConstraint, table: Table) -> list[str]:
    """The columns of a table that a check mentions."""
    words = set(str(constraint.sqltext).replace('"', " ").replace("(", " ").replace(")", " ").replace(",", " ").split())
    return [column.name for column in table.columns if column.name in words]
