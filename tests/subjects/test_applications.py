"""The order in which applications are migrated."""

import pytest
from sqlalchemy import Column, ForeignKey, MetaData, Table, Uuid

from isola.errors import OperatorError
from isola.subjects.applications import ordered


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
