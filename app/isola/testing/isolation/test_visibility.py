"""Rows that a user may not see: the database keeps them from every statement inside the tenant, and from the log."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Computed,
    MetaData,
    Table,
    Text,
    delete,
    insert,
    not_,
    or_,
    select,
    text,
)

from isola.database.transactions import Database
from isola.installed import metadata
from isola.platform.audit import WHOLE
from isola.platform.tenants import Tenant
from isola.subjects import users, visibility
from isola.subjects.audit import audit_log
from isola.testing.fixtures import Copy
from isola.testing.isolation.test_binding import NOT_PROVED
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, TABLES, Canary, content, stored, tried
from isola.testing.oracles.hidden import hidden, is_of_users
from isola_strategies.base import Strategy

WITH_RULES = [table for table in TABLES if is_of_users(table)]
"""The tables with rows that some users may see and others may not."""
HIDDEN = [
    table
    for table in TABLES
    if table in WITH_RULES
    or any(key.column.table in WITH_RULES for column in table.primary_key for key in column.foreign_keys)
]
"""The tables with such rows, and the tables of pairs of them."""
FOR_NOBODY = [table for table in TABLES if visibility.rule_of(table) is not None and not is_of_users(table)]
"""The tables with rows that all users may see, or none."""


@pytest.fixture
async def stranger(database: Database, canary_a: Canary) -> Mapping[str, str]:
    """What a transaction proves to be another user of A, with no permission. The canary's rows are private."""
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for table in WITH_RULES:
            row = canary_a.rows[table.name]
            if row not in [each async for each in hidden(work, table, [row])]:
                pytest.fail(f"{table.name}: no generated row is hidden from other users: expected `samples` with one")
        return {"user": str(await users.ensure(work, subject="stranger", name=None, email=None))}


async def _nothing_works(
    database: Database, tenant: Tenant, about: Mapping[str, str], table: Table, row: Mapping[str, Any]
) -> None:
    """No statement reads, changes or deletes the only row of a table."""
    key = " AND ".join(f"{column.name} = '{row[column.name]}'" for column in table.primary_key)
    column = next(iter(table.columns)).name
    statements = [
        f"SELECT * FROM {table.name}",
        f"SELECT * FROM {table.name} WHERE {key} FOR UPDATE",
        f"SELECT 1 FROM {table.name} WHERE {key} OR 1 / (length({table.name}::text) - length({table.name}::text)) = 1",
        f"UPDATE {table.name} SET {column} = {column} WHERE {key} RETURNING *",
        f"WITH changed AS (UPDATE {table.name} SET {column} = gen_random_uuid() RETURNING 1) SELECT * FROM changed",
        f"DELETE FROM {table.name} WHERE {key} RETURNING *",
        f"SELECT FROM {table.name} TABLESAMPLE SYSTEM (100)",
    ]
    async with database.transaction(tenant, about=about) as work:
        assert [await tried(work, sql) for sql in statements] == [[]] * len(statements)
        assert await work.value(f"SELECT count(*) FROM {table.name}") == 0
        # Without a condition, a statement needs no right to read.
        await work.script(f"UPDATE {table.name} SET {column} = gen_random_uuid(); DELETE FROM {table.name}")


@pytest.mark.parametrize("table", HIDDEN, ids=str)
async def test_no_statement_reads_changes_or_deletes_a_row_that_its_user_may_not_see(
    table: Table, database: Database, canary_a: Canary, stranger: Mapping[str, str]
) -> None:
    before = await content(database, canary_a.tenant)
    for about in (stranger, {}):
        await _nothing_works(database, canary_a.tenant, about, table, canary_a.rows[table.name])
    assert await content(database, canary_a.tenant) == before
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        assert len(await work.rows(select(table))) == 1


async def test_the_user_is_the_proved_one(
    strategy: Strategy, copy: Copy, login: asyncpg.Connection, canary_a: Canary, stranger: Mapping[str, str]
) -> None:
    """Neither user nor permissions can be changed by settings, by another's proof or by another transaction's."""
    if not WITH_RULES:
        pytest.skip("no subject has a visibility rule")
    user, permissions = canary_a.about["user"], canary_a.about["permissions"]
    async with login.transaction():
        of_another_transaction = await copy.proof(login, canary_a.tenant, canary_a.about)
    async with login.transaction():
        await copy.enter(login, canary_a.tenant, stranger)
        proof = await login.fetchval("SELECT current_setting('isola.proof')")
        assert await login.fetchval("SELECT isola.current_user_id()") == UUID(stranger["user"])
        assert await login.fetchval("SELECT isola.current_permissions()") == []
        for forged in (
            proof.replace(stranger["user"], user),
            proof.replace(stranger["user"], ""),
            f"{proof[:-65]}{permissions or 'ghost:read'}\n{proof[-64:]}",
            of_another_transaction,
        ):
            await login.execute(f"SET LOCAL isola.proof TO '{forged}'")
            for sql in (
                *(f"SELECT 1 FROM {table.name}" for table in HIDDEN),
                "SELECT old FROM audit_log",
                "SELECT isola.current_user_id()",
                "SELECT isola.current_permissions()",
            ):
                assert await tried(login, sql) == NOT_PROVED, (sql, forged)
        await login.execute("SET LOCAL isola.tenant TO ''")
        assert await login.fetchval("SELECT isola.current_user_id()") is None
    assert strategy.login == "isola_tenant"


async def test_values_of_a_row_that_its_user_may_not_see_are_not_in_the_log(
    database: Database, canary_a: Canary, stranger: Mapping[str, str]
) -> None:
    actions = sorted(f"{table.info['audited'].subject}:create" for table in HIDDEN if "audited" in table.info)
    log = audit_log.c
    entries = (
        select(
            log.action, log.old, log.new.is_(None).label("empty"), log.hash.is_(None).label("unhashed"), log.withheld
        )
        .where(log.action.in_(actions))
        .order_by(log.action)
    )

    async def read(about: Mapping[str, str]) -> list[tuple[object, ...]]:
        async with database.transaction(canary_a.tenant, read_only=True, about=about) as work:
            found = [tuple(row.values()) for row in await work.rows(entries)]
            assert (await work.value("SELECT count(hash) FROM isola.unsealed()") > 0) is (about is WHOLE)
            for column in ("old", "new", "hash", "*"):
                assert await tried(work, f"SELECT {column} FROM audit_entries") == INSUFFICIENT_PRIVILEGE
            return found

    for about in (stranger, {}):
        assert await read(about) == [(action, None, True, True, True) for action in actions]
    for about in (canary_a.about, WHOLE):
        assert await read(about) == [(action, None, False, False, False) for action in actions]


@pytest.mark.parametrize("table", WITH_RULES, ids=str)
async def test_a_row_that_its_maker_may_not_see_is_stored_and_not_returned(
    table: Table, database: Database, a: Tenant, canary_b: Canary
) -> None:
    row = canary_b.rows[table.name]
    await _make_parents(database, a, table, canary_b)
    before = await content(database, a)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with database.transaction(a) as work:
            await work.rows(insert(table).values(row).returning(table.c.id))
    assert await content(database, a) == before
    async with database.transaction(a) as work:
        await work.execute(insert(table).values(row))
        assert await work.rows(select(table)) == []
    after = await content(database, a)
    assert [each["id"] for each in after[table.name]] == [row["id"]]
    assert {**after, table.name: []} == before


@pytest.mark.parametrize("table", FOR_NOBODY, ids=str)
async def test_a_row_that_a_rule_hides_from_all_is_stored_and_nobody_reads_or_changes_it(
    table: Table, database: Database, owner: Database, strategy: Strategy, a: Tenant, canary_b: Canary
) -> None:
    await _make_parents(database, a, table, canary_b)
    async with database.transaction(a) as work:
        row = await anext(hidden(work, table, [canary_b.rows[table.name]]))
        await work.execute(insert(table).values(row))
        user = await users.ensure(work, subject="reader", name=None, email=None)
    before = await stored(owner, strategy, a)
    for about in ({"user": str(user), "permissions": " ".join(visibility.asked())}, {}):
        await _nothing_works(database, a, about, table, row)
    assert await stored(owner, strategy, a) == before
    assert [each["id"] for each in before[table.name]] == [row["id"]]


async def test_nobody_makes_a_pair_with_a_row_that_they_may_not_see(
    database: Database, canary_a: Canary, stranger: Mapping[str, str]
) -> None:
    """The answer is the same for a row that does not exist."""
    pairs = [table for table in HIDDEN if table not in WITH_RULES]
    if not pairs:
        pytest.skip("no subject with a visibility rule has pairs")
    for table in pairs:
        row = canary_a.rows[table.name]
        missing = {name: uuid4() for name, _ in visibility.hidden_ends(table)}
        async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
            await work.execute(delete(table))
        for about in (stranger, {}):
            for values in (row, {**row, **missing}):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    async with database.transaction(canary_a.tenant, about=about) as work:
                        await work.execute(insert(table).values(values))
        async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
            assert await work.rows(select(table)) == []
            await work.execute(insert(table).values(row))


async def _make_parents(database: Database, tenant: Tenant, table: Table, like: Canary) -> None:
    """Make the rows to which a row of a table refers, as those of a canary."""
    above = _above(table)
    async with database.transaction(tenant) as work:
        for parent in metadata.sorted_tables:
            if parent.name in above:
                await work.execute(insert(parent).values(like.rows[parent.name]))


def _above(table: Table) -> set[str]:
    """The tables that rows of a table refer to, directly or not."""
    found: set[str] = set()
    waiting = [table]
    while waiting:
        for key in waiting.pop().foreign_keys:
            other = key.column.table
            if other.name not in found and other is not table:
                found.add(other.name)
                waiting.append(other)
    return found


async def test_the_rows_of_canaries_are_varied_until_a_rule_hides_one(database: Database, a: Tenant) -> None:
    table = Table(
        "notes",
        MetaData(),
        Column("is_open", Boolean, server_default=text("true")),
        Column("audience", Text),
        CheckConstraint("audience = 'all' OR is_open IS NOT NULL"),
        CheckConstraint("audience IN ('all', 'staff', 'author')"),
        info={"visible": lambda row, _: or_(row["is_open"], row["audience"] != "author")},
    )
    row = {"audience": "all"}
    async with database.transaction(a) as work:
        assert [each async for each in hidden(work, table, [row])] == [{"audience": "author", "is_open": False}]
        assert [each async for each in hidden(work, table, [{**row, "is_open": False, "audience": "author"}])]
        table.info["visible"] = lambda row, _: or_(row["is_open"], not_(row["is_open"]))
        visibility.deciding.cache_clear()
        assert [each async for each in hidden(work, table, [row])] == []
        table.append_column(Column("loud", Text, Computed("upper(audience)", persisted=True)))
        assert [each async for each in hidden(work, table, [row])] == []
        table.info["visible"] = lambda row, _: row["loud"] == "ALL"
        visibility.deciding.cache_clear()
        tries = [{"audience": "all"}, {"audience": "staff"}]
        assert await anext(hidden(work, table, tries)) == {"audience": "staff"}
