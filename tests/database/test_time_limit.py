"""A statement over its time limit ends, both for its caller and in the database."""

import asyncio

import pytest

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy

SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%of these tests%'
"""
# It catches its own cancellation and starts again.
ENDLESS = """
DO $$ /* of these tests */ BEGIN
    LOOP
        BEGIN PERFORM pg_sleep(10); EXCEPTION WHEN query_canceled THEN NULL; END;
    END LOOP;
END $$
"""


async def test_a_statement_that_ignores_its_time_limit_is_abandoned_and_ended(
    copy: Copy, owner: Database, a: Tenant
) -> None:
    async with await Database.open(
        copy.where.tenant, copy.strategies, copy.binding_key, wait=3, statement_timeout=1
    ) as database:
        async with asyncio.timeout(60):
            with pytest.raises(Unavailable, match="the statement took too long"):
                async with database.transaction(a) as work:
                    await work.script(ENDLESS)
            # Its connection is closed, and the only place in the pool is free for the next.
            async with database.transaction(a) as work:
                assert await work.value("SELECT 1") == 1
            while await _sessions(owner):  # noqa: ASYNC110  another process ends them
                await asyncio.sleep(0.1)


async def _sessions(owner: Database) -> int:
    async with owner.unbound() as work:
        count: int = await work.value(SESSIONS)
        return count
