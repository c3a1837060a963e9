"""Checks before a run whether the server and the machine have the resources for it."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from uuid import uuid4

import asyncpg
import psutil

from isola.errors import OperatorError
from isola.lab.declared import Declared
from isola.lab.population import OWN_TABLES, Size
from isola.lab.scenario import Needs
from isola.subjects.applications import BUILT_IN
from isola_strategies import registry

MIB = 1 << 20
# Measured sizes: an empty database with the product, a table of a home with its indexes, a resource with its five
# spans and all their index entries, and a tenant's rows in an extra table.
DATABASE_BYTES = 10 * MIB
TABLE_BYTES = 115_000
RESOURCE_BYTES = 4_000
FURTHER_BYTES = 2_500
# A factor for disk space: the same amount again for WAL, and the rest for sorting.
WRITTEN = 2.5
# Also measured: seconds for a database, a table of a home, and a thousand resources.
DATABASE_SECONDS = 1.0
TABLE_SECONDS = 0.005
THOUSAND_SECONDS = 0.15
LAB_CONNECTIONS = 8
"""Besides what a scenario opens: the lab's own, the owner's, and the control plane's of a server."""


@dataclass(frozen=True, slots=True)
class Room:
    """The available resources. None: unknown."""

    disk_bytes: int | None
    connections: int
    memory_bytes: int | None


async def room(connection: asyncpg.Connection, *, local: bool, directory: Path | None) -> Room:
    """The server's available resources. ``directory`` is its data directory, if known without a query."""
    if directory is None and local:
        directory = await _data_directory(connection)
    free = await connection.fetchval(
        """
        SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true), '0')::int
            - (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::int
        """
    )
    return Room(
        shutil.disk_usage(directory).free if directory is not None and directory.exists() else None,
        free,
        psutil.virtual_memory().available if local else None,
    )


def refuse(needs: Iterable[Needs], there: Room) -> None:
    """Raise OperatorError with the available and the required amount, unless the resources suffice."""
    every = list(needs)
    populations = {size for each in every for size in each.populations}
    disk = round(WRITTEN * sum(disk_bytes(size) for size in populations)) + max(
        (each.disk_bytes for each in every), default=0
    )
    connections = max((each.connections for each in every), default=0) + LAB_CONNECTIONS
    memory = max((each.memory_bytes for each in every), default=0)
    for what, wanted, found in (
        ("disk", disk, there.disk_bytes),
        ("memory", memory, there.memory_bytes),
    ):
        if found is not None and wanted > found:
            raise OperatorError(f"{found / MIB:,.0f} MiB of {what} are free; this run needs {wanted / MIB:,.0f} MiB")
    if connections > there.connections:
        raise OperatorError(
            f"{there.connections} connections are left of max_connections; this run needs {connections}"
        )


def disk_bytes(size: Size) -> int:
    """The approximate disk space of a population."""
    homes = _homes(size)
    kinds = 1 if size.application == BUILT_IN else max(1, len(Declared(size.application).tables))
    further = size.tables - OWN_TABLES
    return (
        DATABASE_BYTES
        + homes * size.tables * TABLE_BYTES
        + size.tenants * (size.rows * kinds * RESOURCE_BYTES + further * FURTHER_BYTES)
    )


def making_seconds(size: Size) -> float:
    """The approximate time to create a population."""
    tables = _homes(size) * size.tables
    return DATABASE_SECONDS + tables * TABLE_SECONDS + size.tenants * size.rows / 1000 * THOUSAND_SECONDS


@cache
def _homes(size: Size) -> int:
    """The number of homes of a population."""
    strategies = registry.load("isola_tenant")
    if size.placement not in strategies:
        raise OperatorError(f"strategy {size.placement!r}: expected one of {', '.join(sorted(strategies))}")
    if size.tables < OWN_TABLES:
        raise OperatorError(f"{size.tables} tables: expected at least {OWN_TABLES}, which the product has itself")
    return len(strategies[size.placement].homes([uuid4() for _ in range(size.tenants)]))


async def _data_directory(connection: asyncpg.Connection) -> Path | None:
    try:
        return Path(await connection.fetchval("SHOW data_directory"))
    except asyncpg.InsufficientPrivilegeError:
        return None
