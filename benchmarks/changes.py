"""The cost of polling for changes: each server sends one query per second to the database.

``python -m benchmarks.changes`` from the checkout. Measures the CPU per poll of this process and of the database, and
the delay until two servers have received a change.
"""

import asyncio
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations
from isola.platform.changes import Changes, Kind, announce
from isola.settings import Settings
from isola_strategies import registry

QUESTIONS = 3000
HEARD = 30
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


async def backend(control: Database) -> psutil.Process:
    """The backend process of a connection."""
    async with control.unbound() as transaction:
        return psutil.Process(await transaction.value("SELECT pg_backend_pid()"))


async def cost(changes: Changes, control: Database) -> tuple[float, float, float]:
    """Milliseconds per poll: CPU in this process, CPU in the database, and elapsed time."""
    there = await backend(control)
    before = there.cpu_times()
    here, began = time.process_time(), time.perf_counter()
    for _ in range(QUESTIONS):
        await changes.poll()
    here, took = time.process_time() - here, time.perf_counter() - began
    after = there.cpu_times()
    spent = after.user + after.system - before.user - before.system
    return here / QUESTIONS * 1000, spent / QUESTIONS * 1000, took / QUESTIONS * 1000


async def delays(address: str, control: Database) -> list[float]:
    """Seconds from a commit, at a random time between two polls, until both servers have received it."""
    found = []
    heard: set[tuple[int, str | None]] = set()
    async with (
        await Database.open(address) as one,
        await Database.open(address) as two,
        Changes(one) as first,
        Changes(two) as second,
    ):
        first.listen(Kind.USER, lambda key: heard.add((1, key)))
        second.listen(Kind.USER, lambda key: heard.add((2, key)))
        for number in range(HEARD):
            await asyncio.sleep(number / HEARD)
            async with control.unbound() as transaction:
                await announce(transaction, Kind.USER, str(number))
            committed = time.perf_counter()
            while not {(1, str(number)), (2, str(number))} <= heard:  # noqa: ASYNC110  a listener cannot be awaited
                await asyncio.sleep(0.001)
            found.append(time.perf_counter() - committed)
    return found


async def run(url: str) -> None:
    where = logins.addresses(Settings.model_construct(), url)
    async with await Database.open(url, size=2, statement_timeout=60) as owner:
        await migrations.migrate(owner, registry.load(where.tenant_login), where)
        table = Table("a question while there is", "ms of CPU here", "ms of CPU in PostgreSQL", "ms in all", box=None)
        async with await Database.open(where.control) as control:
            changes = Changes(control)
            await changes.poll()
            table.add_row("nothing new", *(f"{each:.2f}" for each in await cost(changes, control)))
            async with owner.unbound() as slow:
                # While a long transaction runs, every poll returns the changes written since it began.
                await slow.value("SELECT pg_current_xact_id()")
                async with owner.unbound() as transaction:
                    await transaction.script(
                        "INSERT INTO control.changes (kind, key) SELECT 'user', n::text FROM generate_series(1, 1000) n"
                    )
                row = "1,000 changes behind a slow transaction"
                table.add_row(row, *(f"{each:.2f}" for each in await cost(changes, control)))
        async with await Database.open(where.control) as control:
            took = await delays(where.control, control)
    console = Console(width=120)
    console.print(table)
    console.print(
        f"two servers have heard of a change after {statistics.median(took):.2f} s in the median, "
        f"{max(took):.2f} s at most of {len(took)}"
    )


def main() -> None:
    with TemporaryDirectory(prefix="isola-benchmark-") as directory, embedded.running(Path(directory), FAST) as url:
        asyncio.run(run(url))


if __name__ == "__main__":
    main()
