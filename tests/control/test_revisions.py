"""Revisions that change rows: in every home, for all its tenants, by an owner that is subject to policies."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from isola.database.transactions import Database
from isola.platform import migrations, provisioning
from isola.subjects.applications import BUILT_IN
from isola.subjects.metadata import Counted, metadata
from isola.testing.fixtures import Copy
from isola_strategies import registry
from tests.control.conftest import addresses

NEWEST = migrations.newest(BUILT_IN)
REVISION = """
import sqlalchemy as sa

revision = "next"
down_revision = "{newest}"


def upgrade(op):
    op.add_column("resources", sa.Column("label", sa.Text(), nullable=True))
    {statement}
    op.alter_column("resources", "label", nullable=False)
"""
ADDED = """
import sqlalchemy as sa

revision = "next"
down_revision = "{newest}"


def upgrade(op):
    {statement}
"""
AS_TEXT = r"""op.execute("UPDATE resources SET label = 'at 12:30, ' || name || '\\'")"""
AS_CONSTRUCT = r"""resources = sa.table("resources", sa.column("label"), sa.column("name"))
    op.execute(sa.update(resources).values(label=sa.literal("at 12:30, ") + resources.c.name + sa.literal("\\")))"""
FORCED = """
    SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relname = 'resources' AND nspname NOT IN ('control', 'received')
      AND NOT (relrowsecurity AND relforcerowsecurity)
"""


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the revisions, to which a test adds its own."""
    copied = tmp_path / "migrations"
    shutil.copytree(migrations.MIGRATIONS, copied)
    monkeypatch.setattr(migrations, "MIGRATIONS", copied)
    migrations.clear_caches()
    yield copied / "tenant"
    monkeypatch.undo()
    migrations.clear_caches()


@pytest.mark.parametrize(
    ("table", "missing", "kept"), [("resources", "", True), ("spans", "", False), ("resources", "DROP", False)]
)
async def test_policies_of_visibility_rules_are_kept_unless_a_revision_touches_them_or_one_is_missing(
    history: Path, second: str, table: str, missing: str, *, kept: bool
) -> None:
    """PostgreSQL refuses to alter a column that they read."""
    policies = """
        SELECT p.oid::text FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
        WHERE polname = 'visible_rows' AND relname = 'spans' AND relnamespace = 'rls'::regnamespace
    """
    where = addresses(second, "second")
    strategies = registry.load(where.tenant_login)
    async with await Database.open(second, size=2, wait=10, statement_timeout=60) as owner:
        await migrations.migrate(owner, strategies, where)
        async with owner.unbound() as work:
            before = await work.texts(policies)
            if missing:
                await work.script("DROP POLICY visible_rows ON rls.spans")
        statement = f"op.add_column('{table}', sa.Column('label', sa.Text(), nullable=True))"
        (history / "next_label.py").write_text(ADDED.format(newest=NEWEST, statement=statement))
        migrations.clear_caches()
        assert (await migrations.migrate(owner, strategies, where)).failed == {}
        async with owner.unbound() as work:
            after = await work.texts(policies)
    assert len(before) == len(after) == 1
    assert (after == before) is kept


@pytest.mark.parametrize("statement", [AS_TEXT, AS_CONSTRUCT])
async def test_a_statement_of_a_revision_reaches_the_rows_of_all_tenants(
    history: Path, second: str, statement: str
) -> None:
    where = addresses(second, "second")
    strategies = registry.load(where.tenant_login)
    async with await Database.open(second, size=2, wait=10, statement_timeout=60) as owner:
        await migrations.migrate(owner, strategies, where)
        tenants = [
            await provisioning.create(owner, strategies, slug=f"{name}-{number}", name=name, strategy=name)
            for name in strategies
            for number in range(2)
        ]
        async with await Database.open(where.tenant, strategies, Copy(where, strategies).binding_key) as database:
            for tenant in tenants:
                async with database.transaction(tenant) as work:
                    await work.value("INSERT INTO users (subject, name) VALUES ('ada', 'Ada')")
                    await work.value("INSERT INTO resources (name, owner_id) SELECT $1, id FROM users", tenant.slug)
            (history / "next_label.py").write_text(REVISION.format(newest=NEWEST, statement=statement))
            migrations.clear_caches()
            assert (await migrations.migrate(owner, strategies, where)).failed == {}
            for tenant in tenants:
                async with database.transaction(tenant) as work:
                    assert await work.texts("SELECT label FROM resources") == [f"at 12:30, {tenant.slug}\\"]
        async with owner.unbound() as work:
            assert await work.value(FORCED) == 0


async def test_a_statement_restricted_by_policies_fails_and_changes_nothing(history: Path, second: str) -> None:
    # The tables that a function uses are not visible in the statement.
    hidden = "CREATE FUNCTION pg_temp.hidden() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM resources'"
    where = addresses(second, "second")
    strategies = registry.load(where.tenant_login)
    async with await Database.open(second, size=2, wait=10, statement_timeout=60) as owner:
        await migrations.migrate(owner, strategies, where)
        (history / "next_hidden.py").write_text(
            REVISION.format(
                newest=NEWEST, statement=f'op.execute("{hidden}")\n    op.execute("SELECT pg_temp.hidden()")'
            )
        )
        migrations.clear_caches()
        report = await migrations.migrate(owner, strategies, where)
        assert report.failed == {"rls": 'query would be affected by row-level security policy for table "resources"'}
        assert (await migrations.check(owner, strategies, where)).behind.keys() == report.failed.keys()


async def test_an_invalid_condition_of_a_quota_is_reported_when_homes_are_migrated(
    blank: Copy, blank_owner: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        metadata.tables["resources"].info, "counted", Counted("resources", "colour = 'red'", ["colour"])
    )
    report = await migrations.migrate(blank_owner, blank.strategies, blank.where)
    assert report.failed == {"rls": 'column "colour" does not exist'}
    assert (await migrations.check(blank_owner, blank.strategies, blank.where)).behind == {"rls": None}
