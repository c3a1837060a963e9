"""Whether writers of one tenant block each other: 16 writers in one tenant compared with 16 in 16 tenants.

``python -m benchmarks.writers`` from the checkout. Each transaction creates one resource and commits durably; the two
cases alternate. A commit takes the time of the disk, or 3 ms more with PostgreSQL's ``commit_delay``. It also
measures PostgreSQL's CPU for such a transaction on one connection: in one tenant, and in 16 tenants by turns.
"""

import asyncio
import statistics
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import resources, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry

WRITERS, ROUNDS, SECONDS, ALONE = 16, 7, 2.0, 320
# Measures commits that wait: the leader of a commit group sleeps for this many microseconds before it flushes.
DISKS = {"as it is": {}, "3 ms more": {"commit_delay": "3000", "commit_siblings": "0"}}

Scene = tuple[Tenant, Actor]


async def make(tenants: Database, tenant: Tenant, actor: Actor) -> None:
    async with tenants.transaction(tenant) as work:
        await resources.create(work, actor, name="one more")


async def rate(tenants: Database, scenes: Sequence[Scene]) -> float:
    """Commits per second, with one writer for each scene."""
    end = time.monotonic() + SECONDS
    done = 0

    async def write(tenant: Tenant, actor: Actor) -> None:
        nonlocal done
        while time.monotonic() < end:
            await make(tenants, tenant, actor)
            done += 1

    began = time.monotonic()
    await asyncio.gather(*(write(*scene) for scene in scenes))
    return done / (time.monotonic() - began)


async def alone(tenants: Database, scenes: Sequence[Scene]) -> float:
    """Milliseconds of CPU of one session per transaction, in these tenants by turns."""
    async with tenants.transaction(scenes[0][0]) as work:
        backend = psutil.Process(await work.value("SELECT pg_backend_pid()"))
    before = backend.cpu_times()
    for scene in islice(cycle(scenes), ALONE):
        await make(tenants, *scene)
    after = backend.cpu_times()
    return (after.user + after.system - before.user - before.system) / ALONE * 1000


async def populated(owner: Database, tenants: Database, installed: Installation, strategy: str) -> Sequence[Scene]:
    scenes = []
    for number in range(WRITERS):
        slug = f"{strategy}-{number}"
        made = await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)
        async with tenants.transaction(made) as work:
            user = await users.ensure(work, subject="ada", name=None, email=None)
        scenes.append((made, Actor(user, of_role(Role.OWNER))))
    return scenes


async def run(address: str, disk: str, table: Table) -> None:
    # The pool never gives all connections to one tenant.
    many, one = Settings(pool_size=2 * WRITERS), Settings(pool_size=1)
    where = logins.addresses(many, address)
    installed = Installation(many, where, registry.load(where.tenant_login))
    lonely = Installation(one, where, installed.strategies)
    async with await Database.open(address, size=2, statement_timeout=120) as owner:
        await migrations.migrate(owner, installed.strategies, where)
        await measure(owner, installed, lonely, disk, table)


async def measure(owner: Database, installed: Installation, lonely: Installation, disk: str, table: Table) -> None:
    async with await installed.tenants() as tenants, await lonely.tenants() as single:
        for strategy in installed.strategies:
            scenes = await populated(owner, tenants, installed, strategy)
            ways = {"one": [scenes[0]] * WRITERS, "many": scenes}
            rates: dict[str, list[float]] = {way: [] for way in ways}
            cpu: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(ROUNDS + 1):
                for way in ways if turn % 2 else reversed(ways):
                    measured = await rate(tenants, ways[way])
                    # The first round is a warm-up.
                    if turn:
                        rates[way].append(measured)
                    cpu[way].append(await alone(single, ways[way]))
            ratio = statistics.median(one / many for one, many in zip(rates["one"], rates["many"], strict=True))
            each = [f"{statistics.median(rates[way]):,.0f}" for way in ways]
            spent = [f"{statistics.median(cpu[way][1:]):.3f}" for way in ways]
            table.add_row(disk, strategy, *each, f"{ratio:.2f}", *spent)


def main() -> None:
    table = Table("disk", "strategy", "one tenant /s", "16 tenants /s", "ratio", "CPU, ms", "by turns, ms", box=None)
    for disk, settings in DISKS.items():
        with TemporaryDirectory() as directory, embedded.running(Path(directory), settings) as address:
            asyncio.run(run(address, disk, table))
    Console().print(table)


if __name__ == "__main__":
    main()
