"""Clients of subscriptions: graphql-transport-ws over a WebSocket, and server-sent events."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import httpx
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from isola.testing.patience import PATIENCE
from isola.testing.served import Client

PROTOCOL = "graphql-transport-ws"
ARRIVAL = min(PATIENCE, 20.0)
"""Seconds that a message may take. A sabotage that suppresses messages is noticed after this time."""


class Ended(Exception):  # noqa: N818  an answer, not an error
    """The server has ended a subscription with errors."""

    def __init__(self, errors: list[dict[str, Any]]) -> None:
        super().__init__(errors)
        self.errors = errors

    @property
    def code(self) -> str:
        return str(self.errors[0]["extensions"]["code"])


class Listener:
    """A WebSocket of one client. Messages of each operation are sorted into a queue of its own."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._ids = map(str, itertools.count(1))
        self._queues: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        self._task: asyncio.Task[None] | None = None

    async def send(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        """The next message, before ``begin``."""
        async with asyncio.timeout(ARRIVAL):
            message: dict[str, Any] = json.loads(await self.socket.recv())
        return message

    async def closed(self) -> tuple[int, str]:
        """The code and the reason with which the server closes the connection."""
        async with asyncio.timeout(ARRIVAL):
            if self._task is not None:
                await self._task
            else:
                try:
                    while True:
                        await self.socket.recv()
                except ConnectionClosed:
                    pass
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""

    async def begin(self, payload: Mapping[str, Any]) -> Self:
        await self.send(type="connection_init", payload=payload)
        assert (await self.receive())["type"] == "connection_ack"
        self._task = asyncio.create_task(self._sort())
        return self

    async def pause(self) -> None:
        """Read nothing from now on, until ``closed``."""
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _sort(self) -> None:
        try:
            async for text in self.socket:
                message = json.loads(text)
                self._queues[message["id"]].put_nowait(message)
        except ConnectionClosed as closed:
            for queue in self._queues.values():
                queue.put_nowait({"type": "closed", "reason": str(closed)})

    async def subscribe(self, document: str, variables: Mapping[str, Any] | None = None, **more: Any) -> "Stream":
        name = next(self._ids)
        self._queues[name] = asyncio.Queue()
        await self.send(id=name, type="subscribe", payload={"query": document, "variables": variables, **more})
        return Stream(self, name, self._queues[name])


class Stream:
    """One subscription."""

    def __init__(self, listener: Listener, name: str, queue: asyncio.Queue[dict[str, Any]]) -> None:
        self.listener = listener
        self.name = name
        self._queue = queue

    async def next(self) -> Any:
        """The data of the next event: the value of its only field. Raises Ended."""
        async with asyncio.timeout(ARRIVAL):
            message = await self._queue.get()
        if message["type"] == "error":
            raise Ended(message["payload"])
        assert message["type"] == "next", message
        if "errors" in message["payload"]:
            raise Ended(message["payload"]["errors"])
        [value] = message["payload"]["data"].values()
        return value

    async def started(self) -> str:
        """The cursor of the first event of a subscription without one."""
        event = await self.next()
        assert event["kind"] == "STARTED"
        return str(event["cursor"])

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not taken."""
        return self._queue.qsize()

    async def complete(self) -> None:
        await self.listener.send(id=self.name, type="complete")


def address(http: httpx.AsyncClient) -> str:
    return f"{http.base_url.copy_with(scheme='ws')}".rstrip("/") + "/graphql"


@asynccontextmanager
async def connected(http: httpx.AsyncClient, **more: Any) -> AsyncIterator[Listener]:
    """A WebSocket on which nothing has been sent yet."""
    # The server listens when it has answered.
    assert (await http.get("/livez")).status_code == 200
    given = {"subprotocols": [PROTOCOL], "open_timeout": PATIENCE, "proxy": None, "close_timeout": 1, **more}
    async with connect(address(http), **given) as socket:
        yield Listener(socket)


@asynccontextmanager
async def listening(client: Client) -> AsyncIterator[Listener]:
    """A client's WebSocket, authenticated by connection_init."""
    async with connected(client.http) as listener:
        yield await listener.begin({"Authorization": client.headers["authorization"]})


@asynccontextmanager
async def streaming(
    client: Client, document: str, variables: Mapping[str, Any] | None = None
) -> AsyncIterator[AsyncIterator[tuple[str, Any]]]:
    """Server-sent events of a client: their names, and their data."""
    headers = {**client.headers, "accept": "text/event-stream"}
    content = json.dumps({"query": document, "variables": variables})
    async with client.http.stream("POST", "/graphql", content=content, headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"].startswith("text/event-stream")
        yield _events(response)


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    lines = response.aiter_lines()
    while (event := await _event(lines)) is not None:
        yield event


async def _event(lines: AsyncIterator[str]) -> tuple[str, Any] | None:
    """The next event; None at the end. Comments, which keep a connection open, do not count."""
    name = ""
    async with asyncio.timeout(ARRIVAL):
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data:"):
                data = line.removeprefix("data:").strip()
                return name, json.loads(data) if data else None
    return None
