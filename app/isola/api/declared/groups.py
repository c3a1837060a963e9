"""The types of the field ``groups`` of a subject's connections: how many rows there are of each value of a column."""

from typing import Any

import strawberry
from sqlalchemy import ColumnElement, case
from strawberry.utils.str_converters import to_camel_case

from isola.api import subject_types
from isola.api.access import PUBLIC, Requires, of_feature
from isola.api.connections import declare_groups_of
from isola.api.declared.making import ID, list_of, made_class, python_name, value_type
from isola.api.declared.visible import visible_reference
from isola.api.fields import FIELD
from isola.query.mapping import Grouping, Row, Value
from isola.subjects.declaration import Declaration, Member, Reference
from isola.subjects.sentences import words


def declare_groups(declaration: Declaration) -> None:
    """Make the type, if there are columns by which rows are counted."""
    if not declaration.grouped:
        return
    name = f"{declaration.subject.__name__}Groups"
    fields = {python_name(each.column): _field(each) for each in declaration.grouped}
    described = f"How many {words(declaration.plural)} have the same value."
    made = strawberry.type(made_class(name, fields), description=described, directives=[PUBLIC])
    declare_groups_of(declaration.subject, made)


def _field(member: Member) -> tuple[Any, Any]:
    # The groups of a reference have ids, so they need the permission to read what has them.
    is_reference = isinstance(member.declared, Reference)
    field = strawberry.field(
        name=to_camel_case(member.column),
        description=f"By the {words(member.name)}.",
        deprecation_reason=member.declared.deprecated,
        metadata={FIELD: Grouping(_value(member))},
        directives=_access(member.target.declaration) if is_reference else [],
    )
    return list_of(_group(member)), field


def _access(declaration: Declaration) -> list[Any]:
    return [Requires(permission=declaration.permissions["read"]), *of_feature(declaration.feature)]


def _value(member: Member) -> Value:
    if not isinstance(member.declared, Reference):
        return Value(member.column)
    prefix, visible = member.target.declaration.prefix, visible_reference(member)
    if visible is None:
        return Value(member.column, prefix)

    def shown(row: Row) -> ColumnElement[Any]:
        """A row that refers to one that the caller may not see is counted as one that refers to none."""
        return case((visible(row), row[member.column]))

    return Value(shown, prefix)


def _group(member: Member) -> type:
    """The type of a group, one for each type of values."""
    kind = member.annotation.kind
    of = kind.graphql if kind else "ID"
    name = f"{of}Group"
    if not hasattr(subject_types, name):
        value = value_type(member.annotation) if kind else ID
        fields = {
            "value": (value | None, strawberry.field(description="The value; null for the rows without one.")),
            "count": (int, strawberry.field(description="The number of rows with this value.")),
        }
        strawberry.type(made_class(name, fields), description=f"Rows with the same {of}.", directives=[PUBLIC])
    made: type = getattr(subject_types, name)
    return made
