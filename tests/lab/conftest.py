"""The lab at a small scale, on the tests' PostgreSQL, which must be unchanged afterwards."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isola.lab import cluster as clusters, machine
from isola.lab.cluster import Cluster as Ground
from isola.lab.laboratory import Laboratory
from isola.testing.fixtures import Cluster


@pytest.fixture
async def ground(cluster: Cluster) -> AsyncIterator[Ground]:
    """The lab's part of the server."""
    async with clusters.entered(cluster.url, lasting=True) as ground:
        yield ground


@pytest.fixture
async def laboratory(ground: Ground, tmp_path: Path) -> AsyncIterator[Laboratory]:
    postgresql = await machine.postmaster(ground.maintenance)
    async with Laboratory(ground, directory=tmp_path, seed=1, postgresql=postgresql) as laboratory:
        yield laboratory
