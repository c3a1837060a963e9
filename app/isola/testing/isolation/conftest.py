"""Two tenants under the same strategy, one with a canary in every table, and a bare connection to attack with."""

import json
from collections.abc import AsyncIterator

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import Canary, plant


@pytest.fixture
async def login(copy: Copy) -> AsyncIterator[asyncpg.Connection]:
    """An unbound connection of the tenant login: what an attacker has after bypassing all checks in Python."""
    connection = await asyncpg.connect(copy.where.tenant)
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    yield connection
    await connection.close()


@pytest.fixture
async def canary_a(database: Database, a: Tenant) -> Canary:
    return await plant(database, a)


@pytest.fixture
async def canary_b(database: Database, b: Tenant) -> Canary:
    return await plant(database, b)


@pytest.fixture
async def single(copy: Copy) -> AsyncIterator[Database]:
    """A pool of tenant traffic with a single connection: all transactions run in the same session."""
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as opened:
        yield opened
