"""A transaction that is not bound to a tenant, or is bound to another one, finds none of a tenant's rows."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import Table

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import (
    TABLES,
    Canary,
    content,
    forgery,
    physical,
    referred,
    tried,
    unique_again,
)
from isola_strategies.base import Strategy

CONTEXTS = {
    "never set": "SELECT",
    "empty": "SET LOCAL isola.tenant TO ''",
    "blank": "SET LOCAL isola.tenant TO '  '",
    "not a UUID": "SET LOCAL isola.tenant TO 'acme'",
    "SQL": "SET LOCAL isola.tenant TO ''' OR true --'",
    "of nobody": f"SET LOCAL isola.tenant TO '{uuid4()}'",
    "only routed": "SET LOCAL search_path TO {b.schema}",
    "of another tenant": "SELECT",
    "of another tenant, and routed": "SET LOCAL search_path TO {b.schema}",
}


def attacks(strategy: Strategy, table: Table, canary: Canary) -> Mapping[str, tuple[object, ...]]:
    """Statements with their parameters; each would return a row if it could access the canary."""
    name = physical(strategy, canary.tenant, table)
    column = next(iter(table.columns)).name
    return {
        "select": (f"SELECT * FROM {name}",),
        "select for update": (f"SELECT * FROM {name} FOR UPDATE",),
        "insert": forgery(strategy, table, canary),
        "update": (f"UPDATE {name} SET {column} = {column} RETURNING *",),
        "delete": (f"DELETE FROM {name} RETURNING *",),
    }


@pytest.mark.parametrize("context", CONTEXTS)
async def test_a_wrong_context_reads_and_changes_nothing(
    context: str,
    copy: Copy,
    strategy: Strategy,
    database: Database,
    login: asyncpg.Connection,
    a: Tenant,
    canary_b: Canary,
) -> None:
    b = canary_b.tenant
    before = await content(database, b)
    got: dict[tuple[str, str], object] = {}
    async with login.transaction():
        if "of another tenant" in context:
            await copy.enter(login, a)
        await login.execute(CONTEXTS[context].format(b=strategy.home(b.id)))
        for table in TABLES:
            for command, (sql, *values) in attacks(strategy, table, canary_b).items():
                got[table.name, command] = await tried(login, str(sql), *values)
    assert {what: rows for what, rows in got.items() if rows and not isinstance(rows, str)} == {}
    assert await content(database, b) == before
    assert not canary_b.traced_in(await content(database, a))


async def test_the_binding_of_the_previous_transaction_is_gone(
    copy: Copy, strategy: Strategy, database: Database, login: asyncpg.Connection, canary_b: Canary
) -> None:
    b = canary_b.tenant
    before = await content(database, b)
    async with login.transaction():
        await copy.enter(login, b)
        assert await login.fetchval(f"SELECT count(*) FROM {TABLES[0].name}") == 1
    got: dict[tuple[str, str], object] = {}
    async with login.transaction():
        for table in TABLES:
            for command, (sql, *values) in attacks(strategy, table, canary_b).items():
                got[table.name, command] = await tried(login, str(sql), *values)
    assert {what: rows for what, rows in got.items() if rows and not isinstance(rows, str)} == {}
    assert await content(database, b) == before


async def test_a_binding_of_the_tenant_itself_permits_all_of_these(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, canary_b: Canary
) -> None:
    """Otherwise the tests above could not fail."""
    refused = {}
    for table in TABLES:
        for command, (sql, *values) in attacks(strategy, table, canary_b).items():
            async with _undone(login):
                await copy.enter(login, canary_b.tenant, canary_b.about)
                got = await tried(login, str(sql), *values)
            if not got or isinstance(got, str):
                refused[table.name, command] = got
    # Referenced rows cannot be deleted (PostgreSQL 18 has its own code for that), and unique values can be
    # inserted only once.
    kept = {(name, "delete") for name in referred(canary_b)}
    once = {(table.name, "insert") for table in TABLES if unique_again(table, canary_b)}
    assert {what: code for what, code in refused.items() if what in once} == dict.fromkeys(once, "23505")
    assert {what: code in {"23001", "23503"} for what, code in refused.items() if what not in once} == dict.fromkeys(
        kept, True
    )


@asynccontextmanager
async def _undone(connection: asyncpg.Connection) -> AsyncIterator[None]:
    transaction = connection.transaction()
    await transaction.start()
    yield
    await transaction.rollback()
