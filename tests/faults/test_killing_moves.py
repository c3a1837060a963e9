"""kill -9 of a move at each step: the tenant is in its old or its new home, with all its data."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from isola.database.transactions import Database
from isola.platform import audit, moves, provisioning
from isola.testing.fixtures import Copy
from isola_strategies.base import Strategy
from tests.control.conftest import until_alone
from tests.control.test_moves import content
from tests.control.test_provisioning import fill, footprint, made
from tests.faults import proxy
from tests.faults.proxy import Message, Proxy

READY = "Z"
MOVE = """
import asyncio, sys
from isola.platform import moves
from isola.database.transactions import Database
from isola_strategies import registry

async def run(owner_url, login, to):
    async with await Database.open(owner_url, statement_timeout=60) as owner:
        await moves.move(owner, registry.load(login), "new", to=to)

asyncio.run(run(*sys.argv[1:]))
"""


def marking(message: Message) -> bool:
    return message.says("UPDATE control.tenants SET moving_to")


def entering(message: Message) -> bool:
    return message.says("UPDATE control.tenants SET strategy")


def committing(message: Message) -> bool:
    return message.says("COMMIT")


def answered(message: Message) -> bool:
    return message.type == READY


# After which messages it is killed, and whether the tenant has moved then. The last message is held back.
STEPS: dict[str, tuple[list[Callable[[Message], bool]], bool]] = {
    "the tenant is marked": ([marking, committing, answered], False),
    "rows are being copied": ([lambda m: m.says("INSERT INTO") and m.says(".spans")], False),
    "the commit is on its way": ([entering, committing], False),
    "the commit is done and its answer is lost": ([entering, committing, answered], True),
}


@pytest.fixture
async def between(copy: Copy) -> AsyncIterator[Proxy]:
    assert copy.where.owner
    async with proxy.before(copy.where.owner) as opened:
        yield opened


@pytest.mark.parametrize("step", STEPS)
async def test_when(
    step: str, copy: Copy, owner: Database, database: Database, between: Proxy, strategy: Strategy, other: Strategy
) -> None:
    awaited, done = STEPS[step]
    tenant = await made(owner, copy, strategy)
    await fill(database, tenant, await provisioning.named(owner, f"{strategy.name}-a"))
    before, homes = await content(owner, copy, tenant), await footprint(owner)

    command = [sys.executable, "-c", MOVE, between.address, copy.where.tenant_login, other.name]
    moving = await asyncio.create_subprocess_exec(*command, cwd=Path(__file__).parents[2])
    between.stop = _killing(moving, list(awaited))
    assert await moving.wait() == -signal.SIGKILL
    between.stop = proxy._never
    await until_alone(owner)

    found = await provisioning.named(owner, "new")
    assert (found.strategy, found.moving_to) == ((other.name, None) if done else (strategy.name, other.name))
    if not done:
        after = await footprint(owner)
        assert (after.schemas, after.roles) == (homes.schemas, homes.roles)
        assert await content(owner, copy, tenant) == before
        found = await moves.move(owner, copy.strategies, "new", to=other.name)
    moved = await content(owner, copy, found)
    assert {**moved, "audit_entries": before["audit_entries"]} == before
    assert (await audit.verify(owner, database, found)).broken is None


def _killing(moving: asyncio.subprocess.Process, awaited: list[Callable[[Message], bool]]) -> proxy.Stop:
    async def stop(message: Message) -> bool:
        if awaited and awaited[0](message):
            awaited.pop(0)
            if not awaited:
                moving.kill()
                return True
        return False

    return stop
