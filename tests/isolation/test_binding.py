"""A binding has to be proved, and nobody but the server can make a proof."""

import re
from uuid import UUID

import asyncpg
import pytest

from app.binding import ANY_PROCESS
from app.control.tenants import Tenant
from app.database import Database
from strategies.base import Capability, Strategy
from tests.conftest import Copy
from tests.isolation.sharing.reading import NOT_BOUND
from tests.oracles.canary import INSUFFICIENT_PRIVILEGE, tried

# What isola.proved_tenant_id() raises without a good proof.
NOT_PROVED = "IS002"


async def proved(connection: asyncpg.Connection, strategy: Strategy, tenant: Tenant, proof: str) -> UUID | str:
    """In which tenant a binding with this proof is; the code of the error if in none."""
    await connection.execute(f"BEGIN; {strategy.bind(tenant.id)}; SET LOCAL isola.proof TO '{proof}'")
    try:
        found: UUID = await connection.fetchval("SELECT isola.current_tenant_id()")
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
    finally:
        await connection.execute("ROLLBACK")
    return found


async def test_a_proof_is_for_one_tenant_one_process_and_one_moment(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, a: Tenant, b: Tenant
) -> None:
    key = await copy.binding_key()
    process, now = await login.fetchrow("SELECT pg_backend_pid(), extract(epoch FROM now())::float8")

    assert await proved(login, strategy, a, key.proof(a.id, process, now)) == a.id
    assert await proved(login, strategy, a, key.proof(a.id, ANY_PROCESS, now)) == a.id
    for wrong in (
        key.proof(b.id, process, now),
        key.proof(a.id, process + 1, now),
        key.proof(a.id, process, now - 60),
        key.proof(a.id, process, now + 60),
        key.proof(a.id, process, now)[:-1] + "x",
        re.sub(r"^\.\d+", f".{now + 5:.0f}", key.proof(a.id, process, now - 60)),
    ):
        assert await proved(login, strategy, a, wrong) == NOT_PROVED


async def test_a_tenant_can_make_no_proofs(
    copy: Copy, database: Database, login: asyncpg.Connection, a: Tenant, b: Tenant
) -> None:
    async with database.transaction(a) as work:
        for sql in ("SELECT * FROM control.binding_key", f"SELECT isola.proof('{b.id}')"):
            assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE
    await login.execute("BEGIN")
    for sql in ("SELECT * FROM control.binding_key", f"SELECT isola.proof('{b.id}')"):
        assert await tried(login, sql) == INSUFFICIENT_PRIVILEGE
    await login.execute("ROLLBACK")
    assert (await copy.binding_key()).inner


async def test_other_sessions_of_the_login_see_no_proof(
    database: Database, login: asyncpg.Connection, a: Tenant
) -> None:
    """PostgreSQL shows a role what its own sessions run, up to a length."""
    shown = """
        SELECT query FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND state = 'idle in transaction'
    """
    async with database.transaction(a) as work:
        [[running]] = await login.fetch(shown)
        proof = await work.value("SELECT current_setting('isola.proof')")
    assert running
    assert proof[-64:] not in running


async def test_a_binding_that_lacks_its_role_calls_nothing(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, a: Tenant
) -> None:
    """Proved or not: what crosses between tenants asks for the role as well, where there is one."""
    if Capability.ROLES not in strategy.capabilities:
        pytest.skip("tenants have no roles")
    await login.execute(f"BEGIN; {await copy.bind(a)}")
    assert await tried(login, "SELECT isola.bound_tenant()") == [{"bound_tenant": a.id}]
    await login.execute("SET LOCAL ROLE NONE")
    assert await tried(login, "SELECT isola.bound_tenant()") == NOT_BOUND
    assert await tried(login, "SELECT * FROM isola.shares_received()") == NOT_BOUND
    await login.execute("ROLLBACK")
