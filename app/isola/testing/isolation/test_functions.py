"""What PostgreSQL's own functions and views, used by injected SQL in a transaction of A, reveal about B.

Functions that run SQL run it as their caller, and statistics of B's values are not visible. What remains are sizes and
estimates, and signals between two parties that both run SQL here: docs/attacks.md lists them.
"""

from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest
from structlog.testing import capture_logs

from isola.database.transactions import Database, Transaction
from isola.errors import Refusal
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import Canary, content, tried
from isola_strategies.base import Strategy

SMUGGLED = {
    "nothing": "SELECT",
    "another role": "SET LOCAL ROLE {role}",
    "no role": "RESET ROLE",
    "all of the binding but the proof": "{bind_b}",
}
# Functions that run SQL for their caller. The last statement of each returns the result.
RUNNERS = {
    "ts_stat": "SELECT word FROM ts_stat('SELECT array_to_tsvector(ARRAY[name]) FROM {home}.users')",
    "ts_rewrite": """
        SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, quote_literal(name)::tsquery FROM {home}.users')::text
    """,
    "query_to_xml": "SELECT query_to_xml('SELECT name FROM {home}.users', true, false, '')::text",
    "table_to_xml": "SELECT table_to_xml('{home}.users', true, false, '')::text",
    "cursor_to_xml": """
        DECLARE c CURSOR FOR SELECT name FROM {home}.users; SELECT cursor_to_xml('c', 10, true, false, '')::text
    """,
    "a cursor": "DECLARE c CURSOR WITH HOLD FOR SELECT name FROM {home}.users; FETCH ALL FROM c",
    "a prepared statement": "PREPARE smuggled AS SELECT name FROM {home}.users; EXECUTE smuggled",
    "a block": "DO $$ BEGIN RAISE '%', (SELECT max(name) FROM {home}.users); END $$",
}
# The error of XML functions if PostgreSQL was built without libxml.
NO_XML = "0A000"
LOCKED = "55P03"
COLLECTED = {
    "most common values": "SELECT most_common_vals::text FROM pg_stats WHERE schemaname = '{home}'",
    "of expressions": "SELECT most_common_vals::text FROM pg_stats_ext_exprs WHERE schemaname = '{home}'",
    "as it is stored": "SELECT stavalues1::text FROM pg_statistic",
}
MANY = "INSERT INTO users (subject, name) SELECT gen_random_uuid()::text, $1 FROM generate_series(1, 2000)"


async def shown(work: Transaction, sql: str) -> object:
    """The result of the last statement; for an error, the message of a RAISE, otherwise the code."""
    *before, last = sql.split("; ") if "DO $$" not in sql else [sql]
    try:
        for each in before:
            await work.script(each)
        return [dict(row) for row in await work._connection.fetch(last)]
    except asyncpg.PostgresError as error:
        return str(error) if isinstance(error, asyncpg.RaiseError) else error.sqlstate


@pytest.mark.parametrize("smuggled", SMUGGLED)
async def test_functions_that_run_sql_run_it_as_their_caller(
    smuggled: str, strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    b = canary_b.tenant
    before = await content(database, b)
    names = {"role": strategy.home(b.id).role or "none", "bind_b": strategy.bind(b.id)}
    for runner in RUNNERS.values():
        with suppress(LookupError, Refusal), capture_logs():
            async with database.transaction(a) as work:
                await work.script(SMUGGLED[smuggled].format(**names))
                assert not canary_b.traced_in(await shown(work, runner.format(home=strategy.home(b.id).schema)))
                raise LookupError
    assert await content(database, b) == before


async def test_with_a_valid_proof_all_of_them_return_rows(
    copy: Copy, strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    """Otherwise the test above could not fail."""
    b = canary_b.tenant
    silent = {}
    for name, runner in RUNNERS.items():
        with suppress(LookupError):
            async with database.transaction(a) as work:
                await work.script("RESET ROLE")
                await copy.enter(work._connection, b)
                found = await shown(work, runner.format(home=strategy.home(b.id).schema))
                if not canary_b.traced_in(found) and found != NO_XML:
                    silent[name] = found
                raise LookupError
    assert silent == {}


@pytest.mark.parametrize("smuggled", SMUGGLED)
async def test_collected_statistics_of_values_are_not_visible(
    smuggled: str, strategy: Strategy, database: Database, owner: Database, a: Tenant, b: Tenant
) -> None:
    marker = f"canary-{uuid4()}"
    async with database.transaction(b) as work:
        await work.value(MANY, marker)
    home = strategy.home(b.id)
    names = {"home": home.schema, "role": home.role or "none", "bind_b": strategy.bind(b.id)}
    async with owner.unbound() as work:
        await work.script(f"ANALYZE {home.schema}.users")
        if await work.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            assert marker in str(await shown(work, COLLECTED["most common values"].format(**names)))
    for sql in COLLECTED.values():
        with suppress(LookupError, Refusal), capture_logs():
            async with database.transaction(a) as work:
                await work.script(SMUGGLED[smuggled].format(**names))
                assert marker not in str(await shown(work, sql.format(**names)))
                raise LookupError


async def test_sizes_and_estimates_reveal_row_counts_and_common_values(
    strategy: Strategy, database: Database, owner: Database, a: Tenant, b: Tenant
) -> None:
    """What remains: PostgreSQL shows sizes to all roles, and its row estimates are based on all rows of a table."""
    size_of = "SELECT pg_relation_size(oid) FROM pg_class WHERE relname = 'users' AND relnamespace = $1::regnamespace"
    explained = "EXPLAIN SELECT FROM users WHERE name = 'a name that is common'"
    home_of = strategy.home(b.id).schema

    async def seen_by_a_after(tenant: Tenant, name: str) -> tuple[int, str]:
        async with database.transaction(tenant) as work:
            await work.value(MANY, name)
        async with owner.unbound() as work:
            for home in strategy.homes([a.id, b.id]):
                await work.script(f"ANALYZE {home.schema}.users")
        async with database.transaction(a) as work:
            return await work.value(size_of, home_of), await work.value(explained)

    size, plan = await seen_by_a_after(a, "a name of its own")
    larger, planned = await seen_by_a_after(b, "a name that is common")
    assert larger > size
    assert (planned != plan) == (strategy.home(a.id) == strategy.home(b.id))


async def test_a_table_that_several_share_can_be_locked_by_each(
    strategy: Strategy, database: Database, a: Tenant, b: Tenant
) -> None:
    """What remains: a role that may change rows of a table may lock the whole table, until the transaction ends."""
    async with database.transaction(a) as one, database.transaction(b) as other:
        await one.script("LOCK TABLE users")
        await other.script("SET LOCAL lock_timeout TO '50ms'")
        found = await tried(other, "SELECT count(*) FROM users")
    assert (found == LOCKED) == (strategy.home(a.id) == strategy.home(b.id))


async def test_tenants_that_run_sql_can_signal_each_others_sessions(database: Database, a: Tenant, b: Tenant) -> None:
    """What remains: advisory locks are shared by all sessions of a database."""
    async with database.transaction(a) as one, database.transaction(b) as other:
        assert await other.value("SELECT pg_try_advisory_xact_lock(42)")
        assert not await one.value("SELECT pg_try_advisory_xact_lock(42)")
