"""Column names can be reserved words of SQL or Python, and either name refers to the attribute."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid

from isola.errors import OperatorError
from isola.installed import APPLICATIONS
from isola.platform import rights
from isola.platform.roles import Roles
from isola.subjects import Subject, applications, column
from isola.subjects.declaration import Registry
from isola.subjects.history import _tables, described
from isola_strategies.base import Home


@pytest.fixture(autouse=True)
def subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the declarations of a test after it."""
    monkeypatch.setattr(Registry, "by_class", dict(Registry.by_class))
    monkeypatch.setattr(Registry, "by_name", dict(Registry.by_name))


def test_an_attribute_with_an_underscore_at_the_end_can_be_named_with_it_or_without() -> None:
    class Bird(Subject, name="bird", prefix="brd"):
        class_: str | None = column(max_length=20)
        from_: str | None = column(max_length=20)

        shared = ("class_", "from")

    assert Bird.declaration.shared == ["class", "from"]


def test_rights_on_columns_quote_reserved_words() -> None:
    table = Table("birds", MetaData(), Column("id", Uuid, primary_key=True), info={"shared_columns": ["order", "name"]})
    roles = Roles("isola")
    statements = rights.admit_to_home(Home("rls"), [table], roles)
    assert f'GRANT SELECT (id, "order", name) ON rls.birds TO {roles.sharing}' in statements


def test_tables_that_refer_to_each_other_are_dropped_after_their_keys() -> None:
    made = MetaData()
    Table("a", made, Column("id", Uuid, primary_key=True))
    Table("b", made, Column("id", Uuid, ForeignKey("a.id", name="fk_b_id"), primary_key=True))
    Table("c", made, Column("id", Uuid, ForeignKey("d.id", name="fk_c_id"), primary_key=True))
    Table("d", made, Column("id", Uuid, primary_key=True))
    assert [described(each) for each in _tables({}, made.tables)] == [
        "drop constraint c.fk_c_id",
        "drop constraint b.fk_b_id",
        "drop table d",
        "drop table c",
        "drop table b",
        "drop table a",
    ]


def test_an_application_that_raises_when_it_is_imported_is_refused_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_birds.py").write_text("application = 1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("ISOLA_APPLICATIONS", "broken_birds:application")
    with pytest.raises(OperatorError, match="cannot be imported: ZeroDivisionError: division by zero"):
        applications.load(replace(APPLICATIONS["isola"], subjects=()))
