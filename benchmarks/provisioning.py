"""Create, check, migrate and fill many tenants that have a schema each.

``python -m benchmarks.provisioning`` from the checkout runs it on a separate embedded PostgreSQL with the settings of
the server, so commits are durable. ``--database-url`` is an owner's address on another server; the benchmark creates a
database there and removes it with its roles at the end.

Let the machine rest before: for some seconds after a file was deleted, ext4 does not reuse its inode and searches for
others one by one. Creating a tenant, which mostly creates files, takes several times as long just after thousands of
files were deleted, as at the end of this benchmark and of the tests.

Exit status 1 if a bar is missed.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Annotated
from uuid import uuid4

import asyncpg
import typer
from pydantic import SecretStr
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import make_url

from benchmarks.figures import Figure, show
from isola.database import embedded
from isola.database.transactions import Database
from isola.lab.django_tenants_peer import MAKING, PEER, PEER_NEEDS
from isola.platform import importing, logins, migrations, provisioning
from isola.platform.logins import Addresses
from isola.server.installation import Installation
from isola.settings import Settings
from isola.subjects.applications import BUILT_IN
from isola.subjects.resources import Resource
from isola_strategies import registry
from isola_strategies.base import Strategy

STRATEGY = "schema"
PEER_TENANTS = 200
WORKERS = 4
# The first and last tenants of the run are compared, to detect whether creating tenants becomes slower.
ENDS = 50

ADDED = "added_by_benchmark"
ONE_MORE = f"""
import sqlalchemy as sa

revision = "benchmark"
down_revision = "{{head}}"


def upgrade(op):
    op.add_column("resources", sa.Column("{ADDED}", sa.Text))
"""

err = Console(stderr=True)


def main(
    *,
    tenants: Annotated[int, typer.Option(min=1, help="number of schema tenants")] = 1000,
    rows: Annotated[int, typer.Option(min=1, help="rows to import under each strategy")] = 50_000,
    database_url: Annotated[
        str | None, typer.Option(help="address of a database owner; by default the embedded server")
    ] = None,
    peer: Annotated[
        bool, typer.Option("--peer", help=f"also measure {PEER} on the same server; installs it from PyPI")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="JSON file for the figures")] = None,
) -> None:
    """Measure the life of many tenants."""
    with ExitStack() as held:
        if database_url is None:
            data_dir = held.enter_context(TemporaryDirectory(prefix="isola-benchmark-"))
            database_url = held.enter_context(embedded.running(Path(data_dir)))
        figures = asyncio.run(measure(database_url, tenants, rows))
        if peer:
            figures.append(asyncio.run(compared(database_url, min(tenants, PEER_TENANTS))))
    show(figures, f"{tenants} schema tenants")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(figure) for figure in figures], indent=2) + "\n")
    sys.exit(not all(figure.passed for figure in figures))


@dataclass(frozen=True, slots=True)
class Place:
    """A database for the benchmark."""

    where: Addresses
    strategies: Mapping[str, Strategy]
    owner: Database


async def measure(server: str, tenants: int, rows: int) -> list[Figure]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    async with place(server) as at:
        with Progress(*columns, console=err) as progress:
            return [
                *await making(at, tenants, progress),
                await checking(at, tenants),
                *[await filling(at, name, rows, progress) for name in sorted(at.strategies)],
                await migrating(at, progress),
            ]


@asynccontextmanager
async def place(server: str) -> AsyncIterator[Place]:
    """Create and migrate a database on the server; at the end drop it and its roles."""
    name = f"isola_benchmark_{uuid4().hex[:8]}"
    url = make_url(server).set(database=name).render_as_string(hide_password=False)
    where = logins.addresses(Settings.model_construct(database_url=SecretStr(url)))
    strategies = registry.load(where.tenant_login)
    connection = await asyncpg.connect(server)
    roles: list[str] = []
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
        try:
            async with await Database.open(url, size=WORKERS, wait=10, statement_timeout=600) as owner:
                await migrations.migrate(owner, strategies, where)
                try:
                    yield Place(where, strategies, owner)
                finally:
                    async with owner.unbound() as transaction:
                        roles = await transaction.texts("SELECT role FROM control.tenants WHERE role <> 'none'")
        finally:
            await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
            for role in roles:
                await connection.execute(f"DROP ROLE {role}")
    finally:
        await connection.close()


async def making(at: Place, tenants: int, progress: Progress) -> list[Figure]:
    seconds = []
    for number in progress.track(range(tenants), description="making tenants"):
        started = time.perf_counter()
        await provisioning.create(at.owner, at.strategies, slug=f"tenant-{number}", name="Tenant", strategy=STRATEGY)
        seconds.append(time.perf_counter() - started)
    ends = min(ENDS, tenants)
    return [
        Figure("making a tenant, median", milliseconds(seconds, 50), "ms", bar=50),
        Figure("making a tenant, 95th percentile", milliseconds(seconds, 95), "ms"),
        Figure(f"the first {ends} of them, median", milliseconds(seconds[:ends], 50), "ms"),
        Figure(f"the last {ends} of them, median", milliseconds(seconds[-ends:], 50), "ms"),
    ]


async def checking(at: Place, tenants: int) -> Figure:
    started = time.perf_counter()
    report = await migrations.check(at.owner, at.strategies, at.where)
    seconds = time.perf_counter() - started
    if report.behind or report.homes < tenants:
        raise RuntimeError(f"expected {tenants} homes at the newest revision, found {report}")
    return Figure("a check with nothing to do", seconds, "s", bar=1)


async def filling(at: Place, strategy: str, rows: int, progress: Progress) -> Figure:
    tenant = await provisioning.create(
        at.owner, at.strategies, slug=f"filled-{strategy}", name="Filled", strategy=strategy
    )
    task = progress.add_task(f"importing under {strategy}", total=rows)
    with TemporaryDirectory(prefix="isola-benchmark-") as directory:
        file = Path(directory) / "resources.jsonl"
        with file.open("w") as lines:
            for number in range(rows):
                data = {"tags": ["one", "two"], "number": number, "text": "x" * 100, "at": {"x": 1.5, "y": None}}
                line = {"name": f"resource {number}", "kind": "report", "data": data, "sizeBytes": number}
                lines.write(json.dumps(line) + "\n")
        async with await Installation(Settings.model_construct(), at.where, at.strategies).tenants() as database:
            started = time.perf_counter()
            outcome = await importing.load(
                database, tenant, Resource, file, owner="import", strict=False, from_line=1,
                progress=lambda _, so_far: progress.update(task, completed=so_far.loaded),
            )  # fmt: skip
            seconds = time.perf_counter() - started
    if outcome.loaded != rows or outcome.bad:
        raise RuntimeError(f"expected {rows} rows, loaded {outcome.loaded}")
    return Figure(f"importing under {strategy}", rows / seconds, "rows/s", bar=5000, at_least=True)


async def migrating(at: Place, progress: Progress) -> Figure:
    task = progress.add_task("adding a column to every home", total=None)
    with one_more_revision():
        started = time.perf_counter()
        report = await migrations.migrate(
            at.owner,
            at.strategies,
            at.where,
            workers=WORKERS,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
        seconds = time.perf_counter() - started
    async with at.owner.unbound() as transaction:
        changed = await transaction.value("SELECT count(*) FROM pg_attribute WHERE attname = $1", ADDED)
    if report.failed or changed != report.homes:
        raise RuntimeError(f"expected {report.homes} homes with the new column, found {changed}: {report.failed}")
    return Figure(f"adding a nullable column to {report.homes} homes", seconds, "s", bar=30)


@contextmanager
def one_more_revision() -> Iterator[None]:
    """Inside this context, the tenant history has one additional revision."""
    ours = migrations.MIGRATIONS
    revision = ONE_MORE.format(head=migrations.newest(BUILT_IN))
    with TemporaryDirectory(prefix="isola-benchmark-") as directory:
        migrations.MIGRATIONS = copytree(ours, Path(directory) / "migrations")
        (migrations.MIGRATIONS / "tenant" / "benchmark.py").write_text(revision)
        migrations.clear_caches()
        try:
            yield
        finally:
            migrations.MIGRATIONS = ours
            migrations.clear_caches()


async def compared(server: str, tenants: int) -> Figure:
    """The peer's time for a tenant of three tables."""
    with TemporaryDirectory(prefix="isola-benchmark-") as directory:
        python = Path(directory) / "bin" / "python"
        with err.status(f"installing {PEER}"):
            run(sys.executable, "-m", "venv", directory)
            run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", PEER, *PEER_NEEDS)
        url = make_url(server)
        host, port = url.host or str(url.query["host"]), str(url.port or url.query.get("port", 5432))
        environment = {} if url.password is None else {"PGPASSWORD": str(url.password)}
        name = f"isola_benchmark_{uuid4().hex[:8]}"
        connection = await asyncpg.connect(server)
        try:
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0")
            try:
                with err.status(f"making tenants with {PEER}"):
                    script = str(MAKING)
                    said = run(str(python), script, host, port, str(url.username), name, str(tenants), **environment)
            finally:
                await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
        finally:
            await connection.close()
    return Figure(f"making a tenant with {PEER}, median", milliseconds(json.loads(said), 50), "ms")


def run(*command: str, **environment: str) -> str:
    """A program's output. Raises RuntimeError with its error output when it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, env={**os.environ, **environment})
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout


def milliseconds(seconds: Sequence[float], percentile: int) -> float:
    if len(seconds) == 1:
        return seconds[0] * 1000
    return statistics.quantiles(seconds, n=100, method="inclusive")[percentile - 1] * 1000


if __name__ == "__main__":
    typer.run(main)
