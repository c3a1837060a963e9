from collections.abc import AsyncIterator

import pytest

from isola.database.transactions import Database
from isola.testing.fixtures import Cluster
from tests.doctor.patient import Names, Patient, admitted, names


@pytest.fixture(scope="module")
async def ward(cluster: Cluster) -> AsyncIterator[tuple[Database, Names]]:
    """The template database: every change is rolled back, so a hundred tests need no copies."""
    address = cluster.address(cluster.template)
    async with await Database.open(address, size=2, statement_timeout=60) as owner:
        yield owner, await names(owner, address)


@pytest.fixture
async def patient(ward: tuple[Database, Names]) -> AsyncIterator[Patient]:
    async with admitted(*ward) as admitted_patient:
        yield admitted_patient
