"""A table name resolves to the bound tenant's own table or to nothing, even if other objects have the same name."""

import pytest

from isola.database.transactions import Database
from isola.errors import Unavailable
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects.metadata import quoted
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import (
    INSUFFICIENT_PRIVILEGE,
    TABLES,
    UNDEFINED_TABLE,
    Canary,
    content,
    physical,
    plant,
    tried,
)
from isola_strategies.base import Capability, Strategy

FOREIGN = "canary-public"


async def _imitate(owner: Database) -> None:
    """Make tables named like the tenants' tables, and functions named like those in statements, in schema public."""
    async with owner.unbound() as transaction:
        for table in TABLES:
            columns = ", ".join(f"{quoted(column.name)} text DEFAULT '{FOREIGN}'" for column in table.columns)
            await transaction.script(f"CREATE TABLE public.{table.name} ({columns})")
            await transaction.script(f"INSERT INTO public.{table.name} DEFAULT VALUES")
        await transaction.script(
            """
            GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC;
            CREATE FUNCTION public.current_tenant_id() RETURNS uuid LANGUAGE sql RETURN NULL::uuid;
            CREATE FUNCTION public.uuid_v7() RETURNS uuid LANGUAGE sql RETURN NULL::uuid;
            CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql RETURN NULL::timestamptz;
            CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql RETURN NULL::text;
            CREATE FUNCTION public.same(uuid, uuid) RETURNS boolean LANGUAGE sql RETURN true;
            CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = uuid, RIGHTARG = uuid)
            """
        )


async def test_the_same_names_in_public_have_no_effect(
    owner: Database, database: Database, a: Tenant, canary_b: Canary
) -> None:
    before = await content(database, canary_b.tenant)
    await _imitate(owner)
    canary_a = await plant(database, a)
    seen = await content(database, a)
    assert all(len(rows) == 1 for rows in seen.values())
    assert FOREIGN not in str(seen)
    assert not canary_b.traced_in(seen)
    assert await content(database, canary_b.tenant) == before
    async with owner.unbound() as transaction:
        for table in TABLES:
            rows = await transaction.texts(f"SELECT t::text FROM public.{table.name} t")
            assert len(rows) == 1
            assert not canary_a.traced_in(rows)


async def test_a_table_that_is_missing_does_not_exist(
    strategy: Strategy, owner: Database, database: Database, canary_a: Canary, b: Tenant
) -> None:
    """It never resolves to another table: neither to one of that name in public, nor to another tenant's."""
    await plant(database, b)
    await _imitate(owner)
    for table in reversed(TABLES):
        name = table.name
        async with owner.unbound() as transaction:
            await transaction.script(f"DROP TABLE {physical(strategy, canary_a.tenant, table)} CASCADE")
        async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
            for sql in (
                f"SELECT * FROM {name}",
                f"INSERT INTO {name} DEFAULT VALUES RETURNING *",
                f"UPDATE {name} SET created_at = now() RETURNING *",
                f"DELETE FROM {name} RETURNING *",
            ):
                assert await tried(work, sql) == UNDEFINED_TABLE


async def test_a_change_in_one_home_does_not_affect_the_others(
    strategy: Strategy, owner: Database, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    if Capability.ROLES not in strategy.capabilities:
        pytest.skip("tenants share their tables")
    before = await content(database, canary_b.tenant)
    async with owner.unbound() as transaction:
        await transaction.script(f"DROP TABLE {strategy.home(canary_a.tenant.id).schema}.{TABLES[0].name} CASCADE")
    assert await content(database, canary_b.tenant) == before


async def test_the_path_to_another_tenants_tables_is_closed(
    strategy: Strategy, database: Database, canary_a: Canary, canary_b: Canary
) -> None:
    """The search path only routes; the role enforces."""
    if Capability.ROLES not in strategy.capabilities:
        pytest.skip("tenants share their tables")
    home = strategy.home(canary_b.tenant.id)
    async with database.transaction(canary_a.tenant, about=canary_a.about) as work:
        # PostgreSQL skips schemas without USAGE in the search path, so their tables are not found.
        await work.script(f"SET LOCAL search_path TO {home.schema}")
        for table in TABLES:
            assert await tried(work, f"SELECT * FROM {table.name}") == UNDEFINED_TABLE
            assert await tried(work, f"SELECT * FROM {home.schema}.{table.name}") == INSUFFICIENT_PRIVILEGE
        await work.script(f"SET LOCAL search_path TO {home.schema}, {strategy.home(canary_a.tenant.id).schema}")
        for table in TABLES:
            assert not canary_b.traced_in(await tried(work, f"SELECT * FROM {table.name}"))
            assert len(await tried(work, f"SELECT * FROM {table.name}")) == 1


async def test_erasing_a_tenant_deletes_all_its_rows_and_no_others(
    strategy: Strategy, copy: Copy, owner: Database, database: Database, canary_b: Canary
) -> None:
    before = await content(database, canary_b.tenant)
    gone = await provisioning.create(owner, copy.strategies, slug="gone", name="Gone", strategy=strategy.name)
    await plant(database, gone)
    await provisioning.drop(owner, copy.strategies, "gone", notice=0)
    if Capability.ROLES in strategy.capabilities:
        with pytest.raises(Unavailable, match="cannot be accessed"):
            await content(database, gone)
    else:
        assert not any((await content(database, gone)).values())
    again = await provisioning.create(
        owner, copy.strategies, slug="gone", name="Gone", strategy=strategy.name, reuse_slug=True
    )
    assert not any((await content(database, again)).values())
    assert await content(database, canary_b.tenant) == before
