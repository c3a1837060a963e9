"""One measurement: a server under load for a few seconds, and its cost in the server and in PostgreSQL."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from isola.errors import OperatorError
from isola.lab.peers.load import Job, Measured
from isola.lab.peers.processes import PostgreSQL, Server

PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """Latencies in milliseconds; CPU in microseconds per request, ``postgresql`` for all of its processes.

    ``elsewhere`` is the fraction of the machine's time used by unrelated processes.
    """

    rate: float
    median: float
    p99: float
    server: float
    postgresql: float
    generator: float
    elsewhere: float

    @property
    def cpu(self) -> float:
        """CPU per request, server and PostgreSQL together."""
        return self.server + self.postgresql


def sample(server: Server, postgresql: PostgreSQL, job: Job) -> Sample:
    """Raises OperatorError with the first wrong answer."""
    started, busy = time.monotonic(), _busy()
    before = server.cpu(), postgresql.cpu()
    measured = load(job, server)
    after = server.cpu(), postgresql.cpu()
    busy, capacity = _busy() - busy, (time.monotonic() - started) * (psutil.cpu_count() or 1)
    own = after[0] - before[0] + after[1] - before[1] + measured.cpu
    answered = len(measured.latencies)
    return Sample(
        rate=answered / measured.seconds,
        median=measured.latencies[answered // 2] * 1e3,
        p99=measured.latencies[answered * 99 // 100] * 1e3,
        server=(after[0] - before[0]) / answered * 1e6,
        postgresql=(after[1] - before[1]) / answered * 1e6,
        generator=measured.cpu / answered * 1e6,
        elsewhere=max(0.0, (busy - own) / capacity),
    )


def load(job: Job, server: Server) -> Measured:
    """Run the generator. Raises OperatorError as ``sample``."""
    command = [sys.executable, "-m", "isola.lab.peers.load"]
    try:
        done = subprocess.run(
            command,
            check=False,
            input=json.dumps(asdict(job)),
            capture_output=True,
            text=True,
            timeout=job.seconds + PATIENCE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise OperatorError(f"{server.peer.title} left a request without an answer") from None
    if done.returncode != 0:
        raise OperatorError(f"{server.peer.title} gave an answer that is not right:\n{done.stderr[-1000:]}")
    return Measured(**json.loads(done.stdout))


def answers(requests: Sequence[str], server: Server) -> list[Any]:
    """A server's answers to some requests, in order."""
    found = []
    for request in requests:
        head, _, body = request.partition("\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        url = f"http://127.0.0.1:{server.port}/graphql"
        with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers)) as answer:
            found.append(json.load(answer))
    return found


def _busy() -> float:
    """Busy seconds of all cores of the machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
