"""No injected SQL in a transaction of A can access B's rows: the binding of a transaction cannot be forged."""

from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from isola.database.binding import record
from isola.database.transactions import Database
from isola.errors import Refusal
from isola.platform.tenants import Tenant
from isola.subjects.organizations import organizations
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import TABLES, Canary, content, log, physical
from isola_strategies.base import Strategy

NOT_PROVED = "IS002"

# What an attacker may have obtained: {own} is A's proof, which any statement can read; {elsewhere} is one for B that is
# currently valid in another session, {before} one for B that was valid in this session one transaction ago.
# {role} is B's, or the login.
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
    "a proof of zeros": "{bind_b}; SET LOCAL isola.proof TO '{record_b}{zeros}'",
    "one's own proof": "{bind_b}; SET LOCAL isola.proof TO '{own}'",
    "one's own proof, cut": "{bind_b}; SET LOCAL isola.proof TO '{cut}'",
    "one's own proof for another's record": "{bind_b}; SET LOCAL isola.proof TO '{relabelled}'",
    "one's own proof behind another's record": "{bind_b}; SET LOCAL isola.proof TO '{record_b}{own}'",
    "a proof from another session": "{bind_b}; SET LOCAL isola.proof TO '{elsewhere}'",
    "a proof of the transaction before": "{bind_b}; SET LOCAL isola.proof TO '{before}'",
    "a tenant that runs into the proof": "{bind_b}; SET LOCAL isola.tenant TO '{b}\n'",
    "another transaction": "COMMIT; BEGIN; {bind_b}",
    "another transaction with one's own proof": "ROLLBACK; BEGIN; {bind_b}; SET LOCAL isola.proof TO '{own}'",
    "another transaction with a proof of the one before": "ROLLBACK; BEGIN; {bind_b}; "
    "SET LOCAL isola.proof TO '{before}'",
    "a transaction without policies": "SET LOCAL row_security TO off; {bind_b}",
    "a session that is said to be a replica": "{bind_b}; SET LOCAL session_replication_role TO replica",
}


@pytest.mark.parametrize("smuggled", SMUGGLED)
async def test_injected_sql_reaches_no_row_of_another_tenant(
    smuggled: str,
    copy: Copy,
    strategy: Strategy,
    login: asyncpg.Connection,
    single: Database,
    a: Tenant,
    canary_b: Canary,
) -> None:
    b = canary_b.tenant
    before = await content(single, b)
    got: list[object] = []
    async with login.transaction():
        elsewhere = await copy.proof(login, b, canary_b.about)
        for table in TABLES:
            column = next(iter(table.columns)).name
            for name in {physical(strategy, b, table), table.name}:
                for sql in (
                    f"SELECT * FROM {name}",
                    f"SELECT * FROM {name} FOR UPDATE",
                    f"UPDATE {name} SET {column} = {column} RETURNING *",
                    f"DELETE FROM {name} RETURNING *",
                ):
                    async with single.transaction(b, about=canary_b.about) as work:
                        old = await work.value("SELECT current_setting('isola.proof')")
                    # It may be refused at any point. If not, an error ends it, so that everything is rolled back.
                    with suppress(LookupError, Refusal, asyncpg.PostgresError), capture_logs():
                        async with single.transaction(a) as work:
                            own = await work.value("SELECT current_setting('isola.proof')")
                            await work.script(
                                SMUGGLED[smuggled].format(
                                    b=b.id,
                                    role=strategy.home(b.id).role or "none",
                                    bind_b=strategy.bind(b.id),
                                    zeros="0" * 64,
                                    own=own,
                                    cut=own[:-1],
                                    relabelled=own.replace(str(a.id), str(b.id)),
                                    record_b=f"{record(b.id, canary_b.about)}\n",
                                    elsewhere=elsewhere,
                                    before=old,
                                )
                            )
                            got += await work._connection.fetch(sql)
                            raise LookupError
    assert not canary_b.traced_in(got)
    assert await content(single, b) == before


async def test_a_valid_proof_permits_all_of_these_statements(
    copy: Copy, database: Database, a: Tenant, canary_b: Canary
) -> None:
    """Otherwise the tests above could not fail."""
    with pytest.raises(LookupError):
        async with database.transaction(a) as work:
            await work.script("RESET ROLE")
            await copy.enter(work._connection, canary_b.tenant, canary_b.about)
            for table in TABLES:
                assert canary_b.traced_in(await work._connection.fetch(f"SELECT * FROM {table.name}"))
            raise LookupError


@pytest.mark.parametrize("how", ["by function", "for the session", "in the proof", "without a proof"])
async def test_injected_sql_cannot_forge_the_actor_in_the_log(how: str, database: Database, a: Tenant) -> None:
    """SQL cannot forge the actor: the audit log has the real one, or the change is refused."""
    about = {"user": str(a.id), "actor": "usr_ada", "behalf": "key_1", "request": "r-1"}
    for name, value in about.items():
        with suppress(Refusal, asyncpg.PostgresError), capture_logs():
            async with database.transaction(a, about=about) as work:
                proof = await work.value("SELECT current_setting('isola.proof')")
                await work.script(
                    {
                        "by function": f"SELECT set_config('isola.{name}', 'operator:root', true)",
                        "for the session": f"SET isola.\"{name}\" TO 'operator:root'",
                        "in the proof": f"SET LOCAL isola.proof TO '{proof.replace(value, 'operator:root')}'",
                        "without a proof": "SET LOCAL isola.proof TO ''; SET LOCAL isola.actor TO 'operator:root'",
                    }[how]
                )
                await work.script(f"INSERT INTO organizations (name, name_key) VALUES ('by {name}', '{name}')")
    entries = await log(database, a)
    async with database.transaction(a) as work:
        written = len(await work.rows(select(organizations)))
    assert len(entries) == written == (len(about) if how in {"by function", "for the session"} else 0)
    assert {(each["actor"], each["on_behalf_of"], each["request"]) for each in entries} <= {("usr_ada", "key_1", "r-1")}
