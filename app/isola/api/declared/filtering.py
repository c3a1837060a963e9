"""The filters that mutations take: what clients sent, as reads have it, and as JSON."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import strawberry
from strawberry.types import get_object_definition
from strawberry.types.field import StrawberryField
from strawberry.utils.str_converters import to_camel_case

from isola.api.enums import MARK
from isola.api.fields import FIELD
from isola.query.mapping import Comparison, Filter, Related, Searched

_LOGIC = {"and", "or", "not"}


def filter_of(input_type: type) -> Filter:
    """What the fields of a filter input compare."""
    found: dict[str, Comparison | Related | Searched] = {}
    for field in get_object_definition(input_type, strict=True).fields:
        if _name(field) not in _LOGIC:
            found[_name(field)] = field.metadata[FIELD]
    return found


def arguments_of(input_: Any) -> Any:
    """What a client sent of an input, by the names of the schema."""
    if isinstance(input_, list):
        return [arguments_of(each) for each in input_]
    definition = None if isinstance(input_, Enum) else get_object_definition(input_)
    if definition is None:
        return input_
    given = {_name(field): getattr(input_, field.python_name) for field in definition.fields}
    return {name: arguments_of(value) for name, value in given.items() if value is not strawberry.UNSET}


def as_json(arguments: Any) -> Any:
    """The same as JSON of the client's own form."""
    match arguments:
        case Mapping():
            return {name: as_json(value) for name, value in arguments.items()}
        case list():
            return [as_json(each) for each in arguments]
        case Enum():
            return _enum_name(arguments)
        case date():
            return arguments.isoformat()
        case Decimal() | UUID() | timedelta():
            return str(arguments)
    return arguments


def _name(field: StrawberryField) -> str:
    return field.graphql_name or to_camel_case(field.python_name)


def _enum_name(value: Enum) -> str:
    [name] = [each.name for each in getattr(type(value), MARK).values if each.value == value.value]
    return str(name)
