"""The load generator, a separate process: a few connections, each with one request in flight.

It reads a job from standard input and writes the measurements to standard output. It checks every answer and stops at
a status other than 200 and at an answer with errors.
"""

import asyncio
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count, cycle
from typing import cast

import uvloop

LENGTH = b"content-length:"
END = b"\r\n\r\n"
SHOWN = 500
NUMBER = 987_654_321
"""Wherever a request has this number, another one is sent each time: for values that have to be unique."""
FEWEST, MOST = 10**8, 10**9


@dataclass(frozen=True, slots=True)
class Job:
    """``rate`` is in requests per second over all connections; None sends each request after the previous answer.

    Ends after ``seconds``, or with ``once`` when each request was sent.
    """

    port: int
    connections: int
    seconds: float
    requests: list[str]
    rate: float | None = None
    once: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """Sorted ``latencies`` in seconds, with a rate from the due time of a request; ``cpu`` of the generator."""

    seconds: float
    latencies: list[float]
    cpu: float


MARK = str(NUMBER).encode()
# Starts at a number derived from the clock, so that each later process uses other numbers.
_numbers = count(int(time.time() * 1e4))


def numbered(request: bytes) -> bytes:
    """The request with a unique number, at the same length."""
    return request.replace(MARK, b"%d" % (FEWEST + next(_numbers) % (MOST - FEWEST)))


class Connection(asyncio.Protocol):
    """One connection: sends a request, waits for the complete answer, then sends the next."""

    transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes], latencies: list[float], start: float, interval: float | None) -> None:
        self.requests = requests
        self.latencies = latencies
        self.due = start
        self.interval = interval
        self.received = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ending = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        request = next(self.requests, None)
        if request is None:
            self.done.set_result(None)
            return
        if self.interval is None:
            self.due = time.perf_counter()
        self.transport.write(numbered(request) if MARK in request else request)

    def data_received(self, data: bytes) -> None:
        self.received = self.received + data if self.received else data
        end = self.received.find(END)
        if end < 0:
            return
        head = self.received[:end].lower()
        length = head.find(LENGTH)
        if length < 0 or not head.startswith(b"http/1.1 200 "):
            self.fail(self.received)
            return
        if len(self.received) < end + len(END) + int(head[length + len(LENGTH) :].split(b"\r", 1)[0]):
            return
        if self.received.find(b'"errors"', end) >= 0:
            self.fail(self.received)
            return
        self.received = b""
        self.answered()

    def answered(self) -> None:
        now = time.perf_counter()
        self.latencies.append(now - self.due)
        if self.ending:
            if not self.done.done():
                self.done.set_result(None)
        elif self.interval is None:
            self.send()
        else:
            self.due += self.interval
            asyncio.get_running_loop().call_later(max(0.0, self.due - now), self.send)

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(b"the connection was closed: %r" % exc)

    def fail(self, what: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(what[:SHOWN].decode(errors="replace")))


async def run(job: Job) -> Measured:
    """Load one server for the duration of the job. Raises RuntimeError with the first wrong answer."""
    loop = asyncio.get_running_loop()
    encoded = [request.encode() for request in job.requests]
    requests = iter(encoded) if job.once else cycle(encoded)
    latencies: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    interval = None if job.rate is None else job.connections / job.rate
    connections = []
    for number in range(job.connections):
        due = start + (interval or 0) * number / job.connections
        _, connection = await loop.create_connection(
            lambda due=due: Connection(requests, latencies, due, interval),  # type: ignore[misc]  # mypy infers no lambda's default
            "127.0.0.1",
            job.port,
        )
        connections.append(connection)
        loop.call_later(max(0.0, due - time.perf_counter()), connection.send)
    waiting = [connection.done for connection in connections]
    # Ends early on a failure, or when all requests are sent.
    await asyncio.wait(waiting, timeout=job.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for connection in connections:
        connection.ending = True
    # Wait for requests in flight and count them: a slow server may have no others.
    await asyncio.gather(*waiting)
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    for connection in connections:
        connection.transport.abort()
    return Measured(seconds, sorted(latencies), cpu)


if __name__ == "__main__":
    try:
        json.dump(asdict(uvloop.run(run(Job(**json.load(sys.stdin))))), sys.stdout)
    except RuntimeError as wrong:
        sys.exit(str(wrong))
