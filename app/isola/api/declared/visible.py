"""References to rows that a visibility rule can hide."""

from collections.abc import Callable

from sqlalchemy import ColumnElement, exists

from isola.query.mapping import Row
from isola.subjects.declaration import Member


def visible_reference(member: Member) -> Callable[[Row], ColumnElement[bool]] | None:
    """Whether the caller may see the row that a reference leads to; None if all callers may see all such rows."""
    if member.target.visible is None:
        return None

    def is_visible(row: Row) -> ColumnElement[bool]:
        other = member.target.table.alias(f"seen_{member.target.declaration.plural}")
        return exists().where(other.c.id == row[member.column])

    return is_visible
