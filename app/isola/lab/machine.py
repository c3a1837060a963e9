"""The machine of a run: its description, and its load from other programs."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import asyncpg
import psutil

SETTINGS = (
    "autovacuum",
    "checkpoint_timeout",
    "effective_cache_size",
    "fsync",
    "full_page_writes",
    "jit",
    "max_connections",
    "max_locks_per_transaction",
    "max_wal_size",
    "random_page_cost",
    "shared_buffers",
    "synchronous_commit",
    "work_mem",
)
"""Settings of PostgreSQL without which figures cannot be read."""


def described() -> Mapping[str, object]:
    """The machine, as described in the first line of a run's file."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
    }


def versions(postgresql: str) -> Mapping[str, str]:
    """The commit of the product, and the versions of the software that it runs on."""
    found = {
        "isola": _package("isola"),
        "commit": commit_of(Path(__file__)),
        "python": platform.python_version(),
        "postgresql": postgresql,
        "asyncpg": _package("asyncpg"),
        "node": _output_of("node", "--version").removeprefix("v"),
    }
    return {name: said for name, said in found.items() if said}


async def settings(connection: asyncpg.Connection) -> Mapping[str, str]:
    """PostgreSQL's values of ``SETTINGS``."""
    rows = await connection.fetch(
        "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY($1) ORDER BY name", SETTINGS
    )
    return {row[0]: row[1] for row in rows}


async def postmaster(connection: asyncpg.Connection) -> psutil.Process | None:
    """The postmaster, the parent of this connection's backend, if PostgreSQL runs on this machine."""
    # A local process may have the same pid as a backend on another machine. The start time distinguishes them.
    pid, age = await connection.fetchrow(
        "SELECT pid, extract(epoch FROM clock_timestamp() - backend_start)::float8 FROM pg_stat_activity"
        " WHERE pid = pg_backend_pid()"
    )
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        same = abs(time.time() - process.create_time() - age) < 1
        if same and process.name().startswith("postgres"):
            return process.parent()
    return None


class Elsewhere:
    """The share of the machine used by programs that are not part of the run."""

    def __init__(self, postgresql: psutil.Process | None) -> None:
        self._roots = [psutil.Process(), *filter(None, [postgresql])]

    def begin(self) -> Callable[[], float]:
        """Returns a function that returns the fraction of the machine's time used elsewhere since this call."""
        started, busy, own = time.monotonic(), _busy(), self._own()

        def ended() -> float:
            capacity = (time.monotonic() - started) * (psutil.cpu_count() or 1)
            elsewhere = (_busy() - busy) - (self._own() - own)
            return round(min(1.0, max(0.0, elsewhere / capacity)), 4) if capacity else 0.0

        return ended

    def _own(self) -> float:
        return cpu_seconds({process.pid: process for root in self._roots for process in _tree(root)}.values())


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system CPU seconds of processes, including their child processes that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _tree(root: psutil.Process) -> Sequence[psutil.Process]:
    with suppress(psutil.Error):
        return [root, *root.children(recursive=True)]
    return []


def _busy() -> float:
    """Busy seconds of all cores of the machine."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def commit_of(file: Path) -> str:
    """The commit of the checkout that a file is part of. Empty in none: an environment can be in anybody's checkout."""
    git = "git", "-C", str(file.parent)
    if not _output_of(*git, "ls-files", "--", file.name):
        return ""
    return _output_of(*git, "describe", "--always", "--dirty", "--abbrev=12")


def _package(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def _output_of(*command: str) -> str:
    """A program's output; empty if it is not installed, or fails."""
    with suppress(OSError):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def peer_version(package: Path) -> str:
    """The version of an npm package, from its folder."""
    return str(json.loads((package / "package.json").read_text(encoding="utf-8"))["version"])
