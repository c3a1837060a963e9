"""The types of rows that other tenants shared: of each subject, one with what it declares as shared and nothing else.

Every value is nullable, and a field says which of them are granted: so no field fails because it was not granted, and
a null has its reason.
"""

from collections.abc import Sequence
from enum import Enum
from typing import Any

import strawberry
from sqlalchemy import ARRAY, Column as SqlColumn, Float, Numeric, Text
from sqlalchemy.types import TypeEngine
from strawberry.utils.str_converters import to_camel_case

from isola.api import scalars
from isola.api.access import requires
from isola.api.declared.making import list_of, made_class, python_name, value_type
from isola.api.enums import MARK
from isola.api.fields import FIELD, mapped
from isola.query.mapping import Function, Value
from isola.subjects import sentences
from isola.subjects.declaration import Declaration
from isola.subjects.permissions import Permission
from isola.subjects.sentences import words
from isola.subjects.subject import Subject

_GRANTED = "granted_fields"
_SAID = "The fields that the owner granted. All others are null."
_ENUMS: dict[str, type[Enum]] = {}
_NOT_GRANTED = "Null if it is not granted."


def shared_row(subject: type[Subject]) -> Function:
    """The row of a received share, by the id of the share: none if the share is of another subject."""
    declaration = subject.declaration
    table = subject.table
    columns: list[SqlColumn[Any]] = [SqlColumn(name, _returned(table.c[name].type)) for name in declaration.shared]
    granted: SqlColumn[Any] = SqlColumn(_GRANTED, ARRAY(Text), nullable=False)
    return Function("isola.shared_row", (*columns, granted), ("id",), subject=declaration.name, typed=True)


def _returned(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type as the function returns it: without the number of digits, which a null of it does not have."""
    if isinstance(type_, ARRAY):
        return ARRAY(_returned(type_.item_type))
    return Numeric() if isinstance(type_, Numeric) and not isinstance(type_, Float) else type_


def shared_field(subject: type[Subject]) -> type[Enum]:
    """The enum of the fields of a subject that can be shared; the values are columns."""
    declaration = subject.declaration
    described = f"A field of {_a(declaration)} that can be shared."
    return _enum(f"{subject.__name__}SharedField", declaration.shared, described, "The field {}.")


def granted_field(subjects: Sequence[type[Subject]]) -> type[Enum]:
    """The enum of the fields of all these subjects that can be shared."""
    columns = dict.fromkeys(name for subject in subjects for name in subject.declaration.shared)
    return _enum("GrantedField", list(columns), "A field of an object that can be shared.", "The field {}.")


def shareable(subjects: Sequence[type[Subject]]) -> type[Enum]:
    """The enum of the subjects themselves; the values are their names."""
    names = [subject.declaration.name for subject in subjects]
    return _enum("ShareableType", names, "A type whose objects can be shared.", "Objects of the type {}.")


def declare_shared(subject: type[Subject]) -> type:
    """Make the type of the shared rows of a subject: ``SharedAgent`` for an ``Agent``."""
    declaration = subject.declaration
    fields = {_GRANTED: (list_of(shared_field(subject)), strawberry.field(description=_SAID))}
    for column in declaration.shared:
        member = declaration.by_column(column)
        if member is None:
            annotation, said, deprecated = scalars.DateTime, _of_time(column), None
        else:
            annotation, said = value_type(member.annotation), sentences.of_member(member)
            deprecated = member.declared.deprecated
        name = column if member is None else member.name
        fields[python_name(name)] = (
            annotation | None,
            strawberry.field(
                name=to_camel_case(name),
                description=f"{said} {_NOT_GRANTED}",
                deprecation_reason=deprecated,
                metadata={FIELD: Value(column)},
            ),
        )
    described = f"What another tenant granted of {_a(declaration)}. It has no id but that of its share."
    made = strawberry.type(
        made_class(f"Shared{subject.__name__}", fields),
        description=described,
        directives=[requires(Permission.SHARE_READ)],
    )
    return mapped(shared_row(subject), order=((_GRANTED, False),))(made)


def _a(declaration: Declaration) -> str:
    said = words(declaration.name)
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def _of_time(column: str) -> str:
    return f"When it was {'created' if column == 'created_at' else 'last changed'}."


def _enum(name: str, values: Sequence[str], description: str, of_value: str) -> type[Enum]:
    if name not in _ENUMS:
        made: Any = Enum(name, {value.upper(): value for value in values})  # type: ignore[misc]  # its members are known at run time
        definition = getattr(strawberry.enum(made, description=description), MARK)
        for value in definition.values:
            value.description = of_value.format(to_camel_case(value.value))
        _ENUMS[name] = made
    return _ENUMS[name]
