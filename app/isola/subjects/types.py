"""The types of columns: their PostgreSQL and GraphQL types, and how they are compared."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType, NoneType, UnionType
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, Union, get_args, get_origin
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Boolean, Date, DateTime, Double, Integer, Numeric, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

T = TypeVar("T")


class Many(Generic[T]):
    """The annotation of a relation to many rows: ``tracks: Many["Track"] = many("album")``."""


JSON: TypeAlias = Annotated[Any, "JSON"]
"""The annotation of a JSON document."""

BigInt: TypeAlias = Annotated[int, "BigInt"]
"""The annotation of integers beyond 32 bits; from -(2^53-1) to 2^53-1, which every JSON parser reads exactly."""


@dataclass(frozen=True, slots=True)
class Kind:
    """``graphql`` is the name of the scalar; ``filter`` that of its filter input, None if it has none."""

    sql: type[TypeEngine[Any]]
    graphql: str
    filter: str | None
    ordered: bool = True


INTEGER, TEXT = Kind(Integer, "Int", "IntFilter"), Kind(Text, "String", "StringFilter")

KINDS: Mapping[object, Kind] = MappingProxyType(
    {
        str: TEXT,
        int: INTEGER,
        BigInt: Kind(BigInteger, "BigInt", "BigIntFilter"),
        float: Kind(Double, "Float", "FloatFilter"),
        Decimal: Kind(Numeric, "Decimal", "DecimalFilter"),
        bool: Kind(Boolean, "Boolean", "BooleanFilter"),
        date: Kind(Date, "Date", "DateFilter"),
        datetime: Kind(DateTime, "DateTime", "DateTimeFilter"),
        UUID: Kind(Uuid, "UUID", "UUIDFilter"),
        JSON: Kind(JSONB, "JSON", "JSONFilter", ordered=False),
    }
)
_LISTED = (str, int, BigInt, float, Decimal, bool, date, datetime, UUID)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A parsed annotation: the type, without ``| None`` and ``list``, which are separate flags."""

    type: Any
    optional: bool
    listed: bool

    def takes(self, value: Any) -> bool:
        """Whether a single value is of the type, ignoring ``optional`` and ``listed``."""
        if self.type == JSON:
            return True
        type_ = self.type if isinstance(self.type, type) else get_args(self.type)[0]
        if isinstance(value, bool):
            return type_ is bool
        if type_ in {float, Decimal}:
            return isinstance(value, type_ | int)
        # In Python, a datetime is also a date.
        return isinstance(value, type_) and isinstance(value, datetime) == (type_ is datetime)

    def takes_all(self, value: Any) -> bool:
        """Whether a value is of the type."""
        if value is None:
            return self.optional
        if self.listed:
            return isinstance(value, list) and all(self.takes(each) for each in value)
        return self.takes(value)

    @property
    def enum(self) -> "type[StrEnum] | None":
        return self.type if isinstance(self.type, type) and issubclass(self.type, StrEnum) else None

    @property
    def kind(self) -> Kind | None:
        """None if it is not a value: a relation, or an unsupported type."""
        kind = Kind(Text, self.enum.__name__, f"{self.enum.__name__}Filter") if self.enum else KINDS.get(self.type)
        if self.listed and (self.enum or self.type in _LISTED) and kind:
            return Kind(ARRAY, kind.graphql, None, ordered=False)
        return None if self.listed else kind


def read(annotation: Any) -> Annotation:
    """Parse an annotation."""
    optional = False
    if get_origin(annotation) in {Union, UnionType}:
        rest = [each for each in get_args(annotation) if each is not NoneType]
        optional = len(rest) < len(get_args(annotation))
        annotation = rest[0] if len(rest) == 1 else annotation
    if get_origin(annotation) is list:
        return Annotation(get_args(annotation)[0], optional, listed=True)
    if get_origin(annotation) is Many:
        return Annotation(get_args(annotation)[0], optional=False, listed=True)
    return Annotation(annotation, optional, listed=False)


EXPECTED = (
    "str, int, BigInt, float, Decimal, bool, date, datetime, UUID, JSON, a StrEnum, a list of these (but JSON), "
    "or a subject"
)
