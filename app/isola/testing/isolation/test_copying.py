"""COPY bypasses SELECT, but not isolation."""

from contextlib import suppress
from io import BytesIO

import asyncpg

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.testing.oracles.canary import TABLES, Canary
from isola_strategies.base import Strategy


async def test_copy_to_returns_own_rows_only(
    strategy: Strategy, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    home = strategy.home(canary_a.tenant.id)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for table in TABLES:
            whole, chosen = BytesIO(), BytesIO()
            await work._connection.copy_from_table(table.name, output=whole)
            await work._connection.copy_from_query(f"SELECT * FROM {home.schema}.{table.name}", output=chosen)
            for copied in (whole.getvalue().decode(), chosen.getvalue().decode()):
                assert copied.count("\n") == 1
                assert not canary_b.traced_in(copied)


async def test_copy_from_another_tenants_tables_returns_no_rows(
    strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    home = strategy.home(canary_b.tenant.id)
    for table in TABLES:
        out = BytesIO()
        with suppress(asyncpg.InsufficientPrivilegeError):
            async with database.transaction(a) as work:
                await work._connection.copy_from_table(table.name, schema_name=home.schema, output=out)
        assert out.getvalue() == b""
