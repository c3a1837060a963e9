"""PgBouncer in transaction mode: many clients share few connections, and tenants stay isolated."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import asyncpg
import pytest
from sqlalchemy import delete, insert, select

from isola.database.transactions import Database
from isola.errors import Conflict, Unavailable
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing import pgbouncer
from isola.testing.fixtures import Copy
from isola_strategies import registry
from tests.database.conftest import LEFT_BEHIND, OF_THE_SESSION

CLIENTS = 50
TURNS = 6
# Only of this database: other runs on the same server take locks as well.
ADVISORY_LOCKS = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE locktype = 'advisory' AND datname = current_database()
"""


@pytest.fixture
async def pooled(copy: Copy) -> AsyncIterator[Database]:
    """As many connections to PgBouncer as clients. PgBouncer before 1.21 does not support prepared statements."""
    with pgbouncer.running(copy.where.tenant) as url:
        async with await Database.open(
            url, copy.strategies, copy.binding_key, size=CLIENTS, wait=20, statement_cache=False
        ) as database:
            yield database


@pytest.fixture
async def tenants(control: Database) -> list[Tenant]:
    """A and B under every strategy."""
    return [
        await provisioning.named(control, f"{strategy}-{letter}")
        for strategy in registry.load("isola_tenant")
        for letter in "ab"
    ]


async def test_many_clients_on_few_connections_are_never_mixed(pooled: Database, tenants: list[Tenant]) -> None:
    backends: Counter[int] = Counter()

    async def client(number: int) -> None:
        for turn in range(TURNS):
            tenant = tenants[(number + turn) % len(tenants)]
            async with pooled.transaction(tenant) as work:
                await work.execute(insert(users).values(subject=f"{number}-{turn}", name=str(tenant.id)))
                await asyncio.sleep(0)
                assert {row["name"] for row in await work.rows(select(users))} == {str(tenant.id)}
                assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
                backends[await work.value("SELECT pg_backend_pid()")] += 1

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    assert len(backends) == pgbouncer.SERVER_CONNECTIONS
    assert backends.total() == CLIENTS * TURNS
    written = 0
    for tenant in tenants:
        async with pooled.transaction(tenant) as work:
            written += len(await work.rows(select(users)))
    assert written == CLIENTS * TURNS


async def test_failing_clients_leave_nothing_to_the_next(pooled: Database, tenants: list[Tenant]) -> None:
    """In every turn a client violates a constraint, raises, leaves settings behind or is cancelled."""

    async def client(number: int) -> None:
        tenant = tenants[number % len(tenants)]
        outcome: BaseException | None = None
        try:
            async with pooled.transaction(tenant) as work:
                await work.execute(insert(users).values(subject=str(number), name=str(tenant.id)))
                match number % 5:
                    case 0:
                        await work.execute(insert(users).values(subject=str(number), name=str(tenant.id)))
                    case 1:
                        raise LookupError
                    case 2:
                        await work.script("SET isola.request TO 'left behind'; SET search_path TO public")
                    case 3:
                        await work.script(
                            "SELECT pg_advisory_lock(42); LISTEN everybody; SELECT pg_advisory_unlock(42)"
                        )
                    case _:
                        asyncio.current_task().cancel()  # type: ignore[union-attr]  # this is one
                        await asyncio.sleep(0)
        except (Conflict, LookupError, asyncio.CancelledError) as error:
            outcome = error
        assert (outcome is None) == (number % 5 in {2, 3})
        async with pooled.transaction(tenant) as work:
            assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
            assert await work.value("SELECT current_setting('search_path')") != "public"
            assert {row["name"] for row in await work.rows(select(users))} <= {str(tenant.id)}
        async with pooled.unbound() as work:
            assert await work.value("SELECT isola.current_tenant_id()") is None
            assert await work.value("SELECT coalesce(current_setting('isola.request', true), '')") == ""
            assert await work.value("SELECT current_setting('role')") == "none"

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))


async def test_when_its_server_connections_are_taken_it_is_unavailable_in_time(
    copy: Copy, tenants: list[Tenant]
) -> None:
    """PgBouncer itself would make them wait for two minutes."""
    with pgbouncer.running(copy.where.tenant) as url:
        async with await Database.open(
            url, copy.strategies, copy.binding_key, size=4, wait=2, statement_cache=False
        ) as database:
            async with database.transaction(tenants[0]), database.transaction(tenants[1]):
                with pytest.raises(Unavailable):
                    async with asyncio.timeout(30), database.transaction(tenants[0]):
                        pytest.fail("there is a third connection")
            async with database.transaction(tenants[0]) as work:
                assert await work.value("SELECT isola.current_tenant_id()") == tenants[0].id


# State that a client can leave on a session that PgBouncer reuses; {role} is a tenant's, {b} another tenant.
LEFT_IN_SESSION = (
    "SELECT set_config('role', '{role}', false)",
    "SET ROLE {role}; RESET ALL",
    "SET isola.tenant TO '{b}'; SET isola.proof TO 'x'; SET isola.home TO nowhere",
    "SET search_path TO pg_temp, public",
    "SET default_transaction_read_only TO on; SET default_transaction_isolation TO serializable",
    "SET row_security TO off",
    "SET TimeZone TO 'Asia/Tokyo'; SET DateStyle TO 'SQL, DMY'; SET application_name TO 'isola 1 2.000000'",
    "SET transform_null_equals TO on; SET gin_fuzzy_search_limit TO 1",
    "SET statement_timeout TO 1",
    "SET idle_in_transaction_session_timeout TO 1",
    "SET client_encoding TO 'LATIN1'",
    "SELECT pg_advisory_lock(42); SELECT pg_advisory_lock_shared(1, 2)",
    "DECLARE c CURSOR WITH HOLD FOR SELECT generate_series(1, 10)",
    "LISTEN everybody",
    "PREPARE p AS SELECT 1",
)


@pytest.fixture
async def one(copy: Copy) -> AsyncIterator[str]:
    """The address of a PgBouncer with one connection to the database."""
    with pgbouncer.running(copy.where.tenant, server_connections=1) as url:
        yield url


@pytest.fixture
async def behind(one: str, copy: Copy) -> AsyncIterator[Database]:
    async with await Database.open(
        one, copy.strategies, copy.binding_key, size=4, wait=5, statement_cache=False
    ) as database:
        yield database


@pytest.fixture
async def leftovers(control: Database, tenants: list[Tenant]) -> list[str]:
    async with control.unbound() as work:
        role = await work.value("SELECT max(role) FROM control.tenants WHERE role <> 'none'")
    return [sql.format(role=role, b=tenants[-1].id) for sql in LEFT_IN_SESSION]


async def test_leftover_session_state_does_not_affect_the_next_transaction(
    one: str, behind: Database, tenants: list[Tenant], leftovers: list[str], owner: Database
) -> None:
    """Left by a client that disconnected abruptly."""
    for tenant in tenants:
        async with behind.transaction(tenant) as work:
            await work.execute(insert(users).values(subject="somebody", name=str(tenant.id)))
    for left in leftovers:
        for tenant in tenants:
            # A time limit may end this as soon as it is set.
            with suppress(asyncpg.QueryCanceledError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError):
                somebody = await asyncpg.connect(one, statement_cache_size=0)
                try:
                    await somebody.execute(left)
                finally:
                    somebody.terminate()
            async with behind.transaction(tenant) as work:
                assert await work.texts("SELECT name FROM users WHERE created_at <= now()") == [str(tenant.id)], left
                assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
                assert await work.value("SELECT current_setting('TimeZone')") == "UTC"
                assert await work.value("SELECT current_setting('row_security')") == "on"
                await work.execute(insert(users).values(subject=f"{left} {tenant.slug}"[:100], name="ñandú €"))
            async with behind.transaction(tenant) as work:
                assert await work.execute(delete(users).where(users.c.name == "ñandú €")) == 1, left
            async with behind.unbound() as work:
                found = await work._connection.fetchrow(LEFT_BEHIND)
                assert found is not None
                assert (found["role"], found["tenant"], found["proof"]) == ("none", "", ""), left
                assert (found["channels"], found["temporary"]) == (0, 0), left
                assert await work.value("SELECT count(*) FROM pg_cursors WHERE is_holdable") == 0, left
            async with owner.unbound() as work:
                assert await work.value(ADVISORY_LOCKS) == 0, left


async def test_a_binding_is_valid_only_in_its_own_transaction(behind: Database, tenants: list[Tenant]) -> None:
    """PgBouncer may give the session to another client as soon as a transaction ends, however it ends."""
    for tenant in tenants:
        async with behind.transaction(tenant) as work:
            assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
            await work.script("COMMIT; BEGIN")
            assert await work.texts(OF_THE_SESSION) == []
            assert await work.value("SELECT current_setting('role')") == "none"


@pytest.mark.parametrize("end", ["", "; COMMIT", "; COMMIT; BEGIN", "; ROLLBACK"])
async def test_a_session_with_leftover_state_is_closed(
    end: str, behind: Database, tenants: list[Tenant], leftovers: list[str], owner: Database
) -> None:
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1"
    unclean = f"COMMIT; {leftovers[0]}; BEGIN" if end == "" else f"COMMIT; BEGIN; {leftovers[0]}{end}"
    for tenant in tenants[::2]:
        with suppress(RuntimeError):
            async with behind.transaction(tenant) as work:
                process = await work.value("SELECT pg_backend_pid()")
                await work.script(unclean)
        async with behind.transaction(tenant) as work:
            assert await work.value("SELECT isola.current_tenant_id()") == tenant.id
            if "ROLLBACK" not in end:
                assert await work.value("SELECT pg_backend_pid()") != process
        if "ROLLBACK" not in end:
            async with owner.unbound() as work:
                assert await work.value(alive, process) == 0
