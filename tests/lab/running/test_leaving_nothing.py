"""A run leaves nothing on the server, however it ends."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from isola.lab import cluster as clusters
from isola.testing.fixtures import Cluster

EVERYTHING = """
SELECT 'database ' || datname FROM pg_database UNION ALL
SELECT 'role ' || rolname FROM pg_roles UNION ALL
SELECT 'membership ' || roleid::regrole || ' ' || member::regrole FROM pg_auth_members
"""


@pytest.fixture
async def server(cluster: Cluster) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(cluster.url)
    yield connection
    await connection.close()


async def everything(server: asyncpg.Connection) -> set[str]:
    return {row[0] for row in await server.fetch(EVERYTHING)}


async def test_a_run_removes_its_databases_and_the_roles_that_it_brought(
    cluster: Cluster, server: asyncpg.Connection
) -> None:
    before = await everything(server)
    async with clusters.entered(cluster.url, lasting=True) as ground:
        place = await ground.make()
        await a_tenant_with_a_role(place.address)
        assert len(await everything(server) - before) > 3
    assert await everything(server) == before


async def test_a_place_is_dropped_with_its_roles_while_others_stay(
    cluster: Cluster, server: asyncpg.Connection
) -> None:
    async with clusters.entered(cluster.url, lasting=True) as ground:
        kept = await ground.make()
        before = await everything(server)
        dropped = await ground.make()
        await a_tenant_with_a_role(dropped.address)
        await ground.drop(dropped)
        assert await everything(server) == before
        assert f"database {kept.name}" in before


async def test_leftovers_of_a_dead_run_are_removed_by_the_next(cluster: Cluster, server: asyncpg.Connection) -> None:
    before = await everything(server)
    async with clusters.entered(cluster.url, lasting=False) as dying:
        place = await dying.make()
        await a_tenant_with_a_role(place.address)
    assert f"database {place.name}" in await everything(server)
    async with clusters.entered(cluster.url, lasting=True):
        assert f"database {place.name}" not in await everything(server)
    assert await everything(server) == before


async def test_a_running_run_is_not_disturbed_by_the_next(cluster: Cluster, server: asyncpg.Connection) -> None:
    async with clusters.entered(cluster.url, lasting=True) as first:
        place = await first.make()
        async with clusters.entered(cluster.url, lasting=True):
            assert f"database {place.name}" in await everything(server)
        assert f"database {place.name}" in await everything(server)


async def test_a_database_with_data_is_distinguished_from_an_empty_one(cluster: Cluster) -> None:
    found = await clusters.holds_data(cluster.address(cluster.template))
    assert found is not None
    assert found.startswith(f"{cluster.template} holds ")
    assert await clusters.holds_data(cluster.address("template1")) is None


async def a_tenant_with_a_role(address: str) -> None:
    """A minimal database with a role that its objects depend on."""
    connection = await asyncpg.connect(address)
    try:
        name = await connection.fetchval("SELECT 't_' || replace(gen_random_uuid()::text, '-', '')")
        await connection.execute(f"CREATE ROLE {name}; CREATE SCHEMA {name}; GRANT USAGE ON SCHEMA {name} TO {name}")
    finally:
        await connection.close()
