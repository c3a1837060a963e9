"""The cost of a page over what many partners share, against a page of a tenant's own.

``python -m benchmarks.received`` from the checkout. Microseconds of CPU of a request, here and in PostgreSQL; the
medians of rounds, in which the reads alternate; and the 95th percentile of its milliseconds. Of 100 owners, half under
each strategy, each shares 100 rows; the tenant that reads has as many rows of its own as are shared with it.
"""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.family import Reader, cpu_us, migrated
from benchmarks.sharing import FAST, fill, share
from isola.database import embedded
from isola.platform import provisioning
from isola.platform.tenants import Tenant

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
            own, theirs = time.process_time(), cpu_us(backends)
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
                        (cpu_us(backends) - theirs) / REPEATS,
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
    async with migrated(address) as place:

        async def make(slug: str, strategy: str, rows: int) -> tuple[Tenant, tuple[UUID, Sequence[UUID]]]:
            made = await provisioning.create(place.owner, place.strategies, slug=slug, name=slug, strategy=strategy)
            return made, await fill(place.tenants, made, rows)

        partner, (user, _) = await make("reader", "rls", OWNERS * ROWS)
        for number in range(OWNERS):
            owner, what = await make(f"owner-{number}", ("rls", "schema")[number % 2], ROWS)
            await share(place.owner, owner, partner, what, "current")
        await place.analyze()
        show(await measured(place.reader(partner, user)))


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
