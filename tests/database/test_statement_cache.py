"""With and without prepared statements that are kept, the same is answered."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select, text

from isola.database.connection import STATEMENT_SIZE, STATEMENTS_SIZE
from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing.fixtures import Copy


@pytest.fixture(params=[True, False], ids=["kept", "not kept"])
async def either(request: pytest.FixtureRequest, copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, size=1, statement_cache=request.param
    ) as database:
        yield database


async def test_each_tenant_gets_its_own_rows_by_the_same_statement(either: Database, a: Tenant, b: Tenant) -> None:
    for tenant in (a, b):
        async with either.transaction(tenant) as work:
            await work.execute(insert(users).values(subject="ada", name=str(tenant.id)))
    # After five runs PostgreSQL may keep a plan for all parameters.
    for tenant in (a, b) * 7:
        async with either.transaction(tenant) as work:
            [row] = await work.rows(select(users).where(users.c.subject == "ada"))
            assert row["name"] == str(tenant.id)


async def test_what_is_kept_prepared_is_bounded_by_its_length(copy: Copy, a: Tenant) -> None:
    """However few statements there are; and those used last stay."""
    kept = "SELECT count(*), sum(length(statement)) FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''%'"

    def statement(length: int, letter: str) -> str:
        return f"SELECT '{letter * (length - 9)}'"

    async with await Database.open(copy.where.owner or "", copy.strategies, copy.binding_key, size=1) as database:
        for index in range(30):
            async with database.unbound() as work:
                await work.value(statement(STATEMENT_SIZE - 1000 - index, "x"))
                await work.value(statement(STATEMENT_SIZE + 1, "y"))
        async with database.unbound() as work:
            [row] = await work.rows(text(kept))
            assert row["count"] == STATEMENTS_SIZE // STATEMENT_SIZE
            assert 0 < row["sum"] <= STATEMENTS_SIZE
            last = "SELECT count(*) FROM pg_prepared_statements WHERE statement = $1"
            assert await work.value(last, statement(STATEMENT_SIZE - 1000 - 29, "x")) == 1
        async with database.transaction(a) as work:
            assert await work.rows(select(users)) == []
