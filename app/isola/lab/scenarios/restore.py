"""Restoring the rows of one tenant from the backup of all, without changes to the others."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from sqlalchemy import make_url

from isola.database import embedded
from isola.database.transactions import DIALECT
from isola.errors import OperatorError
from isola.installed import metadata
from isola.lab.filling import discriminator
from isola.lab.laboratory import Laboratory
from isola.lab.newcomer import run, tables
from isola.lab.population import Population, Resident
from isola.lab.refusal import disk_bytes
from isola.lab.scenario import Needs, Point, Profile, sized, strategies
from isola_strategies.base import Strategy

PLATFORM = ("isola", "control")
"""Schemas that tables of tenants depend on, by their functions."""
FOLLOWS = "SET LOCAL session_replication_role = replica"
"""Rows come back as they were: no trigger, and no look-up of what they refer to."""


class Restore:
    """The rows of one of ``tenants`` tenants are lost. They come back from the backup of the whole database.

    - ``backup``: `pg_dump` of the whole database, as in the documentation, and its bytes.
    - ``unpack``: into an empty database, `pg_restore` of the home of the tenant, without its indexes: under `schema`
      that is the tenant's own schema, under `rls` the tables with the rows of all tenants.
    - ``copy``: COPY of the tenant's rows from there into its home, in one transaction.
    - ``restore``: all of it but the backup, with making that database.
    - ``unpacked``: the size of that database, most of which is PostgreSQL's own catalogue if the home is small.
    """

    name = "restore"
    question = "What does it take to restore one tenant?"
    notes = (
        (
            "A backup holds each table by itself, so from shared tables the rows of one tenant cannot be taken alone: "
            "this is inherent. Only a backup of each tenant by itself would change it, which the product does not "
            "make."
        ),
        (
            "The product has no command that restores one tenant: these are the programs of PostgreSQL, as an "
            "operator would use them. The tenant's entry in the directory and its log are still there."
        ),
    )

    def points(self, profile: Profile) -> Iterable[Point]:
        return profile.points(self.name)

    def subjects(self, point: Point) -> Sequence[str]:  # noqa: ARG002  the same everywhere
        return strategies()

    def needs(self, point: Point) -> Needs:
        populations = tuple(sized(point, subject) for subject in self.subjects(point))
        return Needs(connections=4, disk_bytes=2 * max(map(disk_bytes, populations)), populations=populations)

    def expected_seconds(self, point: Point) -> float:
        tenants = point.number("tenants")
        return 2.0 + tenants * 0.02 + tenants * point.number("rows") / 30_000

    async def measure(self, laboratory: Laboratory, point: Point, subject: str, round: int) -> Mapping[str, float]:
        population = await laboratory.populated(sized(point, subject))
        strategy = population.place.strategies[subject]
        lost = population.residents[round % len(population.residents)]
        with TemporaryDirectory(prefix="isola-lab-") as directory:
            archive, rows = Path(directory) / "all.dump", Path(directory) / "rows"
            started = time.perf_counter()
            await _run("pg_dump", "--format=custom", f"--file={archive}", population.place.address)
            values: dict[str, float] = {"backup_s": time.perf_counter() - started}
            values["backup_bytes"] = archive.stat().st_size
            expected = await _lose(population, strategy, lost)
            started = time.perf_counter()
            async with _beside(population) as address:
                values |= await _unpacked(address, archive, strategy, lost)
                copied = time.perf_counter()
                restored = await _copied(address, population, strategy, lost, rows)
                values["copy_s"] = time.perf_counter() - copied
                values["restore_s"] = time.perf_counter() - started
        if restored != expected:
            raise OperatorError(f"{restored} rows were restored: expected {expected}")
        await run(population, [f"VACUUM (ANALYZE) {name}" for name in tables(strategy.home(lost.tenant.id))])
        return values


async def _run(program: str, *arguments: str) -> str:
    """The error output of a program of PostgreSQL. Raises OperatorError with it if ``pg_dump`` fails."""
    command = [str(embedded.tool(program)), *arguments]
    done = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True, text=True)
    # A program that is newer than the server sets what the server does not know, and continues. Rows are counted.
    if done.returncode != 0 and program == "pg_dump":
        raise OperatorError(f"{program} failed: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return done.stderr


@asynccontextmanager
async def _beside(population: Population) -> AsyncIterator[str]:
    """The address of an empty database, which is dropped at the end."""
    name = f"{population.place.name}_restored"
    owner = make_url(population.place.address)
    connection = await asyncpg.connect(population.place.address)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name}")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        yield owner.set(database=name).render_as_string(hide_password=False)
        await connection.execute(f"DROP DATABASE {name}")
    finally:
        await connection.close()


async def _unpacked(address: str, archive: Path, strategy: Strategy, lost: Resident) -> dict[str, float]:
    schemas = (*PLATFORM, strategy.home(lost.tenant.id).schema)
    started = time.perf_counter()
    connection = await asyncpg.connect(address)
    try:
        # pg_restore of a schema restores what is in it, and not the schema.
        await connection.execute("; ".join(f"CREATE SCHEMA {schema}" for schema in schemas))
    finally:
        await connection.close()
    said = await _run(
        "pg_restore",
        "--no-owner",
        "--no-privileges",
        "--section=pre-data",
        "--section=data",
        *(f"--schema={schema}" for schema in schemas),
        f"--dbname={address}",
        str(archive),
    )
    seconds = time.perf_counter() - started
    connection = await asyncpg.connect(address)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", f"{schemas[-1]}.resources") is None:
            raise OperatorError(f"pg_restore did not restore the home: {said.strip()[-500:]}")
        size = await connection.fetchval("SELECT pg_database_size(current_database())")
    finally:
        await connection.close()
    return {"unpack_s": seconds, "unpacked_bytes": size}


def _own(strategy: Strategy, lost: Resident) -> str:
    column = discriminator(strategy)
    return f" WHERE {column} = '{lost.tenant.id}'" if column else ""


async def _lose(population: Population, strategy: Strategy, lost: Resident) -> int:
    """Delete the rows of a tenant. Returns how many there were."""
    schema = strategy.home(lost.tenant.id).schema
    deleted = 0
    connection = await asyncpg.connect(population.place.address)
    try:
        async with connection.transaction():
            await connection.execute(FOLLOWS)
            for table in metadata.sorted_tables:
                status = await connection.execute(f"DELETE FROM {schema}.{table.name}{_own(strategy, lost)}")
                deleted += int(status.rpartition(" ")[2])
    finally:
        await connection.close()
    return deleted


async def _copied(address: str, population: Population, strategy: Strategy, lost: Resident, rows: Path) -> int:
    """Copy the rows of a tenant into its home. Returns how many there were."""
    schema = strategy.home(lost.tenant.id).schema
    there, here = await asyncpg.connect(address), await asyncpg.connect(population.place.address)
    own = [column] if (column := discriminator(strategy)) else []
    copied = 0
    try:
        async with here.transaction():
            await here.execute(FOLLOWS)
            for table in metadata.sorted_tables:
                # Generated columns cannot be written.
                columns = [*own, *(column.name for column in table.columns if column.computed is None)]
                names = ", ".join(map(DIALECT.identifier_preparer.quote, columns))
                query = f"SELECT {names} FROM {schema}.{table.name}{_own(strategy, lost)}"
                await there.copy_from_query(query, output=rows, format="binary")
                status = await here.copy_to_table(
                    table.name, schema_name=schema, columns=columns, source=rows, format="binary"
                )
                copied += int(status.rpartition(" ")[2])
    finally:
        await there.close()
        await here.close()
    return copied
