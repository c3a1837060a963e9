"""Injected SQL in a transaction of A cannot use PostgreSQL features that bypass schemas and policies."""

import asyncpg
import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import logins
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, content, tried
from isola_strategies.base import Strategy

READ = text("SELECT name FROM users WHERE name <> :other")
# Given names, and names that asyncpg makes from a counter.
NAMES = "SELECT name FROM pg_prepared_statements"
COUNTED = "SELECT format('__asyncpg_stmt_%s__', to_hex(n)) AS name FROM generate_series(1, 5000) n"
REPLACE = """
DO $do$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY '{names}'::text[] LOOP
        BEGIN
            EXECUTE format('DEALLOCATE %I', name);
            EXECUTE format('PREPARE %I(text) AS WITH changed AS (UPDATE users SET name = ''replaced'' RETURNING 1)
                SELECT ''replaced''::text AS name', name);
        EXCEPTION WHEN OTHERS THEN NULL;
        END;
    END LOOP;
END $do$
"""


@pytest.fixture(autouse=True)
async def superuser(owner: Database) -> None:
    async with owner.unbound() as work:
        if not await work.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
            pytest.skip("the owner given for the tests cannot take from everybody what is PostgreSQL's own")


async def test_no_tenant_may_call_functions_that_affect_other_sessions(owner: Database) -> None:
    sql = """
        SELECT format('%s %s', rolname, function) FROM pg_roles, unnest($1::text[]) function
        WHERE NOT rolsuper AND rolname !~ '^pg_' AND has_function_privilege(rolname, function, 'EXECUTE')
          -- It lends its one right to a function of the control plane. Whoever had it as a member would be found.
          AND NOT (rolname = 'isola_watchdog' AND function LIKE 'pg_terminate_backend%')
    """
    async with owner.unbound() as work:
        assert await work.texts(sql, logins.FOR_NO_TENANT) == []


async def test_no_statement_that_the_next_tenant_runs_can_be_replaced(
    copy: Copy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    """A connection caches prepared statements by name, and the next tenant uses them."""
    b = canary_b.tenant
    before = await content(database, b)
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as single:
        for tenant in (a, b):
            async with single.transaction(tenant) as work:
                await work.rows(READ, {"other": ""})
        async with single.transaction(a) as work:
            found = await tried(work, NAMES)
            known = [] if isinstance(found, str) else found
            counted = await work._connection.fetch(COUNTED)
            names = ",".join(f'"{row["name"]}"' for row in [*known, *counted])
            await work.script(REPLACE.format(names=f"{{{names}}}"))
        async with single.transaction(b) as work:
            assert [row["name"] for row in await work.rows(READ, {"other": ""})] == [canary_b.marker]
    assert await content(database, b) == before


async def test_no_large_object_can_be_made_or_read(
    strategy: Strategy, owner: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    """They belong to no schema, and no policy applies to them."""
    async with owner.unbound() as work:
        made = await work.value("SELECT lo_from_bytea(0, 'of somebody')")
        await work.script(f"GRANT SELECT, UPDATE ON LARGE OBJECT {made} TO PUBLIC")
    async with database.transaction(a) as work:
        for role in ("CURRENT_USER", strategy.home(b.id).role or "none"):
            await work.script(f"SET LOCAL ROLE {role}" if role != "CURRENT_USER" else "SELECT")
            for sql in (
                "SELECT lo_create(0)",
                "SELECT lo_from_bytea(0, 'mine')",
                f"SELECT lo_get({made})",
                f"SELECT lo_put({made}, 0, 'mine')",
                f"SELECT lo_open({made}, 262144)",
                f"SELECT lo_unlink({made})",
            ):
                assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE


@pytest.mark.parametrize("known", ["as everybody may look them up", "as a pooler counts them"])
async def test_prepared_statements_are_not_reused_if_their_names_are_readable(
    known: str, copy: Copy, owner: Database, a: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    if known == "as a pooler counts them":
        monkeypatch.setattr(asyncpg.Connection, "get_server_pid", lambda _: 1)
    else:
        async with owner.unbound() as work:
            await work.script("GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO PUBLIC")
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as single:
        with capture_logs() as logged:
            async with single.transaction(a) as work:
                await work.rows(READ, {"other": ""})
                await work.script("DEALLOCATE ALL")
        assert [entry["event"] for entry in logged] == ["prepared statements are not reused"]
        async with single.transaction(a) as work:
            await work.rows(READ, {"other": ""})


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_no_session_of_another_tenant_can_be_ended(end: str, database: Database, a: Tenant, b: Tenant) -> None:
    async with database.transaction(b) as theirs, database.transaction(a) as mine:
        process = await theirs.value("SELECT pg_backend_pid()")
        for become in ("SELECT", "RESET ROLE"):
            await mine.script(become)
            assert await tried(mine, f"SELECT {end}({process})") == INSUFFICIENT_PRIVILEGE
        assert await theirs.value("SELECT 1") == 1


async def test_discarded_statements_cost_only_the_tenant_that_caused_it(
    copy: Copy, a: Tenant, canary_b: Canary
) -> None:
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1) as single:
        for tenant in (a, canary_b.tenant):
            async with single.transaction(tenant) as work:
                await work.rows(READ, {"other": ""})
        with pytest.raises(Unavailable):
            async with single.transaction(a) as work:
                await work.script("UPDATE users SET name = 'lost'; DEALLOCATE ALL")
        async with single.transaction(a) as work:
            assert await work.rows(READ, {"other": ""}) == []
        async with single.transaction(canary_b.tenant, about=canary_b.about) as work:
            assert [row["name"] for row in await work.rows(READ, {"other": ""})] == [canary_b.marker]
