"""Applications that only the database has, or only the program, or with another history."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.installed import APPLICATIONS
from isola.platform import migrations, moves, provisioning
from isola.platform.tenants import Tenant
from isola.subjects import history
from isola.subjects.applications import BUILT_IN, Application
from isola.subjects.declaration import DeclarationError
from isola.testing.fixtures import Copy
from isola_strategies.base import Strategy
from tests.control.dumps import Made, dumped

STRANGE = "INSERT INTO control.applications (name, revision) VALUES ('ghosts', '0001')"


def everything(copy: Copy) -> Mapping[str, Made]:
    assert copy.where.owner
    return dumped(copy.where.owner)


async def test_an_application_that_is_not_migrated_is_named(owner: Database, copy: Copy) -> None:
    async with owner.unbound() as work:
        await work.script(f"UPDATE control.applications SET revision = '0001' WHERE name = '{BUILT_IN}'")
    with pytest.raises(OperatorError, match=rf"{BUILT_IN} is installed, but the database has revision 0001 of it"):
        async with owner.unbound() as work:
            await migrations.refuse_behind(work)
    await migrations.migrate(owner, copy.strategies, copy.where)
    async with owner.unbound() as work:
        await migrations.refuse_behind(work)


async def test_no_tenant_is_dropped_or_moved_while_it_may_have_unknown_tables(
    owner: Database, copy: Copy, a: Tenant, other: Strategy
) -> None:
    async with owner.unbound() as work:
        await work.script(STRANGE)
    before = everything(copy)
    for attempt in (
        provisioning.drop(owner, copy.strategies, a.slug, notice=0),
        moves.move(owner, copy.strategies, a.slug, to=other.name),
    ):
        with pytest.raises(OperatorError, match="tables of the application ghosts, which is not installed"):
            await attempt
    assert everything(copy) == before
    async with owner.unbound() as work:
        assert await provisioning.named(owner, a.slug) == a
        assert await work.value("SELECT count(*) FROM control.tenants WHERE status <> 'active'") == 0


@pytest.mark.parametrize("name", APPLICATIONS)
def test_the_history_of_an_application_makes_what_it_declares(name: str) -> None:
    assert history.differences(APPLICATIONS[name]) == []


def test_a_history_is_written_from_what_is_declared(tmp_path: Path) -> None:
    ours = APPLICATIONS[BUILT_IN]
    copied = Application(name=ours.name, subjects=ours.subjects, migrations=tmp_path)
    first = history.differences(copied)
    (tmp_path / "0001_all.py").write_text(history.source(first, revision="0001", after=None, message="All tables"))
    assert history.differences(copied) == []
    (tmp_path / "0002_less.py").write_text(
        'revision = "0002"\ndown_revision = "0001"\n\n\ndef upgrade(op):\n'
        '    op.drop_index("ix_users_name_id", "users")\n    op.drop_column("resources", "kind")\n'
        '    op.execute("DROP TRIGGER audit_update ON users")\n'
        '    op.alter_column("spans", "title", nullable=True)\n'
    )
    assert sorted(history.described(each) for each in history.differences(copied)) == [
        "add column resources.kind",
        "alter column spans.title",
        "create check constraint resources.ck_resources_kind_length",
        "create index resources.ix_resources_kind_id",
        "create index users.ix_users_name_id",
        "create trigger audit_update of users, which writes the log",
    ]


def test_a_new_required_column_without_a_default_is_refused(tmp_path: Path) -> None:
    ours = APPLICATIONS[BUILT_IN]
    copied = Application(name=ours.name, subjects=ours.subjects, migrations=tmp_path)
    text = history.source(history.differences(copied), revision="0001", after=None, message="All tables")
    (tmp_path / "0001_all.py").write_text(text + '    op.drop_column("spans", "title")\n')
    with pytest.raises(DeclarationError, match=r"spans\.title: expected a default, or a column that can be None"):
        history.differences(copied)


def revised(folder: Path, body: str) -> Application:
    """The built-in application with a separate history: one revision that creates everything, one with ``body``."""
    ours = APPLICATIONS[BUILT_IN]
    copied = Application(name=ours.name, subjects=ours.subjects, migrations=folder)
    first = history.source(history.differences(copied), revision="0001", after=None, message="All tables")
    (folder / "0001_all.py").write_text(first)
    (folder / "0002_more.py").write_text(
        f'revision = "0002"\ndown_revision = "0001"\n\n\ndef upgrade(op):\n    {body}\n'
    )
    return copied


def test_a_renamed_column_is_tracked_under_its_new_name(tmp_path: Path) -> None:
    copied = revised(tmp_path, 'op.alter_column("resources", "kind", new_column_name="sort")')
    (tmp_path / "0003_back.py").write_text(
        'revision = "0003"\ndown_revision = "0002"\n\n\ndef upgrade(op):\n'
        '    op.alter_column("resources", "sort", new_column_name="kind")\n'
    )
    assert history.differences(copied) == []
    (tmp_path / "0003_back.py").unlink()
    assert sorted(history.described(each) for each in history.differences(copied)) == [
        "add column resources.kind",
        "create check constraint resources.ck_resources_kind_length",
        "create index resources.ix_resources_kind_id",
        "drop column resources.sort",
        "drop constraint resources.ck_resources_kind_length",
        "drop index resources.ix_resources_kind_id",
    ]


def test_a_column_that_is_computed_otherwise_is_created_anew(tmp_path: Path) -> None:
    ours = APPLICATIONS[BUILT_IN]
    copied = Application(name=ours.name, subjects=ours.subjects, migrations=tmp_path)
    first = history.source(history.differences(copied), revision="0001", after=None, message="All tables")
    earlier = re.sub(r"lower\(regexp_replace.*?'g'\)\)", "lower(name)", first)
    assert earlier != first
    (tmp_path / "0001_all.py").write_text(earlier)
    more = history.differences(copied)
    assert [history.described(each) for each in more] == [
        "drop column organizations.name_folded",
        "add column organizations.name_folded",
        "create check constraint organizations.ck_organizations_name_folded_size",
        "create index organizations.ix_organizations_name_folded_id",
    ]
    (tmp_path / "0002_more.py").write_text(history.source(more, revision="0002", after="0001", message="Accents"))
    assert history.differences(copied) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('op.drop_column("resources", "colour")', "drop column resources.colour: it does not exist at that point"),
        (
            'op.drop_constraint("ck_colour", "resources")',
            "drop constraint resources.ck_colour: it does not exist at that point",
        ),
        ('op.add_column("things", None)', "revision 0002: "),
        ('op.rename_table("resources", "things")', "RenameTableOp: this operation has no form for all strategies"),
        ('raise ValueError("no")', "revision 0002: ValueError: no"),
    ],
)
def test_an_invalid_revision_is_named(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=f"revision 0002: .*|{message}") as caught:
        history.differences(revised(tmp_path, body))
    assert message in str(caught.value)


DECLARED = """
    SELECT quota || ' ' || relation FROM control.counted WHERE tenant_column IS NULL
    UNION ALL SELECT name || ' ' || relation FROM control.subjects ORDER BY 1
"""


async def test_declarations_of_an_uninstalled_application_stay(owner: Database, copy: Copy) -> None:
    async with owner.unbound() as work:
        before = await work.texts(DECLARED)
        await work.script(
            "INSERT INTO control.counted (quota, relation) VALUES ('ghosts', 'ghosts'), ('resources', 'users');"
            "INSERT INTO control.subjects (name, relation, shared) VALUES ('ghost', 'ghosts', '{id}')"
        )
        await work.script(STRANGE)
    await migrations.migrate(owner, copy.strategies, copy.where)
    async with owner.unbound() as work:
        assert await work.texts(DECLARED) == sorted([*before, "ghost ghosts", "ghosts ghosts"])
        await work.script("DELETE FROM control.applications WHERE name = 'ghosts'")
    await migrations.migrate(owner, copy.strategies, copy.where)
    async with owner.unbound() as work:
        assert await work.texts(DECLARED) == before


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"0001_a.py": ("0001", None), "0002_b.py": ("0002", None)},
            "0001_a.py and 0002_b.py: expected one to follow the other",
        ),
        ({"0001_a.py": ("0001", None), "0001_b.py": ("0001", None)}, "Revision 0001 is present more than once"),
        ({"0002_b.py": ("0002", "0001")}, "Revision 0001 referenced from .* is not present"),
        ({"0001_a.py": None}, "invalid syntax"),
    ],
)
def test_an_invalid_history_is_reported(
    tmp_path: Path, files: Mapping[str, tuple[str, str | None] | None], message: str
) -> None:
    for name, revision in files.items():
        text = "def (" if revision is None else f"revision, down_revision = {revision!r}\n\ndef upgrade(op): pass\n"
        (tmp_path / name).write_text(text)
    ours = APPLICATIONS[BUILT_IN]
    copied = Application(name=ours.name, subjects=ours.subjects, migrations=tmp_path)
    with pytest.raises(DeclarationError, match=f"^the history (cannot be read|has several newest).*{message}"):
        history.differences(copied)


async def test_a_server_whose_declarations_and_history_differ_does_not_start(
    owner: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ours = APPLICATIONS[BUILT_IN]
    behind = revised(tmp_path, 'op.drop_column("resources", "kind")')
    monkeypatch.setattr(migrations, "APPLICATIONS", {ours.name: behind})
    migrations.refuse_unwritten.cache_clear()
    try:
        async with owner.unbound() as work:
            with pytest.raises(OperatorError, match="history of the application isola does not fit its declaration: "):
                await migrations.refuse_behind(work)
    finally:
        migrations.refuse_unwritten.cache_clear()
