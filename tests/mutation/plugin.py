"""The part of a sabotage that happens inside pytest: ``pytest -p tests.mutation.plugin``.

It ensures that the source under trial is imported, and runs the statements of the sabotage that ``TEST_SABOTAGE``
names. Without that name it changes nothing.
"""

# ruff: noqa: E402  the first thing that is done
import gc

# Imported modules are never freed: pytest_collection_finish in isola.testing.fixtures enables it again.
gc.disable()

import asyncio
import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import isola
import isola_strategies
from isola.platform import protection
from isola_strategies.base import Home
from tests.mutation import statements
from tests.mutation.sabotage import Sql
from tests.mutation.sabotages import BY_NAME

# The exit status of pytest if the sabotage itself fails. Those of pytest go up to 5.
NOT_APPLIED = 9

_sabotage = BY_NAME.get(os.environ.get("TEST_SABOTAGE", ""))


def pytest_configure(config: pytest.Config) -> None:
    for package in (isola, isola_strategies):
        path = Path(str(package.__file__)).resolve()
        if not path.is_relative_to(config.rootpath.resolve()):
            pytest.exit(f"{package.__name__} was imported from {path}, not from {config.rootpath}", NOT_APPLIED)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Generator[None, Any, Any]:
    made = yield
    if isinstance(_sabotage, Sql) and fixturedef.argname == ("copy" if _sabotage.each_copy else "cluster"):
        url = made.where.owner if _sabotage.each_copy else made.address(made.template)
        asyncio.run(_run(_sabotage, url))
    return made


async def _run(sabotage: Sql, url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await statements.run(sabotage, connection, url)
        # Otherwise servers refuse homes whose policies were changed, and tests do not get to what that permits.
        for home in await connection.fetch(protection.MARKED_HOMES):
            await connection.execute(protection.mark(Home(home[0])))
    except asyncpg.PostgresError as error:
        pytest.exit(f"{sabotage.name}: {error}", NOT_APPLIED)
    finally:
        await connection.close()
