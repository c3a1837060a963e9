"""Scalars, and the comparison inputs of filters: ``eq``, ``in`` and so on, one type for each scalar."""

import decimal
import re
import uuid
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from typing import Any, NewType

import strawberry
from graphql import (
    FloatValueNode,
    IntValueNode,
    ListValueNode,
    ObjectValueNode,
    ValueNode,
    value_from_ast_untyped,
)
from strawberry.types.scalar import ScalarDefinition, scalar

from isola import exact_json
from isola.api.enums import described_enum
from isola.query.messages import UnfitValueError

MAX_SAFE_INTEGER = 2**53 - 1
MAX_DECIMAL = 200
"""The most characters of a decimal that a client sends."""
MAX_DURATION = timedelta(days=36_500)
MAX_EXPONENT = 1000
"""The most digits before and after the point of a decimal: no column has more."""

BigInt = NewType("BigInt", int)
DateTime = NewType("DateTime", datetime)
JSON = NewType("JSON", object)
Date = NewType("Date", date)
Decimal = NewType("Decimal", decimal.Decimal)
Duration = NewType("Duration", timedelta)
UUID = NewType("UUID", uuid.UUID)


def _read_big_int(value: Any) -> int:
    if isinstance(value, str):
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= len(str(MAX_SAFE_INTEGER))):
            raise UnfitValueError("a BigInt is an integer, or a string of its decimal digits")
        value = int(value)
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise UnfitValueError("a BigInt is an integer, or a string of its decimal digits")
    if abs(value) > MAX_SAFE_INTEGER:
        raise UnfitValueError(f"a BigInt is between -{MAX_SAFE_INTEGER} and {MAX_SAFE_INTEGER}")
    return value


def _read_date_time(value: Any) -> datetime:
    message = "a DateTime is ISO 8601 with an offset, such as 2026-01-31T12:00:00Z"
    if not isinstance(value, str):
        raise UnfitValueError(message)
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            raise UnfitValueError(message)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise UnfitValueError(message) from None


def _write_date_time(value: Any) -> Any:
    # A value from a statement is already a text.
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def _read_date(value: Any) -> date:
    message = "a Date is ISO 8601, such as 2026-01-31"
    # Python reads several forms of ISO 8601; only the one with hyphens is accepted.
    if not isinstance(value, str) or len(value) != len("2026-01-31"):
        raise UnfitValueError(message)
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise UnfitValueError(message) from None


_DURATION = re.compile(
    r"(-)?P(?:(?P<weeks>\d{1,9})W|(?=.)(?:(?P<days>\d{1,9})D)?"
    r"(?:T(?=.)(?:(?P<hours>\d{1,9})H)?(?:(?P<minutes>\d{1,9})M)?(?:(?P<seconds>\d{1,10})S)?)?)",
    re.ASCII,
)


def _read_duration(value: Any) -> timedelta:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise UnfitValueError(
            "a Duration is ISO 8601 in weeks, or in days, hours, minutes and whole seconds, such as P7D"
        )
    given = {name: int(number) for name, number in found.groupdict().items() if number}
    # A week has the most seconds: a timedelta of the largest numbers would overflow.
    if max(given.get("weeks", 0) * 7, given.get("days", 0)) > MAX_DURATION.days:
        raise UnfitValueError(f"a Duration is at most {MAX_DURATION.days} days")
    duration = timedelta(**given)
    if duration > MAX_DURATION:
        raise UnfitValueError(f"a Duration is at most {MAX_DURATION.days} days")
    return -duration if found[1] else duration


def _read_decimal(value: Any) -> decimal.Decimal:
    message = "a Decimal is a string of decimal digits, such as 12.50, or a number"
    if isinstance(value, bool) or not isinstance(value, str | int | float | decimal.Decimal):
        raise UnfitValueError(message)
    text = str(value)
    if len(text) > MAX_DECIMAL or "_" in text or text != text.strip():
        raise UnfitValueError(message)
    try:
        read = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise UnfitValueError(message) from None
    if not read.is_finite():
        raise UnfitValueError(message)
    if max(read.adjusted(), -int(read.as_tuple().exponent)) > MAX_EXPONENT:
        raise UnfitValueError(f"a Decimal has at most {MAX_EXPONENT} digits before and after the point")
    return read


def _read_decimal_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> decimal.Decimal:  # noqa: ARG001  required by the interface
    """A number literal in the document, with all its digits."""
    return _read_decimal(getattr(node, "value", None))


def _read_uuid(value: Any) -> uuid.UUID:
    message = "a UUID is 32 hexadecimal digits with hyphens, such as 0198c1d2-0000-7000-8000-000000000000"
    if not isinstance(value, str) or len(value) != len(str(uuid.UUID(int=0))):
        raise UnfitValueError(message)
    try:
        return uuid.UUID(value)
    except ValueError:
        raise UnfitValueError(message) from None


def _write_text(value: Any) -> Any:
    return value if isinstance(value, str) else str(value)


def _unchanged(value: Any) -> Any:
    return value


def _read_json_literal(node: ValueNode, variables: dict[str, Any] | None = None) -> Any:
    """A JSON literal in the document, its numbers with all their digits."""
    match node:
        case IntValueNode() | FloatValueNode():
            return exact_json.number(node.value)
        case ListValueNode():
            return [_read_json_literal(value, variables) for value in node.values]
        case ObjectValueNode():
            return {field.name.value: _read_json_literal(field.value, variables) for field in node.fields}
        case _:
            return value_from_ast_untyped(node, variables)


SCALARS: dict[object, ScalarDefinition] = {
    BigInt: scalar(
        name="BigInt",
        description="An integer from -(2^53-1) to 2^53-1, a JSON number. Input may also be a string of decimal digits.",
        parse_value=_read_big_int,
        serialize=_unchanged,
    ),
    DateTime: scalar(
        name="DateTime",
        description="A point in time in ISO 8601. Input needs an offset from UTC; output is in UTC with microseconds.",
        parse_value=_read_date_time,
        serialize=_write_date_time,
    ),
    Date: scalar(
        name="Date",
        description="A date in ISO 8601.",
        parse_value=_read_date,
        serialize=_write_text,
    ),
    Duration: scalar(
        name="Duration",
        description="A duration in ISO 8601: in weeks, or in days, hours, minutes and whole seconds. P2W, PT90M, -P1D.",
        parse_value=_read_duration,
        serialize=_unchanged,
    ),
    Decimal: scalar(
        name="Decimal",
        description="A decimal with all its digits, as a string. Input may also be a number.",
        parse_value=_read_decimal,
        parse_literal=_read_decimal_literal,
        serialize=_write_text,
    ),
    UUID: scalar(
        name="UUID",
        description="A UUID that is no id of the API.",
        parse_value=_read_uuid,
        serialize=_write_text,
    ),
    JSON: scalar(
        name="JSON",
        description="Any JSON value. Numbers keep their digits; one of more than 100, or a negative zero, is refused.",
        parse_value=_unchanged,
        parse_literal=_read_json_literal,
        serialize=_unchanged,
    ),
}


@described_enum
class OrderDirection(Enum):
    """The direction of an order.

    ASC: The smallest first.
    DESC: The largest first.
    """

    ASC = "ASC"
    DESC = "DESC"


@described_enum
class NullsOrder(Enum):
    """Where an order has rows without a value.

    FIRST: Before all others.
    LAST: After all others.
    """

    FIRST = "FIRST"
    LAST = "LAST"


@strawberry.input(description="Compares texts, case-sensitively. Conditions are combined with AND; null is refused.")
class StringFilter:
    eq: str | None = strawberry.UNSET
    in_: list[str] | None = strawberry.field(
        name="in", default=strawberry.UNSET, description="Equal to one of these. An empty list: no rows."
    )
    gt: str | None = strawberry.UNSET
    gte: str | None = strawberry.UNSET
    lt: str | None = strawberry.UNSET
    lte: str | None = strawberry.UNSET
    contains: str | None = strawberry.field(default=strawberry.UNSET, description="Case-sensitive; no wildcards.")
    starts_with: str | None = strawberry.field(default=strawberry.UNSET, description="Case-sensitive; no wildcards.")
    is_null: bool | None = strawberry.UNSET


@strawberry.input(
    description="Compares texts, case-sensitively unless stated otherwise. Conditions are combined with AND; null "
    "is refused."
)
class InsensitiveStringFilter(StringFilter):
    eq_insensitive: str | None = strawberry.field(
        default=strawberry.UNSET, description="Without regard to case and accents, with an index."
    )
    starts_with_insensitive: str | None = strawberry.field(
        default=strawberry.UNSET, description="Without regard to case and accents, with an index; no wildcards."
    )
    contains_insensitive: str | None = strawberry.field(
        default=strawberry.UNSET,
        description="Without regard to case and accents; no wildcards. It uses no index, so the same filter needs "
        "another condition that narrows the rows with an index.",
    )


@strawberry.input(
    description="Finds the rows that have all words of a text, in any order, regardless of case and accents."
)
class SearchFilter:
    text: str = strawberry.field(
        description="At most 16 words and 200 characters. A text without words, or with common ones alone that a "
        "language leaves out, finds nothing."
    )
    prefix: bool = strawberry.field(default=False, description="Whether the last word can be the beginning of one.")


@strawberry.input(description="Compares ids. Conditions are combined with AND; null is refused.")
class IDFilter:
    eq: strawberry.ID | None = strawberry.UNSET
    in_: list[strawberry.ID] | None = strawberry.field(
        name="in", default=strawberry.UNSET, description="Equal to one of these. An empty list: no rows."
    )
    is_null: bool | None = strawberry.UNSET


@strawberry.input(description="Compares points in time. Conditions are combined with AND; null is refused.")
class DateTimeFilter:
    eq: DateTime | None = strawberry.UNSET
    in_: list[DateTime] | None = strawberry.field(
        name="in", default=strawberry.UNSET, description="Equal to one of these. An empty list: no rows."
    )
    gt: DateTime | None = strawberry.UNSET
    gte: DateTime | None = strawberry.UNSET
    lt: DateTime | None = strawberry.UNSET
    lte: DateTime | None = strawberry.UNSET
    newer_than: Duration | None = strawberry.field(
        default=strawberry.UNSET,
        description="After the present time less this duration. A negative one is a time in the future.",
    )
    older_than: Duration | None = strawberry.field(
        default=strawberry.UNSET,
        description="Before the present time less this duration. A negative one is a time in the future.",
    )
    is_null: bool | None = strawberry.UNSET


@strawberry.input(description="Compares truth values. Conditions are combined with AND; null is refused.")
class BooleanFilter:
    eq: bool | None = strawberry.UNSET
    is_null: bool | None = strawberry.UNSET


@strawberry.input(description="Compares UUIDs. Conditions are combined with AND; null is refused.")
class UUIDFilter:
    eq: UUID | None = strawberry.UNSET
    in_: list[UUID] | None = strawberry.field(
        name="in", default=strawberry.UNSET, description="Equal to one of these. An empty list: no rows."
    )
    is_null: bool | None = strawberry.UNSET


@strawberry.input(
    description="Compares a value inside of a document. Conditions are combined with AND; null is refused. It uses no "
    "index, so the same filter needs another condition that narrows the rows with an index."
)
class JSONFilter:
    path: list[str] | None = strawberry.field(
        default=strawberry.UNSET,
        description="The path of the value: at most 8 keys, or list indexes from 0. Omitted, it is the document.",
    )
    eq: JSON | None = strawberry.field(default=strawberry.UNSET, description="At most 4096 bytes.")
    contains: JSON | None = strawberry.field(
        default=strawberry.UNSET,
        description="Objects contain others with some of their keys, lists contain lists with some of their items. At "
        "most 4096 bytes.",
    )
    is_null: bool | None = strawberry.field(default=strawberry.UNSET, description="Whether the path has no value.")


def _range_filter(type_: Any, name: str, values: str) -> type:
    """A filter for ordered values."""
    one = type_ | None
    listed = strawberry.field(
        name="in", default=strawberry.UNSET, description="Equal to one of these. An empty list: no rows."
    )
    annotations = {"eq": one, "in_": list[type_] | None}
    annotations |= dict.fromkeys(("gt", "gte", "lt", "lte"), one) | {"is_null": bool | None}
    body = {"__module__": __name__, "__annotations__": annotations, **dict.fromkeys(annotations, strawberry.UNSET)}
    description = f"Compares {values}. Conditions are combined with AND; null is refused."
    made: type = strawberry.input(type(name, (), {**body, "in_": listed}), description=description)
    return made


BigIntFilter = _range_filter(BigInt, "BigIntFilter", "integers")
IntFilter = _range_filter(int, "IntFilter", "integers")
FloatFilter = _range_filter(float, "FloatFilter", "numbers")
DecimalFilter = _range_filter(Decimal, "DecimalFilter", "decimals")
DateFilter = _range_filter(Date, "DateFilter", "days")
