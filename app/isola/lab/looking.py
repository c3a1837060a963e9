"""Measures reads of one tenant through connections of tenant traffic."""

import json
import time
from collections.abc import Sequence

from isola.database.transactions import Database
from isola.lab.population import Resident
from isola.lab.statements import Written


async def timed(database: Database, resident: Resident, written: Written, times: int) -> Sequence[float]:
    """Milliseconds of each of ``times`` transactions with one statement."""
    found = []
    for _ in range(times):
        started = time.perf_counter()
        async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
            await work.value(written.sql, *written.arguments)
        found.append((time.perf_counter() - started) * 1000)
    return found


async def pages(database: Database, resident: Resident, written: Written) -> int:
    """The number of pages that PostgreSQL accesses for a statement."""
    async with database.transaction(resident.tenant, read_only=True, about=written.about) as work:
        explained = await work.value(
            f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {written.sql}", *written.arguments
        )
    root = json.loads(explained)[0]["Plan"]
    return int(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
