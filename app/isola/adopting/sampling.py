"""Sample values that satisfy the source's checks, for generated rows of demonstrations, tests and benchmarks.

SQL conditions cannot be solved in general. The source evaluates candidates: constants from the conditions and common
values. No value comes from its rows.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice, product
from typing import Any

from isola import exact_json
from isola.adopting.model import Draft, Field, Model, quote
from isola.database.failures import REFUSED
from isola.database.transactions import Transaction
from isola.subjects.rows import MAX_INT
from isola.subjects.table import DIGITS, MAX_SAFE_INTEGER, SCALE

TRIES = 20_000
"""Rows that are tried for a table at most."""
ALONE = 5
"""Values of a column that is in no check with others."""

_LITERAL = re.compile(r"'((?:[^']|'')*)'")
_NUMBER = re.compile(r"(?<![\w.'])\d+(?:\.\d+)?(?![\w.'])")
_TEXTS = ("a", "A", "abc", "ABC", "1", "a1", "A1", "a@example.org", "https://example.org", "/a", "#000000", "000-0000")
_SQL = {
    "BigInt": "bigint",
    "Decimal": "numeric",
    "JSON": "jsonb",
    "UUID": "uuid",
    "bool": "boolean",
    "date": "date",
    "datetime": "timestamptz",
    "float": "float8",
    "int": "integer",
    "str": "text",
}
_DAY, _MOMENT = date(2001, 1, 1), "T00:00:00+00:00"
_UUID = "00000000-0000-4000-8000-000000000000"


async def sample(source: Transaction, draft: Draft) -> None:
    """Find samples for the subjects of a draft. Adds a note for each check without a sample."""
    for model in draft.models.values():
        for fields, conditions in _parts(model):
            found = await _solved(source, fields, conditions)
            for field in fields:
                values = list(dict.fromkeys(exact_json.dumps(row[field.name]) for row in found))
                if values:
                    model.samples[field.name] = [exact_json.loads(each) for each in values]
            if not found:
                what = "no example was found: made-up rows need samples, see docs/applications.md"
                draft.change(model.table.name, f"the check {conditions[0]}", what)


def _parts(model: Model) -> Iterator[tuple[Sequence[Field], Sequence[str]]]:
    """Groups of checks that share columns."""
    parts: list[tuple[dict[str, Field], list[str]]] = []
    for condition in model.checks.values():
        fields = {each.name: each for each in model.fields if _reads(condition, each)}
        joined = [part for part in parts if part[0].keys() & fields.keys()]
        conditions = [condition]
        for part in joined:
            fields, conditions = part[0] | fields, part[1] + conditions
            parts.remove(part)
        parts.append((fields, conditions))
    for fields, conditions in parts:
        if fields:
            yield list(fields.values()), conditions


async def _solved(
    source: Transaction, fields: Sequence[Field], conditions: Sequence[str]
) -> Sequence[Mapping[str, Any]]:
    """Rows that satisfy the conditions, if found: several for a single column, one for several columns."""
    choices = []
    for field in fields:
        own = [each for each in conditions if [other for other in fields if _reads(each, other)] == [field]]
        rows = [{field.name: value} for value in _candidates(field, conditions)]
        choices.append([row[field.name] for row in await _fulfilling(source, [field], own, rows)])
    if len(fields) == 1:
        return [{fields[0].name: value} for value in choices[0][:ALONE]]
    names = [each.name for each in fields]
    tried = [dict(zip(names, row, strict=True)) for row in islice(product(*choices), TRIES)]
    return (await _fulfilling(source, fields, conditions, tried))[:1]


def _reads(condition: str, field: Field) -> bool:
    return re.search(rf"\b{field.name}\b", _LITERAL.sub("", condition)) is not None


async def _fulfilling(
    source: Transaction, fields: Sequence[Field], conditions: Sequence[str], rows: Sequence[Mapping[str, Any]]
) -> Sequence[Mapping[str, Any]]:
    """The rows that satisfy all conditions; none if evaluating the conditions raises an error for one of them."""
    columns = ", ".join(f"{quote(each.name)} {_type(each)}" for each in fields)
    named = ", ".join(quote(each.name) for each in fields)
    holds = " AND ".join(f"({each}) IS NOT FALSE" for each in conditions) or "true"
    question = (
        "SELECT coalesce(jsonb_agg(isola__place), '[]') FROM ROWS FROM (jsonb_to_recordset($1::text::jsonb) "
        f"AS ({columns})) WITH ORDINALITY AS r ({named}, isola__place) WHERE {holds}"
    )
    try:
        async with source.savepoint():
            found = await source.value(question, exact_json.dumps(list(rows)))
    except REFUSED:
        return []
    return [rows[number - 1] for number in sorted(found)]


def _type(field: Field) -> str:
    annotation = field.carried.annotation
    listed = annotation.startswith("list[")
    return _SQL.get(annotation.removeprefix("list[").rstrip("]"), "text") + ("[]" if listed else "")


def _candidates(field: Field, conditions: Sequence[str]) -> list[Any]:
    """Candidate values of a column for the conditions, in JSON form."""
    annotation = field.carried.annotation
    literals = [text.replace("''", "'") for each in conditions for text in _LITERAL.findall(each)]
    numbers = [Decimal(text) for each in conditions for text in _NUMBER.findall(_LITERAL.sub("", each))]
    if annotation.startswith("list["):
        items = _scalars(annotation[5:-1], field, literals, numbers)
        found = [[], items[:1], items[:2], items[:3], *([each] for each in items)]
    else:
        found = _scalars(annotation, field, literals, numbers)
    # An optional column gets NULL only if no other value satisfies the conditions.
    return [*found, *([None] if field.optional else [])]


def _scalars(  # noqa: PLR0911  a table, one case a type
    annotation: str, field: Field, literals: Sequence[str], numbers: Sequence[Decimal]
) -> list[Any]:
    match annotation:
        case "int" | "BigInt":
            around = [number + step for number in (*numbers, *_decimals(literals)) for step in (0, 1, -1)]
            most = MAX_INT if annotation == "int" else MAX_SAFE_INTEGER
            whole = dict.fromkeys(int(each) for each in (Decimal(1), Decimal(2), *around, Decimal(0), Decimal(-1)))
            return [each for each in whole if abs(each) <= most]
        case "float" | "Decimal":
            around = [each + step for each in (*numbers, *_decimals(literals)) for step in (0, Decimal("0.5"), 1, -1)]
            return [
                each for each in dict.fromkeys([Decimal(1), *around, Decimal(0), Decimal(-1)]) if _fits(field, each)
            ]
        case "bool":
            return [False, True]
        case "date" | "datetime":
            end = "" if annotation == "date" else _MOMENT
            days = [_DAY, _DAY + timedelta(days=1), *_around(literals), date(2030, 1, 1), date(1990, 1, 1)]
            return [f"{each.isoformat()}{end}" for each in dict.fromkeys(days)]
        case "UUID":
            return [_UUID]
        case "JSON":
            return [{}, [], 1, "a", True]
        case "str":
            return _texts(field, literals, numbers)
        case _:
            return list(field.source.type.labels)


def _fits(field: Field, number: Decimal) -> bool:
    digits, scale = int(field.options.get("digits", DIGITS)), int(field.options.get("scale", SCALE))
    return number == round(number, scale) and abs(number) < Decimal(10) ** (digits - scale)


def _texts(field: Field, literals: Sequence[str], numbers: Sequence[Decimal]) -> list[str]:
    lengths = [int(each) for each in numbers if 0 < each <= 100 and each == int(each)]  # noqa: PLR2004  a short text
    found = [*literals, *(re.sub("[%^$]", "", each).replace("_", "x") for each in literals), *_TEXTS]
    found += [letter * length for length in lengths for letter in "aA1"]
    most = int(field.options.get("max_length", "1000"))
    return [each for each in dict.fromkeys(found) if len(each) <= most]


def _decimals(texts: Sequence[str]) -> Iterator[Decimal]:
    for text in texts:
        try:
            number = Decimal(text)
        except InvalidOperation:
            continue
        if number.is_finite():
            yield number


def _around(texts: Sequence[str]) -> Iterator[date]:
    for text in texts:
        try:
            day = date.fromisoformat(text[:10])
            yield from (day, day + timedelta(days=1), day - timedelta(days=1))
        except (ValueError, OverflowError):
            continue
