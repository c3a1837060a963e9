"""Waits for events in the database."""

import asyncio

import pytest

from isola.database.transactions import Database


async def until_someone_waits(owner: Database) -> None:
    """Wait until a session in this database waits for a lock."""
    waiting = """
        SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE NOT granted AND datname = current_database()
    """
    for _ in range(2000):
        async with owner.unbound() as transaction:
            if await transaction.value(waiting):
                return
        await asyncio.sleep(0.005)
    pytest.fail("nobody waits")
