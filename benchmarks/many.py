"""Very many tenants: first requests, the memory of a connection that serves them, and a check with nothing to migrate.

``python -m benchmarks.many`` from the checkout. The data stays in ``.isola/many-<strategy>``: an interrupted run
continues there, and the next one measures at once. 10,000 tenants under ``schema`` take 11 GB in a million files.

First requests are sent one at a time, each of a user who has signed in before, to a tenant that neither the server nor
any connection knows since it started; the server is warm otherwise. The second time, somebody keeps granting a role to
the login of tenant traffic, as new tenants do. Then clients send the usual reads in thousands of tenants, while the
memory of the connections' processes is sampled: their own, without buffers that all share.

Exit status 1 if a bar is missed.
"""

import asyncio
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from hashlib import md5
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import UUID

import asyncpg
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.figures import Figure, show
from isola.database import embedded
from isola.lab.asking import load
from isola.lab.backend import Backend
from isola.lab.operations import READS
from isola.lab.peers.data import POSTGRESQL
from isola.lab.peers.load import Job
from isola.lab.peers.processes import ISOLA, Cores, free_port, started
from isola.lab.place import Place
from isola.lab.population import Resident
from isola.lab.serving import Served, environment
from isola.platform import logins, migrations, provisioning
from isola.platform.background import repeating
from isola.platform.tenants import Tenant
from isola.server.installation import Installation
from isola.settings import Settings
from isola_strategies import registry
from isola_strategies.rls import TENANT

# The data can be made again: nothing needs to survive a crash of the machine.
MAKING = {**POSTGRESQL, "fsync": "off", "full_page_writes": "off", "wal_level": "minimal", "max_wal_senders": "0"}
WORKERS, HOMES_A_TRANSACTION = 2, 50
RESOURCES, SPANS = 20, 100
CONNECTIONS, CLIENTS = 10, 8
FIRST, WARMING, MET = 1_000, 50, 3_000
"""Tenants of which a first request is measured; that warm the server; that are met while memory is measured."""
GRANTS_INTERVAL, SAMPLES_INTERVAL = 0.5, 0.2
PATIENCE = 540.0
ROWS = """
INSERT INTO {home}.users ({column}id, subject, name, email)
VALUES ({value}'{tenant}', '{tenant}', 'Ada', 'ada@example.com');
INSERT INTO {home}.resources ({column}id, owner_id, name, kind, size_bytes)
SELECT {value}md5('{tenant}/' || n)::uuid, '{tenant}', 'amber ' || n,
    (ARRAY['dataset', 'report', 'image', 'model'])[1 + n % 4], n::bigint * 4096
FROM generate_series(1, {resources}) n;
INSERT INTO {home}.spans ({column}id, author_id, title, resource_id, visibility)
SELECT {value}md5('{tenant}:' || n)::uuid, '{tenant}', 'reviewed ' || n,
    md5('{tenant}/' || 1 + n % {resources})::uuid, 'public'
FROM generate_series(1, {spans}) n
"""


def place_of(address: str, connections: int = CONNECTIONS) -> Place:
    settings = Settings(pool_size=connections)
    where = logins.addresses(settings, address)
    return Place("postgres", Installation(settings, where, registry.load(where.tenant_login)))


@contextmanager
def populated(strategy: str, tenants: int, resources: int, spans: int) -> Iterator[str]:
    """The address of a PostgreSQL of its own with that many tenants, as long as the context is open."""
    with TemporaryDirectory(prefix="isola-benchmark-") as held:
        directory = Path(held)
        with embedded.running(directory, MAKING) as address:
            asyncio.run(make(address, strategy, tenants, resources, spans))
        with embedded.running(directory, POSTGRESQL) as address:
            yield address


async def make(address: str, strategy: str, number: int, resources: int = RESOURCES, spans: int = SPANS) -> None:
    """Create the missing tenants, each with a user and its rows."""
    place = place_of(address)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    async with await place.owner(WORKERS) as owner:
        await migrations.migrate(owner, place.strategies, place.installation.addresses)
        made = {tenant.slug: tenant for tenant in await provisioning.every(owner)}
        waiting = [slug for slug in map("tenant-{:05}".format, range(number)) if slug not in made][::-1]
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("making tenants", total=number, completed=len(made))

            async def work() -> None:
                while waiting:
                    slug = waiting.pop()
                    made[slug] = await provisioning.create(
                        owner, place.strategies, slug=slug, name=slug, strategy=strategy
                    )
                    progress.advance(task)

            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(work())
            await fill(address, place, [*made.values()], progress, resources, spans)


async def fill(
    address: str, place: Place, tenants: Sequence[Tenant], progress: Progress, resources: int, spans: int
) -> None:
    connection = await asyncpg.connect(address)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS public.filled (tenant uuid PRIMARY KEY)")
        filled = {row[0] for row in await connection.fetch("SELECT tenant FROM public.filled")}
        empty = [tenant for tenant in tenants if tenant.id not in filled]
        task = progress.add_task("filling them", total=len(tenants), completed=len(filled))
        # Without triggers: the log would need an actor for these rows, and there is none.
        await connection.execute("SET session_replication_role TO replica")
        for start in range(0, len(empty), HOMES_A_TRANSACTION):
            batch = empty[start : start + HOMES_A_TRANSACTION]
            async with connection.transaction():
                await connection.execute(";".join(rows_of(place, tenant, resources, spans) for tenant in batch))
                await connection.executemany("INSERT INTO public.filled VALUES ($1)", [(each.id,) for each in batch])
            progress.advance(task, len(batch))
        if empty:
            catalogue = await connection.fetch(
                "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r'"
                " AND relnamespace IN ('pg_catalog'::regnamespace, 'control'::regnamespace, to_regnamespace('rls'))"
            )
            await connection.execute(f"VACUUM (ANALYZE) {', '.join(row[0] for row in catalogue)}")
    finally:
        await connection.close()


def rows_of(place: Place, tenant: Tenant, resources: int, spans: int) -> str:
    """A script that inserts a tenant's rows."""
    return script_of(ROWS, place, tenant, resources=resources, spans=spans)


def script_of(script: str, place: Place, tenant: Tenant, **figures: int) -> str:
    """A script with the names of a tenant's home filled in, and with further figures."""
    strategy = place.strategies[tenant.strategy]
    is_shared = bool(strategy.homes([]))
    return script.format(
        home=strategy.home(tenant.id).schema,
        tenant=tenant.id,
        column=f"{TENANT}, " if is_shared else "",
        value=f"'{tenant.id}', " if is_shared else "",
        **figures,
    )


async def residents(place: Place) -> list[Resident]:
    async with await place.owner() as owner:
        tenants = await provisioning.every(owner)
    random.Random(1).shuffle(tenants := [*tenants])  # noqa: S311  the same in every run
    return [
        Resident(number, tenant, RESOURCES, tenant.id, tuple(map(UUID, resources_of(tenant))), {})
        for number, tenant in enumerate(tenants)
    ]


def resources_of(tenant: Tenant) -> list[str]:
    return [md5(f"{tenant.id}/{n}".encode()).hexdigest() for n in range(1, 6)]  # noqa: S324  PostgreSQL's md5()


def reads_of(served: Served, some: Sequence[Resident], names: Sequence[str]) -> list[str]:
    """The requests of these tenants, all of one before those of the next."""
    found = []
    for resident in some:
        token = served.token(resident)
        found += [served.request(READS[name], resident, resident.number % 5, token) for name in names]
    return found


async def first_requests(served: Served, some: Sequence[Resident]) -> list[float]:
    """Sorted milliseconds."""
    measured = await load(
        served, Job(served.server.port, 1, PATIENCE, reads_of(served, some, ["Resources"]), once=True)
    )
    return [seconds * 1e3 for seconds in measured.latencies]


@asynccontextmanager
async def granting(address: str, login: str) -> AsyncIterator[None]:
    """Meanwhile, a role is granted to the login again and again, and taken away."""
    connection = await asyncpg.connect(address)
    role = f"benchmark_{token_hex(4)}"

    async def grant() -> None:
        await connection.execute(f"GRANT {role} TO {login}; REVOKE {role} FROM {login}")

    await connection.execute(f"CREATE ROLE {role}")
    async with repeating(grant, GRANTS_INTERVAL, "a role cannot be granted"):
        yield
    await connection.execute(f"DROP ROLE {role}")
    await connection.close()


async def largest(address: str, login: str, sizes: dict[int, int]) -> None:
    """Keep the largest memory of each process of tenant traffic, in bytes. Runs until it is cancelled."""
    connection = await asyncpg.connect(address)
    try:
        while True:
            for (process,) in await connection.fetch("SELECT pid FROM pg_stat_activity WHERE usename = $1", login):
                sizes[process] = max(sizes.get(process, 0), Backend(process).own_bytes() or 0)
            await asyncio.sleep(SAMPLES_INTERVAL)
    finally:
        await connection.close()


async def memory(address: str, login: str, served: Served, some: Sequence[Resident]) -> list[Figure]:
    sizes: dict[int, int] = {}
    task = asyncio.create_task(largest(address, login, sizes))
    try:
        job = Job(served.server.port, CLIENTS, PATIENCE, reads_of(served, some, [*READS]), once=True)
        measured = await load(served, job)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return [
        Figure(f"the largest connection, {len(some):,} tenants met", max(sizes.values()) / 2**20, "MB", bar=64),
        Figure("connections opened meanwhile", len(sizes), ""),
        Figure("requests a second meanwhile", len(measured.latencies) / measured.seconds, ""),
    ]


def check(address: str, directory: Path) -> Figure:
    """Seconds of the command, with the start of its process."""
    given = environment(place_of(address), directory, token_hex(32), free_port(), CONNECTIONS)
    began = time.perf_counter()
    done = subprocess.run(
        [Path(sys.executable).with_name("isola"), "migrate", "--check"], check=False, env=given, capture_output=True
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"isola migrate --check failed: {done.stdout.decode()}{done.stderr.decode()}")
    return Figure("a check that nothing is to migrate", seconds, "s", bar=3)


async def measure(address: str, directory: Path) -> list[Figure]:
    place = place_of(address)
    login = place.installation.addresses.tenant_login
    every = await residents(place)
    count = min(FIRST, (len(every) - WARMING) // 2)
    warming, first, later = every[:WARMING], every[WARMING : WARMING + count], every[WARMING + count :][:count]
    figures = [check(address, directory)]
    secret, port = token_hex(32), free_port()
    given = environment(place, directory, secret, port, CONNECTIONS)
    cores, log = Cores.split(pinned=False), directory / "server.log"
    # Users sign in for the first time, which writes: at another server, whose connections end with it.
    with started(ISOLA, given, port, log, cores, directory) as server:
        await first_requests(Served(server, secret, "editor"), [*first, *later])
    with started(ISOLA, given, port, log, cores, directory) as server:
        served = Served(server, secret, "editor")
        await load(served, Job(port, CLIENTS, PATIENCE, reads_of(served, warming * 4, [*READS]), once=True))
        took = await first_requests(served, first)
        again = await first_requests(served, first)
        async with granting(address, login):
            granted = await first_requests(served, later)
        figures += [
            Figure("a first request, median", took[len(took) // 2], "ms"),
            Figure("a first request, 99th percentile", took[len(took) * 99 // 100], "ms", bar=25),
            Figure("a second request, median", again[len(again) // 2], "ms"),
            Figure("a first request while roles are granted, median", granted[len(granted) // 2], "ms"),
            Figure("a first request while roles are granted, 99th", granted[len(granted) * 99 // 100], "ms", bar=25),
            *await memory(address, login, served, every[-MET:]),
        ]
    return figures


def main(
    *,
    tenants: Annotated[int, typer.Option(min=WARMING + 2, help="number of tenants")] = 10_000,
    strategy: Annotated[str, typer.Option(help="their isolation strategy")] = "schema",
    directory: Annotated[Path | None, typer.Option(help="directory for the data")] = None,
) -> None:
    """Make tenants, and measure what their number costs."""
    kept = (directory or Path(".isola") / f"many-{strategy}").resolve()
    with embedded.running(kept, MAKING) as address:
        asyncio.run(make(address, strategy, tenants))
    with embedded.running(kept, POSTGRESQL) as address:
        figures = asyncio.run(measure(address, kept))
    show(figures, f"{tenants:,} tenants under {strategy}")
    sys.exit(not all(figure.passed for figure in figures))


if __name__ == "__main__":
    typer.run(main)
