"""A worker on the database of the test, and a user and an organization of a tenant."""

from collections.abc import AsyncIterator
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import insert

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects import organizations, roles
from isola.subjects.permissions import Role
from isola.testing import modes
from isola.testing.fixtures import Copy
from isola.workers import Worker


@pytest.fixture
def reached(copy: Copy, settings: Settings) -> Settings:
    """The settings of a worker on the database of the test."""
    addresses = {"tenant_url": SecretStr(copy.where.tenant), "control_url": SecretStr(copy.where.control)}
    return settings.model_copy(update={**addresses, "pool_size": 8, "pool_wait": 30.0})


@pytest.fixture
async def worker(copy: Copy, reached: Settings) -> AsyncIterator[Worker]:
    with modes.between(copy.where.tenant) as address:
        async with Worker.open("nightly", reached.model_copy(update={"tenant_url": SecretStr(address)})) as opened:
            yield opened


@pytest.fixture
async def ada(database: Database, a: Tenant) -> UUID:
    """An editor of the tenant, who has signed in."""
    async with database.transaction(a) as work:
        standing = await roles.admit(work, subject="ada", name="Ada", email=None, role=Role.EDITOR)
    return standing.user_id


@pytest.fixture
async def sales(database: Database, a: Tenant) -> UUID:
    """An organization of the tenant, without members."""
    async with database.transaction(a) as work:
        made = insert(organizations.organizations).values(name="Sales", name_key="sales")
        key: UUID = await work.scalar(made.returning(organizations.organizations.c.id))
    return key
