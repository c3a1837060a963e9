"""Sealers whose connections are killed midway leave a complete batch or nothing, and no writer is affected."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import asyncpg
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform import audit, sealing
from isola.platform.tenants import Tenant
from isola.subjects import resources, roles
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola.testing.fixtures import Copy

WRITERS, EACH = 3, 40
KILL = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = $1 AND datname = current_database() AND query LIKE '%control.seal%' AND state <> 'idle'
"""


async def test_every_entry_has_one_number_however_many_sealers_are_killed(
    copy: Copy, owner: Database, database: Database, control: Database, a: Tenant
) -> None:
    async with database.transaction(a) as work:
        standing = await roles.admit(work, subject="ada", name=None, email=None, role=Role.OWNER)
    ada = Actor(standing.user_id, of_role(Role.OWNER))
    before = (await audit.verify(control, database, a)).entries
    login, killed = make_url(copy.where.control).username, 0

    async def write() -> None:
        for number in range(EACH):
            async with database.transaction(a) as work:
                await resources.create(work, ada, name=f"r{number}")

    async with await Database.open(copy.where.control, size=2, wait=30) as sealers:

        async def seal() -> None:
            with suppress(Refusal, asyncpg.PostgresError):
                await sealing.seal(sealers)

        async def kill() -> None:
            nonlocal killed
            async with owner.unbound() as work:
                killed += await work.value(KILL, login)

        writing = asyncio.gather(*(write() for _ in range(WRITERS)))
        await asyncio.gather(_until(writing, seal), _until(writing, seal), _until(writing, kill))
        await writing
    while await sealing.seal(control):
        pass
    assert killed > 0
    verdict = await audit.verify(control, database, a)
    assert (verdict.entries, verdict.unsealed, verdict.broken) == (before + WRITERS * EACH, 0, None)
    async with database.transaction(a, read_only=True) as work:
        numbers = [entry["number"] for entry in await sealing.follow(work, 0, 10_000)]
    assert numbers == list(range(1, verdict.entries + 1))


async def _until(done: "asyncio.Future[list[None]]", work: Callable[[], Awaitable[None]]) -> None:
    while not done.done():
        await work()
        await asyncio.sleep(0)
