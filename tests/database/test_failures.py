"""Each database error maps to its cause: the database, temporarily; the caller; or a bug."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import insert, select
from structlog.testing import capture_logs

from isola.database.claims import Answered
from isola.database.failures import CLASSES, FUNCTIONS, STATES
from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, QuotaExceeded, Refusal, Unavailable, Unconfirmed
from isola.platform.tenants import Tenant
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from tests.database.conftest import tenant_of
from tests.faults import proxy
from tests.faults.proxy import Message

SECRET = "canary-secret"
ADA = insert(users).values(subject="ada", name="Ada")
# Every SQLSTATE that asyncpg knows; PostgreSQL documents all of them.
KNOWN = sorted(
    {
        sqlstate
        for kind in vars(asyncpg).values()
        if isinstance(kind, type)
        and issubclass(kind, asyncpg.PostgresError)
        and (sqlstate := getattr(kind, "sqlstate", None))
    }
)
CLIENTS = {"22", "54", "23514"}
CONFLICTS = {"23001", "23503", "23505", "23P01"}
NOT_NOW: set[str] = {
    *("08", "0P", "26", "27", "28", "3D", "3F", "40", "53", "57", "58", "72", "F0", "HV", "XX"),
    *("25006", "25P03", "25P04", "42P01", "42703", "42704", "42883", "55006", "55P03"),
}
OURS = {
    "IS001": Forbidden,
    "IS002": Unavailable,
    "IS003": QuotaExceeded,
    "IS004": Unavailable,
    "IS006": Unavailable,
    "IS007": Conflict,
    "IS008": Answered,
    "IS009": BadUserInput,
    "IS012": QuotaExceeded,
}
# It is unknown whether the statement was completed.
SINGLE = {**OURS, "40003": Unconfirmed}


def expected(sqlstate: str) -> type[Exception]:
    if sqlstate in SINGLE:
        return SINGLE[sqlstate]
    for wanted, kind in ((CLIENTS, BadUserInput), (CONFLICTS, Conflict), (NOT_NOW, Unavailable)):
        if sqlstate in wanted or sqlstate[:2] in wanted:
            return kind
    return Exception


def test_every_class_of_errors_has_a_translation() -> None:
    assert {sqlstate[:2] for sqlstate in KNOWN} | {"IS"} <= CLASSES.keys()
    assert {sqlstate for sqlstate, _ in FUNCTIONS} | STATES.keys() <= {*KNOWN, *OURS}


async def test_every_error_has_its_message(database: Database, a: Tenant) -> None:
    for sqlstate in (*KNOWN, *OURS):
        with capture_logs(), pytest.raises((Refusal, Answered, asyncpg.PostgresError)) as caught:
            async with database.transaction(a) as work:
                await work.execute(insert(users).values(subject=SECRET, name="half-written"))
                await work.script(
                    f"DO $$ BEGIN RAISE EXCEPTION '{SECRET}' USING ERRCODE = '{sqlstate}', DETAIL = '{SECRET}',"
                    " TABLE = 'users', CONSTRAINT = 'uq_users_subject'; END $$"
                )
        kind = expected(sqlstate)
        if kind is Exception:
            assert getattr(caught.value, "sqlstate", None) == sqlstate
        else:
            assert type(caught.value) is kind, sqlstate
            assert SECRET not in f"{caught.value!r} {caught.value} {vars(caught.value)}", sqlstate
            assert "{" not in str(caught.value)
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []


@asynccontextmanager
async def having(copy: Copy, owner: Database, setting: str) -> AsyncIterator[Database]:
    """Connections of tenant traffic to the database with a setting of its operator."""
    async with owner.unbound() as work:
        await work.script(f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET {setting}', current_database()); END $$")
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=2) as database:
        yield database


async def test_a_read_only_database_refuses_changes_and_answers_reads(copy: Copy, owner: Database, a: Tenant) -> None:
    async with having(copy, owner, "default_transaction_read_only = on") as database:
        for _ in range(2):
            with pytest.raises(Unavailable, match="accepts no changes"):
                async with database.transaction(a) as work:
                    await work.execute(ADA)
        async with database.transaction(a, read_only=True) as work:
            assert await work.rows(select(users)) == []


async def test_too_large_temporary_files_are_unavailable_and_logged(copy: Copy, owner: Database, a: Tenant) -> None:
    try:
        async with owner.unbound() as work:
            await work.script("SET LOCAL temp_file_limit = '1MB'")
    except asyncpg.InsufficientPrivilegeError:
        pytest.skip("only a superuser may limit temporary files")
    async with having(copy, owner, "temp_file_limit = ''64kB''") as database:
        with capture_logs() as logged, pytest.raises(Unavailable, match="request less data"):
            async with database.transaction(a, read_only=True) as work:
                await work.value("SELECT count(*) FROM (SELECT n FROM generate_series(1, 3000000) n ORDER BY -n) many")
        assert [entry["sqlstate"] for entry in logged] == ["53400"]
        assert await tenant_of(database, a) == str(a.id)


REAL = {
    "statements that are too deep": (f"SELECT 1{' + 1' * 200_000}", BadUserInput),
    "JSON that is too deep": ("SELECT repeat('[', 100000)::jsonb", BadUserInput),
    "values that are too large": ("SELECT repeat('x', 1 << 30)", BadUserInput),
    "more locks than the server has room for": (
        "SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, 10000000) n",
        Unavailable,
    ),
}


@pytest.mark.parametrize("asked", REAL)
async def test_limits_of_the_server_are_distinguished_from_bugs(asked: str, database: Database, a: Tenant) -> None:
    sql, kind = REAL[asked]
    with capture_logs() as logged, pytest.raises(Refusal) as caught:
        async with database.transaction(a) as work:
            await work.execute(ADA)
            await work.script(sql)
    assert type(caught.value) is kind
    assert bool(logged) == (kind is Unavailable)
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []


async def test_a_disk_that_is_full_is_unavailable(owner: Database) -> None:
    with capture_logs() as logged, pytest.raises(Unavailable, match="out of resources"):
        async with owner.unbound() as work:
            try:
                await work.script("COPY (SELECT n FROM generate_series(1, 100000) n) TO '/dev/full'")
            except asyncpg.InsufficientPrivilegeError:
                pytest.skip("only a superuser may write files of the server")
    assert [entry["sqlstate"] for entry in logged] == ["53100"]


@pytest.mark.parametrize("silent", ["in the middle of a statement", "at the rollback"])
async def test_a_database_that_disappears_silently_is_unavailable(silent: str, copy: Copy, a: Tenant) -> None:
    """Nothing closes the connection, as if a cable were cut."""
    gone = asyncio.Event()

    async def hold_back(message: Message) -> bool:
        if message.says("pg_sleep" if silent == "in the middle of a statement" else "ROLLBACK"):
            gone.set()
        if gone.is_set():
            await asyncio.Event().wait()
        return False

    async with (
        proxy.before(copy.where.tenant) as between,
        await Database.open(
            between.address, copy.strategies, copy.binding_key, size=2, wait=2, statement_timeout=2
        ) as database,
    ):
        assert await tenant_of(database, a) == str(a.id)
        between.stop = hold_back
        async with asyncio.timeout(60):
            with pytest.raises(LookupError if silent == "at the rollback" else Unavailable):
                async with database.transaction(a) as work:
                    await work.execute(ADA)
                    if silent == "at the rollback":
                        raise LookupError
                    await work.value("SELECT pg_sleep(0)")
        between.stop = proxy._never
        assert await tenant_of(database, a) == str(a.id)
    async with (
        await Database.open(copy.where.tenant, copy.strategies, copy.binding_key) as database,
        database.transaction(a) as work,
    ):
        assert await work.rows(select(users)) == []


async def test_a_connection_lost_during_the_commit_is_reported_as_unconfirmed(copy: Copy, a: Tenant) -> None:
    async def hold_back(message: Message) -> bool:
        if message.says("COMMIT"):
            await asyncio.Event().wait()
        return False

    async with (
        proxy.before(copy.where.tenant) as between,
        await Database.open(
            between.address, copy.strategies, copy.binding_key, size=2, wait=2, statement_timeout=2
        ) as database,
    ):
        between.stop = hold_back
        with pytest.raises(Unavailable, match="may have been made or not"):
            async with database.transaction(a) as work:
                await work.execute(ADA)
