"""An HTTP server on loopback that gets deliveries, and answers them as a test wants."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeAlias

from isola.testing.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Received:
    """A request."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    @property
    def type(self) -> str:
        return str(self.document["type"])


Reply: TypeAlias = Callable[[Received], Awaitable[bytes]]


async def accept(_: Received) -> bytes:
    return answer(204)


def answer(status: int, **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", "content-length: 0"]
    return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


@dataclass
class Receiver:
    """``requests`` has all requests, also those that were refused."""

    reply: Reply = accept
    requests: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/events/hidden?key=secret"

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers["content-length"]))
            received = Received(first.split(" ")[1], headers, body)
            self.requests.append(received)
            writer.write(await self.reply(received))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the sender has left
        finally:
            writer.transport.abort() if writer.transport.is_closing() else writer.close()

    async def received(self, count: int) -> list[Received]:
        """The requests, once there are so many."""
        async with asyncio.timeout(PATIENCE):
            while len(self.requests) < count:  # noqa: ASYNC110  only looking tells
                await asyncio.sleep(0.02)
        return self.requests


@asynccontextmanager
async def receiving(reply: Reply = accept) -> AsyncIterator[Receiver]:
    receiver = Receiver(reply)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
