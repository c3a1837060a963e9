"""The CPU cost of HTTP servers per request, and their handling of requests with deceptive framing.

``python -m benchmarks.servers`` from the checkout. Each server that is installed runs the same ASGI application, which
reads the body of a request and answers with the JSON of a small read. The figure is the CPU of the server's process,
with threads, on keep-alive connections. hypercorn, granian and uvicorn with h11 are not dependencies: install them into
the environment to measure them.
"""

import argparse
import asyncio
import importlib.util
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

CONNECTIONS, REQUESTS, ROUNDS = 8, 4000, 7
READ = b'{"query": "query Resources($first: Int) { resources(first: $first) { nodes { id name } } }", "variables": {}}'
ANSWER = b'{"data":{"resources":{"nodes":[%b]}}}' % b",".join([b'{"id":"cmVzb3VyY2U6MDE5","name":"ember-indigo"}'] * 10)
UPGRADE = b"connection: upgrade\r\nupgrade: %b\r\n"
SMUGGLED = b"GET /second HTTP/1.1\r\nhost: localhost\r\n\r\n"

Message = MutableMapping[str, Any]


async def application(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The application that every server runs."""
    if scope["type"] != "http":
        return
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
    trailed = b"trailed" if (b"x-trailer", b"1") in scope["headers"] else b"none"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER)), (b"x-saw", trailed)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


def isola(port: int) -> None:
    import uvicorn  # noqa: PLC0415  not needed for other servers

    from isola.server.listener import configured  # noqa: PLC0415
    from isola.settings import Settings  # noqa: PLC0415

    config = configured(application, Settings())
    config.host, config.port = "127.0.0.1", port
    uvicorn.Server(config).run()


UVICORN = ["-m", "uvicorn", "--no-access-log", "--no-server-header", "--lifespan", "off", "--log-level", "critical"]
SERVERS: dict[str, tuple[str, list[str]]] = {
    "uvicorn, httptools": ("uvicorn", [*UVICORN, "--http", "httptools", "--ws", "none", "--port", "{port}"]),
    "uvicorn, h11": ("h11", [*UVICORN, "--http", "h11", "--ws", "none", "--port", "{port}"]),
    "isola: uvicorn, httptools, bounded": ("isola.server.protocol", ["-m", "benchmarks.servers", "--serve", "{port}"]),
    "hypercorn": ("hypercorn", ["-m", "hypercorn", "--worker-class", "uvloop", "--bind", "127.0.0.1:{port}"]),
    "granian": (
        "granian",
        ["-m", "granian", "--interface", "asginl", "--http", "1", "--no-ws", "--no-log", "--port", "{port}"],
    ),
}


@contextmanager
def running(arguments: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [argument.format(port=port) for argument in arguments]
    if "benchmarks.servers" not in command:
        command.append("benchmarks.servers:application")
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            deadline = time.monotonic() + 20
            while True:
                if server.poll() is not None:
                    raise RuntimeError(f"{command} ended with {server.returncode}")
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)
            yield port, psutil.Process(server.pid)
        finally:
            server.terminate()


def cpu(process: psutil.Process) -> float:
    """CPU seconds of a server and its child processes so far."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


async def load(port: int, requests: int) -> None:
    request = (
        b"POST /graphql HTTP/1.1\r\nhost: localhost\r\nuser-agent: benchmark/1.0\r\naccept: application/json\r\n"
        b"accept-encoding: gzip, deflate\r\nauthorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b"
    ) % (b"x" * 300, len(READ), READ)

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(requests // CONNECTIONS):
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(ANSWER))
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))


def sent(port: int, *pieces: bytes) -> bytes:
    """Send these pieces. Returns everything that the server answers within a second."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), 1) as connection:
        connection.settimeout(1)
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(0.1)
            while part := connection.recv(65_536):
                answer += part
        except OSError:  # no more data, or the connection was closed
            pass
    return answer


def upgraded(port: int, protocol: bytes) -> int:
    """The number of answers to one upgrade request whose body looks like another request."""
    head = b"POST /first HTTP/1.1\r\nhost: localhost\r\n%bcontent-length: %d\r\n\r\n"
    return len(re.findall(rb"HTTP/1\.1 [2-5]", sent(port, head % (UPGRADE % protocol, len(SMUGGLED)), SMUGGLED)))


def trailers(port: int) -> str:
    head = (
        b"POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-trailer: 1\r\n\r\n"
    )
    return "headers" if b"x-saw: trailed" in sent(port, head) else "dropped"


def headers(port: int, text: bytes) -> str:
    answer = sent(port, b"GET / HTTP/1.1\r\nhost: localhost\r\n" + text + b"\r\n")
    status = re.match(rb"HTTP/1\.1 (\d+)", answer)
    return status[1].decode() if status else "closed"


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--serve", type=int)
    if (port := arguments.parse_args().serve) is not None:
        isola(port)
        return
    installed = {name: command for name, (module, command) in SERVERS.items() if importlib.util.find_spec(module)}
    costs: dict[str, list[float]] = {name: [] for name in installed}
    found: dict[str, tuple[str, ...]] = {}
    for round_ in range(ROUNDS):
        for name, command in installed.items():
            with running(command) as (port, process):
                asyncio.run(load(port, 800))
                before = cpu(process)
                asyncio.run(load(port, REQUESTS))
                costs[name].append((cpu(process) - before) / REQUESTS * 1e6)
                if not round_:
                    found[name] = (
                        f"{upgraded(port, b'h2c')}, {upgraded(port, b'websocket')}",
                        trailers(port),
                        headers(port, b"x: a\r\n" * 5000),
                        headers(port, b"x: " + b"a" * 1_000_000 + b"\r\n"),
                    )
    table = Table(title=f"{os.cpu_count()} cores, Python {sys.version.split()[0]}")
    for title in (
        "server",
        "CPU µs a request",
        "least to most",
        "answers to an Upgrade (h2c, websocket)",
        "trailers are",
    ):
        table.add_column(title)
    table.add_column("5,000 headers")
    table.add_column("a header of 1 MB")
    for name, values in costs.items():
        spread = f"{min(values):.0f} to {max(values):.0f}"
        table.add_row(name, f"{statistics.median(values):.0f}", spread, *found[name])
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
