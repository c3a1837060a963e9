from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from isola.settings import Settings
from isola.testing.fixtures import DEFAULTS, TRIED, Cluster, Copy, copied
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return DEFAULTS.model_copy(update={"data_dir": tmp_path, "directory_ttl": 0.2})


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    """A server with this test's own copy of the database."""
    async with serving(copy, settings) as api:
        yield api


@pytest.fixture
def alice(api: Api, strategy: Strategy) -> Client:
    """An administrator of a tenant, under each strategy in turn."""
    return api.client(f"{strategy.name}-a")


@pytest.fixture
def bob(api: Api, strategy: Strategy) -> Client:
    """An administrator of another tenant under the same strategy."""
    return api.client(f"{strategy.name}-b", "bob")


@pytest.fixture(scope="session")
async def standing(
    cluster: Cluster, server: asyncpg.Connection, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Api]:
    """A shared server for tests whose requests are all refused or read-only."""
    settings = DEFAULTS.model_copy(update={"data_dir": tmp_path_factory.mktemp("standing")})
    async with copied(cluster, server) as copy, serving(copy, settings) as api:
        yield api


@pytest.fixture(params=TRIED)
async def guest(standing: Api, request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """An administrator of a tenant that the test must leave unchanged."""
    client = standing.client(f"{request.param}-a")
    if not (await client.ask("{ resources { totalCount } }")).data["resources"]["totalCount"]:
        await client.create("first")
    before = await standing.content(client.tenant)
    yield client
    assert await standing.content(client.tenant) == before
