"""Makes classes for Strawberry at run time, from names, annotations and values."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from keyword import iskeyword
from typing import Any
from uuid import UUID

import strawberry

from isola.api import scalars, subject_types
from isola.api.access import PUBLIC
from isola.api.connections import Connection
from isola.api.enums import described_enum
from isola.api.fields import mapped
from isola.query.mapping import Parameters
from isola.subjects.subject import Subject
from isola.subjects.types import JSON, Annotation, BigInt

ID = strawberry.ID
TYPES: Mapping[object, Any] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    BigInt: scalars.BigInt,
    Decimal: scalars.Decimal,
    date: scalars.Date,
    datetime: scalars.DateTime,
    UUID: scalars.UUID,
    JSON: scalars.JSON,
}


def made_class(name: str, fields: Mapping[str, tuple[Any, Any]], bases: tuple[type, ...] = ()) -> type:
    """A class with annotations and values, as if it were written in isola.api.subject_types."""
    body = {
        "__module__": subject_types.__name__,
        "__annotations__": {key: annotation for key, (annotation, _) in fields.items()},
    }
    made = type(name, bases, {**body, **{key: value for key, (_, value) in fields.items() if value is not ...}})
    setattr(subject_types, name, made)
    return made


def made_input(name: str, fields: Mapping[str, tuple[Any, Any]], description: str | None = None) -> type:
    made: type = strawberry.input(made_class(name, fields), description=description)
    return made


def connection_of(node: type) -> Any:
    return Connection[node]  # type: ignore[valid-type]  # known at run time


def list_of(type_: Any) -> Any:
    """The annotation of a list of a type that is known at run time."""
    return list[type_]


def python_name(name: str) -> str:
    """A name that is valid as an attribute: not a keyword."""
    return f"{name}_" if iskeyword(name) else name


def value_type(annotation: Annotation) -> Any:
    """The Python annotation of a value for Strawberry."""
    single = described_enum(annotation.enum) if annotation.enum else TYPES[annotation.type]
    return list_of(single) if annotation.listed else single


def made_payload(name: str, parameters: Mapping[str, Any], fields: Mapping[str, tuple[Any, Any]]) -> type:
    made: type = strawberry.type(made_class(name, fields), directives=[PUBLIC])
    return mapped(Parameters(dict(parameters)))(made)


def perhaps(subject: type[Subject]) -> Any:
    """The type of a row in a payload: null if, after the change, a visibility rule hides it from the caller."""
    return subject if subject.visible is None else subject | None
