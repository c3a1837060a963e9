"""SQL inside a tenant can leave some state behind for all tenants, which PostgreSQL cannot forbid: it is undone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress

import asyncpg
import pytest
from structlog.testing import capture_logs

from isola.database.failures import LOST
from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform.tenants import Tenant
from isola.platform.watchdog import Watchdog
from isola.testing.fixtures import Copy
from isola.testing.sql_sessions import analyst

SETTINGS = """
    SELECT unnest(setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
    WHERE rolname = 'isola_tenant'
"""
# A transaction without time limits that catches its own cancellation.
ENDLESS = """
    DO $$ BEGIN
        SET LOCAL statement_timeout TO 0;
        SET LOCAL client_connection_check_interval TO 0;
        LOOP
            BEGIN
                PERFORM pg_sleep(60);
            EXCEPTION WHEN query_canceled THEN
                NULL;
            END;
        END LOOP;
    END $$
"""
WAITING = """
    SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
    WHERE d.datname = current_database() AND l.locktype = 'advisory' AND NOT l.granted
"""
PROGRAM_LIMIT_EXCEEDED = "54000"
ATTEMPTS = 5


@pytest.fixture
def watchdog(copy: Copy, control: Database, database: Database) -> Watchdog:
    return Watchdog(control, database, copy.where.tenant_login, copy.where.roles, limit=0.5, sql_limit=0.5)


@pytest.fixture
async def opened(copy: Copy) -> AsyncIterator[Database]:
    """A pool whose connections are opened on first use."""
    async with await opening(copy) as tenants:
        yield tenants


def opening(copy: Copy) -> Awaitable[Database]:
    """The pool whose sessions are tested: direct connections in every mode, as it is about how sessions begin."""
    return Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=1)


@pytest.fixture
async def reset(owner: Database) -> AsyncIterator[None]:
    """Reset the login's settings after a test, even if it fails: other tests connect as the same login."""
    yield
    async with owner.unbound() as work:
        name = await work.value("SELECT quote_ident(current_database())")
        await work.script(f"ALTER ROLE isola_tenant RESET ALL; ALTER ROLE isola_tenant IN DATABASE {name} RESET ALL")


async def left(database: Database, tenant: Tenant, sql: str) -> None:
    """Run SQL in a tenant as its login, and commit it."""
    async with database.transaction(tenant) as work:
        await work.script(f"RESET ROLE; {sql}")


@pytest.mark.usefixtures("reset")
@pytest.mark.parametrize(
    "setting",
    [
        "synchronous_commit = remote_write",
        "default_transaction_read_only = on",
        "search_path = public",
        "role = isola_members",
    ],
)
@pytest.mark.parametrize("where", ["", "IN DATABASE {name}"])
async def test_sessions_do_not_begin_with_settings_that_the_login_gave_itself(
    setting: str,
    where: str,
    owner: Database,
    database: Database,
    copy: Copy,
    a: Tenant,
    b: Tenant,
) -> None:
    async with owner.unbound() as work:
        name = await work.value("SELECT quote_ident(current_database())")
        await work.script("GRANT isola_members TO isola_tenant")
    name_of_setting = setting.partition(" ")[0]
    async with await opening(copy) as before, before.unbound() as work:
        usual = await work.value("SELECT current_setting($1)", name_of_setting)
    events: list[str] = []
    # In a cluster that others use, one of their sessions may notice the settings first, and reset them.
    for _ in range(ATTEMPTS):
        await left(database, a, f"ALTER ROLE isola_tenant {where.format(name=name)} SET {setting}")
        with capture_logs() as logged:
            async with await opening(copy) as opened:
                async with opened.unbound() as work:
                    assert await work.value("SELECT current_setting($1)", name_of_setting) == usual
                async with opened.transaction(b) as work:
                    assert await work.value("SELECT count(*) FROM users") == 0
        events = [entry["event"] for entry in logged if entry["log_level"] == "error"]
        if events:
            break
    assert events == ["the login of tenant traffic had settings of its own"]
    async with owner.unbound() as work:
        assert await work.texts(SETTINGS) == []


@pytest.mark.usefixtures("reset")
async def test_settings_that_the_owner_gave_the_database_stay(owner: Database, opened: Database) -> None:
    async with owner.unbound() as work:
        name = await work.value("SELECT quote_ident(current_database())")
        await work.script(f"ALTER DATABASE {name} SET work_mem TO '5MB'")
    with capture_logs() as logged:
        async with opened.unbound() as work:
            assert await work.value("SELECT current_setting('work_mem')") == "5MB"
    assert logged == []


@pytest.mark.usefixtures("reset")
async def test_the_watchdog_resets_the_login_and_ends_the_sessions_that_began_with_its_settings(
    copy: Copy, owner: Database, database: Database, watchdog: Watchdog, login: asyncpg.Connection, a: Tenant
) -> None:
    await watchdog.check()
    await left(database, a, "ALTER ROLE isola_tenant SET synchronous_commit = remote_write")
    begun = await asyncpg.connect(copy.where.tenant)
    assert await begun.fetchval("SHOW synchronous_commit") == "remote_write"
    with capture_logs() as logged:
        await watchdog.check()
    assert "the login of tenant traffic had settings of its own" in [entry["event"] for entry in logged]
    with pytest.raises(LOST):
        await begun.fetchval("SELECT 1")
    assert await login.fetchval("SHOW synchronous_commit") != "remote_write"
    async with owner.unbound() as work:
        assert await work.texts(SETTINGS) == []


async def test_a_transaction_that_catches_its_cancellation_is_ended(
    watchdog: Watchdog, opened: Database, a: Tenant, b: Tenant
) -> None:
    async def smuggled() -> None:
        async with opened.transaction(a) as work:
            await work.script(ENDLESS)

    running = asyncio.create_task(smuggled())
    await asyncio.sleep(0.7)
    assert not running.done()
    with capture_logs() as logged:
        await watchdog.check()
        with pytest.raises(Unavailable):
            await running
    ended = [entry for entry in logged if entry["event"] == "a session of tenant traffic was ended"]
    assert len(ended) == 1
    async with opened.transaction(b) as others:
        assert await others.value("SELECT count(*) FROM users") == 0


async def test_short_transactions_and_other_logins_are_left_alone(
    owner: Database, database: Database, watchdog: Watchdog, a: Tenant
) -> None:
    async with owner.unbound() as mine, database.transaction(a) as work:
        await asyncio.sleep(0.3)
        await mine.value("SELECT pg_sleep(0.4)")
        await asyncio.sleep(0)
        await work.value("SELECT 1")
    with capture_logs() as logged:
        async with owner.unbound() as mine:
            await mine.value("SELECT pg_sleep(0.6)")
            await watchdog.check()
            assert await mine.value("SELECT 1") == 1
    assert logged == []


async def test_a_transaction_that_outlasts_every_ticket_is_ended(
    watchdog: Watchdog, copy: Copy, server: asyncpg.Connection
) -> None:
    """It could hold locks that others wait for. The operator decides whose sessions the watchdog may end."""
    async with analyst(copy, server) as watched, analyst(copy, server) as another:
        await server.execute(f"GRANT {watched.name} TO {copy.where.roles.watchdog}")
        sessions = [await each.session() for each in (watched, another)]
        for session in sessions:
            await session.execute("BEGIN; SET LOCAL idle_in_transaction_session_timeout TO 0; SELECT 1")
        await asyncio.sleep(0.6)
        short = await watched.session()
        with capture_logs() as logged:
            async with short.transaction():
                await watchdog.check()
                assert await short.fetchval("SELECT 1") == 1
        with pytest.raises((asyncpg.PostgresError, *LOST, asyncpg.InterfaceError)):
            await sessions[0].fetchval("SELECT 1")
        assert await sessions[1].fetchval("SELECT 1") == 1
    [entry] = logged
    assert (entry["event"], entry["login"]) == ("a session whose ticket had expired was ended", watched.name)


async def test_a_session_that_keeps_an_advisory_lock_between_transactions_is_ended(
    watchdog: Watchdog, copy: Copy, server: asyncpg.Connection, login: asyncpg.Connection
) -> None:
    """A lock of a session is one that migrations or other requests wait for. The locks of tickets are not ended."""
    async with analyst(copy, server) as watched:
        await server.execute(f"GRANT {watched.name} TO {copy.where.roles.watchdog}")
        keeps, reserves, hoards, clean = [await watched.session() for _ in range(4)]
        await keeps.execute("SELECT pg_advisory_lock(42)")
        await login.execute("SELECT pg_advisory_lock(43)")
        tickets = "SELECT count(pg_advisory_lock(hashtext('isola.ticket'), n)) FROM generate_series($1::int, $2) n"
        await reserves.fetchval(tickets, 1, 3)
        await hoards.fetchval(tickets, 1000, 2000)
        await asyncio.sleep(1.1)
        with capture_logs() as logged:
            await watchdog.check()
        for session in (keeps, hoards, login):
            with pytest.raises((asyncpg.PostgresError, *LOST)):
                await session.fetchval("SELECT 1")
        for session in (reserves, clean):
            assert await session.fetchval("SELECT 1") == 1
    events = [(entry["event"], entry["login"]) for entry in logged]
    kept = "a session that kept an advisory lock was ended"
    assert sorted(events) == sorted([(kept, copy.where.tenant_login), *[(kept, watched.name)] * 2])


async def test_a_sql_session_whose_advisory_lock_the_platform_waits_for_is_ended(
    watchdog: Watchdog, copy: Copy, server: asyncpg.Connection, owner: Database
) -> None:
    async with analyst(copy, server) as watched, analyst(copy, server) as another:
        await server.execute(f"GRANT {watched.name} TO {copy.where.roles.watchdog}")
        holder, peer, waits = await watched.session(), await watched.session(), await another.session()
        await holder.execute("BEGIN; SELECT pg_advisory_xact_lock(hashtext('a home'))")
        await peer.execute("BEGIN; SELECT pg_advisory_xact_lock(42)")
        async with owner.unbound() as work:
            await work.script("SET LOCAL lock_timeout TO '5s'")
            peers = asyncio.create_task(waits.execute("SELECT pg_advisory_xact_lock(42)"))
            waiting = asyncio.create_task(work.value("SELECT pg_advisory_xact_lock(hashtext('a home'))"))
            while await peer.fetchval(WAITING) < 2:  # noqa: ASYNC110  only looking shows that somebody waits
                await asyncio.sleep(0.01)
            with capture_logs() as logged:
                await watchdog.check()
            await waiting
        # What sessions with SQL agree on among themselves is their own.
        assert await peer.fetchval("SELECT 1") == 1
        await peer.execute("ROLLBACK")
        await peers
        with pytest.raises((asyncpg.PostgresError, *LOST)):
            await holder.fetchval("SELECT 1")
    assert [entry["event"] for entry in logged] == ["a session that kept an advisory lock was ended"]


async def test_a_prepared_transaction_is_rolled_back(
    owner: Database, watchdog: Watchdog, login: asyncpg.Connection, copy: Copy, a: Tenant
) -> None:
    await login.execute("BEGIN")
    await copy.enter(login, a)
    await login.execute("UPDATE users SET name = 'prepared'; PREPARE TRANSACTION 'it''s left behind'")
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()") == 1
    with capture_logs() as logged:
        await watchdog.check()
    assert [entry["event"] for entry in logged] == ["transactions were left prepared"]
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()") == 0
        assert await work.value("SELECT count(*) FROM pg_locks WHERE pid IS NULL AND locktype = 'relation'") == 0


async def test_a_transaction_announces_a_bounded_number_of_changes(
    owner: Database, database: Database, a: Tenant, b: Tenant
) -> None:
    async with owner.unbound() as work:
        before = await work.value("SELECT count(*) FROM control.changes")
    announced = "SELECT isola.announce('user', i::text) FROM generate_series(1, {}) i"
    with suppress(LookupError):
        async with database.transaction(a) as work:
            with pytest.raises(asyncpg.PostgresError) as refused:
                await work.script(announced.format(2_000_000))
            assert refused.value.sqlstate == PROGRAM_LIMIT_EXCEEDED
            raise LookupError
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.changes") == before
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            await work.script(announced.format(100))
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.changes") == before + 200


async def test_tenant_traffic_leaves_connections_for_the_owner_and_the_control_plane(owner: Database) -> None:
    async with owner.unbound() as work:
        limit, most = [
            await work.value("SELECT rolconnlimit FROM pg_roles WHERE rolname = 'isola_tenant'"),
            await work.value("SELECT current_setting('max_connections')::int"),
        ]
    assert 0 < limit < most
