"""Lists in the order of a language, on an application made for these tests, where PostgreSQL has ICU."""

import asyncpg
import pytest

from tests.subjects import separately

HAS_ICU = "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'de-x-icu' AND collprovider = 'i')"
APPLICATION = "tests.subjects.languages:application"


@pytest.mark.parametrize("suite", ["tests/subjects/languages/suite.py", "app/isola/testing/isolation/test_moving.py"])
async def test_lists_are_ordered_by_the_rules_of_a_language(server: asyncpg.Connection, suite: str) -> None:
    if not await server.fetchval(HAS_ICU):
        pytest.skip("the embedded PostgreSQL has no ICU: make test-postgresql15 runs this")
    separately.run(APPLICATION, suite)
