"""The cost of a page over what many partners share, against a page of a tenant's own.

``python -m benchmarks.received`` from the checkout. Microseconds of CPU of a request, here and in PostgreSQL; the
medians of rounds, in which the reads alternate; and the 95th percentile of its milliseconds. Of 100 owners, half under
each strategy, each shares 100 rows; the tenant that reads has as many rows of its own as are shared with it.
"""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.family import Reader
from benchmarks.servers import cpu
from benchmarks.sharing import FAST, fill, share
from isola.api.context import Context
from isola.api.execute import Executor
from isola.api.schema import model
from isola.database import embedded
from isola.database.transactions import Database
from isola.identity.authentication import Principal
from isola.platform import logins, migrations, provisioning
from isola.platform.changes import Changes
from isola.platform.families import Families
from isola.platform.sign_in_log import SignInLog
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry

OWNERS, ROWS = 100, 100
ROUNDS, REPEATS, WARM_UP = 9, 10, 2
MOST_RATIO, MOST_MILLISECONDS = 3.0, 50.0
PAGE = '(first: 50, filter: {name: {startsWith: "o"}}, orderBy: [{field: NAME}]) { nodes { id name kind createdAt } }'
READS = {"own": f"{{ resources{PAGE} }}", "shared": f"{{ sharedResources{PAGE} }}"}


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of CPU, and the 95th percentile of milliseconds."""

    own: float
    postgresql: float
    p95: float


async def measured(reader: Reader) -> Mapping[str, Cost]:
    spent: dict[str, list[tuple[float, float]]] = defaultdict(list)
    waited: dict[str, list[float]] = defaultdict(list)
    for turn in range(WARM_UP + ROUNDS):
        for read, document in READS.items():
            await reader.ask(document)
            backends = await reader.backends()
            own, theirs = time.process_time(), sum(map(cpu, backends))
            times = []
            for _ in range(REPEATS):
                began = time.perf_counter()
                await reader.ask(document)
                times.append((time.perf_counter() - began) * 1e3)
            if turn >= WARM_UP:
                waited[read] += times
                spent[read].append(
                    (
                        (time.process_time() - own) / REPEATS * 1e6,
                        (sum(map(cpu, backends)) - theirs) / REPEATS * 1e6,
                    )
                )
    return {
        read: Cost(
            statistics.median(own for own, _ in spent[read]),
            statistics.median(theirs for _, theirs in spent[read]),
            statistics.quantiles(waited[read], n=20)[-1],
        )
        for read in READS
    }


def show(costs: Mapping[str, Cost]) -> None:
    table = Table("rows", "server", "PostgreSQL", "p95 in ms", box=None)
    for read, cost in costs.items():
        table.add_row(read, f"{cost.own:.0f}", f"{cost.postgresql:.0f}", f"{cost.p95:.1f}")
    ratio = costs["shared"].postgresql / costs["own"].postgresql
    console = Console()
    console.print(table)
    console.print(
        f"PostgreSQL: {ratio:.1f} times a page of one's own (bar {MOST_RATIO:g}); p95 {costs['shared'].p95:.1f} ms "
        f"(bar {MOST_MILLISECONDS:g})"
    )


async def run(address: str) -> None:
    settings = Settings()
    where = logins.addresses(settings, address)
    installed = Installation(settings, where, registry.load(where.tenant_login))
    executor = Executor(model, secret=b"of no use elsewhere, of the right length", by_code_point=True)
    async with (
        await Database.open(address, size=2, statement_timeout=120) as owner,
        await installed.tenants(1) as tenants,
        await installed.control(1) as control,
        await installed.control(1) as hearing,
        Changes(hearing) as changes,
        SignInLog(control, tenants) as log,
    ):
        await migrations.migrate(owner, installed.strategies, where)

        async def make(slug: str, strategy: str, rows: int) -> tuple[Tenant, UUID]:
            made = await provisioning.create(owner, installed.strategies, slug=slug, name=slug, strategy=strategy)
            what = await fill(tenants, made, rows)
            if made.slug != "reader":
                await share(owner, made, partner, what, "current")
            return made, what[0]

        partner, user = await make("reader", "rls", OWNERS * ROWS)
        for number in range(OWNERS):
            await make(f"owner-{number}", ("rls", "schema")[number % 2], ROWS)
        async with owner.unbound() as work:
            homes = await work.texts("SELECT DISTINCT home FROM control.tenants")
            await work.script("; ".join(f"ANALYZE {home}.resources, {home}.users" for home in homes))
            await work.script("ANALYZE control.shares, control.partners, control.tenants")
        families = Families(control, installed.strategies, where.roles.family, changes, log, 3600)
        principal = Principal(partner, user, (Role.OWNER,), of_role(Role.OWNER))
        context = Context(principal, tenants, None, "bench", families)  # type: ignore[arg-type]  # not asked for members
        show(await measured(Reader(executor, context, owner)))


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
