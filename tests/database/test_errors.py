"""Database errors as safe client messages: they name the rule, never a value, and nothing is partly written."""

import logging
from contextlib import suppress
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import func, insert, select
from structlog.testing import capture_logs

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Refusal, Unavailable
from isola.platform.tenants import Tenant
from isola.subjects.organizations import memberships, organizations
from isola.subjects.resources import resources
from isola.subjects.users import users

SECRET = "canary-secret"
USER = insert(users).values(subject=SECRET, name=SECRET)


REFUSED = {
    "a value that must be unique": (USER, Conflict, "users: there is one with the same subject already"),
    "a key that points nowhere": (
        insert(memberships).values(organization_id=uuid4(), user_id=uuid4()),
        Conflict,
        "memberships: a referenced object does not exist, or this object is still referenced",
    ),
    "a value that breaks a rule": (
        insert(users).values(subject="eve", name=SECRET, email=SECRET * 100),
        BadUserInput,
        "users: the value violates the rule email length",
    ),
    "a text that is too long": (
        insert(organizations).values(name=SECRET * 100, name_key=SECRET),
        BadUserInput,
        "organizations: the value violates the rule name length",
    ),
    "a text with NUL": (
        insert(organizations).values(name=f"{SECRET}\x00"),
        BadUserInput,
        "a value cannot be stored in the database",
    ),
    "a text with half a character": (
        insert(organizations).values(name=f"{SECRET}\ud800"),
        BadUserInput,
        "a value cannot be stored in the database",
    ),
    "JSON with NUL": (
        insert(resources).values(owner_id=uuid4(), name=SECRET, data={SECRET: "\x00"}),
        BadUserInput,
        "a value cannot be stored in the database",
    ),
    "a number that is too large": (
        insert(resources).values(owner_id=uuid4(), name=SECRET, size_bytes=2**63),
        BadUserInput,
        "a value cannot be stored in the database",
    ),
}


@pytest.mark.parametrize("refused", REFUSED)
async def test_an_error_names_the_rule_and_no_value(
    refused: str, database: Database, a: Tenant, caplog: pytest.LogCaptureFixture
) -> None:
    statement, kind, message = REFUSED[refused]
    async with database.transaction(a) as work:
        await work.execute(USER)
    with capture_logs() as logged, caplog.at_level(logging.DEBUG), pytest.raises(Refusal) as caught:
        async with database.transaction(a) as work:
            await work.execute(insert(organizations).values(name="half-written", name_key="half-written"))
            await work.execute(statement)
    assert type(caught.value) is kind
    assert caught.value.message == message
    assert SECRET not in f"{caught.value!r} {caught.value} {vars(caught.value)}".lower()
    assert SECRET not in f"{logged} {caplog.text}".lower()
    async with database.transaction(a) as work:
        assert await work.rows(select(organizations)) == []
        assert await work.scalar(select(func.count()).select_from(users)) == 1


async def test_deleting_a_referenced_object_is_a_conflict(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        user = await work.scalar(USER.returning(users.c.id))
        await work.execute(insert(resources).values(owner_id=user, name=SECRET))
    with pytest.raises(
        Conflict, match=r"^(users|resources): a referenced object does not exist, or this object is still referenced$"
    ):
        async with database.transaction(a) as work:
            await work.script("DELETE FROM users")


async def test_a_swallowed_error_is_reported_by_the_commit(database: Database, a: Tenant) -> None:
    """COMMIT of a failed transaction rolls back silently. It must not be reported as a success."""
    with capture_logs() as logged, pytest.raises(asyncpg.InFailedSQLTransactionError):
        async with database.transaction(a) as work:
            await work.execute(USER)
            with suppress(asyncpg.UniqueViolationError):
                await work.execute(USER)
    assert SECRET not in str(logged)
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []


async def test_an_error_in_a_savepoint_ends_no_transaction(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        await work.execute(USER)
        await work.script("SAVEPOINT s")
        with pytest.raises(asyncpg.UniqueViolationError):
            await work.execute(USER)
        await work.script("ROLLBACK TO s")
        assert await work.value("SELECT isola.current_tenant_id()") == a.id
    async with database.transaction(a) as work:
        assert len(await work.rows(select(users))) == 1


async def test_a_write_in_a_read_only_transaction_is_refused(database: Database, a: Tenant) -> None:
    with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
        async with database.transaction(a, read_only=True) as work:
            await work.execute(USER)
    async with database.transaction(a) as work:
        assert await work.rows(select(users)) == []
        await work.execute(USER)


async def test_a_strategy_that_is_not_installed_is_unavailable(database: Database, a: Tenant) -> None:
    class Elsewhere:
        id = a.id
        strategy = "elsewhere"

    with pytest.raises(Unavailable, match="not installed"):
        async with database.transaction(Elsewhere()):
            pytest.fail("entered")
