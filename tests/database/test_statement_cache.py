"""With and without prepared statements that are kept, the same is answered."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import insert, select

from app.control.tenants import Tenant
from app.database import Database
from app.domain.users import users
from tests.conftest import Copy


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
