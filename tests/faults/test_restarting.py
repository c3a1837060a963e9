"""The database restarts or crashes under load: clean errors, no acknowledged write is lost, and service resumes."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import pytest

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, Copy
from isola.testing.served import Api, Client, serving
from isola_strategies import registry
from tests.http.test_database_down import Stoppable

WRITERS = 6
# Acknowledged writes have to survive a crash of PostgreSQL, but not of the machine.
DURABLE = {"fsync": "off"}


class Durable(Stoppable):
    def start(self) -> str:
        return self._held.enter_context(embedded.running(self._data_dir, DURABLE))


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[tuple[Api, Durable, Path]]:
    """A server on a separate PostgreSQL, with a tenant under each strategy."""
    with TemporaryDirectory(prefix="isola-test-") as directory:
        postgresql = Durable(Path(directory))
        where = logins.addresses(DEFAULTS, await asyncio.to_thread(postgresql.start))
        try:
            strategies = registry.load(where.tenant_login)
            assert where.owner
            async with await Database.open(where.owner, size=2, statement_timeout=60) as owner:
                await migrations.migrate(owner, strategies, where)
                for name in strategies:
                    await provisioning.create(owner, strategies, slug=name, name=name, strategy=name)
            async with serving(Copy(where, strategies), settings) as api:
                yield api, postgresql, Path(directory)
        finally:
            await asyncio.to_thread(postgresql.stop)


async def _restart(postgresql: Durable, _: Path) -> None:
    await asyncio.to_thread(postgresql.stop)
    await asyncio.sleep(0.3)
    await asyncio.to_thread(postgresql.start)


async def _crash(_: Durable, directory: Path) -> None:
    """Kill one of its processes: PostgreSQL then ends all the others and recovers from its WAL."""
    connection = await asyncpg.connect(embedded.address(directory))
    victim = await connection.fetchval(
        "SELECT pid FROM pg_stat_activity WHERE usename = 'isola_tenant' ORDER BY random() LIMIT 1"
    )
    os.kill(victim, signal.SIGKILL)
    connection.terminate()


@pytest.mark.parametrize("fault", [_restart, _crash], ids=["restarted", "crashed"])
async def test_under_load(fault: Callable[[Durable, Path], Awaitable[None]], settings: Settings) -> None:
    acknowledged: dict[str, set[str]] = {}
    refused = 0
    ended = asyncio.Event()

    async def write(client: Client, number: int) -> None:
        nonlocal refused
        turn = 0
        while not ended.is_set():
            turn += 1
            name = f"{client.tenant} {number} {turn}"
            answer = await client.run("CreateResource", input={"name": name})
            if "errors" in answer.body:
                assert answer.code == "UNAVAILABLE", answer.response.text
                refused += 1
                await asyncio.sleep(0.01)
            else:
                acknowledged.setdefault(client.tenant, set()).add(name)

    async def written(more: int) -> None:
        wanted = sum(map(len, acknowledged.values())) + more
        async with asyncio.timeout(60):
            while sum(map(len, acknowledged.values())) < wanted:  # noqa: ASYNC110  as clear as an event
                await asyncio.sleep(0.01)

    async with served(settings) as (api, postgresql, directory):
        clients = [api.client(name) for name in sorted(api.tenants._strategies)]
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(write(clients[number % len(clients)], number))
            await written(50)
            await fault(postgresql, directory)
            # The server recovers by itself.
            await written(50)
            ended.set()

        assert refused
        assert (await api.http.get("/readyz")).status_code == 200
        for client in clients:
            names = [row["name"] for row in (await api.content(client.tenant))["resources"]]
            assert len(names) == len(set(names))
            assert acknowledged[client.tenant] <= set(names)
            assert all(name.startswith(client.tenant) for name in names)
