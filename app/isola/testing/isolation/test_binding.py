"""A binding needs a proof, and only the server can make one."""

from collections.abc import Mapping
from typing import cast
from uuid import UUID

import asyncpg
import pytest

from isola.database.binding import BindingKey, record
from isola.database.transactions import Database
from isola.platform.tenants import Tenant
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.reading import NOT_BOUND
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, tried
from isola_strategies.base import Capability, Strategy

# The error of isola.proved_tenant_id() without a valid proof.
NOT_PROVED = "IS002"


async def proved(connection: asyncpg.Connection, strategy: Strategy, tenant: Tenant, proof: str) -> UUID | str:
    """The tenant of a binding with this proof; if there is none, the code of the error."""
    await connection.execute(f"{strategy.bind(tenant.id)}; SET LOCAL isola.proof TO '{proof}'")
    found = await tried(connection, "SELECT isola.current_tenant_id() AS id")
    return found if isinstance(found, str) else cast("UUID", found[0]["id"])


async def test_a_proof_is_for_one_tenant_one_request_and_one_transaction(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, a: Tenant, b: Tenant
) -> None:
    key = await copy.binding_key()
    own = record(a.id, {"user": str(a.id), "actor": "usr_ada", "request": "r-1"})
    async with login.transaction():
        this = await login.fetchval("SELECT isola.this_transaction()")
        process, moment = this.split(" ")
        good = key.proof(own, this)
        assert await proved(login, strategy, a, good) == a.id
        for wrong in (
            key.proof(record(b.id), this),
            key.proof(own, f"{int(process) + 1} {moment}"),
            key.proof(own, f"{process} {moment[:-1]}{(int(moment[-1]) + 1) % 10}"),
            key.proof(own, f"{process} {float(moment) - 0.5:.6f}"),
            key.proof(own, ""),
            BindingKey(key.outer, key.inner).proof(own, this),
            good[:-1] + "x",
            good.replace("usr_ada", "operator:root"),
            good.replace("usr_ada", r"usr\137ada"),  # as the escapes of a bytea would have it
            good.replace("r-1", "r-1\n"),
            good.replace(str(a.id), str(b.id)),
            str(a.id) + good,
            "",
            own,
        ):
            assert await proved(login, strategy, a, wrong) == NOT_PROVED
            assert await tried(login, "SELECT isola.proved_request()") == NOT_PROVED
        await login.execute("SET LOCAL isola.tenant TO ''")
        assert await login.fetchval("SELECT isola.proved_request()") is None
    async with login.transaction():
        assert await proved(login, strategy, a, good) == NOT_PROVED
        assert await proved(login, strategy, a, await copy.proof(login, a)) == a.id


async def test_a_proof_is_invalid_in_another_process_at_the_same_time(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, a: Tenant
) -> None:
    """Nor can one be reused in the same process: a later transaction has another start time."""
    async with login.transaction():
        good = await copy.proof(login, a)
    for _ in range(50):
        await login.execute("BEGIN")
        assert await proved(login, strategy, a, good) == NOT_PROVED
        await login.execute("ROLLBACK; BEGIN")
        assert await proved(login, strategy, a, good) == NOT_PROVED
        await login.execute("ROLLBACK")


async def test_the_proved_context_of_a_request_can_be_queried(database: Database, a: Tenant) -> None:
    about = {"user": str(a.id), "actor": "usr_ada l'étoile", "behalf": "parent:usr_1", "request": "r-1"}
    async with database.transaction(a, about=about) as work:
        proved = await work.value("SELECT isola.proved_request()")
        assert proved[:5] == [str(a.id), str(a.id), "usr_ada l'étoile", "parent:usr_1", "r-1"]
    async with database.transaction(a, read_only=True) as work:
        proved = await work.value("SELECT isola.proved_request()")
        assert proved[:5] == [str(a.id), "", "", "", ""]
    async with database.unbound() as work:
        assert await work.value("SELECT isola.proved_request()") is None


@pytest.mark.parametrize("about", [{"actor": "two\nlines"}, {"request": "\0"}, {"role": "owner"}])
async def test_ambiguous_values_are_not_proved(about: Mapping[str, str], database: Database, a: Tenant) -> None:
    with pytest.raises(ValueError, match="without control characters"):
        database.transaction(a, about=about)


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
    """PostgreSQL shows a role the statements of all its own sessions."""
    shown = """
        SELECT query FROM pg_stat_activity
        WHERE datname = current_database() AND usename = current_user AND state = 'idle in transaction'
    """
    async with database.transaction(a) as work:
        [[running]] = await login.fetch(shown)
        proof = await work.value("SELECT current_setting('isola.proof')")
    assert running
    assert proof[-64:] not in running


async def test_a_binding_without_its_role_cannot_call_functions(
    copy: Copy, strategy: Strategy, login: asyncpg.Connection, a: Tenant
) -> None:
    """Even with a valid proof: functions that access other tenants check the role as well, if there is one."""
    if Capability.ROLES not in strategy.capabilities:
        pytest.skip("tenants have no roles")
    await login.execute("BEGIN")
    await copy.enter(login, a)
    assert await tried(login, "SELECT isola.bound_tenant()") == [{"bound_tenant": a.id}]
    await login.execute("SET LOCAL ROLE NONE")
    assert await tried(login, "SELECT isola.bound_tenant()") == NOT_BOUND
    assert await tried(login, "SELECT * FROM isola.shares_received()") == NOT_BOUND
    await login.execute("ROLLBACK")
