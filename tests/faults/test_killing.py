"""kill -9 of the server at each step of a change: committed changes are complete, and others left no trace.

A request that is repeated with its idempotency key gets its answer in any case, and is executed once.
"""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from isola.database.transactions import Database
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import GRAPHQL_JSON, Client
from isola_strategies.base import Strategy
from tests.cli.processes import Place, Running
from tests.faults import proxy
from tests.faults.deletion import Deletion, prepared
from tests.faults.proxy import Message, Proxy

KEY = "of one deletion"
READY = "Z"  # ReadyForQuery: the database has finished the request

# After which messages the server is killed, and whether the change has happened then. The last message is held back.
STEPS: dict[str, tuple[list[Any], bool]] = {
    "the transaction is to begin": ([lambda m: m.says("BEGIN")], False),
    "it is bound": ([lambda m: m.says("BEGIN"), lambda m: m.type == READY], False),
    "a statement is on its way": ([lambda m: m.says("BEGIN"), lambda m: m.type == "E"], False),
    "a statement is done": ([lambda m: m.says("BEGIN"), lambda m: m.type == "E", lambda m: m.type == READY], False),
    "the commit is on its way": ([lambda m: m.says("COMMIT")], False),
    "the commit is done and its answer is lost": ([lambda m: m.says("COMMIT"), lambda m: m.type == READY], True),
}


@pytest.fixture
async def between(copy: Copy) -> AsyncIterator[Proxy]:
    async with proxy.before(copy.where.tenant) as made:
        yield made


@pytest.fixture
def place(copy: Copy, between: Proxy, tmp_path: Path) -> Place:
    addresses = {"DATABASE": copy.where.owner, "TENANT": between.address, "CONTROL": copy.where.control}
    return Place(tmp_path, {f"ISOLA_{name}_URL": str(address) for name, address in addresses.items()})


def a_client(place: Place, server: Running, http: httpx.AsyncClient, tenant: str) -> Client:
    http.base_url = httpx.URL(server.url)
    token = place.token(tenant)
    headers = {"authorization": f"Bearer {token}", "accept": GRAPHQL_JSON, "content-type": "application/json"}
    return Client(http, tenant, headers)


@pytest.mark.parametrize("step", STEPS)
async def test_when(step: str, copy: Copy, owner: Database, between: Proxy, place: Place, strategy: Strategy) -> None:
    awaited, done = STEPS[step]
    tenant = f"{strategy.name}-a"
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
        async with _serving(place) as server:
            client = a_client(place, server, http, tenant)
            await (await prepared(client)).ask()
            deletion = await prepared(client)
            between.stop = _killing(server, list(awaited))
            with pytest.raises(httpx.TransportError):
                await deletion.ask(KEY)
            assert await asyncio.to_thread(server.process.wait) == -signal.SIGKILL
        between.stop = proxy._never
        await _is_over(owner, copy)
        assert await deletion.is_done(copy, owner) is done

        async with _serving(place) as server:
            again = Deletion(a_client(place, server, http, tenant), deletion.id)
            answer = await again.ask(KEY)
            assert answer.data == {"deleteResource": {"deletedId": deletion.id}}
            assert ("idempotency-replayed" in answer.response.headers) is done
            assert (await again.ask()).code == "NOT_FOUND"
            assert await again.is_done(copy, owner)


@asynccontextmanager
async def _serving(place: Place) -> AsyncIterator[Running]:
    """Start the server in a thread, as its proxy runs in this event loop meanwhile."""
    held = place.server()
    server = await asyncio.to_thread(held.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(held.__exit__, None, None, None)


def _killing(server: Running, awaited: list[Any]) -> proxy.Stop:
    async def stop(message: Message) -> bool:
        if awaited and awaited[0](message):
            awaited.pop(0)
            if not awaited:
                server.process.send_signal(signal.SIGKILL)
                return True
        return False

    return stop


async def _is_over(owner: Database, copy: Copy) -> None:
    """Wait until PostgreSQL has noticed that the server is gone, and has rolled back its transactions."""
    left = "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = current_database()"
    async with asyncio.timeout(PATIENCE), owner.unbound() as work:
        while await work.value(left, copy.where.tenant_login):
            await asyncio.sleep(0.02)
            await work.value("SELECT pg_stat_clear_snapshot()")
