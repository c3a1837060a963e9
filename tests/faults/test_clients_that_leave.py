"""Clients that disconnect at any moment leave nothing behind: no connection, no binding, no partial change."""

import asyncio
import json
import random
from contextlib import suppress
from urllib.parse import urlsplit

import asyncpg

from isola.settings import Settings
from isola.testing.fixtures import STRATEGIES, Copy
from isola.testing.served import Api, Client, serving

LEAVERS = 300
AT_ONCE = 30
CONNECTIONS = 4
CREATE = """mutation ($name: String!) {
    createResource(input: {name: $name, kind: $name, data: {name: $name}}) { resource { id } } }"""


def request(client: Client, number: int) -> bytes:
    """A request: half of them write data that names its tenant, the others read."""
    name = f"{client.tenant} {number}"
    asked = {"query": CREATE, "variables": {"name": name}} if number % 2 else {"query": "{ resources { totalCount } }"}
    body = json.dumps(asked).encode()
    headers = "".join(f"{name}: {value}\r\n" for name, value in client.headers.items())
    host = client.http.base_url.netloc.decode()
    head = f"POST /graphql HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def leave(api: Api, client: Client, number: int, chance: random.Random) -> None:
    """Send a request, or the beginning of one, and disconnect a moment later, whatever the answer."""
    where = urlsplit(str(api.http.base_url))
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    whole = request(client, number)
    writer.write(whole if number % 3 else whole[: chance.randrange(len(whole))])
    with suppress(TimeoutError):
        await asyncio.wait_for(reader.read(1), chance.uniform(0, 0.02))
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


async def test_leave_connections_and_rows_as_they_should_be(copy: Copy, settings: Settings) -> None:
    few = settings.model_copy(update={"pool_size": CONNECTIONS, "pool_wait": 20})
    chance = random.Random(1)  # noqa: S311  nothing here is a secret
    async with serving(copy, few) as api:
        clients = [api.client(f"{strategy}-{letter}") for strategy in STRATEGIES for letter in "ab"]
        for client in clients:
            await client.run("Viewer")
        room = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await leave(api, clients[number % len(clients)], number, chance)

        await asyncio.gather(*(one(number) for number in range(LEAVERS)))

        # All connections are available at once, and each tenant finds its own rows, complete.
        stayed = await asyncio.gather(*(client.create("stayed") for client in clients * CONNECTIONS))
        assert len(set(stayed)) == len(clients) * CONNECTIONS
        for client in clients:
            rows = (await api.content(client.tenant))["resources"]
            written = [row for row in rows if row["name"] != "stayed"]
            assert len(rows) - len(written) == CONNECTIONS
            assert all(row["name"].startswith(f"{client.tenant} ") for row in written)
            assert all(row["kind"] == row["name"] == row["data"]["name"] for row in written)
        assert await _connections(copy) <= 2 * CONNECTIONS  # those of the server and of the test


async def _connections(copy: Copy) -> int:
    connection = await asyncpg.connect(copy.where.owner)
    count: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename = $1",
        copy.where.tenant_login,
    )
    await connection.close()
    return count
