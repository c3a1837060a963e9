"""Measures how much tenants store: the bytes of the values in their rows. See docs/plans.md.

Servers do it tenant after tenant, the one that was measured longest ago first, about every hour and page by page: no
transaction is long. Tenants whose logs have not grown since have not changed either. A tenant that takes long is
measured less often: at most a hundredth of the time is spent on it.
"""

import time
from contextlib import AbstractAsyncContextManager
from functools import partial
from uuid import UUID

from sqlalchemy import BigInteger, Column, Integer, Table, Uuid, text

from isola.database.transactions import Database
from isola.errors import Refusal
from isola.installed import metadata as domain
from isola.platform.background import repeating
from isola.platform.tenants import ENTRY, Tenant, entry, metadata, tenants
from isola.subjects.metadata import moment

INTERVAL = 60.0
"""Seconds between two looks for tenants that are due."""
LEASE = 600
"""Seconds after which another server measures a tenant that one has begun with."""
PAGE = 10_000
"""Rows that a transaction measures, and a few more where rows have the first column of their key in common."""

storage = Table(
    "storage",
    metadata,
    # No foreign key: see isola.platform.provisioning.drop.
    Column("tenant_id", Uuid, primary_key=True),
    Column("bytes", BigInteger, nullable=False, server_default=text("0")),
    # The limit at that moment.
    Column("most", BigInteger),
    # The last number of the log before it was measured.
    Column("entries", BigInteger),
    moment("measured_at", nullable=True, default=None),
    moment("due_at"),
    # The percentage of the limit of which the tenant was told.
    Column("warned", Integer, nullable=False, server_default=text("0")),
)

_TAKE = "SELECT jsonb_build_array(tenant, changed, entries) FROM control.take_storage($1::int)"
_KEEP = "SELECT control.keep_storage($1, $2::bigint, $3::bigint, $4::float8)"
_MEASURE = "SELECT jsonb_build_array(bytes, last) FROM isola.measure_rows($1, $2, $3::text::uuid, $4::int)"


async def measure(database: Database, tenant: Tenant, page: int = PAGE) -> int:
    """The bytes of the values in a tenant's rows, without the log. Raises Unavailable and Conflict."""
    total = 0
    for table in domain.sorted_tables:
        if "audited" not in table.info:
            continue
        key, after = next(iter(table.primary_key.columns)).name, str(UUID(int=0))
        while after is not None:
            async with database.transaction(tenant, read_only=True) as work:
                found, after = await work.value(_MEASURE, table.name, key, after, page)
            total += found
    return total


async def measure_due(control: Database, database: Database) -> int:
    """Measure all tenants that are due; how many. One that refuses is tried again later. Raises Unavailable."""
    number = 0
    while True:
        async with control.unbound() as work:
            key, changed, entries = await work.value(_TAKE, LEASE)
            if key is None:
                return number
            [tenant] = [entry(row) for row in await work.rows(ENTRY.where(tenants.c.id == UUID(key)))]
        number += 1
        began = time.monotonic()
        try:
            total = await measure(database, tenant) if changed else None
        except Refusal:
            # The lease ends.
            continue
        async with control.unbound() as work:
            await work.value(_KEEP, tenant.id, total, entries, time.monotonic() - began)


def measuring(control: Database, database: Database, interval: float = INTERVAL) -> AbstractAsyncContextManager[None]:
    """Measures tenants that are due every ``interval`` seconds, as long as the context is open."""
    return repeating(partial(measure_due, control, database), interval, "the storage of tenants cannot be measured")
