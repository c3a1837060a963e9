"""All writes of a transaction of A stay in A, whichever tenant or table they name."""

from collections.abc import Sequence
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import ForeignKeyConstraint, Table, UniqueConstraint, delete, insert, select, update

from isola.database.transactions import Database
from isola.errors import Conflict
from isola.platform.tenants import Tenant
from isola.subjects import visibility
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import (
    INSUFFICIENT_PRIVILEGE,
    TABLES,
    Canary,
    content,
    discriminators,
    forgery,
    physical,
    tried,
)
from isola_strategies.base import Capability, Strategy

FOREIGN_KEYS = [
    (table, key.column_keys[0], key.referred_table)
    for table in TABLES
    for key in table.constraints
    if isinstance(key, ForeignKeyConstraint)
]


async def test_inserting_into_another_tenant_is_refused(
    strategy: Strategy, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    before = await content(database, canary_b.tenant)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        outcomes = {}
        for table in TABLES:
            sql, row = forgery(strategy, table, canary_b)
            # RETURNING requires the right to read the row, which is separate from the right to write it.
            for form in (sql, sql.removesuffix(" RETURNING *")):
                outcomes[form] = await tried(work, form, row)
    assert outcomes == dict.fromkeys(outcomes, INSUFFICIENT_PRIVILEGE)
    assert await content(database, canary_b.tenant) == before


async def test_moving_a_row_to_another_tenant_is_refused(
    strategy: Strategy, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    if Capability.POLICIES not in strategy.capabilities:
        pytest.skip("no row says whose it is")
    before = [await content(database, canary.tenant) for canary in (canary_a, canary_b)]
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        outcomes = {
            table.name: await tried(work, f"UPDATE {table.name} SET {column} = $1", canary_b.tenant.id)
            for table in TABLES
            for column in discriminators(strategy, table)
        }
    assert outcomes == dict.fromkeys((table.name for table in TABLES), INSUFFICIENT_PRIVILEGE)
    assert [await content(database, canary.tenant) for canary in (canary_a, canary_b)] == before


async def test_objects_of_another_tenant_look_like_missing_ones(
    database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    """A reference to B's row has the same error as one to a missing row, in a new row and in an existing one."""
    before = [await content(database, canary.tenant) for canary in (canary_a, canary_b)]
    for table, column, parent in FOREIGN_KEYS:
        messages = []
        # Where there is a visibility rule, the user would not see the changed row.
        refused = Conflict if visibility.condition(table) is None else (Conflict, asyncpg.InsufficientPrivilegeError)
        for pointed_at in (canary_b.rows[parent.name]["id"], uuid4()):
            for statement in (
                update(table).values({column: pointed_at}),
                # Without RETURNING, which is refused where the user does not see the new row.
                insert(table).inline().values({**_fresh(table, canary_a), column: pointed_at}),
            ):
                with pytest.raises(refused) as caught:
                    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
                        await work.execute(statement)
                messages.append(str(caught.value))
        assert messages[:2] == messages[2:]
    assert [await content(database, canary.tenant) for canary in (canary_a, canary_b)] == before


async def test_every_value_of_another_tenant_can_be_inserted(database: Database, a: Tenant, canary_b: Canary) -> None:
    """Values are unique only within a tenant, including keys, so that no conflict reveals another tenant's rows."""
    before = await content(database, canary_b.tenant)
    await _copy(canary_b, database, a)
    assert await content(database, a) == before
    assert await content(database, canary_b.tenant) == before


async def test_a_conflict_with_an_own_row_affects_no_other_tenants_rows(
    database: Database, canary_b: Canary, a: Tenant
) -> None:
    await _copy(canary_b, database, a)
    for table in TABLES:
        for columns in _unique(table):
            values = {**canary_b.rows[table.name], **_fresh(table, canary_b)}
            values |= {name: canary_b.rows[table.name][name] for name in columns}
            with pytest.raises(Conflict) as caught:
                async with database.transaction(a, about=canary_b.about) as work:
                    await work.execute(insert(table).values(values))
            assert not canary_b.traced_in(caught.value)


async def _copy(canary: Canary, database: Database, tenant: Tenant) -> None:
    """Insert the rows of another tenant, as their user: pairs are refused to users who may not see both rows."""
    async with database.transaction(tenant, about=canary.about) as work:
        for table in TABLES:
            await work.execute(insert(table).values(canary.rows[table.name]))


async def test_naming_another_tenants_keys_finds_nothing(
    database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    before = [await content(database, canary.tenant) for canary in (canary_a, canary_b)]
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for table in reversed(TABLES):
            theirs = [column == canary_b.rows[table.name][column.name] for column in table.primary_key]
            own = next(iter(table.columns))
            assert await work.rows(select(table).where(*theirs)) == []
            assert await work.rows(select(table).where(*theirs).with_for_update()) == []
            assert await work.rows(update(table).where(*theirs).values({own: own}).returning(table)) == []
            assert await work.rows(delete(table).where(*theirs).returning(table)) == []
    assert [await content(database, canary.tenant) for canary in (canary_a, canary_b)] == before


async def test_a_statement_on_every_row_is_on_every_own_row(
    database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    before = await content(database, canary_b.tenant)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for table in reversed(TABLES):
            own = next(iter(table.columns)).name
            changed = await tried(work, f"UPDATE {table.name} SET {own} = {own} RETURNING *")
            assert len(changed) == 1
            assert not canary_b.traced_in(changed)
            assert len(await tried(work, f"DELETE FROM {table.name} RETURNING *")) <= 1
    assert not any((await content(database, canary_a.tenant)).values())
    assert await content(database, canary_b.tenant) == before


async def test_injected_sql_takes_no_lock_on_another_tenants_rows(
    copy: Copy, database: Database, login: asyncpg.Connection, canary_a: Canary, canary_b: Canary
) -> None:
    """Otherwise B could detect that A reads for update, or A could block B."""
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for table in TABLES:
            key = [column == canary_b.rows[table.name][column.name] for column in table.primary_key]
            await work.rows(select(table).with_for_update())
            await work.rows(select(table).where(*key).with_for_update())
            await work.execute(update(table).where(*key).values(dict.fromkeys(table.primary_key.columns.keys()[:1])))
        async with login.transaction():
            await copy.enter(login, canary_b.tenant, canary_b.about)
            for table in TABLES:
                assert len(await login.fetch(f"SELECT 1 FROM {table.name} FOR UPDATE NOWAIT")) == 1


async def test_rights_that_go_beyond_rows_are_not_given(
    strategy: Strategy, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    before = await content(database, canary_b.tenant)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        for canary in (canary_a, canary_b):
            for name in (physical(strategy, canary.tenant, table) for table in TABLES):
                schema = strategy.home(canary.tenant.id).schema
                for sql in (
                    f"TRUNCATE {name} CASCADE",
                    f"CREATE TABLE {schema}.child (id uuid REFERENCES {name})",
                    f"CREATE TRIGGER t BEFORE INSERT ON {name} EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                    f"CREATE RULE r AS ON INSERT TO {name} DO INSTEAD NOTHING",
                    f"ALTER TABLE {name} DISABLE ROW LEVEL SECURITY",
                    f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY",
                    f"CREATE POLICY p ON {name} USING (true)",
                    f"DROP TABLE {name}",
                    f"CREATE VIEW {schema}.v AS SELECT * FROM {name}",
                    f"CREATE TEMP TABLE t AS SELECT * FROM {name}",
                ):
                    assert await tried(work, sql) == INSUFFICIENT_PRIVILEGE, sql
    assert await content(database, canary_b.tenant) == before


def _fresh(table: Table, canary: Canary) -> dict[str, object]:
    """A row like the canary's without conflicts: with different texts and new keys."""
    row = canary.rows[table.name]
    longest = {column.name: column.info.get("longest", 200) for column in table.columns}
    texts = {name: f"{value} fresh"[-longest[name] :] for name, value in row.items() if value == canary.marker}
    made = {column.name for column in table.columns if column.primary_key and column.server_default is not None}
    return {name: value for name, value in {**row, **texts}.items() if name not in made}


def _unique(table: Table) -> Sequence[Sequence[str]]:
    keys = [key for key in table.constraints if isinstance(key, UniqueConstraint)]
    return [key.columns.keys() for key in (table.primary_key, *keys)]
