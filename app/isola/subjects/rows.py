"""Generates valid rows of subjects: with the right types, bounds and uniqueness; deterministic for a seed.

References are numbers of rows, from 1: the code that stores the rows knows their keys. The first parents have many
more children than others. Conditions in SQL cannot be solved in general: if a subject has some, its ``samples`` must
provide values that fulfil them.
"""

import string
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from random import Random
from typing import Any
from uuid import UUID

from isola.errors import BadUserInput, OperatorError
from isola.subjects import values
from isola.subjects.declaration import Column, Declaration, Member, Reference
from isola.subjects.subject import Subject
from isola.subjects.table import precision
from isola.subjects.types import JSON, Annotation, BigInt

TRIES = 50
"""How often a row is drawn again if it violates a unique constraint."""
EMPTY = 0.2
"""The share of optional values that are left out."""
SKEW = 2.0
SPREAD = 10_000
"""The number of values to draw from in an unbounded range."""
MOST_ITEMS, MOST_PAIRS = 4, 8
SHORT, LONG = 24, 240
"""The approximate maximum length of texts: of those limited to at most NAMES characters, and of others."""
NAMES = 1000
EXACT = Context(prec=2100)
"""Precise enough for twice as many digits as a decimal can have."""
MAX_INT = 2**31 - 1
WORDS = ("amber", "basalt", "cobalt", "delta", "ember", "fjord", "granite", "harbor", "indigo", "juniper", "krypton")
START = datetime(2025, 1, 1, tzinfo=UTC)
DIGITS = string.digits + string.ascii_lowercase


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a subject, by column, and its pairs, by attribute: the numbers of the two paired rows."""

    subject: type[Subject]
    rows: Sequence[Mapping[str, Any]]
    pairs: Mapping[str, Sequence[tuple[int, int]]]


class _ExhaustedError(Exception):
    """All unique values are used up."""


def generate(subjects: Sequence[type[Subject]], counts: Mapping[str, int], seed: int) -> Mapping[str, Rows]:
    """Rows of subjects, by the subjects' names, parents first unless references form a cycle.

    ``counts`` has the number of rows of each subject, by name, and of others that they refer to. There are fewer rows
    if the unique values are used up. Raises OperatorError, naming the subject and the attribute, if no row is
    possible, and for an invalid sample.
    """
    sizes = dict(counts)
    made: dict[str, list[dict[str, Any]]] = {}
    order = _ordered(subjects)
    later = {each.declaration.name for each in order}
    for subject in order:
        name = subject.declaration.name
        later.discard(name)
        made[name] = _rows(subject, sizes, later, seed)
        sizes[name] = len(made[name])
    for subject in order:
        _close_circles(subject, made, sizes, seed)
    return {
        subject.declaration.name: Rows(
            subject,
            made[subject.declaration.name],
            {each.name: _pairs(each, sizes, seed) for each in subject.declaration.pairs},
        )
        for subject in order
    }


def _ordered(subjects: Sequence[type[Subject]]) -> Sequence[type[Subject]]:
    """Parents first; in a cycle, targets of optional references may come later."""
    waiting = list(subjects)
    ordered: list[type[Subject]] = []
    while waiting:
        left = {each.declaration.name for each in waiting}
        chosen = next((each for each in waiting if not _parents(each.declaration) & left), None)
        chosen = chosen or next(
            (each for each in waiting if not _parents(each.declaration, required=True) & left), waiting[0]
        )
        waiting.remove(chosen)
        ordered.append(chosen)
    return ordered


def _parents(declaration: Declaration, *, required: bool = False) -> set[str]:
    named = {
        each.target.declaration.name for each in declaration.references if not (required and each.annotation.optional)
    }
    return named - {declaration.name}


def _rows(subject: type[Subject], sizes: Mapping[str, int], later: set[str], seed: int) -> list[dict[str, Any]]:
    declaration = subject.declaration
    chance = Random(f"{seed} {declaration.name}")  # noqa: S311  the same in every run
    unique: list[tuple[str, ...]] = [
        (each.column,) for each in declaration.columns if getattr(each.declared, "unique", False)
    ]
    unique += [tuple(map(declaration.column_of, names)) for names in subject.unique_together]
    taken: list[set[tuple[Any, ...]]] = [set() for _ in unique]
    rows: list[dict[str, Any]] = []
    for number in range(1, sizes[declaration.name] + 1):
        row = _row(subject, number, sizes, later, chance, list(zip(unique, taken, strict=True)))
        if row is None:
            break
        for columns, used in zip(unique, taken, strict=True):
            used.add(tuple(row[name] for name in columns))
        rows.append(row)
    if not rows and sizes[declaration.name]:
        raise OperatorError(f"{declaration.where}: no unique row can be generated: expected samples of it")
    return rows


def _row(
    subject: type[Subject],
    number: int,
    sizes: Mapping[str, int],
    later: set[str],
    chance: Random,
    unique: Sequence[tuple[tuple[str, ...], set[tuple[Any, ...]]]],
) -> dict[str, Any] | None:
    """The next row; None if there can be no more."""
    for _ in range(TRIES):
        row: dict[str, Any] = {}
        try:
            for member in subject.declaration.columns:
                if member.attribute in subject.samples:
                    row[member.column] = _sampled(subject, member, chance, row)
                elif isinstance(member.declared, Reference):
                    row[member.column] = _referred(member, number, sizes, later, chance)
                else:
                    row[member.column] = value(member, number, chance)
        except _ExhaustedError:
            return None
        # In a unique constraint, NULLs are distinct.
        if not any(
            None not in (key := tuple(row[name] for name in columns)) and key in used for columns, used in unique
        ):
            return row
    return None


def _sampled(subject: type[Subject], member: Member, chance: Random, row: Mapping[str, Any]) -> Any:
    sample = subject.samples[member.attribute](chance, row)
    if isinstance(member.declared, Column):
        if not member.annotation.takes_all(sample):
            raise OperatorError(f"{member.where}: sample: expected a value of the column's type")
        try:
            values.check_columns(subject.declaration, {member.column: sample})
        except BadUserInput as error:
            raise OperatorError(f"{member.where}: sample: {error.message}") from error
    return sample


def _referred(member: Member, number: int, sizes: Mapping[str, int], later: set[str], chance: Random) -> int | None:
    """The number of the referenced row; in the same table it is an earlier row, which prevents cycles."""
    target = member.target.declaration.name
    itself = target == member.declaration.name
    optional = member.annotation.optional
    count = number - 1 if itself else sizes.get(target, 0)
    # Targets made later do not exist yet; ``_close_circles`` fills in optional references to them.
    if optional and (not count or target in later or chance.random() < EMPTY):
        return None
    if not count and not itself:
        raise OperatorError(f"{member.where}: there is no {target} to refer to")
    if isinstance(member.declared, Reference) and member.declared.unique:
        if number > count:
            if optional:
                return None
            raise _ExhaustedError
        return number
    return skewed(count, chance) if count else number


def _close_circles(
    subject: type[Subject], made: Mapping[str, list[dict[str, Any]]], sizes: Mapping[str, int], seed: int
) -> None:
    """Fill in the references to rows that were made later."""
    declaration = subject.declaration
    before = list(made)[: list(made).index(declaration.name)]
    for member in declaration.references:
        target = member.target.declaration.name
        if target in made and target not in before and target != declaration.name:
            chance = Random(f"{seed} {declaration.name} {member.name}")  # noqa: S311  the same in every run
            count, alone = sizes[target], getattr(member.declared, "unique", False)
            for number, row in enumerate(made[declaration.name], start=1):
                if row[member.column] is not None and row[member.column] > count:
                    raise OperatorError(f"{member.where}: there are {count} of {target} only")
                if row[member.column] is None and chance.random() >= EMPTY and not (alone and number > count):
                    row[member.column] = number if alone else skewed(count, chance)


def skewed(count: int, chance: Random) -> int:
    """A number from 1 to ``count``, low ones far more often: of a hundred, the first is drawn every tenth time."""
    return 1 + int(count * chance.random() ** SKEW)


def _pairs(member: Member, sizes: Mapping[str, int], seed: int) -> Sequence[tuple[int, int]]:
    near, far = sizes[member.declaration.name], sizes.get(member.target.declaration.name, 0)
    chance = Random(f"{seed} {member.declaration.name} {member.name}")  # noqa: S311  the same in every run
    return [
        (number, other)
        for number in range(1, near + 1)
        for other in sorted({skewed(far, chance) for _ in range(chance.randint(0, MOST_PAIRS))} if far else set())
    ]


def value(member: Member, number: int, chance: Random) -> Any:
    """A value of a column for the row with a number: distinct for each number if the column is unique."""
    declared, annotation = member.declared, member.annotation
    if not isinstance(declared, Column):
        raise TypeError(f"{member.where} is no column")
    if annotation.optional and not declared.unique and chance.random() < EMPTY:
        return None
    if annotation.listed:
        return [_single(annotation, declared, number, chance) for _ in range(chance.randint(0, MOST_ITEMS))]
    return _single(annotation, declared, number, chance)


def _single(annotation: Annotation, declared: Column, number: int, chance: Random) -> Any:
    if annotation.enum:
        return _of(list(annotation.enum), declared, number, chance)
    return _scalar(annotation.type, declared, number, chance)


def _scalar(type_: Any, declared: Column, number: int, chance: Random) -> Any:
    if type_ is str:
        return _text(declared, number, chance)
    if type_ is bool:
        return _of([True, False], declared, number, chance)
    if type_ is UUID:
        return UUID(int=chance.getrandbits(128), version=4)
    if type_ == JSON:
        tags = [f"tag{chance.randrange(7)}", f"tag{chance.randrange(11)}"]
        return {"unit": "ms", "measured": number * 1.25, "tags": tags}
    with localcontext(EXACT):
        return _in_range(type_, declared, number, chance)


def _of(choices: Sequence[Any], declared: Column, number: int, chance: Random) -> Any:
    if not declared.unique:
        return choices[skewed(len(choices), chance) - 1]
    if number > len(choices):
        raise _ExhaustedError
    return choices[number - 1]


def _text(declared: Column, number: int, chance: Random) -> str:
    most = SHORT + LONG if declared.max_length is None else declared.max_length
    tail = str(number)
    if most <= len(tail) + 1:
        tail = _in_base_36(number).rjust(declared.min_length, "0")
        if len(tail) <= most:
            return tail
        if declared.unique:
            raise _ExhaustedError
        return "".join(chance.choices(string.ascii_lowercase, k=most))
    length = chance.randint(SHORT // 4, SHORT if most <= NAMES else LONG)
    room = max(min(most, length), declared.min_length) - len(tail) - 1
    words = " ".join(chance.choices(WORDS, k=1 + max(room, 0) // min(map(len, WORDS))))
    head = words[: max(room, 0)].rstrip().ljust(room, "x")
    return f"{head} {tail}" if head else tail.rjust(declared.min_length, "0")


def _in_base_36(number: int) -> str:
    text = ""
    while number:
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return text or "0"


def _in_range(type_: Any, declared: Column, number: int, chance: Random) -> Any:
    """A value of a type with a range, counted up in steps from the lowest value."""
    least, most = declared.minimum, declared.maximum
    start, step = _steps(type_, declared)
    if type_ is Decimal:
        digits, scale = precision(declared)
        highest = Decimal(10) ** (digits - scale) - step
        most = highest if most is None else min(Decimal(most), highest)
    elif type_ is int:
        most = MAX_INT if most is None else most
    elif type_ is datetime and (bound := least if least is not None else most) is not None:
        start = start.replace(tzinfo=bound.tzinfo)
    if least is not None:
        start = least if type_ is not Decimal else Decimal(least).quantize(step, ROUND_CEILING)
    elif most is not None and most < start:
        start = most - SPREAD * step
    sizes = SPREAD if most is None else int((most - start) // step) + 1
    if declared.unique:
        if most is not None and number > sizes:
            raise _ExhaustedError
        return start + (number - 1) * step
    return start + chance.randrange(max(1, min(sizes, SPREAD))) * step


def _steps(type_: Any, declared: Column) -> tuple[Any, Any]:
    """The first value if there is no lower bound, and the step between values."""
    if type_ is float:
        return 0.0, 0.25
    if type_ is Decimal:
        return Decimal(0), Decimal(1).scaleb(-precision(declared)[1])
    if type_ is date:
        return START.date(), timedelta(days=1)
    if type_ is datetime:
        return START, timedelta(minutes=7)
    if type_ in {int, BigInt}:
        return 0, 1
    raise TypeError(f"{type_} has no range")


def referred(subjects: Sequence[type[Subject]]) -> Iterator[type[Subject]]:
    """Subjects, and all that they refer to, directly or indirectly; each once."""
    by_name: dict[str, type[Subject]] = {}
    waiting = list(subjects)
    while waiting:
        subject = waiting.pop(0)
        if subject.declaration.name not in by_name:
            by_name[subject.declaration.name] = subject
            waiting += [each.target for each in (*subject.declaration.references, *subject.declaration.pairs)]
    yield from by_name.values()
