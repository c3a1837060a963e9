"""Descriptions that follow from declarations, for what its author has not described."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

from isola.subjects.declaration import Column, Computed, Count, Declaration, Member, Reference, caller, now, today
from isola.subjects.types import JSON, Annotation, BigInt

_KINDS: Mapping[Any, str] = {
    str: "text",
    int: "an integer",
    BigInt: "an integer",
    float: "a number",
    Decimal: "a decimal",
    bool: "true or false",
    date: "a day",
    datetime: "a time",
    UUID: "a UUID",
    JSON: "a JSON document",
}
_VALUE = re.compile(r"^([A-Z][A-Z0-9_]*): (.+)$", re.MULTILINE)


def words(name: str) -> str:
    """A name in snake case or in camel case as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_", " ", name).lower()


def of_subject(declaration: Declaration) -> str:
    """The docstring of a subject, or what its name says."""
    written = declaration.subject.__doc__
    return inspect.cleandoc(written) if written else f"One {words(declaration.name)} of the tenant."


def of_member(member: Member) -> str:
    """What a member is, as clients read it."""
    declared, name = member.declared, words(member.name)
    if declared.description:
        return declared.description
    match declared:
        case Reference():
            return _of_reference(member, name)
        case Column():
            return f"The {name}: {', '.join(_facts(member, declared))}."
        case Computed():
            return f"The {name}, computed from other values of it."
        case Count():
            return f"The number of its {words(declared.of)} that the caller may see."
    return f"Its {name}, as far as the caller may see them."


def _of_reference(member: Member, name: str) -> str:
    if getattr(member.declared, "default", None) is caller:
        return f"The {name}: the user who created it."
    target = member.target.declaration
    what = f"The {name} that it refers to" if words(target.name) == name else f"The {name}: {_one(target)}"
    return f"{what}.{' Null as well if the caller may not see it.' if member.target.visible is not None else ''}"


def of_input(member: Member) -> str:
    """What a client gives for a column."""
    if not isinstance(member.declared, Reference):
        return of_member(member)
    target, name = member.target.declaration, words(member.name)
    if member.declared.description:
        return f"The id of {_one(target)}. {member.declared.description}"
    return (
        f"The id of the {name} that it refers to."
        if words(target.name) == name
        else f"The id of the {name}, {_one(target)}."
    )


def of_argument(name: str, annotation: Annotation) -> str:
    """What a client gives for an argument of an action."""
    if not annotation.kind:
        return f"The id of {_one(annotation.type.declaration)}."
    return f"The {words(name)}: {_kind(annotation)}."


def of_needs(needs: Iterable[str]) -> str:
    """Which permissions and features are required. Only the names of permissions have a colon."""
    return f"Requires {' and '.join(each if ':' in each else f'the feature {each}' for each in needs)}."


def of_enum(enum: type[Enum]) -> tuple[str, Mapping[str, str]]:
    """The description of an enum, and those of its members.

    A line ``NAME: text`` of its docstring describes a member; the rest describes the enum.
    """
    # An enum without a docstring of its own would inherit that of its base.
    written = vars(enum).get("__doc__")
    text = inspect.cleandoc(written) if written else ""
    named = {name: f"{said[0].upper()}{said[1:]}" for name, said in _VALUE.findall(text) if name in enum.__members__}
    rest = _VALUE.sub(lambda found: "" if found[1] in named else found[0], text).strip()
    values = {name: named.get(name, f"The value {words(name)}.") for name in enum.__members__}
    return rest or f"The values of {words(enum.__name__)}.", values


def _one(declaration: Declaration) -> str:
    name = words(declaration.name)
    return f"{'an' if name[0] in 'aeiou' and not name.startswith('us') else 'a'} {name}"


def _facts(member: Member, declared: Column) -> list[str]:
    annotation = member.annotation
    facts = [_kind(annotation) + _length(declared)]
    limits: tuple[tuple[Any, Callable[[Any], str]], ...] = (
        (declared.minimum, lambda value: f"at least {value}"),
        (declared.maximum, lambda value: f"at most {value}"),
        (declared.digits, lambda value: f"of {value} digits, {declared.scale or 0} after the point"),
        (declared.max_bytes, lambda value: f"at most {value:,} bytes"),
    )
    facts += [said(value) for value, said in limits if value is not None]
    if declared.unique:
        facts.append("unique in the tenant")
    if isinstance(declared.default, str | int | float | Decimal) and not isinstance(declared.default, bool):
        default = declared.default.name if isinstance(declared.default, StrEnum) else declared.default
        facts.append("empty by default" if default == "" else f"by default {default}")
    elif isinstance(declared.default, bool):
        facts.append(f"by default {str(declared.default).lower()}")
    elif declared.default is now:
        facts.append("by default the time when it is made")
    elif declared.default is today:
        facts.append("by default the day on which it is made")
    elif declared.default is dict or declared.default is list or declared.default == []:
        facts.append("empty by default")
    elif isinstance(declared.default, list):
        facts.append(f"by default {', '.join(map(str, declared.default))}")
    if declared.fixed:
        facts.append("fixed once created")
    return facts


def _kind(annotation: Annotation) -> str:
    kind = f"one of {annotation.enum.__name__}" if annotation.enum else _KINDS[annotation.type]
    return f"a list, each item {kind}" if annotation.listed else kind


def _length(declared: Column) -> str:
    least, most = declared.min_length, declared.max_length
    if most is None:
        return f" of at least {least} characters" if least else ""
    return f" of {least} to {most} characters" if least else f" of at most {most} characters"
