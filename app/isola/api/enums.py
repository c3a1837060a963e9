"""Enums of the schema, described by their docstrings."""

from enum import Enum
from typing import TypeVar

import strawberry

from isola.subjects import sentences
from isola.subjects.enums import deprecations_of

MARK = "__strawberry_definition__"
"""The attribute in which Strawberry stores the type of a class."""

E = TypeVar("E", bound=Enum)
_DESCRIBED: set[type[Enum]] = set()


def described_enum(enum: type[E]) -> type[E]:
    """Make a GraphQL enum. A line ``NAME: text`` of its docstring describes a value: see ``sentences.of_enum``.

    Values can be deprecated: see ``isola.subjects.enums``.
    """
    if enum not in _DESCRIBED:
        _DESCRIBED.add(enum)
        description, values = sentences.of_enum(enum)
        # Strawberry has made a type of it already if an annotation named it.
        definition = getattr(enum, MARK, None) or getattr(strawberry.enum(enum), MARK)
        definition.description = description
        reasons = deprecations_of(enum)
        for value in definition.values:
            value.description = values[value.name]
            value.deprecation_reason = reasons.get(value.name)
    return enum
