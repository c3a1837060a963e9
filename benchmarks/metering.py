"""The cost of metered events for PostgreSQL, in batches and one by one, and many transactions that take what is left.

``python -m benchmarks.metering`` from the checkout. Microseconds of CPU that PostgreSQL spends on an event with a key:
as the median of rounds in which the batches alternate. At the end, 100 transactions at once consume from one limit.
"""

import asyncio
import statistics
from collections import defaultdict
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.transactions import Database
from isola.errors import QuotaExceeded
from isola.platform import logins, migrations, overrides, provisioning
from isola.platform.overrides import Kind
from isola.platform.platform_log import operator
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import usage
from isola.subjects.usage import Event
from isola_strategies import registry

ROUNDS, EVENTS, WARM_UP = 9, 2000, 1000
BATCHES = (1, 100, 1000)
LIMIT_US = 60.0
"""The most for an event in batches of 100."""
AT_ONCE, LEFT = 100, 30
# Measure CPU work, not the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_keys = count()


async def record(tenants: Database, tenant: Tenant, batch: int, events: int) -> None:
    for _ in range(0, events, batch):
        async with tenants.transaction(tenant) as work:
            new = [Event("executions", key=f"run {next(_keys)}", customer="c-17") for _ in range(batch)]
            await usage.record(work, new)


async def spent(tenants: Database, tenant: Tenant, batch: int) -> float:
    """Microseconds of CPU for an event."""
    async with tenants.transaction(tenant) as work:
        backend = psutil.Process(await work.value("SELECT pg_backend_pid()"))
    before = backend.cpu_times()
    await record(tenants, tenant, batch, EVENTS)
    after = backend.cpu_times()
    return (after.user + after.system - before.user - before.system) / EVENTS * 1e6


async def measured(tenants: Database, tenant: Tenant) -> dict[int, list[float]]:
    took: dict[int, list[float]] = defaultdict(list)
    for batch in BATCHES:
        await record(tenants, tenant, batch, WARM_UP)
    for _ in range(ROUNDS):
        for batch in BATCHES:
            took[batch].append(await spent(tenants, tenant, batch))
    return took


async def admitted(owner: Database, tenants: Database, tenant: Tenant) -> int:
    """How many of 100 transactions at once get one of the 30 that are left."""
    async with tenants.transaction(tenant) as work:
        used = (await usage.allowance(work, "executions")).used
    await overrides.put(owner, operator(), tenant, Kind.METER, "executions", value=used + LEFT, reason="benchmark")

    async def take() -> bool:
        try:
            async with tenants.transaction(tenant) as work:
                return await usage.consume(work, "executions")
        except QuotaExceeded:
            return False

    return sum(await asyncio.gather(*(take() for _ in range(AT_ONCE))))


async def run(address: str) -> None:
    settings = Settings()
    where = logins.addresses(settings, address)
    installed = Installation(settings, where, registry.load(where.tenant_login))
    table = Table("strategy", *(f"µs, batches of {batch:,}" for batch in BATCHES), f"of {LEFT} left", box=None)
    async with (
        await Database.open(address, size=2, statement_timeout=120) as owner,
        await installed.tenants() as tenants,
    ):
        await migrations.migrate(owner, installed.strategies, where)
        for strategy in installed.strategies:
            made = await provisioning.create(
                owner, installed.strategies, slug=strategy, name=strategy, strategy=strategy
            )
            took = await measured(tenants, made)
            cells = [f"{statistics.median(each):.0f}" for each in took.values()]
            table.add_row(strategy, *cells, str(await admitted(owner, tenants, made)))
    Console().print(table)
    Console().print(f"limit: {LIMIT_US:.0f} µs an event in batches of 100; exactly {LEFT} admitted")


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
