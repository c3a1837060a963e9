"""Which applications are loaded, and the order in which they are migrated."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid

from isola.errors import OperatorError
from isola.installed import APPLICATIONS
from isola.subjects.applications import BUILT_IN, load, ordered


def tables(**refers: str | None) -> MetaData:
    """An application for each name, with a table of that name that refers to the table of another."""
    made = MetaData()
    for name, other in refers.items():
        target = [ForeignKey(f"{other}.id")] if other else []
        Table(name, made, Column("id", Uuid, *target, primary_key=True), info={"application": name})
    return made


def test_applications_are_ordered_by_the_references_of_their_tables() -> None:
    made = tables(a="z", m="a", z=None)
    assert ordered(["a", "m", "z"], made.tables.values()) == ["z", "a", "m"]


def test_applications_that_refer_to_each_other_are_refused_by_name() -> None:
    made = tables(a="z", z="a")
    with pytest.raises(OperatorError, match="the applications a and z refer to each other: expected one to come first"):
        ordered(["a", "z"], made.tables.values())


def install(folder: Path, package: str, name: str, value: str) -> None:
    """What pip writes of a package that offers an application."""
    written = folder / f"{package}-1.dist-info"
    written.mkdir()
    (written / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
    (written / "entry_points.txt").write_text(f"[isola.applications]\n{name} = {value}\n")


def test_two_installed_applications_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(tmp_path, "birds", "birds", "birds:application")
    install(tmp_path, "more-birds", "birds", "more_birds:application")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("ISOLA_APPLICATIONS", raising=False)
    with pytest.raises(OperatorError, match="birds:application are both offered as 'birds': expected another name"):
        load(replace(APPLICATIONS[BUILT_IN], subjects=()))


@pytest.mark.parametrize("setting", ["birds:", ":application"])
def test_an_application_without_a_module_or_an_attribute_is_refused(
    setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOLA_APPLICATIONS", setting)
    with pytest.raises(OperatorError, match=f"'{setting}': expected package.module:attribute"):
        load(replace(APPLICATIONS[BUILT_IN], subjects=()))
