"""Raw bytes on a connection: one answer per request, in bounded time and memory."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.resources import resources
from isola.testing.fixtures import TRIED, Copy
from isola.testing.served import OPERATIONS, Api, Client, serving
from isola.testing.waiting import until_someone_waits
from isola_strategies.base import Strategy

QUERY = b'{"query": "{ viewer { tenant { slug } } }"}'
SMUGGLED = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
CLOSES = b"connection: close\r\n"


@dataclass(frozen=True)
class Raw:
    """A connection to the server, and how a client of a tenant writes its requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    authorization: bytes

    def head(self, more: bytes = b"", *, length: int | None = None) -> bytes:
        """The head of a request, for a body of ``length`` bytes."""
        framed = b"" if length is None else b"content-length: %d\r\n" % length
        named = b"authorization: %b\r\ncontent-type: application/json\r\n" % self.authorization
        return b"POST /graphql HTTP/1.1\r\nhost: localhost\r\n%b%b%b\r\n" % (named, framed, more)

    def request(self, more: bytes = b"", body: bytes = QUERY) -> bytes:
        return self.head(more, length=len(body)) + body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self, seconds: float = 30) -> bytes:
        """All bytes until the server closes the connection."""
        async with asyncio.timeout(seconds):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    async def answers(self, data: bytes) -> list[int]:
        """The statuses of all answers to some data, until the server closes the connection."""
        await self.send(data)
        return statuses(await self.rest())


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


@pytest.fixture(params=TRIED[:1])
def strategy(request: pytest.FixtureRequest, copy: Copy) -> Strategy:
    """Any strategy: requests are parsed before it matters."""
    return copy.strategies[request.param]


@pytest.fixture
async def raw(api: Api, alice: Client) -> AsyncIterator[Raw]:
    async with connected(api, alice) as connection:
        yield connection


@asynccontextmanager
async def connected(api: Api, client: Client) -> AsyncIterator[Raw]:
    reader, writer = await asyncio.open_connection(api.http.base_url.host, api.http.base_url.port)
    try:
        yield Raw(reader, writer, client.headers["authorization"].encode())
    finally:
        writer.close()


UPGRADES = {
    "h2c": b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQ\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AQIDBAUGBwgJCgsMDQ4PEA==\r\n",
    "TLS": b"Connection: Upgrade\r\nUpgrade: TLS/1.2, HTTP/1.1\r\n",
    "anything": b"upgrade: x\r\nconnection: keep-alive, UPGRADE\r\n",
    "twice": b"upgrade: x\r\nupgrade: y\r\nconnection: upgrade\r\nconnection: upgrade\r\n",
}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("body", [QUERY, SMUGGLED, SMUGGLED * 3])
async def test_a_request_to_upgrade_is_answered_once_as_if_it_asked_for_none(
    upgrade: bytes, body: bytes, raw: Raw
) -> None:
    await raw.send(raw.request(upgrade, body))
    await raw.send(raw.request(CLOSES))
    answer = await raw.rest()
    assert statuses(answer) == [200 if body == QUERY else 400, 200]
    assert b"alive" not in answer


async def test_a_request_to_upgrade_that_comes_byte_by_byte_is_answered_once(raw: Raw) -> None:
    for byte in raw.request(UPGRADES["h2c"] + CLOSES, SMUGGLED):
        await raw.send(bytes([byte]))
        await asyncio.sleep(0)
    assert statuses(await raw.rest()) == [400]


async def test_the_chunks_of_a_request_to_upgrade_are_its_body(raw: Raw) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUERY), QUERY)
    data = raw.head(b"transfer-encoding: chunked\r\n" + UPGRADES["h2c"]) + chunked
    answer = await _answer(raw, data + raw.request(CLOSES))
    assert statuses(answer) == [200, 200]


async def test_the_method_connect_is_refused(raw: Raw) -> None:
    assert await raw.answers(b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost\r\n\r\n" + SMUGGLED) == [400]


async def _answer(raw: Raw, data: bytes) -> bytes:
    await raw.send(data)
    return await raw.rest()


AMBIGUOUS = {
    "both framings": b"transfer-encoding: chunked\r\n",
    "chunked twice": b"transfer-encoding: chunked, chunked\r\n",
    "chunked before something": b"transfer-encoding: chunked, gzip\r\n",
    "chunked in two headers": b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
    "two lengths": b"content-length: 5\r\n",
    "a length that is none": b"content-length: +5\r\n",
    "a name with a blank": b"transfer-encoding : chunked\r\n",
    "a folded header": b"x-folded: a\r\n authorization: Bearer other\r\n",
    "NUL in a header": b"x-nul: a\x00b\r\n",
    "a bare CR": b"x-cr: a\rb\r\n",
}


@pytest.mark.parametrize("ambiguous", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_ambiguous_framing_is_refused_once_and_the_connection_closed(ambiguous: bytes, raw: Raw) -> None:
    assert await raw.answers(raw.request(ambiguous) + SMUGGLED) == [400]


CODINGS = [b"gzip", b"gzip, chunked", b"GZIP , Chunked", b"identity", b"xchunked", b"chunked;q=1"]


@pytest.mark.parametrize("more", [CLOSES, UPGRADES["h2c"]], ids=["as it is", "with an upgrade"])
@pytest.mark.parametrize("coding", CODINGS)
async def test_an_unsupported_transfer_coding_is_refused_and_the_connection_closed(
    coding: bytes, more: bytes, raw: Raw
) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUERY), QUERY)
    head = raw.head(b"transfer-encoding: %b\r\n" % coding + more)
    assert await raw.answers(head + chunked + SMUGGLED) == [501]


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked"])
async def test_a_chunked_body_is_read(coding: bytes, raw: Raw) -> None:
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(QUERY), QUERY)
    assert await raw.answers(raw.head(b"transfer-encoding:%b\r\n" % coding + CLOSES) + chunked) == [200]


@pytest.mark.parametrize(("size", "status"), [(len(QUERY), 200), (1_000_001, 413)], ids=["fits", "too large"])
async def test_leading_zeros_of_a_length_are_ignored(size: int, status: int, raw: Raw) -> None:
    length = b"content-length: %b%d\r\n" % (b"0" * 5000, size)
    assert await raw.answers(raw.head(length + CLOSES) + QUERY) == [status]


@pytest.mark.parametrize("name", ["authorization", "x-forwarded-for", "x-tenant-id", "host"])
async def test_trailers_are_ignored(name: str, api: Api, alice: Client) -> None:
    async with connected(api, alice) as raw:
        head = raw.head(b"transfer-encoding: chunked\r\n" + CLOSES)
        if name == "authorization":
            head = re.sub(rb"authorization: [^\r]*\r\n", b"", head)
        value = {"authorization": raw.authorization, "x-tenant-id": b"nobody"}.get(name, b"elsewhere")
        chunked = b"%x\r\n%b\r\n0\r\n%b: %b\r\n\r\n" % (len(QUERY), QUERY, name.encode(), value)
        assert await raw.answers(head + chunked) == [401 if name == "authorization" else 200]


async def test_the_error_of_a_malformed_request_does_not_answer_the_previous_one(raw: Raw) -> None:
    answer = await _answer(raw, raw.request() + b"nonsense\r\n\r\n")
    assert 400 not in statuses(answer)


LIMITS = {
    "max_head_bytes": 4096,
    "max_headers": 20,
    "head_timeout": 1,
    "body_timeout": 1.2,
    "read_timeout": 1,
    "max_connections": 8,
}


@pytest.fixture
async def tight(copy: Copy, api: Api) -> AsyncIterator[Api]:
    """A server with small limits."""
    async with serving(copy, api.settings.model_copy(update=LIMITS)) as server:
        yield server


HEADS = {
    "an endless header": b"x: " + b"a" * 200_000,
    "a large header": b"x: " + b"a" * 8000 + b"\r\n\r\n",
    "many headers": b"x: a\r\n" * 30 + b"\r\n",
    "endless headers": b"x: a\r\n" * 30_000,
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_a_head_that_is_too_large_is_refused(head: bytes, tight: Api, alice: Client) -> None:
    async with connected(tight, alice) as raw:
        assert await raw.answers(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n" + head) == [431]


async def test_a_line_that_is_too_long_is_refused(tight: Api, alice: Client) -> None:
    async with connected(tight, alice) as raw:
        assert await raw.answers(b"GET /livez?" + b"a" * 100_000) == [431]


LATE = {
    "nothing": (b"", []),
    "blank lines": (b"\r\n\r\n", []),
    "half a head": (b"GET /livez HTTP/1.1\r\nhost: loc", [408]),
    "half a body": (b"POST /graphql HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: 10\r\n\r\n{", [408]),
    "half a body of nobody": (b"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{", [401]),
    "half a body that is not read": (b"GET /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{", [200]),
}


@pytest.mark.parametrize(("sent", "answered"), LATE.values(), ids=LATE)
async def test_a_request_that_does_not_arrive_in_time_is_disconnected(
    sent: bytes, answered: list[int], tight: Api, alice: Client
) -> None:
    async with connected(tight, alice) as raw:
        headers = b"authorization: %b\r\ncontent-type: application/json\r\n" % raw.authorization
        assert await raw.answers(sent % headers if b"%b" in sent else sent) == answered


async def test_a_head_sent_byte_by_byte_has_the_same_time_limit(tight: Api, alice: Client) -> None:
    async with connected(tight, alice) as raw:
        for byte in b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx":
            raw.writer.write(bytes([byte]))
            await asyncio.sleep(0.05)
        assert statuses(await raw.rest()) == [408]


async def test_at_the_limit_of_connections_the_longest_idle_makes_room(tight: Api, alice: Client) -> None:
    idle = [await asyncio.open_connection(tight.http.base_url.host, tight.http.base_url.port) for _ in range(8)]
    async with connected(tight, alice) as raw:
        assert await raw.answers(raw.request(CLOSES)) == [200]
    assert await asyncio.wait_for(idle[0][0].read(), 30) == b""
    for _, writer in idle:
        writer.close()


HALVES = {
    "half a head": b"GET /livez HTTP/1.1\r\n",
    "half a body": b"POST /graphql HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\n{",
}


@pytest.mark.parametrize("half", HALVES.values(), ids=HALVES)
async def test_incomplete_requests_do_not_exclude_other_clients(half: bytes, tight: Api, alice: Client) -> None:
    halves = []
    for _ in range(8):
        reader, writer = await asyncio.open_connection(tight.http.base_url.host, tight.http.base_url.port)
        writer.write(half)
        halves.append((reader, writer))
    await asyncio.sleep(0.1)
    async with connected(tight, alice) as raw:
        assert await raw.answers(raw.request(CLOSES)) == [200]
    for _, writer in halves:
        writer.close()


async def test_where_every_connection_has_a_request_under_way_a_further_one_is_refused_at_once(
    tight: Api, owner: Database, alice: Client
) -> None:
    made = await alice.create("locked")
    body = json.dumps({"query": OPERATIONS["UpdateResource"], "variables": {"input": {"id": made, "name": "x"}}})
    tenant = await provisioning.named(tight.control, alice.tenant)
    async with AsyncExitStack() as stack:
        async with tight.tenants.transaction(tenant) as work:
            await work.rows(select(resources).with_for_update())
            busy = [await stack.enter_async_context(connected(tight, alice)) for _ in range(8)]
            for raw in busy:
                await raw.send(raw.request(CLOSES, body.encode()))
            await until_someone_waits(owner)
            await asyncio.sleep(0.5)  # the others are waiting for a connection to the database
            async with connected(tight, alice) as raw:
                assert statuses(await raw.rest()) == [503]
        assert [statuses(await raw.rest()) for raw in busy] == [[200]] * 8
    async with connected(tight, alice) as raw:
        assert await raw.answers(raw.request(CLOSES)) == [200]


async def test_a_client_that_never_reads_is_disconnected_and_a_slow_one_is_not(tight: Api, alice: Client) -> None:
    await alice.create("large", data={"text": "x" * 20_000})
    aliases = " ".join(f"a{number}: resources(first: 1) {{ nodes {{ data }} }}" for number in range(10))
    request = json.dumps({"query": f"{{ {aliases} }}"}).encode()
    for reads in (False, True):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)  # noqa: FBT003  it takes no name
            loop = asyncio.get_running_loop()
            await loop.sock_connect(client, (tight.http.base_url.host, tight.http.base_url.port))
            raw = Raw(asyncio.StreamReader(), None, alice.headers["authorization"].encode())  # type: ignore[arg-type]  # it is only asked how requests are written
            most = 40
            await loop.sock_sendall(client, raw.request(body=request) * (most - 1) + raw.request(CLOSES, request))
            count = 0
            if not reads:
                await asyncio.sleep(2)
            try:
                while part := await asyncio.wait_for(loop.sock_recv(client, 1 << 20), 30):
                    count += part.count(b"HTTP/1.1 200")
                    await asyncio.sleep(0.001)
            except ConnectionError:
                pass
            assert (count == most) is reads


@pytest.mark.parametrize("version", [b" HTTP/2.0", b" HTTP/1.2", b" HTTP/0.9", b""])
async def test_unsupported_http_versions_are_refused(version: bytes, raw: Raw) -> None:
    assert (await raw.answers(b"GET /livez%b\r\nhost: localhost\r\n\r\n" % version))[0] in {400, 505}


@pytest.mark.parametrize("target", [b"http://elsewhere.example", b"http://[", b"/\xff"])
async def test_an_invalid_request_target_is_refused(target: bytes, raw: Raw) -> None:
    assert await raw.answers(b"GET %b HTTP/1.1\r\nhost: localhost\r\n\r\n" % target) == [400]


@pytest.mark.parametrize(("files", "connections"), [(4096, 3958), (200, 100)])
def test_the_limit_of_files_leaves_some_for_all_else(files: int, connections: int) -> None:
    code = (
        f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({files}, {files}))\n"
        "from isola.server.listener import _connections; from isola.settings import Settings\n"
        "print(_connections(Settings(_env_file=None, pool_size=10, max_connections=1_000_000)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert int(said.stdout) == connections


async def test_a_body_in_chunks_of_one_byte_is_read_and_one_without_end_is_not(api: Api, alice: Client) -> None:
    async with connected(api, alice) as raw:
        chunks = b"".join(b"1;extension\r\n%c\r\n" % byte for byte in QUERY)
        head = raw.head(b"transfer-encoding: chunked\r\n" + CLOSES)
        assert await raw.answers(head + chunks + b"0\r\n\r\n") == [200]
    async with connected(api, alice) as raw:
        await raw.send(raw.head(b"transfer-encoding: chunked\r\n") + b"1;" + b"e" * 9_000_000)
        assert statuses(await raw.rest()) in ([], [400], [413])


async def test_several_requests_at_once_are_answered_in_their_order(raw: Raw) -> None:
    documents = [json.dumps({"query": f"{{ a{number}: __typename }}"}).encode() for number in range(20)]
    data = b"".join(raw.request(body=document) for document in documents[:-1]) + raw.request(CLOSES, documents[-1])
    answer = (await _answer(raw, data)).decode()
    assert re.findall(r'"a(\d+)":', answer) == [str(number) for number in range(20)]
