"""The servers under test: start commands, CPU pinning, and the CPU use of server and PostgreSQL."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from sqlalchemy.engine import make_url

from isola.errors import OperatorError
from isola.lab.peers import operations
from isola.lab.peers.data import login_address
from isola.lab.peers.operations import HERE, Dialect

POOL = 10
STARTING_SECONDS = 60.0
ENDING_SECONDS = 10.0
NODE = HERE / "node_modules" / ".bin" / "node"


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """``places``: the strategy of the tenants in its requests."""

    name: str
    title: str
    command: Sequence[str | Path]
    dialect: Dialect = operations.TYPED_IDS
    places: str = "rls"


ISOLA = Peer("isola", "Isola, tenants under rls", [Path(sys.executable).parent / "isola", "serve"])
IN_SCHEMAS = Peer("isola-schema", "Isola, tenants under schema", ISOLA.command, places="schema")
POSTGRAPHILE = Peer(
    "postgraphile", "PostGraphile 5", [NODE, HERE / "postgraphile" / "server.mjs"], operations.POSTGRAPHILE
)
STRAWBERRY = Peer(
    "strawberry", "Strawberry, the usual way", [sys.executable, "-m", "isola.lab.peers.usual"], operations.PLAIN_IDS
)
HANDWRITTEN = Peer("handwritten", "hand-written, the limit", [sys.executable, "-m", "isola.lab.peers.handwritten"])
PEERS = (ISOLA, IN_SCHEMAS, POSTGRAPHILE, STRAWBERRY, HANDWRITTEN)


@dataclass(frozen=True, slots=True)
class Server:
    peer: Peer
    port: int
    process: psutil.Process

    def cpu(self) -> float:
        """CPU seconds of all its threads, user and system."""
        return _cpu(self.process)

    def memory(self) -> int:
        """Resident bytes."""
        return int(self.process.memory_info().rss)


@dataclass(frozen=True, slots=True)
class Cores:
    """``server`` for the server under test; ``others`` for PostgreSQL, the generator and this program."""

    server: frozenset[int]
    others: frozenset[int]

    @classmethod
    def split(cls, *, pinned: bool) -> "Cores":
        """Reserve the first core for the server, unless there is only one core or affinity cannot be set."""
        cores = sorted(_affinity())
        if not pinned or len(cores) == 1:
            return cls(frozenset(cores), frozenset(cores))
        return cls(frozenset(cores[:1]), frozenset(cores[1:]))

    def keep(self) -> None:
        """Restrict this process and its future child processes to the other cores."""
        _pin(self.others)


@contextmanager
def serving(peer: Peer, address: str, directory: Path, secret: str, cores: Cores) -> Iterator[Server]:
    """Run a peer on the database at ``address``. Raises OperatorError with its output when it does not start."""
    port = free_port()
    environment = {**os.environ, **_environment(address, directory, secret, port)}
    with started(peer, environment, port, directory / f"{peer.name}.log", cores) as server:
        yield server


@contextmanager
def started(
    peer: Peer, environment: Mapping[str, str], port: int, log: Path, cores: Cores, directory: Path | None = None
) -> Iterator[Server]:
    """Run a peer in ``directory``, by default this one; ``environment`` is its complete environment and has ``port``.

    Raises OperatorError as ``serving``.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            peer.command,
            env=environment,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # protect it from the terminal's Ctrl-C: this function stops it
            preexec_fn=lambda: _pin(cores.server),  # noqa: PLW1509  this process has no threads yet
        )
    try:
        deadline = time.monotonic() + STARTING_SECONDS
        while not _listening(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise OperatorError(f"{peer.title} did not start; it said ({log}):\n{log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield Server(peer, port, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(ENDING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class PostgreSQL:
    """The processes of a PostgreSQL server, found by its data directory."""

    def __init__(self, directory: Path) -> None:
        pid = int((directory / "postgresql" / "postmaster.pid").read_text().splitlines()[0])
        self._postmaster = psutil.Process(pid)

    def cpu(self) -> float:
        """CPU seconds of all its processes, including those that have ended."""
        ended = self._postmaster.cpu_times()
        total = _cpu(self._postmaster) + float(ended.children_user + ended.children_system)
        for child in self._postmaster.children():
            with suppress(psutil.NoSuchProcess):
                total += _cpu(child)
        return total


def _environment(address: str, directory: Path, secret: str, port: int) -> Mapping[str, str]:
    return {
        "ISOLA_DATABASE_URL": address,
        "ISOLA_DATA_DIR": str(directory),
        "ISOLA_PORT": str(port),
        "ISOLA_POOL_SIZE": str(POOL),
        "ISOLA_TOKEN_KEY": secret,
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
        "PEER_DATABASE": "postgres",
        "PEER_HOST": str(make_url(address).query["host"]),
        "PEER_POOL": str(POOL),
        "PEER_PORT": str(port),
        "PEER_SECRET": secret,
        "PEER_TENANT_URL": login_address(address, "isola_tenant"),
    }


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _pin(cores: frozenset[int]) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
