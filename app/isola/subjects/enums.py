"""Enums of declarations: which of their values clients should not use any more."""

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, TypeVar

from isola.subjects.declaration import DeclarationError

E = TypeVar("E", bound=StrEnum)
_MARK = "_isola_deprecated"


def deprecated_values(**reasons: str) -> Callable[[type[E]], type[E]]:
    """Deprecate values of an enum, by their names: why clients should not use them any more, and what they use instead.

    ``@deprecated_values(BROKEN="Use LOST.")``. The values keep working. Raises DeclarationError.
    """

    def declare(enum: type[E]) -> type[E]:
        where = f"{enum.__module__}.{enum.__qualname__}"
        for name, reason in reasons.items():
            if name not in enum.__members__:
                raise DeclarationError(f"{where}: deprecated_values: there is no value {name!r}")
            if not isinstance(reason, str) or not reason.strip():
                raise DeclarationError(f"{where}: deprecated_values: {name}: expected a reason")
        setattr(enum, _MARK, MappingProxyType(dict(reasons)))
        return enum

    return declare


def deprecations_of(enum: type[Any]) -> Mapping[str, str]:
    """The reasons of the deprecated values of an enum, by their names."""
    found: Mapping[str, str] = vars(enum).get(_MARK, MappingProxyType({}))
    return found
