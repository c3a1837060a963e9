"""Staging: rows are copied from the source into tables that no tenant can read, one transaction for each batch.

After a killed process, the next run resumes behind the rows already staged. The tables are unlogged: they need not
survive a crash of the database server.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from isola.adopting.copying import TablePlan
from isola.database.transactions import DIALECT, Database, Transaction
from isola.errors import OperatorError
from isola_strategies.base import Home

quote = DIALECT.identifier_preparer.quote

BATCH_BYTES = 8 * 1024 * 1024
"""What is copied in one transaction."""
# Chunks to read ahead; each is a few kilobytes.
AHEAD = 64

Progress = Callable[[str, int], None]
"""Called with the name of a table, and how many rows of it were copied in this run."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A schema for staged rows.

    Ids are derived from ``stamp`` and ``seed``; ``moment`` replaces missing timestamps.
    """

    schema: str
    stamp: str
    seed: str
    moment: str

    def filled(self, expression: str) -> str:
        """An expression of a plan with its placeholders filled in."""
        return expression.replace("@stamp@", self.stamp).replace("@seed@", self.seed).replace("@moment@", self.moment)

    def table(self, plan: TablePlan) -> str:
        return f"{self.schema}.{quote(plan.target)}"


async def prepare(owner: Database, stage: Stage, home: Home, plans: list[TablePlan], mark: str) -> None:
    """Create the staging tables, unless an earlier run with the same ``mark`` left them."""
    async with owner.unbound() as transaction:
        found = await transaction.value("SELECT obj_description(to_regnamespace($1), 'pg_namespace')", stage.schema)
        if found == mark:
            return
        await transaction.script(f"DROP SCHEMA IF EXISTS {stage.schema} CASCADE; CREATE SCHEMA {stage.schema}")
        for plan in plans:
            columns = ", ".join(
                f"{quote(name)}::{plan.wide[name]}" if name in plan.wide else quote(name) for name in plan.columns
            )
            source = f"{home.schema}.{quote(plan.target)}"
            await transaction.script(
                f"CREATE UNLOGGED TABLE {stage.table(plan)} AS SELECT {columns} FROM {source} WHERE false"
            )
        await transaction.script(f"COMMENT ON SCHEMA {stage.schema} IS '{mark}'")


async def remove(owner: Database, stage: Stage) -> None:
    async with owner.unbound() as transaction:
        await transaction.script(f"DROP SCHEMA IF EXISTS {stage.schema} CASCADE")


async def copy(owner: Database, source: Transaction, stage: Stage, plan: TablePlan, progress: Progress) -> None:
    """Copy the rows of a table that are not staged yet. Raises OperatorError that names the table."""
    order = ", ".join(map(quote, plan.order))
    backwards = ", ".join(f"{quote(name)} DESC" for name in plan.order)
    async with owner.unbound() as transaction:
        last = await transaction.value(
            f"SELECT concat_ws(' ', {order}) FROM {stage.table(plan)} ORDER BY {backwards} LIMIT 1"
        )
    after = ""
    if last is not None:
        expressions = ", ".join(plan.columns[name] for name in plan.order)
        values = ", ".join(f"'{each}'::uuid" for each in last.split(" "))
        after = f" WHERE ({expressions}) > ({values})"
    lines = _Lines()
    reading = asyncio.create_task(lines.read(source, stage.filled(f"{plan.sql}{after} ORDER BY {plan.by}")))
    copied = 0
    try:
        while not lines.ended:
            async with owner.unbound() as transaction:
                copied += await transaction.copy_in(stage.schema, plan.target, list(plan.columns), lines.batch())
            progress(plan.table, copied)
        await reading
    except Exception as error:
        raise OperatorError(f"{plan.table}: its rows cannot be copied: {error}") from error
    finally:
        if not reading.done():
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading


@dataclass(slots=True)
class _Lines:
    """Lines that one connection writes and another reads, in batches that end at a line end."""

    _parts: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(AHEAD))
    _rest: bytes = b""
    ended: bool = False

    async def read(self, source: Transaction, query: str) -> None:
        try:
            await source.copy_out(query, self._parts.put)
        finally:
            await self._parts.put(None)

    async def batch(self) -> AsyncIterator[bytes]:
        size = len(self._rest)
        if self._rest:
            yield self._rest
            self._rest = b""
        while (part := await self._parts.get()) is not None:
            size += len(part)
            if size < BATCH_BYTES:
                yield part
                continue
            # COPY escapes a newline inside a value, so each newline byte ends a row.
            end = part.rfind(b"\n") + 1
            yield part[:end]
            if end:
                self._rest = part[end:]
                return
        self.ended = True
