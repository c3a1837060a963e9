"""Subscriptions: how soon a write reaches its subscribers, and what an open one costs.

``python -m benchmarks.live`` from the checkout. Each subscription has a WebSocket of its own; all of a tenant select
the same. Writes create resources in random tenants. The delay of a write is from its response until the last of its
tenant's subscribers has the event; this process receives them all, so it includes the time that receiving takes. Memory
is what the server's process has more than before, divided by the number of subscriptions. Questions are the
transactions of the whole database, with all subscriptions open and nothing written, less those before.

Exit status 1 if a bar is missed.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import asyncpg
import httpx
import psutil
import typer
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.figures import Figure, show
from benchmarks.many import MAKING, make, place_of, residents
from isola.database import embedded
from isola.lab.peers.data import POSTGRESQL
from isola.lab.peers.processes import ISOLA, Cores, free_port, started
from isola.lab.population import Resident
from isola.lab.serving import Served, environment

CHANGES = "subscription { resourceChanges { kind id cursor node { id name kind sizeBytes createdAt } } }"
CREATE = "mutation ($name: String!) { createResource(input: {name: $name}) { resource { id } } }"
CONNECTIONS, RESOURCES, SPANS = 10, 20, 20
AT_ONCE, IDLE, SETTLING = 20, 20.0, 3.0
STATISTICS = 15.0
"""PostgreSQL's processes may keep their statistics for ten seconds before others see them."""
PATIENCE = 60.0


class Subscribers:
    """All subscribers. ``arrived`` has the time at which each event arrived, for every subscriber that got it."""

    def __init__(self, served: Served, stack: AsyncExitStack) -> None:
        self._served = served
        self._stack = stack
        self._tasks: list[asyncio.Task[None]] = []
        self.arrived: dict[str, list[float]] = {}

    async def add(self, resident: Resident, token: str) -> None:
        url = f"ws://127.0.0.1:{self._served.server.port}/graphql"
        socket = await self._stack.enter_async_context(
            connect(url, subprotocols=["graphql-transport-ws"], compression=None, proxy=None, ping_interval=None)  # type: ignore[list-item]  # a NewType of str
        )
        await socket.send(json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {token}"}}))
        await socket.recv()
        await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": {"query": CHANGES}}))
        if b"STARTED" not in await socket.recv(decode=False):
            raise RuntimeError(f"{resident.tenant.slug}: the subscription did not start")
        self._tasks.append(asyncio.create_task(self._listen(socket)))

    async def _listen(self, socket: ClientConnection) -> None:
        async for text in socket:
            event = json.loads(text)["payload"]["data"]["resourceChanges"]
            self.arrived.setdefault(event["id"], []).append(time.perf_counter())

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def transactions(connection: asyncpg.Connection) -> float:
    """Transactions a second of the database, except those of this connection.

    PostgreSQL counts two for each: after it, the server checks that the connection is clean.
    """
    sql = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = current_database()"
    await asyncio.sleep(STATISTICS)
    before, began = await connection.fetchval(sql), time.perf_counter()
    await asyncio.sleep(IDLE)
    return float((await connection.fetchval(sql) - before - 1) / 2 / (time.perf_counter() - began))


async def write(
    subscribers: Subscribers, served: Served, tokens: Sequence[str], expected: int, rate: float, seconds: float
) -> tuple[list[float], int]:
    """The sorted delays of writes in seconds, and the number of events that did not arrive."""
    committed: dict[str, float] = {}
    limits = httpx.Limits(max_connections=50)
    base = f"http://127.0.0.1:{served.server.port}"
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, limits=limits, trust_env=False) as http:

        async def create(number: int) -> None:
            token = random.choice(tokens)  # noqa: S311  not a secret
            body = {"query": CREATE, "variables": {"name": f"written {number} {token_hex(4)}"}}
            answer = await http.post("/graphql", json=body, headers={"authorization": f"Bearer {token}"})
            now = time.perf_counter()
            committed[answer.json()["data"]["createResource"]["resource"]["id"]] = now

        async with asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(round(rate * seconds)):
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
                group.create_task(create(number))
    await asyncio.sleep(SETTLING)
    missing = sum(expected - len(subscribers.arrived.get(key, ())) for key in committed)
    delays = [max(subscribers.arrived[key]) - at for key, at in committed.items() if key in subscribers.arrived]
    return sorted(max(0.0, each) for each in delays), missing


def of(delays: Sequence[float], percentile: int) -> float:
    """A percentile of sorted seconds, in milliseconds."""
    return delays[len(delays) * percentile // 100] * 1e3


async def measure(address: str, directory: Path, number: int, rate: float, seconds: float) -> list[Figure]:
    every = await residents(place_of(address))
    each = number // len(every)
    secret, port = token_hex(32), free_port()
    given = environment(place_of(address), directory, secret, port, CONNECTIONS)
    connection = await asyncpg.connect(address)
    cores, log = Cores.split(pinned=False), directory / "server.log"
    with started(ISOLA, given, port, log, cores, directory) as server:
        served = Served(server, secret, "editor")
        tokens = [served.token(resident) for resident in every]
        process = psutil.Process(server.process.pid)
        async with AsyncExitStack() as stack:
            subscribers = Subscribers(served, stack)
            # The first of each tenant, so that caches do not count as memory of subscriptions.
            for resident, token in zip(every, tokens, strict=True):
                await subscribers.add(resident, token)
            await write(subscribers, served, tokens, 1, rate, 4)
            before = process.memory_full_info().uss
            waiting = [pair for pair in zip(every, tokens, strict=True) for _ in range(each - 1)]
            gate = asyncio.Semaphore(AT_ONCE)

            async def add(resident: Resident, token: str) -> None:
                async with gate:
                    await subscribers.add(resident, token)

            async with asyncio.TaskGroup() as group:
                for resident, token in waiting:
                    group.create_task(add(resident, token))
            memory = (process.memory_full_info().uss - before) / len(waiting)
            idle = await transactions(connection)
            delays, missing = await write(subscribers, served, tokens, each, rate, seconds)
            await subscribers.stop()
        without = await transactions(connection)
    await connection.close()
    return [
        Figure(f"a write reaches its {each} subscribers, 95th percentile", of(delays, 95), "ms", 250),
        Figure("99th percentile", of(delays, 99), "ms", 1000),
        Figure("events that did not arrive", missing, "", 1),
        Figure("memory of a subscription with its connection", memory / 1024, "KiB", 40),
        Figure("questions a second, nothing written", idle - without, "", 30),
    ]


def main(
    *,
    tenants: Annotated[int, typer.Option(min=2, help="number of tenants")] = 200,
    subscriptions: Annotated[int, typer.Option(help="number of subscriptions")] = 5_000,
    rate: Annotated[float, typer.Option(help="writes a second")] = 50,
    seconds: Annotated[float, typer.Option(help="how long to write")] = 20,
    strategy: Annotated[str, typer.Option(help="the tenants' isolation strategy")] = "rls",
    directory: Annotated[Path | None, typer.Option(help="directory for the data")] = None,
) -> None:
    """Open subscriptions, write, and measure."""
    kept = (directory or Path(".isola") / f"live-{strategy}").resolve()
    with embedded.running(kept, MAKING) as address:
        asyncio.run(make(address, strategy, tenants, RESOURCES, SPANS))
    with embedded.running(kept, POSTGRESQL) as address:
        figures = asyncio.run(measure(address, kept, subscriptions, rate, seconds))
    show(figures, f"{subscriptions:,} subscriptions of {tenants:,} tenants under {strategy}, {rate:g} writes a second")
    sys.exit(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    typer.run(main)
