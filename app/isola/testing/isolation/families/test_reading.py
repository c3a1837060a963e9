"""The database decides which rows of descendants a transaction reads, whatever statement it runs."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest

from isola.database.transactions import Database, Transaction
from isola.platform import family_policies, provisioning
from isola.testing.isolation.families.conftest import PROVED, ROLE, Household
from isola.testing.isolation.test_functions import MANY
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary
from isola.testing.printed import in_plan, plans_of

FOUND = {"child", "sister", "grandchild"}


@asynccontextmanager
async def entered(
    database: Database, household: Household, permissions: str = PROVED, *, role: str | None = ROLE
) -> AsyncIterator[Transaction]:
    about = {"permissions": permissions}
    async with database.transaction(household.parent.tenant, read_only=True, about=about, role=role) as work:
        yield work


def homes(household: Household) -> Sequence[str]:
    of = [household.parent, *household.below.values(), household.stranger]
    strategies = household.copy.strategies
    return sorted({strategies[each.tenant.strategy].home(each.tenant.id).schema for each in of})


def canaries(household: Household) -> Mapping[str, Canary]:
    return {"parent": household.parent, "stranger": household.stranger, **household.below}


async def whose(work: Transaction, household: Household) -> set[str]:
    """The tenants of which a transaction finds any row, in any table of any home."""
    text = ""
    for home in homes(household):
        for table in family_policies.tables():
            text += str(await work.texts(f'SELECT t::text FROM {home}."{table.name}" t'))
    return {name for name, each in canaries(household).items() if each.quoted_in(text)}


async def test_the_role_finds_the_rows_of_active_descendants_alone(database: Database, household: Household) -> None:
    async with entered(database, household) as work:
        assert await whose(work, household) == FOUND
    await provisioning.suspend(household.api.control, "child")
    async with entered(database, household) as work:
        assert await whose(work, household) == {"sister"}


@pytest.mark.parametrize("permissions", ["", "family:read", "isola:family", "family:read resource:read"])
async def test_without_the_whole_proof_the_role_finds_nothing(
    database: Database, household: Household, permissions: str
) -> None:
    async with entered(database, household, permissions) as work:
        assert await whose(work, household) == set()
        assert await work.value("SELECT isola.family_list()") == ""


async def test_sql_in_an_ordinary_transaction_reaches_no_descendant_in_any_role(
    database: Database, household: Household
) -> None:
    """The login can become the role, but it proves nothing more by that."""
    async with entered(database, household) as work:
        kept = await work.value("SELECT isola.family_list() || right(current_setting('isola.family'), 64)")
    async with entered(database, household, "family:read", role=None) as work:
        await work.script(f"SET LOCAL ROLE {ROLE}")
        assert await whose(work, household) == set()
        for forged in (kept, "rls " + "0" * 64, kept[:-64]):
            await work.value("SELECT set_config('isola.family', $1, true)", forged)
            assert await whose(work, household) == set()


async def test_an_ordinary_role_finds_nothing_with_the_proof_of_a_reader(
    database: Database, household: Household
) -> None:
    async with entered(database, household, role=None) as work:
        own = household.parent.tenant
        home = household.copy.strategies[own.strategy].home(own.id).schema
        for table in family_policies.tables():
            text = str(await work.texts(f'SELECT t::text FROM {home}."{table.name}" t'))
            assert not any(each.quoted_in(text) for name, each in canaries(household).items() if name != "parent")


async def test_a_child_finds_nothing_of_its_parent_or_sister(database: Database, household: Household) -> None:
    about = {"permissions": PROVED}
    async with database.transaction(household.child.tenant, read_only=True, about=about, role=ROLE) as work:
        assert await whose(work, household) == {"grandchild"}
    async with database.transaction(household.stranger.tenant, read_only=True, about=about, role=ROLE) as work:
        assert await whose(work, household) == set()


async def test_the_role_writes_nothing_and_reads_no_log(database: Database, household: Household) -> None:
    tenant = household.parent.tenant
    for home in homes(household):
        for sql in (
            f"DELETE FROM {home}.users",
            f"UPDATE {home}.users SET name = 'x'",
            f"SELECT count(*) FROM {home}.audit_entries",
            f"SELECT count(*) FROM {home}.audit_log",
            f"SELECT 1 FROM {home}.users FOR UPDATE",
        ):
            with pytest.raises(Exception) as raised:  # noqa: PT011  the database's, or its translation
                async with database.transaction(tenant, about={"permissions": PROVED}, role=ROLE) as work:
                    await work.value(sql)
            error = raised.value
            assert getattr(error, "sqlstate", None) == INSUFFICIENT_PRIVILEGE, (sql, error)


async def test_a_list_that_is_kept_is_of_one_statement_of_one_transaction(
    database: Database, household: Household
) -> None:
    async with entered(database, household) as work:
        first = await work.value("SELECT isola.family_list() || current_setting('isola.family')")
        await provisioning.suspend(household.api.control, "child")
        assert await work.value("SELECT isola.family_list()") != first[: len(first) // 2]
        with pytest.raises(asyncpg.PostgresError, match="the descendants are others by now"):
            await work.value("SELECT isola.is_family($1)", "")


async def test_no_plan_that_injected_sql_prints_has_the_key_of_proofs(
    database: Database, owner: Database, household: Household
) -> None:
    """Whoever has the key passes for every tenant."""
    async with owner.unbound() as work:
        [key] = await work._connection.fetch('SELECT "inner", "outer" FROM control.binding_key')
    async with entered(database, household) as work, plans_of(work) as printed:
        assert await work.value("SELECT isola.family_list()") != ""
        assert await whose(work, household) == FOUND
    text = "".join(printed)
    assert ":constvalue" in text
    for name, value in key.items():
        assert in_plan(value) not in text, name


async def test_estimates_reveal_common_values_of_every_home_to_injected_sql(
    database: Database, owner: Database, household: Household
) -> None:
    """What remains: any transaction can become the role, which may name all tables, and estimates use their rows."""
    tenant = household.stranger.tenant
    home = household.copy.strategies[tenant.strategy].home(tenant.id).schema

    async def seen() -> tuple[str, int]:
        async with database.transaction(household.child.tenant) as work:
            await work.script(f"SET LOCAL ROLE {ROLE}; LOCK TABLE {home}.users IN ACCESS SHARE MODE")
            named = f"FROM {home}.users WHERE name = 'a name that is common'"
            return await work.value(f"EXPLAIN SELECT {named}"), await work.value(f"SELECT count(*) {named}")

    plan, found = await seen()
    async with database.transaction(tenant) as work:
        await work.value(MANY, "a name that is common")
    async with owner.unbound() as work:
        await work.script(f"ANALYZE {home}.users")
    planned, found_now = await seen()
    assert planned != plan
    assert found == found_now == 0
