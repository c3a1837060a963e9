"""Whatever a borrower does to a connection, the next one gets it clean, or gets a new one."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola_strategies.base import Strategy
from tests.database.conftest import OF_THE_SESSION, State

# Session state that outlives the transaction of a statement; {b} and {role} are another tenant's.
LEFTOVERS = {
    "the binding": "SET isola.tenant TO '{b}'",
    "the binding, by function": "SELECT set_config('isola.tenant', '{b}', false)",
    "a search path": "SET search_path TO pg_temp, public",
    "a role": "SET ROLE {role}",
    "a role behind a reset of all": "SET ROLE {role}; RESET ALL",
    "a timeout": "SET statement_timeout TO '1h'",
    "a time zone": "SET TimeZone TO 'Asia/Tokyo'",
    "reading without policies": "SET row_security TO off",
    "read-only sessions": "SET default_transaction_read_only TO on",
    "an advisory lock": "SELECT pg_advisory_lock(42)",
    "a shared advisory lock": "SELECT pg_advisory_lock_shared(1, 2)",
    "a cursor with hold": "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)",
    "a subscription": "LISTEN everybody",
    "several at once": "SET isola.tenant TO '{b}'; SET ROLE {role}; SELECT pg_advisory_lock(42); LISTEN everybody",
    "a setting in a kept savepoint": "SAVEPOINT s; SET isola.tenant TO '{b}'; RELEASE s",
    "a setting in an undone savepoint": "SAVEPOINT s; SET isola.tenant TO '{b}'; ROLLBACK TO s",
    "another transaction": "COMMIT; BEGIN; SET isola.tenant TO '{b}'; SET ROLE {role}",
    "two transactions": "COMMIT AND CHAIN; SET isola.tenant TO '{b}'",
}


@pytest.fixture
async def other_role(control: Database) -> str:
    """The role of a tenant of any strategy."""
    async with control.unbound() as transaction:
        return str(await transaction.value("SELECT max(role) FROM control.tenants WHERE role <> 'none'") or "none")


@pytest.mark.parametrize("leftover", LEFTOVERS)
async def test_the_next_transaction_on_the_connection_has_no_leftover_state(
    leftover: str,
    strategy: Strategy,
    single: Database,
    next_borrower: Callable[[], Awaitable[State]],
    untouched: State,
    other_role: str,
    a: Tenant,
    b: Tenant,
) -> None:
    sql = LEFTOVERS[leftover].format(b=b.id, role=other_role)
    for failing in (False, True):
        with suppress(LookupError):
            async with single.transaction(a) as work:
                await work.script(sql)
                if failing:
                    raise LookupError
        assert await next_borrower() == untouched
        async with single.transaction(a) as work:
            assert await work.value("SELECT isola.current_tenant_id()") == a.id
            assert await work.value("SELECT current_setting('role')") == (strategy.home(a.id).role or "none")


async def test_a_role_left_after_a_rollback_is_detected(
    single: Database, next_borrower: Callable[[], Awaitable[State]], untouched: State, other_role: str, a: Tenant
) -> None:
    """Set between two transactions, by separate messages, it is not rolled back with either."""
    with suppress(LookupError):
        async with single.transaction(a) as work:
            for sql in ("COMMIT", f"SET ROLE {other_role}", "BEGIN"):
                await work.script(sql)
            raise LookupError
    assert await next_borrower() == untouched


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK", "ABORT", "END", "SELECT 1; COMMIT"])
async def test_a_statement_that_ends_the_transaction_is_reported(
    end: str, single: Database, next_borrower: Callable[[], Awaitable[State]], untouched: State, a: Tenant
) -> None:
    with pytest.raises(RuntimeError, match="ended its own transaction"):
        async with single.transaction(a) as work:
            await work.script(end)
    assert await next_borrower() == untouched


async def test_after_a_commit_nothing_is_bound(single: Database, a: Tenant) -> None:
    """Later statements run without a tenant, not in the one that was bound."""
    async with single.transaction(a) as work:
        assert await work.value("SELECT isola.current_tenant_id()") == a.id
        await work.script("COMMIT; BEGIN")
        assert await work.texts(OF_THE_SESSION) == []
        assert await work.value("SELECT isola.current_tenant_id()") is None
        assert not await work.value("SELECT current_setting('isola.proof', true)")
        assert await work.value("SELECT current_setting('role')") == "none"


async def test_binding_to_another_in_an_undone_savepoint_has_no_effect(
    strategy: Strategy, single: Database, a: Tenant, b: Tenant
) -> None:
    async with single.transaction(a) as work:
        await work.script(f"SAVEPOINT s; {strategy.bind(b.id)}; ROLLBACK TO s")
        assert await work.value("SELECT isola.current_tenant_id()") == a.id
        assert await work.value("SELECT current_setting('role')") == (strategy.home(a.id).role or "none")
        assert await work.value("SELECT current_setting('search_path')") == strategy.home(a.id).schema


async def test_a_prepared_statement_of_one_tenant_is_not_run_for_another(
    single: Database, a: Tenant, b: Tenant
) -> None:
    """The statement cache outlives the borrower, but its statements always run as the bound tenant."""
    sql = "SELECT isola.current_tenant_id(), current_setting('role')"
    for tenant in (a, b, a, b):
        for _ in range(6):  # after five runs PostgreSQL may cache a generic plan
            async with single.transaction(tenant) as work:
                assert await work.value(sql) == tenant.id


async def test_the_same_connection_is_used_again(single: Database, a: Tenant, b: Tenant) -> None:
    """Clean connections are reused: otherwise tests of leftover state would pass by discarding all connections."""
    backends = set()
    for tenant in (a, b, a):
        async with single.transaction(tenant) as work:
            backends.add(await work.value("SELECT pg_backend_pid()"))
    with pytest.raises(LookupError):
        async with single.transaction(a) as work:
            backends.add(await work.value("SELECT pg_backend_pid()"))
            raise LookupError
    assert len(backends) == 1
