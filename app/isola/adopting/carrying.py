"""Type mapping from the source: annotation, SQL expression that reads the value, and default."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType

from isola.adopting.catalogue import Column, Type
from isola.subjects.table import DIGITS, MAX_SAFE_INTEGER, SCALE

MAX_INDEXED = 2000
"""Characters of a text under a key or an index, where the source has no limit: a B-tree holds 2,704 bytes."""


@dataclass(frozen=True, slots=True)
class Carried:
    """A mapped type. ``sql`` has ``{}`` for the source's column. ``same``: conditions on the column keep their meaning.

    If the target column would round values, they are staged as type ``wide``; ``fits`` is the condition that holds for
    values that the column can store exactly, with ``{}`` for the column.
    """

    annotation: str
    sql: str = "{}"
    options: Mapping[str, str] = field(default_factory=dict)
    same: bool = True
    ordered: bool = True
    wide: str | None = None
    fits: str | None = None
    note: str | None = None


_FITS = f"({{}} = round({{}}, {SCALE}) AND abs({{}}) < 1e{DIGITS - SCALE})"
_ITEMS = f"NOT EXISTS (SELECT FROM unnest({{}}) u (i) WHERE i <> round(i, {SCALE}) OR abs(i) >= 1e{DIGITS - SCALE})"
_FLAT = "coalesce(array_ndims({}), 1) = 1"

_PLAIN: Mapping[str, Carried] = MappingProxyType(
    {
        "bool": Carried("bool"),
        "date": Carried("date"),
        "float4": Carried("float", "{}::text::float8"),
        "float8": Carried("float"),
        "int2": Carried("int"),
        "int4": Carried("int"),
        "int8": Carried("BigInt"),
        "json": Carried(
            "JSON", "{}::jsonb", same=False, ordered=False, note="JSON keeps neither its spaces nor keys twice"
        ),
        "jsonb": Carried("JSON", ordered=False),
        "oid": Carried("BigInt", "{}::bigint", same=False),
        "text": Carried("str"),
        "timestamp": Carried("datetime", "{} AT TIME ZONE 'UTC'", same=False, note="read as UTC"),
        "timestamptz": Carried("datetime"),
        "uuid": Carried("UUID"),
        "name": Carried("str", "{}::text", {"max_length": "63"}),
    }
)
_TEXTS = {"bpchar", "varchar"}
_NOT_CARRIED: Mapping[str, str] = MappingProxyType(
    {
        "bytea": "there are no columns of bytes: keep files elsewhere, and their addresses in a column",
        "tsquery": "it is for full-text search, which PostgreSQL computes from texts",
        "tsvector": "it is for full-text search, which PostgreSQL computes from texts",
    }
)
_ARRAYS: Mapping[str, Carried] = MappingProxyType(
    {
        "bool": Carried("list[bool]"),
        "date": Carried("list[date]"),
        "float4": Carried("list[float]", "{}::text[]::float8[]"),
        "float8": Carried("list[float]"),
        "int2": Carried("list[int]", "{}::int[]"),
        "int4": Carried("list[int]"),
        "int8": Carried("list[BigInt]"),
        "numeric": Carried("list[Decimal]"),
        "timestamp": Carried("list[datetime]", "{}::timestamptz[]", note="read as UTC"),
        "timestamptz": Carried("list[datetime]"),
        "uuid": Carried("list[UUID]"),
    }
)


_NESTED = Carried("JSON", "to_jsonb({})", same=False, ordered=False, note="lists in lists, as JSON")


def refusal(type_: Type) -> str | None:
    """The reason why a column of this type cannot be mapped; None if it can."""
    if type_.base in _NOT_CARRIED and type_.of_system:
        return _NOT_CARRIED[type_.base]
    if type_.kind not in {"b", "e", "r", "m"}:
        return "a value that is a row of its own has no column: make a subject of it"
    return None


def carried(type_: Type, enum: str | None, dimensions: int) -> Carried:
    """The mapping of a supported type; ``enum`` is the class of an enum, ``dimensions`` are those of an array."""
    if type_.listed:
        return _array(type_) if dimensions <= 1 else _NESTED
    if enum is not None:
        return Carried(enum, "{}::text", same=False)
    found = _PLAIN.get(type_.base)
    if not type_.of_system or type_.base not in {"numeric", *_TEXTS, *_PLAIN}:
        found = Carried("str", "{}::text", same=False, note=f"{type_.written}, as its text")
    elif type_.base in _TEXTS:
        limit = {} if type_.modifier < 0 else {"max_length": str(type_.modifier - 4)}
        found = Carried("str", "{}::text", limit, same=type_.base == "varchar")
    return found or _numeric(type_)


def _numeric(type_: Type) -> Carried:
    if type_.modifier < 0:
        return Carried("Decimal", wide="numeric", fits=_FITS, note=f"at most {DIGITS} digits, {SCALE} after the point")
    digits, scale = _precision(type_.modifier)
    return Carried("Decimal", options={"digits": str(digits), "scale": str(scale)}, fits="{} <> 'NaN'")


def _precision(modifier: int) -> tuple[int, int]:
    """Declared precision and scale. Since PostgreSQL 15 the scale may be negative or exceed the precision."""
    digits, scale = (modifier - 4) >> 16 & 0xFFFF, (modifier - 4) & 0x7FF
    scale = scale - 2048 if scale > 1024 else scale  # noqa: PLR2004  a number of eleven bits with its sign
    return max(digits - min(scale, 0), scale), max(scale, 0)


def _array(type_: Type) -> Carried:
    found = _ARRAYS.get(type_.base) if type_.of_system else None
    if found is None:
        note = None if type_.base in {"text", *_TEXTS, "name"} else f"{type_.written}, as texts"
        if type_.base in _TEXTS and type_.modifier >= 0:
            note = "the length of its items is not limited"
        return Carried("list[str]", "{}::text[]", same=False, ordered=False, fits=_FLAT, note=note)
    wide, fits, options = None, _FLAT, {}
    if type_.base == "numeric" and type_.modifier < 0:
        wide, fits = "numeric[]", f"{_FLAT} AND {_ITEMS}"
    elif type_.base == "numeric":
        digits, scale = _precision(type_.modifier)
        fits, options = f"{_FLAT} AND 'NaN' <> ALL ({{}})", {"digits": str(digits), "scale": str(scale)}
    return Carried(
        found.annotation, found.sql, options, same=False, ordered=False, wide=wide, fits=fits, note=found.note
    )


def literal(text: str) -> str:
    """A string as a Python literal in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _day(text: str) -> str:
    day = date.fromisoformat(text)
    return f"date({day.year}, {day.month}, {day.day})"


def _document(text: str) -> str | None:
    try:
        return {"{}": "dict", "[]": "list"}.get(text) or repr(json.loads(text))
    except ValueError:
        return None  # it is an array


# For each type: the pattern of a constant, and the Python expression for it.
_CONSTANTS: Mapping[str, tuple[re.Pattern[str], Callable[[str], str | None]]] = MappingProxyType(
    {
        "BigInt": (re.compile(r"-?\d+"), lambda value: str(int(value))),
        "Decimal": (re.compile(r"-?\d+(\.\d+)?"), lambda value: f'Decimal("{value}")'),
        "JSON": (re.compile(r"(?s)[{\[].*[}\]]"), _document),
        "UUID": (re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"), lambda value: f'UUID("{value}")'),
        "bool": (re.compile("t|true|f|false"), lambda value: str(value.startswith("t"))),
        "date": (re.compile(r"\d{4}-\d\d-\d\d"), _day),
        "datetime": (re.compile("(?!)"), str),
        "float": (re.compile(r"-?\d+(\.\d+)?"), lambda value: str(float(value))),
        "int": (re.compile(r"-?\d+"), lambda value: str(int(value))),
        "str": (re.compile("(?s).*"), literal),
    }
)

# How PostgreSQL prints expressions for the current time; timestamps without a time zone are read as UTC.
_ALREADY = (
    r"(?:now|transaction_timestamp|statement_timestamp|clock_timestamp)\(\)|(?:CURRENT|LOCAL)_?TIMESTAMP(?:\(\d\))?"
)
_NOW = re.compile(
    rf"CURRENT_DATE|\(*(?:{_ALREADY}|'now'::text)\)*(?:::(?:date|timestamp with(?:out)? time zone))?"
    rf"|\(?(?:{_ALREADY}) AT TIME ZONE 'utc'::text\)?|timezone\('utc'::text, (?:{_ALREADY})\)",
    re.IGNORECASE,
)
_TEXT = re.compile(r"\(?'((?:[^']|'')*)'\)?(?:::[\w\s\".()\[\],]+)?")
_NUMBER = re.compile(r"\(?(-?\d+(?:\.\d+)?)\)?(?:::[\w\s.(),]+)?")


def is_made(column: Column) -> bool:
    """Whether the source generates the column's values: from a sequence, or as random UUIDs."""
    return column.identity or bool(re.search(r"\b(nextval|uuid\w*|gen_random_uuid)\(", column.default or ""))


_ARRAY = re.compile(r"\(?ARRAY\[(.*?)\]\)?(?:::[\w\s\".(),]+(?:\[\])?)?", re.DOTALL)
_EXPRESSIONS = re.compile(r"(?:'(?:[^']|'')*'|[^',])+")
_ITEM = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,"{}\\][^,"{}\\]*)')
_ITEMS_IN_BRACES = re.compile(rf"\{{(?:{_ITEM.pattern})(?:,(?:{_ITEM.pattern}))*\}}")


def default(annotation: str, written: str, members: Mapping[str, str]) -> str | None:
    """A column's default in Python; None if it is not constant. ``members`` maps the values of its enum to names."""
    if annotation.startswith("list["):
        return _list(annotation[5:-1], written)
    moment = {"datetime": "now", "date": "today"}.get(annotation)
    if moment is not None and _NOW.fullmatch(written):
        return moment
    value = _literal(written)
    if value is None:
        return None
    return members.get(value) if members else _constant(annotation, value)


def _literal(written: str) -> str | None:
    """The text of a literal in SQL; None if the expression is none."""
    text = _TEXT.fullmatch(written)
    number = _NUMBER.fullmatch(written)
    if text or number:
        return text[1].replace("''", "'") if text else number and number[1]
    return written if written in {"true", "false"} else None


def _constant(annotation: str, value: str) -> str | None:
    expected, written_as = _CONSTANTS[annotation]
    return written_as(value) if expected.fullmatch(value) else None


def _list(annotation: str, written: str) -> str | None:
    """The default of an array, ``'{a,b}'::text[]`` or ``ARRAY[1, 2]``; None if it is not constant."""
    text, array = _literal(written), _ARRAY.fullmatch(written)
    if text == "{}" or (array and not array[1]):
        return "list"
    values: list[str | None] = []
    if text is not None and _ITEMS_IN_BRACES.fullmatch(text):
        for quoted, plain in _ITEM.findall(text):
            values.append(re.sub(r"\\(.)", r"\1", quoted) if not plain else None if plain == "NULL" else plain)
    elif array is not None:
        values = [_literal(each.strip()) for each in _EXPRESSIONS.findall(array[1])]
    items = [None if each is None else _constant(annotation, each) for each in values]
    known = [each for each in items if each is not None]
    return f"[{', '.join(known)}]" if items and len(known) == len(items) else None


_TOKENS = re.compile(r"""('(?:[^']|'')*')|"((?:[^"]|"")*)"|(::\s*)?\b([A-Za-z_][\w$]*)(\s*\()?""")


def renamed(condition: str, names: Mapping[str, str]) -> str:
    """A condition with its columns renamed. Function names and types in casts are not columns."""

    def other(found: re.Match[str]) -> str:
        _, quoted, cast, word, called = found.groups()
        if quoted is not None:
            return names.get(quoted.replace('""', '"'), found[0])
        return names.get(word, found[0]) if word and not cast and not called else found[0]

    return _TOKENS.sub(other, condition)


# A strict inequality becomes an exact bound only for types that have a next value.
_BOUND = r"\(?\(?{name}(?:\))?(?:::\w+)? (>=|>|<=|<) \(?'?(-?\d+(?:\.\d+)?|\d{{4}}-\d\d-\d\d)'?\)?(?:::[a-z ]+)?\)?"


def bounds(condition: str, name: str, annotation: str, options: Mapping[str, str]) -> Mapping[str, str]:
    """The column options equivalent to a condition on this column alone; empty if no options are equivalent."""
    if annotation not in {"BigInt", "Decimal", "date", "int"}:
        return {}
    found: dict[str, str] = {}
    for term in re.sub(r"^\((.*)\)$", r"\1", condition).split(" AND "):
        bound = re.fullmatch(_BOUND.format(name=re.escape(name)), term)
        value = _bound(bound[1], bound[2], annotation, options) if bound else None
        if bound is None or value is None or (option := _OPTIONS[bound[1][0]]) in found:
            return {}
        found[option] = value
    return {} if "default" in options else found


_OPTIONS = {">": "minimum", "<": "maximum"}
_MOST = {"int": 2**31 - 1, "BigInt": MAX_SAFE_INTEGER}


def _bound(operator: str, text: str, annotation: str, options: Mapping[str, str]) -> str | None:
    """A bound as a Python expression; None if it is not a value of the type."""
    step = {">": 1, "<": -1}.get(operator, 0)
    try:
        if annotation == "date":
            day = date.fromisoformat(text) + timedelta(days=step)
            return f"date({day.year}, {day.month}, {day.day})"
        scale = int(options.get("scale", SCALE)) if annotation == "Decimal" else 0
        number = Decimal(text) + step * Decimal(1).scaleb(-scale)
    except (ArithmeticError, ValueError):
        return None
    if number != round(number, scale) or abs(number) > _MOST.get(annotation, number.copy_abs()):
        return None
    return f'Decimal("{number}")' if annotation == "Decimal" else str(int(number))
