"""Parses a subject's rows from JSON: an object for each, with the same fields as in the create mutation."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

from isola.errors import BadUserInput
from isola.subjects.declaration import Declaration, Member, Reference, field_of
from isola.subjects.types import JSON, BigInt

_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def parse(declaration: Declaration, entry: object) -> dict[str, Any]:
    """The values of a new row, by column. Raises BadUserInput naming an invalid, unknown or missing field."""
    if not isinstance(entry, dict):
        raise BadUserInput("expected an object")
    fields = {field_of(each.column): each for each in declaration.columns if each.is_settable}
    unknown = entry.keys() - fields.keys()
    if unknown:
        raise BadUserInput(f"unknown field {min(unknown)!r}: expected {', '.join(fields)}")
    for name, member in fields.items():
        if name not in entry and not member.has_default:
            raise BadUserInput(f"{name}: expected {_expected(member)}", name)
    return {fields[name].column: _parsed(fields[name], value, name) for name, value in entry.items()}


def _parsed(member: Member, value: Any, field: str) -> Any:
    annotation = member.annotation
    if isinstance(member.declared, Reference):
        return None if value is None else _key(member, value, field)
    if value is None:
        # The declaration's check validates JSON documents.
        if annotation.optional or annotation.type == JSON:
            return None
        raise BadUserInput(f"{field}: expected {_expected(member)}", field)
    if not annotation.listed:
        return _read(annotation.type, value, field, _expected(member))
    if not isinstance(value, list):
        raise BadUserInput(f"{field}: expected {_expected(member)}", field)
    return [_read(annotation.type, each, field, _expected(member)) for each in value]


def _key(member: Member, value: Any, field: str) -> UUID:
    prefix = member.target.declaration.prefix
    try:
        if not isinstance(value, str) or not value.startswith(f"{prefix}_"):
            raise ValueError
        return UUID(value.removeprefix(f"{prefix}_"))
    except ValueError:
        raise BadUserInput(f"{field}: expected an id of the form {prefix}_<uuid>", field) from None


def _read(type_: Any, value: Any, field: str, expected: str) -> Any:
    try:
        if isinstance(type_, type) and issubclass(type_, StrEnum):
            return type_[value] if value in type_.__members__ else type_(value)
        return _READ[type_](value)
    except (ValueError, TypeError, ArithmeticError):
        raise BadUserInput(f"{field}: expected {expected}", field) from None


def _exactly(type_: type) -> Callable[[Any], Any]:
    def read(value: Any) -> Any:
        # In Python, True is an integer.
        if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
            raise TypeError
        return value

    return read


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError
    return float(value)


def _decimal(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise TypeError
    return Decimal(str(value))


def _day(value: Any) -> date:
    if not _DATE.fullmatch(value):
        raise ValueError
    return date.fromisoformat(value)


def _moment(value: Any) -> datetime:
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError
    return moment


def _as_it_is(value: Any) -> Any:
    return value


_READ: Mapping[Any, Callable[[Any], Any]] = MappingProxyType(
    {
        str: _exactly(str),
        int: _exactly(int),
        BigInt: _exactly(int),
        float: _number,
        Decimal: _decimal,
        bool: _exactly(bool),
        date: _day,
        datetime: _moment,
        UUID: UUID,
        JSON: _as_it_is,
    }
)
_EXPECTED: Mapping[Any, str] = MappingProxyType(
    {
        str: "a string",
        int: "an integer",
        BigInt: "an integer",
        float: "a number",
        Decimal: "a number, or a string of its digits",
        bool: "true or false",
        date: "a day such as 2026-01-31",
        datetime: "a time such as 2026-01-31T12:00:00Z",
        UUID: "a UUID",
        JSON: "JSON",
    }
)


def _expected(member: Member) -> str:
    annotation = member.annotation
    if isinstance(member.declared, Reference):
        return f"an id of the form {member.target.declaration.prefix}_<uuid>"
    one = f"one of {', '.join(annotation.enum)}" if annotation.enum else _EXPECTED[annotation.type]
    if annotation.listed:
        return f"{'null or ' if annotation.optional else ''}a list, each item {one}"
    return f"{one} or null" if annotation.optional else one
