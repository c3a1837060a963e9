"""How long a tenant is unavailable during a move from one strategy to another.

``python -m benchmarks.moving`` from the checkout. Each tenant has as many resources as log entries; "rows" counts
both. Runs on a separate PostgreSQL with durable commits.
"""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.table import Table

from isola.database import embedded
from isola.database.binding import BindingKey
from isola.database.transactions import Database
from isola.platform import logins, migrations, moves, provisioning, secrets
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola_strategies import registry
from isola_strategies.base import Strategy

ROWS = (10_000, 100_000)
A_TRANSACTION = 5_000
USER = "INSERT INTO users (subject, name) VALUES ('ada', 'Ada') RETURNING id"
RESOURCES = """
INSERT INTO resources (owner_id, name, kind, data, size_bytes)
SELECT $1, 'resource ' || n, 'report', jsonb_build_object('tags', ARRAY['a', 'b'], 'text', repeat('x', 200)), n
FROM generate_series(1, $2::int) n
"""


async def fill(tenants: Database, tenant: Tenant, rows: int) -> None:
    async with tenants.transaction(tenant) as work:
        user = await work.value(USER)
    for _ in range(rows // 2 // A_TRANSACTION):
        async with tenants.transaction(tenant) as work:
            await work.value(RESOURCES, user, A_TRANSACTION)


async def moved(owner: Database, strategies: Mapping[str, Strategy], to: str) -> Mapping[str, float]:
    """Seconds of a move: in total, for copying, and for comparing."""
    steps: list[tuple[str, float]] = []
    began = time.perf_counter()
    await moves.move(owner, strategies, "mover", to=to, progress=lambda step: steps.append((step, time.perf_counter())))
    ended = time.perf_counter()
    took: dict[str, float] = {"in all": ended - began, "copying": 0.0, "comparing": 0.0}
    for (step, at), (_, until) in zip(steps, [*steps[1:], ("", ended)], strict=True):
        word = step.partition(" ")[0]
        if word in took:
            took[word] += until - at
    return took


async def run(url: str) -> None:
    where = logins.addresses(Settings.model_construct(), url)
    strategies = registry.load(where.tenant_login)
    table = Table("rows", "from", "to", "s in all", "copying", "comparing", "rows a second", box=None)
    async with await Database.open(url, size=2, statement_timeout=600) as owner:
        await migrations.migrate(owner, strategies, where)

        async def key() -> BindingKey:
            async with owner.unbound() as work:
                return await secrets.binding_key(work)

        for rows in ROWS:
            async with await Database.open(where.tenant, strategies, key, statement_timeout=60) as tenants:
                tenant = await provisioning.create(owner, strategies, slug="mover", name="Mover", strategy="rls")
                await fill(tenants, tenant, rows)
            for source, target in (("rls", "schema"), ("schema", "rls")):
                took = await moved(owner, strategies, target)
                figures = (f"{took[each]:.2f}" for each in ("in all", "copying", "comparing"))
                table.add_row(f"{rows:,}", source, target, *figures, f"{rows / took['in all']:,.0f}")
            await provisioning.drop(owner, strategies, "mover", notice=0)
    Console(width=120).print(table)


def main() -> None:
    with TemporaryDirectory(prefix="isola-benchmark-") as directory, embedded.running(Path(directory)) as url:
        asyncio.run(run(url))


if __name__ == "__main__":
    main()
