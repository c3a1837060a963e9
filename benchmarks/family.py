"""The cost of a page over the rows of descendants, against a page of one tenant's own.

``python -m benchmarks.family`` from the checkout. Microseconds of CPU of a request, of this process and of PostgreSQL;
medians of rounds, in which the reads alternate. There are 50 descendants, half of them under each strategy, and each
has as many rows as the tenant that reads its own. The fixed part is what a page of one row costs more.
"""

import asyncio
import json
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.table import Table

from benchmarks.sharing import FAST, fill
from isola.api.context import Context
from isola.api.execute import Executor
from isola.api.schema import model
from isola.database import embedded
from isola.database.transactions import Database
from isola.identity.authentication import Principal
from isola.lab.backend import Backend
from isola.platform import logins, migrations, provisioning
from isola.platform.changes import Changes
from isola.platform.families import Families
from isola.platform.sign_in_log import SignInLog
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects.permissions import Role, of_role
from isola_strategies import registry
from isola_strategies.base import Strategy

DESCENDANTS, ROWS = 50, 200
ROUNDS, REPEATS, WARM_UP = 9, 40, 3
BAR = 2.0
NODE = "id name kind createdAt owner { name }"
ORDER = "orderBy: [{field: CREATED_AT, direction: DESC}]"


def _page(size: int, scope: str) -> str:
    return (
        f"{{ resources(first: {size}, scope: {scope}, {ORDER}) {{ edges {{ tenant {{ slug }} node {{ {NODE} }} }} }} }}"
    )


READS = {(scope, size): _page(size, scope) for scope in ("OWN", "DESCENDANTS") for size in (1, 50)}


@dataclass(frozen=True)
class Reader:
    """The requests of one user."""

    executor: Executor
    context: Context
    database: Database

    async def ask(self, document: str) -> Any:
        answer = json.loads((await self.executor.execute(document, None, None, None, self.context)).body)
        assert "errors" not in answer, answer
        return answer["data"]

    async def backends(self) -> Sequence[Backend]:
        async with self.database.unbound() as work:
            pids = await work.texts("SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()")
        return [Backend(int(pid)) for pid in pids]


def cpu_us(backends: Sequence[Backend]) -> float:
    """Microseconds of CPU of PostgreSQL's processes, as the scheduler counts them."""
    return sum(each.cpu_us() or 0 for each in backends)


async def measured(reader: Reader) -> Mapping[tuple[str, int], tuple[float, float]]:
    """Microseconds of this process and of PostgreSQL, for each read."""
    took: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
    for turn in range(WARM_UP + ROUNDS):
        for read, document in READS.items():
            await reader.ask(document)
            backends = await reader.backends()
            own, theirs = time.process_time(), cpu_us(backends)
            for _ in range(REPEATS):
                await reader.ask(document)
            spent = time.process_time() - own, cpu_us(backends) - theirs
            if turn >= WARM_UP:
                took[read].append((spent[0] / REPEATS * 1e6, spent[1] / REPEATS))
    return {
        read: (statistics.median(own for own, _ in each), statistics.median(theirs for _, theirs in each))
        for read, each in took.items()
    }


def show(took: Mapping[tuple[str, int], tuple[float, float]]) -> None:
    table = Table("scope", "rows", "server", "PostgreSQL", "both", box=None)
    for (scope, size), (own, theirs) in took.items():
        table.add_row(scope, str(size), f"{own:.0f}", f"{theirs:.0f}", f"{own + theirs:.0f}")
    console = Console()
    console.print(table)
    cost = {read: sum(each) for read, each in took.items()}
    fixed = cost["DESCENDANTS", 1] - cost["OWN", 1]
    ratio = (cost["DESCENDANTS", 50] - fixed) / cost["OWN", 50]
    console.print(f"fixed part {fixed:.0f} µs; without it {ratio:.2f} times a page of one tenant (bar {BAR:g})")


@dataclass(frozen=True, slots=True)
class Place:
    """A migrated database, and what a server has of it: one connection for tenants, so that plans are warm."""

    strategies: Mapping[str, Strategy]
    owner: Database
    tenants: Database
    families: Families

    def reader(self, tenant: Tenant, user: UUID) -> Reader:
        """An owner of a tenant."""
        executor = Executor(model, secret=b"of no use elsewhere, of the right length", by_code_point=True)
        principal = Principal(tenant, user, (Role.OWNER,), of_role(Role.OWNER))
        context = Context(principal, self.tenants, None, "bench", self.families)  # type: ignore[arg-type]  # not asked for members
        return Reader(executor, context, self.owner)

    async def analyze(self) -> None:
        """Let the planner know all homes, and the shares."""
        async with self.owner.unbound() as work:
            homes = await work.texts("SELECT DISTINCT home FROM control.tenants")
            await work.script("; ".join(f"ANALYZE {home}.resources, {home}.users" for home in homes))
            await work.script("ANALYZE control.shares, control.partners, control.tenants, received.resources")


@asynccontextmanager
async def migrated(address: str) -> AsyncIterator[Place]:
    where = logins.addresses(Settings(), address)
    installed = Installation(Settings(), where, registry.load(where.tenant_login))
    async with (
        await Database.open(address, size=2, statement_timeout=120) as owner,
        await installed.tenants(1) as tenants,
        await installed.control(1) as control,
        await installed.control(1) as hearing,
        Changes(hearing) as changes,
        SignInLog(control, tenants) as log,
    ):
        await migrations.migrate(owner, installed.strategies, where)
        families = Families(control, installed.strategies, where.roles.family, changes, log, 3600)
        yield Place(installed.strategies, owner, tenants, families)


async def run(address: str) -> None:
    async with migrated(address) as place:

        async def make(slug: str, strategy: str, parent: str | None = None) -> tuple[Tenant, UUID]:
            made = await provisioning.create(
                place.owner, place.strategies, slug=slug, name=slug, strategy=strategy, parent=parent
            )
            user, _ = await fill(place.tenants, made, ROWS)
            return made, user

        parent, user = await make("parent", "rls")
        names = sorted({"rls", "schema"})
        for number in range(DESCENDANTS):
            await make(f"child-{number}", names[number % 2], "parent")
        await place.analyze()
        show(await measured(place.reader(parent, user)))


def main() -> None:
    with TemporaryDirectory() as directory, embedded.running(Path(directory), FAST) as address:
        asyncio.run(run(address))


if __name__ == "__main__":
    main()
