"""Whatever SQL is smuggled into a transaction of A, B's rows stay B's: what binds a transaction cannot be forged."""

import time
from contextlib import suppress

import asyncpg
import pytest
from structlog.testing import capture_logs

from app.binding import ANY_PROCESS
from app.control.tenants import Tenant
from app.database import Database
from app.errors import Refusal
from strategies.base import Strategy
from tests.conftest import Copy
from tests.oracles.canary import TABLES, Canary, content, physical, tried

NOT_PROVED = "IS002"

# What an attacker may have come by: {old} is a proof for B that was good in another server process, {late} one that was
# good for any process a moment ago, {own} is A's, which any statement can read. {role} is B's, or the login.
SMUGGLED = {
    "another tenant": "SET LOCAL isola.tenant TO '{b}'",
    "another tenant, for the session": "SET isola.tenant TO '{b}'",
    "another tenant, by function": "SELECT set_config('isola.tenant', '{b}', true)",
    "another tenant and role": "SET LOCAL isola.tenant TO '{b}'; SET LOCAL ROLE {role}",
    "another role": "SET LOCAL ROLE {role}",
    "another role, for the session": "SET SESSION ROLE {role}",
    "no role": "RESET ROLE",
    "no role, and another tenant": "RESET ROLE; SET LOCAL isola.tenant TO '{b}'",
    "another session's login": "SET SESSION AUTHORIZATION DEFAULT; SET LOCAL ROLE {role}",
    "all of the binding but the proof": "{bind_b}",
    "no proof": "{bind_b}; SET LOCAL isola.proof TO ''",
    "a proof of zeros": "{bind_b}; SET LOCAL isola.proof TO '.{now}.0.{zeros}'",
    "one's own proof": "{bind_b}; SET LOCAL isola.proof TO '{own}'",
    "one's own proof, cut": "{bind_b}; SET LOCAL isola.proof TO '{cut}'",
    "a proof for another process": "{bind_b}; SET LOCAL isola.proof TO '{old}'",
    "a proof for another process, as if for any": "{bind_b}; SET LOCAL isola.proof TO '{widened}'",
    "a proof that was good": "{bind_b}; SET LOCAL isola.proof TO '{late}'",
    "a proof that is not good yet": "{bind_b}; SET LOCAL isola.proof TO '{early}'",
    "a proof that says it is fresh": "{bind_b}; SET LOCAL isola.proof TO '{renewed}'",
    "a tenant that runs into the proof": "{bind_b}; SET LOCAL isola.tenant TO '{b}.{now}.0.'",
    "another transaction": "COMMIT; BEGIN; {bind_b}",
    "another transaction with one's own proof": "ROLLBACK; BEGIN; {bind_b}; SET LOCAL isola.proof TO '{own}'",
    "a transaction without policies": "SET LOCAL row_security TO off; {bind_b}",
    "a session that is said to be a replica": "{bind_b}; SET LOCAL session_replication_role TO replica",
}


@pytest.mark.parametrize("smuggled", SMUGGLED)
async def test_reaches_no_row_of_another_tenant(
    smuggled: str, copy: Copy, strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    b = canary_b.tenant
    before = await content(database, b)
    key, now = await copy.binding_key(), time.time()
    got: list[object] = []
    for table in TABLES:
        column = next(iter(table.columns)).name
        for name in {physical(strategy, b, table), table.name}:
            for sql in (
                f"SELECT * FROM {name}",
                f"SELECT * FROM {name} FOR UPDATE",
                f"UPDATE {name} SET {column} = {column} RETURNING *",
                f"DELETE FROM {name} RETURNING *",
            ):
                # It may be refused at any point. If it is not, it ends with an error: nothing of this is to stay.
                with suppress(LookupError, Refusal, asyncpg.PostgresError), capture_logs():
                    async with database.transaction(a) as work:
                        own = await work.value("SELECT current_setting('isola.proof')")
                        old = key.proof(b.id, await work.value("SELECT pg_backend_pid()") + 1, now)
                        late = key.proof(b.id, ANY_PROCESS, now - 60)
                        await work.script(
                            SMUGGLED[smuggled].format(
                                b=b.id,
                                role=strategy.home(b.id).role or "none",
                                bind_b=strategy.bind(b.id),
                                now=f"{now:.0f}",
                                zeros="0" * 64,
                                own=own,
                                cut=own[:-1],
                                old=old,
                                widened=f".{now:.0f}.0.{old.rpartition('.')[2]}",
                                late=late,
                                early=key.proof(b.id, ANY_PROCESS, now + 60),
                                renewed=f".{now:.0f}.0.{late.rpartition('.')[2]}",
                            )
                        )
                        got += await work._connection.fetch(sql)
                        raise LookupError
    assert not canary_b.traced_in(got)
    assert await content(database, b) == before


async def test_a_good_proof_lets_all_of_this_through(
    copy: Copy, strategy: Strategy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    """Else the tests above could not fail."""
    proof = (await copy.binding_key()).proof(canary_b.tenant.id, ANY_PROCESS, time.time())
    bind = strategy.bind(canary_b.tenant.id)
    with pytest.raises(LookupError):
        async with database.transaction(a) as work:
            await work.script(f"RESET ROLE; {bind}; SET LOCAL isola.proof TO '{proof}'")
            for table in TABLES:
                assert canary_b.traced_in(await work._connection.fetch(f"SELECT * FROM {table.name}"))
            raise LookupError


@pytest.mark.parametrize(("seconds", "good"), [(0, True), (-9, True), (9, True), (-11, False), (11, False)])
async def test_a_proof_is_good_for_ten_seconds(
    seconds: int,
    good: bool,  # noqa: FBT001
    copy: Copy,
    strategy: Strategy,
    login: asyncpg.Connection,
    a: Tenant,
) -> None:
    key = await copy.binding_key()
    async with login.transaction():
        begun = await login.fetchval("SELECT extract(epoch FROM transaction_timestamp())::float8")
        proof = key.proof(a.id, await login.fetchval("SELECT pg_backend_pid()"), begun + seconds)
        await login.execute(f"{strategy.bind(a.id)}; SET LOCAL isola.proof TO '{proof}'")
        found = await tried(login, "SELECT isola.current_tenant_id() AS id")
    assert found == ([{"id": a.id}] if good else NOT_PROVED)
