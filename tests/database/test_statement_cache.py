"""Answers are the same with and without cached prepared statements."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select

from isola.database.pool import Pool
from isola.database.statements import SHARE_BYTES, STATEMENT_LENGTH, STATEMENTS_BYTES, size_of
from isola.database.transactions import Database
from isola.platform.logins import quote
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola_strategies.base import Strategy


@pytest.fixture(params=["kept", "not kept", "kept for no home"])
async def either(
    request: pytest.FixtureRequest, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Database]:
    if request.param == "kept for no home":
        # As on a connection that is lent because all others that have used the home are busy.
        monkeypatch.setattr(Pool, "_is_to_lend", lambda *_: True)
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, size=1, statement_cache=request.param != "not kept"
    ) as database:
        yield database


async def test_each_tenant_gets_its_own_rows_by_the_same_statement(either: Database, a: Tenant, b: Tenant) -> None:
    for tenant in (a, b):
        async with either.transaction(tenant) as work:
            await work.execute(insert(users).values(subject="ada", name=str(tenant.id)))
    # After five runs PostgreSQL may cache a generic plan.
    for tenant in (a, b) * 7:
        async with either.transaction(tenant) as work:
            [row] = await work.rows(select(users).where(users.c.subject == "ada"))
            assert row["name"] == str(tenant.id)


async def test_prepared_statements_are_bounded_by_their_length(copy: Copy, a: Tenant) -> None:
    """However few statements there are; the most recently used ones stay."""
    kept = "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''%'"

    def statement(length: int, letter: str) -> str:
        return f"SELECT '{letter * (length - 9)}'"

    async with await Database.open(copy.where.owner or "", copy.strategies, copy.binding_key, size=1) as database:
        for index in range(30):
            async with database.unbound() as work:
                await work.value(statement(STATEMENT_LENGTH - 1000 - index, "x"))
                await work.value(statement(STATEMENT_LENGTH + 1, "y"))
        async with database.unbound() as work:
            found = await work.texts(kept)
            assert sum(map(size_of, found)) <= STATEMENTS_BYTES
            assert len(found) == STATEMENTS_BYTES // SHARE_BYTES
            assert statement(STATEMENT_LENGTH - 1000 - 29, "x") in found
        async with database.transaction(a) as work:
            assert await work.rows(select(users)) == []


async def test_a_text_is_prepared_once_for_each_home(
    copy: Copy, owner: Database, strategy: Strategy, a: Tenant, b: Tenant
) -> None:
    read = "SELECT count(*) FROM users"
    async with owner.unbound() as work:
        await work.script(f"GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO {quote(copy.where.tenant_login)}")
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as database:
        for tenant in (a, b) * 3:
            async with database.transaction(tenant) as work:
                await work.value(read)
        async with database.unbound() as work:
            found = await work.texts("SELECT statement FROM pg_prepared_statements WHERE statement = $1", read)
    assert len(found) == len({strategy.home(tenant.id) for tenant in (a, b)})


async def test_evicted_statements_are_closed_at_the_server(copy: Copy, owner: Database, a: Tenant, b: Tenant) -> None:
    async with owner.unbound() as work:
        await work.script(f"GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO {quote(copy.where.tenant_login)}")
    filler = "x" * (STATEMENT_LENGTH // 2)
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as database:
        for index in range(40):
            # The same statement texts in both homes.
            for tenant in (a, b):
                async with database.transaction(tenant) as work:
                    assert await work.value(f"SELECT '{index}{filler}'") == f"{index}{filler}"
        async with database.unbound() as work:
            found = await work.texts("SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'SELECT ''%'")
    assert 0 < sum(map(size_of, found)) <= STATEMENTS_BYTES
