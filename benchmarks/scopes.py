"""The cost of entering and leaving a tenant's scope, without and with a transaction.

``python -m benchmarks.scopes`` from the checkout. The bar is on the scope alone; the transaction reads one row.
"""

import asyncio
import statistics
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import SecretStr

import isola
from isola.database import embedded
from isola.database.transactions import Database
from isola.platform import logins, migrations, provisioning
from isola.settings import Settings
from isola.workers import Worker
from isola_strategies import registry

BAR_US = 2.0
ROUNDS, SCOPES, TRANSACTIONS = 9, 100_000, 500
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def scopes() -> float:
    """Microseconds for each scope."""
    began = time.perf_counter()
    for _ in range(SCOPES):
        with isola.run_with_tenant("acme", user="ada"):
            pass
    return (time.perf_counter() - began) / SCOPES * 1e6


async def transactions(worker: Worker) -> float:
    """Microseconds for each scope with a transaction."""
    began = time.perf_counter()
    for _ in range(TRANSACTIONS):
        with isola.run_with_tenant("acme"):
            async with worker.transaction(read_only=True) as inside:
                await inside.work.value("SELECT count(*) FROM users")
    return (time.perf_counter() - began) / TRANSACTIONS * 1e6


async def run(address: str) -> int:
    settings = Settings(database_url=SecretStr(address))
    where = logins.addresses(settings)
    strategies = registry.load(where.tenant_login)
    async with await Database.open(address, size=2, statement_timeout=120) as owner:
        await migrations.migrate(owner, strategies, where)
        await provisioning.create(owner, strategies, slug="acme", name="Acme", strategy="rls")
    async with Worker.open("benchmark", settings) as worker:
        rounds = [(scopes(), await transactions(worker)) for _ in range(ROUNDS)]
    alone, entered = (statistics.median(each) for each in zip(*rounds, strict=True))
    print(f"a scope: {alone:.2f} µs (at most {BAR_US} µs); with a transaction that reads: {entered:.0f} µs")
    return 0 if alone <= BAR_US else 1


def main() -> int:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        return asyncio.run(run(address))


if __name__ == "__main__":
    sys.exit(main())
