"""Further databases like a test's own, for oracles that compare one with another."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

import asyncpg

from app.control import logins, migrations
from app.database import Database
from strategies import registry
from tests.conftest import DEFAULTS, Cluster, Copy, _alone, _drop_database, _homes_roles

_numbers = count()


@asynccontextmanager
async def copied(cluster: Cluster) -> AsyncIterator[Copy]:
    """A copy of the database that the tests furnished, removed at the end with the roles that it brought."""
    name = f"{cluster.template}_oracle_{next(_numbers)}"
    where = logins.addresses(DEFAULTS, cluster.address(name))
    connection = await asyncpg.connect(cluster.url)
    try:
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {cluster.template} STRATEGY file_copy")
        async with _alone(cluster), await Database.open(cluster.address(name)) as owner:
            # What a database itself may be used for is not copied with it.
            await migrations.prepare(owner, where)
        yield Copy(where, registry.load(where.tenant_login))
        brought = await _homes_roles(cluster, name) - await _homes_roles(cluster, cluster.template)
        await _drop_database(connection, name)
        for role in brought:
            await connection.execute(f"DROP ROLE IF EXISTS {role}")
    finally:
        await connection.close()
