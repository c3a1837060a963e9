"""The effect on other tenants of one tenant with ten times its share of load: the duration of their transactions.

``python -m benchmarks.fairness`` starts a separate PostgreSQL. Modest tenants have one client each, the greedy one has
ten times as many. Each transaction holds a connection for a few milliseconds; clients outnumber connections.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import migrations, provisioning
from isola.platform.tenants import Tenant
from isola.server.installation import Installation, installation
from isola.settings import Settings

MODEST = 8
GREED = 10
CONNECTIONS = 10
HOLDS = 0.005
"""Seconds that a transaction takes in the database."""
PAUSES = 0.02
"""Seconds that a modest client waits between two transactions."""
SECONDS = 8.0


async def prepared(installed: Installation) -> list[Tenant]:
    async with await installed.owner(4) as owner:
        await migrations.migrate(owner, installed.strategies, installed.addresses)
        return [
            await provisioning.create(
                owner, installed.strategies, slug=f"t{number}", name=f"T {number}", strategy="rls"
            )
            for number in range(MODEST + 1)
        ]


async def client(database: Database, tenant: Tenant, until: float, pause: float) -> list[float]:
    """The seconds of each transaction, including the wait for a connection."""
    took = []
    while time.monotonic() < until:
        asked = time.monotonic()
        with suppress(Unavailable):
            async with database.transaction(tenant) as work:
                await work.value("SELECT pg_sleep($1)", HOLDS)
            took.append(time.monotonic() - asked)
        await asyncio.sleep(pause)
    return took


async def measured(database: Database, greedy: Tenant, modest: Sequence[Tenant], clients: int) -> list[float]:
    """The sorted times of the modest tenants, while the greedy one has ``clients`` clients."""
    until = time.monotonic() + SECONDS
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(database, greedy, until, 0))
        tasks = [group.create_task(client(database, tenant, until, PAUSES)) for tenant in modest]
    return sorted(seconds for task in tasks for seconds in task.result())


def report(name: str, took: Sequence[float]) -> float:
    p99 = took[int(len(took) * 0.99)]
    print(f"{name:42} {len(took):6} transactions  median {median(took) * 1000:6.1f} ms  p99 {p99 * 1000:6.1f} ms")
    return p99


async def main(installed: Installation) -> None:
    greedy, *modest = await prepared(installed)
    async with await installed.tenants() as database:
        await measured(database, greedy, modest, 1)  # warm-up: opens connections, prepares statements
        alone = report("each tenant has one client", await measured(database, greedy, modest, 1))
        beside = report(f"one tenant has {GREED * MODEST}", await measured(database, greedy, modest, GREED * MODEST))
        print(f"the others' p99 is {beside / alone:.2f} times what it was")


if __name__ == "__main__":
    with TemporaryDirectory(prefix="isola-fairness-") as directory:
        settings = Settings.model_construct(data_dir=Path(directory), pool_size=CONNECTIONS)
        with installation(settings, alone=True) as installed:
            asyncio.run(main(installed))
