"""The effects of a transaction: its intended changes, and no others."""

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects import users
from isola.subjects.users import users as table


async def test_commits_at_the_end(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        user = await users.ensure(work, subject="ada", name=None, email=None)
    async with database.transaction(a) as work:
        assert await work.scalar(select(table.c.id)) == user


async def test_an_exception_rolls_back_and_propagates(database: Database, a: Tenant) -> None:
    with pytest.raises(LookupError):
        async with database.transaction(a) as work:
            await users.ensure(work, subject="ada", name=None, email=None)
            raise LookupError
    async with database.transaction(a) as work:
        assert await work.rows(select(table)) == []
