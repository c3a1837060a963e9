"""Subscribers that lose their connection again and again, while servers and sessions are killed.

``python -m benchmarks.reconnecting`` from the checkout. Two servers serve the tenants. Each client follows the
resources of its tenant over a WebSocket, breaks its connection at random moments without a closing handshake, and
continues from its last cursor at a random server. Every two seconds a server is killed and started again, or all
sessions of the database are ended, in turn. Writes go on meanwhile. In the end, each client must have received each
resource of its tenant once, all clients of a tenant in the same order, and nothing else.

Exit status 1 if an event was lost, repeated, foreign, or out of order.
"""

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from secrets import token_hex
from typing import Annotated

import asyncpg
import httpx
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from benchmarks.figures import Figure, show
from benchmarks.many import MAKING, make, place_of, residents
from isola.database import embedded
from isola.lab.peers.data import POSTGRESQL
from isola.lab.peers.processes import ISOLA, Cores, free_port, started
from isola.lab.population import Resident
from isola.lab.serving import Served, environment

CHANGES = "subscription ($after: String) { resourceChanges(after: $after) { kind id cursor } }"
CREATE = "mutation ($name: String!) { createResource(input: {name: $name}) { resource { id } } }"
PAGE = """query ($filter: ResourceFilter, $after: String) {
    resources(filter: $filter, first: 100, after: $after) { nodes { id } pageInfo { hasNextPage endCursor } } }"""
KILL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = current_database() AND usename <> current_user AND pid <> pg_backend_pid()
"""
CONNECTIONS, RESOURCES, SPANS, SERVERS = 10, 5, 5, 2
DISTURBED_EVERY, PAUSE, PATIENCE, SETTLING = 2.0, 0.05, 60.0, 30.0
RANDOM = random.Random(5)  # noqa: S311  not a secret


class Server:
    """A server that can be killed and started again, at the same port."""

    def __init__(self, address: str, directory: Path, secret: str, number: int) -> None:
        self.port = free_port()
        self.kills = 0
        self._directory = directory
        self._log = directory / f"server-{number}.log"
        self._environment = environment(place_of(address), directory, secret, self.port, CONNECTIONS)
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        cores = Cores.split(pinned=False)
        self.server = self._running.enter_context(
            started(ISOLA, self._environment, self.port, self._log, cores, self._directory)
        )

    def kill(self) -> None:
        self.kills += 1
        os.kill(self.server.process.pid, signal.SIGKILL)
        self._running.close()
        self.start()

    def stop(self) -> None:
        self._running.close()


class Client:
    """Follows the resources of a tenant. ``received`` has the ids of the events, in their order."""

    def __init__(self, resident: Resident, token: str, servers: Sequence[Server]) -> None:
        self.resident = resident
        self.token = token
        self.received: list[str] = []
        self.connections = 0
        self.begun = asyncio.Event()
        self._servers = servers
        self._cursor: str | None = None

    async def follow(self, mean: float) -> None:
        """Until it is cancelled; a connection lasts ``mean`` seconds on average."""
        while True:
            with suppress(OSError, WebSocketException, TimeoutError, EOFError):
                await self._connected(RANDOM.expovariate(1 / mean))
            await asyncio.sleep(PAUSE)

    async def _connected(self, seconds: float) -> None:
        url = f"ws://127.0.0.1:{RANDOM.choice(self._servers).port}/graphql"
        async with connect(
            url,
            subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]  # a NewType of str
            compression=None,
            proxy=None,
            open_timeout=PATIENCE,
            close_timeout=1,
        ) as socket:
            await socket.send(
                json.dumps({"type": "connection_init", "payload": {"Authorization": f"Bearer {self.token}"}})
            )
            await socket.recv()
            variables = {"after": self._cursor}
            await socket.send(
                json.dumps({"id": "1", "type": "subscribe", "payload": {"query": CHANGES, "variables": variables}})
            )
            self.connections += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._receive(socket)
            socket.transport.abort()

    async def _receive(self, socket: ClientConnection) -> None:
        async for text in socket:
            message = json.loads(text)
            if message["type"] != "next":
                raise EOFError
            event = message["payload"]["data"]["resourceChanges"]
            if event["kind"] != "STARTED":
                self.received.append(event["id"])
            # Together with the event: whatever comes next, the client continues after it.
            self._cursor = event["cursor"]
            self.begun.set()


async def write(
    clients: Sequence[Client], servers: Sequence[Server], run: str, rate: float, over: asyncio.Event
) -> int:
    """Create resources until it is over; the number of requests. One to a server that is killed may fail."""
    number = 0
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http, asyncio.TaskGroup() as group:

        async def create(client: Client) -> None:
            body = {"query": CREATE, "variables": {"name": f"written {run} {token_hex(8)}"}}
            url = f"http://127.0.0.1:{RANDOM.choice(servers).port}/graphql"
            with suppress(httpx.HTTPError):
                await http.post(url, json=body, headers={"authorization": f"Bearer {client.token}"})

        began = time.perf_counter()
        while not over.is_set():
            number += 1
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            group.create_task(create(RANDOM.choice(clients)))
    return number


async def disturb(address: str, servers: Sequence[Server], over: asyncio.Event) -> int:
    """Kill servers and sessions in turn until it is over; the number of times that all sessions were ended."""
    ended = 0
    connection = await asyncpg.connect(address)
    try:
        while not over.is_set():
            await asyncio.sleep(DISTURBED_EVERY)
            await asyncio.to_thread(RANDOM.choice(servers).kill)
            await asyncio.sleep(DISTURBED_EVERY)
            await connection.execute(KILL)
            ended += 1
    finally:
        await connection.close()
    return ended


async def written(client: Client, server: Server, run: str) -> set[str]:
    """The ids of the resources of the client's tenant that this run wrote."""
    found: set[str] = set()
    variables: dict[str, object] = {"filter": {"name": {"startsWith": f"written {run} "}}, "after": None}
    headers = {"authorization": f"Bearer {client.token}"}
    async with httpx.AsyncClient(timeout=PATIENCE, trust_env=False) as http:
        while True:
            url = f"http://127.0.0.1:{server.port}/graphql"
            answer = await http.post(url, json={"query": PAGE, "variables": variables}, headers=headers)
            page = answer.json()["data"]["resources"]
            found.update(node["id"] for node in page["nodes"])
            if not page["pageInfo"]["hasNextPage"]:
                return found
            variables["after"] = page["pageInfo"]["endCursor"]


def faults(clients: Sequence[Client], expected: Mapping[str, set[str]]) -> dict[str, int]:
    """How many events were lost, repeated, foreign, or in another order than for the tenant's first client."""
    count = dict.fromkeys(("lost", "repeated", "foreign", "in another order"), 0)
    first: dict[str, list[str]] = {}
    for client in clients:
        slug, received = client.resident.tenant.slug, client.received
        count["lost"] += len(expected[slug] - set(received))
        count["repeated"] += len(received) - len(set(received))
        count["foreign"] += len(set(received) - expected[slug])
        order = first.setdefault(slug, received)
        count["in another order"] += sum(one != other for one, other in zip(order, received, strict=False))
    return count


async def measure(
    address: str, directory: Path, number: int, reconnections: int, rate: float, mean: float
) -> list[Figure]:
    every, run = await residents(place_of(address)), token_hex(4)
    secret = token_hex(32)
    servers = [Server(address, directory, secret, each) for each in range(SERVERS)]
    served = Served(servers[0].server, secret, "editor")
    clients = [
        Client(resident, served.token(resident), servers)
        for index in range(number)
        for resident in [every[index % len(every)]]
    ]
    over = asyncio.Event()
    following = [asyncio.create_task(client.follow(mean)) for client in clients]
    await asyncio.gather(*(client.begun.wait() for client in clients))
    before = sum(client.connections for client in clients)
    writing = asyncio.create_task(write(clients, servers, run, rate, over))
    disturbing = asyncio.create_task(disturb(address, servers, over))
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("reconnections", total=reconnections)
        while (made := sum(client.connections for client in clients) - before) < reconnections:
            progress.update(task, completed=made)
            await asyncio.sleep(0.5)
    over.set()
    requests, ended = await writing, await disturbing
    expected = {client.resident.tenant.slug: await written(client, servers[0], run) for client in clients[: len(every)]}
    deadline = time.perf_counter() + SETTLING
    while (found := faults(clients, expected))["lost"] and time.perf_counter() < deadline:  # noqa: ASYNC110  no event
        await asyncio.sleep(0.5)
    for each in following:
        each.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    for server in servers:
        server.stop()
    total = sum(len(expected[client.resident.tenant.slug]) for client in clients)
    return [
        Figure("reconnections", made, "", reconnections, at_least=True),
        Figure("times that a server was killed", sum(server.kills for server in servers), ""),
        Figure("times that all sessions were ended", ended, ""),
        Figure("writes", requests, ""),
        Figure("events expected", total, "", 1, at_least=True),
        *(Figure(f"events {name}", value, "", 1) for name, value in found.items()),
    ]


def main(
    *,
    tenants: Annotated[int, typer.Option(min=2, help="number of tenants")] = 20,
    clients: Annotated[int, typer.Option(help="number of clients")] = 60,
    reconnections: Annotated[int, typer.Option(help="reconnections in all")] = 1_000,
    rate: Annotated[float, typer.Option(help="writes a second")] = 20,
    mean: Annotated[float, typer.Option(help="how long a connection lasts on average, in seconds")] = 4,
    strategy: Annotated[str, typer.Option(help="the tenants' isolation strategy")] = "rls",
    directory: Annotated[Path | None, typer.Option(help="directory for the data")] = None,
) -> None:
    """Follow, break, kill, write, and compare."""
    kept = (directory or Path(".isola") / f"reconnecting-{strategy}").resolve()
    with embedded.running(kept, MAKING) as address:
        asyncio.run(make(address, strategy, tenants, RESOURCES, SPANS))
    with embedded.running(kept, POSTGRESQL) as address:
        figures = asyncio.run(measure(address, kept, clients, reconnections, rate, mean))
    show(figures, f"{clients:,} clients of {tenants:,} tenants under {strategy}")
    sys.exit(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    typer.run(main)
