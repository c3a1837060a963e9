"""Writes contain the condition that their strategy adds for the planner. Reads do too: see tests/query."""

import pytest
from sqlalchemy import Delete, Update, delete, update

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola_strategies.base import Strategy


@pytest.mark.parametrize("statement", [update(users).values(name="x"), delete(users)], ids=["update", "delete"])
async def test_a_write_carries_the_predicate_of_its_strategy(
    statement: Update | Delete, strategy: Strategy, database: Database, a: Tenant
) -> None:
    async with database.transaction(a) as work:
        sql, _ = work._written(statement, None)
    predicate = strategy.predicate("users")
    assert sql.partition("WHERE ")[2].strip() == (predicate or "")
