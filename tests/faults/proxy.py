"""A proxy for PostgreSQL that understands its protocol, and can end a connection at any message."""

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import make_url

PORT = 5432
# The startup message and the request to cancel have no type.
STARTUP = "startup"


@dataclass(frozen=True, slots=True)
class Message:
    """A protocol message in transit: its type, and whether it comes from the database."""

    type: str
    from_database: bool
    content: bytes

    def says(self, text: str) -> bool:
        return text.encode() in self.content


# Called for each message before it is forwarded; True ends the connection instead.
Stop = Callable[[Message], Awaitable[bool]]


async def _never(_: Message) -> bool:
    return False


@dataclass
class Proxy:
    """``stop``, if set, is called for each message."""

    address: str
    database: str
    stop: Stop = _never
    conversations: set[asyncio.Task[None]] = field(default_factory=set)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self.conversations.add(task)
        try:
            there, back = await self._connected()
            try:
                await self._both_ways(reader, writer, there, back)
            finally:
                await _hung_up(back)
        finally:
            await _hung_up(writer)
            self.conversations.discard(task)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        url = make_url(self.database)
        host = str(url.query.get("host") or url.host or "localhost")
        port = url.port or int(str(url.query.get("port") or PORT))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def _both_ways(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        ways = [
            asyncio.create_task(self._forward(reader, back, from_database=False)),
            asyncio.create_task(self._forward(there, writer, from_database=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forward(
        self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, from_database: bool
    ) -> None:
        kind = "" if from_database else STARTUP
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await source.readexactly(4 if kind == STARTUP else 5)
                (length,) = struct.unpack("!i", head[-4:])
                content = await source.readexactly(length - 4)
                message = Message(kind or head[:1].decode(), from_database, content)
                kind = ""
                if await self.stop(message):
                    return
                target.write(head + content)
                await target.drain()


async def _hung_up(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def before(database: str) -> AsyncIterator[Proxy]:
    """A proxy for the database and login of an address."""
    with TemporaryDirectory(prefix="isola-proxy-") as directory:
        address = make_url(database).set(host=None, port=None, query={"host": directory})
        proxy = Proxy(address.render_as_string(hide_password=False), database)
        socket = Path(directory) / f".s.PGSQL.{PORT}"
        server = await asyncio.start_unix_server(proxy.converse, socket)
        try:
            yield proxy
        finally:
            server.close()
            await asyncio.sleep(0)  # tasks of connections accepted just now start, so that they can be ended
            for conversation in list(proxy.conversations):
                conversation.cancel()
            await asyncio.gather(*proxy.conversations, return_exceptions=True)
