"""The cost of quotas for inserts: without a quota, and with one, by the number of existing rows.

``python -m benchmarks.quotas`` from the checkout. Milliseconds of CPU that PostgreSQL spends on a transaction that
creates one resource; the variants alternate. "without triggers" is as if there were no quotas at all.
"""

import asyncio
import statistics
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, plans, provisioning
from isola.platform.platform_log import operator
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects import resources, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry

ROUNDS, WARM_UP, EACH = 10, 20, 200
SIZES = (0, 100_000)
BATCH = 10_000
# Measure CPU work, not the disk.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
WAYS = {"without triggers": plans.UNLIMITED, "no quota": plans.UNLIMITED, "quota": "limited"}


async def spent(tenants: Database, tenant: Tenant, actor: Actor) -> float:
    """Milliseconds of CPU per resource."""
    async with tenants.transaction(tenant) as work:
        backend = psutil.Process(await work.value("SELECT pg_backend_pid()"))
    before = backend.cpu_times()
    for _ in range(EACH):
        await make(tenants, tenant, actor)
    after = backend.cpu_times()
    return (after.user + after.system - before.user - before.system) / EACH * 1000


async def make(tenants: Database, tenant: Tenant, actor: Actor) -> None:
    async with tenants.transaction(tenant) as work:
        await resources.create(work, actor, name="one more")


async def measured(owner: Database, tenants: Database, tenant: Tenant, size: int) -> dict[str, list[float]]:
    took: dict[str, list[float]] = defaultdict(list)
    async with tenants.transaction(tenant) as work:
        user = await users.ensure(work, subject="ada", name=None, email=None)
    actor = Actor(user, of_role(Role.OWNER))
    for _ in range(0, size, BATCH):
        async with tenants.transaction(tenant) as work:
            await resources.Resource.create_all(work, actor, [{"name": "one"}] * BATCH)
    for _ in range(ROUNDS):
        for way, plan in WAYS.items():
            async with owner.unbound() as transaction:
                state = "DISABLE" if way == "without triggers" else "ENABLE"
                for trigger in ("quota_at_once", "quota"):
                    await transaction.script(f"ALTER TABLE control.audit_pending {state} TRIGGER {trigger}")
                await transaction.value("UPDATE control.tenants SET plan = $1 WHERE id = $2", plan, tenant.id)
                await transaction.script("DELETE FROM control.quota_bounds")
            for _ in range(WARM_UP):
                await make(tenants, tenant, actor)
            took[way].append(await spent(tenants, tenant, actor))
    return took


async def run(address: str) -> None:
    settings = Settings()
    where = logins.addresses(settings, address)
    installed = Installation(settings, where, registry.load(where.tenant_login))
    table = Table("strategy", "resources", *WAYS, box=None)
    async with (
        await Database.open(address, size=2, statement_timeout=120) as owner,
        await installed.tenants() as tenants,
    ):
        await migrations.migrate(owner, installed.strategies, where)
        await plans.create(owner, operator(), name="limited", title="Limited", quotas={"resources": 10**9})
        for strategy in installed.strategies:
            for size in SIZES:
                slug = f"{strategy}-{size}"
                made = await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)
                took = await measured(owner, tenants, made, size)
                table.add_row(strategy, f"{size:,}", *(f"{statistics.mean(each):.3f}" for each in took.values()))
    Console().print(table)


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
