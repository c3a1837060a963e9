"""Validates the values of a subject's rows by its declaration, and stores them with few statements."""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BindParameter,
    ColumnElement,
    Delete,
    FromClause,
    Insert,
    Integer,
    Select,
    Subquery,
    Table,
    Text,
    TextClause,
    Update,
    Uuid,
    and_,
    bindparam,
    column,
    delete,
    func,
    insert,
    select,
    text,
    update,
)

from isola import exact_json
from isola.errors import BadUserInput, NotFound
from isola.subjects import document, folding, visibility
from isola.subjects.actor import Actor
from isola.subjects.declaration import UNSET, Column, Declaration, Member, Reference, caller, field_of
from isola.subjects.metadata import DIALECT, quoted
from isola.subjects.table import MAX_ITEMS, MAX_SAFE_INTEGER, MAX_TEXT, bounds, precision
from isola.subjects.types import JSON, BigInt
from isola.subjects.work import Work

if TYPE_CHECKING:
    from isola.subjects.subject import Subject

# Names that no column can have.
KEY: BindParameter[UUID] = bindparam("row__id", type_=Uuid())
KEYS: BindParameter[Sequence[UUID]] = bindparam("row__ids", type_=ARRAY(Uuid))

_EXACT = Context(prec=1000)
_INTEGERS: Mapping[Any, tuple[int, int]] = MappingProxyType(
    {int: (-(2**31), 2**31 - 1), BigInt: (-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)}
)
"""The ranges of the integer types."""


def complete(declaration: Declaration, given: Mapping[str, Any], actor: Actor) -> dict[str, Any]:
    """The values of a new row, by column: the given ones, by attribute, and the defaults of the others.

    Raises BadUserInput naming an invalid or missing field.
    """
    passed = by_column(declaration, given)
    # In the declaration's order, not the client's: statements are cached by the names of columns.
    values = {
        member.column: passed[member.column] if member.column in passed else _default(member, actor)
        for member in declaration.columns
    }
    check_columns(declaration, values)
    return values


def by_column(declaration: Declaration, given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values by attribute or column to values by column. Raises TypeError for an unknown name."""
    values = {}
    for name, value in given.items():
        member = declaration.members.get(name.removesuffix("_")) or declaration.by_column(name)
        if member is None or not isinstance(member.declared, Column | Reference):
            raise TypeError(f"{declaration.where} has no column {name!r}")
        values[member.column] = getattr(value, "id", value) if isinstance(member.declared, Reference) else value
    return values


def by_attribute(declaration: Declaration, values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values by column to values by attribute, in the form that rows have."""
    return {each.attribute: each.read(values[each.column]) for each in declaration.columns if each.column in values}


def stored_row(row: "Subject") -> dict[str, Any]:
    """The values of a row that was read, by column, with its id and its times."""
    declaration = row.declaration
    columns = by_column(declaration, {each.name: getattr(row, each.attribute) for each in declaration.columns})
    return {**columns, **{name: getattr(row, name) for name in ("id", *declaration.times)}}


def stored(declaration: Declaration, row: "Subject") -> dict[str, Any]:
    """The validated values of a new row, by column. Raises BadUserInput."""
    return checked(declaration, {each.name: getattr(row, each.attribute) for each in declaration.columns})


def checked(declaration: Declaration, given: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values by attribute or column to validated values by column. Raises BadUserInput as ``check_columns``."""
    values = by_column(declaration, given)
    check_columns(declaration, values)
    return values


def check_columns(declaration: Declaration, values: Mapping[str, Any]) -> None:
    """Raise BadUserInput, naming the field, for an invalid value of a column. ``values`` are by column."""
    for member in declaration.columns:
        if member.column in values:
            _check(member, values[member.column], field_of(member.column))


def _default(member: Member, actor: Actor) -> Any:
    default = getattr(member.declared, "default", UNSET)
    if default is caller:
        return actor.user_id
    if default is not UNSET:
        return member.declared.initial if isinstance(member.declared, Column) else default
    if member.annotation.optional:
        return None
    field = field_of(member.column)
    raise BadUserInput(f"{field}: expected a value", field)


def _check(member: Member, value: Any, field: str) -> None:
    declared, annotation = member.declared, member.annotation
    if value is None:
        if not annotation.optional:
            message = f"{field}: expected a value other than null; omitted, it keeps its value or gets the default"
            raise BadUserInput(message, field)
        return
    if not isinstance(declared, Column):
        return
    if annotation.listed:
        if len(value) > MAX_ITEMS:
            raise BadUserInput(f"{field}: expected at most {MAX_ITEMS} items", field)
        if any(each is None for each in value):
            raise BadUserInput(f"{field}: expected items that are not null", field)
        if sum(len(str(each)) for each in value) > MAX_TEXT:
            raise BadUserInput(f"{field}: expected at most {MAX_TEXT} characters in all items", field)
    for each in value if annotation.listed else [value]:
        _check_value(annotation.type, declared, each, field)


def _check_value(type_: Any, declared: Column, value: Any, field: str) -> None:
    if type_ is str:
        _check_text(declared, value, field)
        return
    if isinstance(type_, type) and issubclass(type_, StrEnum):
        if value not in set(type_):
            raise BadUserInput(f"{field}: expected one of {', '.join(type_)}", field)
        return
    if type_ == JSON:
        document.check(field, value, declared.max_bytes)
        return
    if type_ is datetime:
        _check_moment(value, field)
    elif type_ is Decimal:
        _check_decimal(Decimal(value), declared, field)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadUserInput(f"{field}: expected a finite number", field)
    _check_bounds(type_, declared, value, field)


def _check_text(declared: Column, value: str, field: str) -> None:
    most = MAX_TEXT if declared.max_length is None else declared.max_length
    if not declared.min_length <= len(value) <= most:
        allowed = f"{declared.min_length} to {most}" if declared.min_length else f"at most {most}"
        raise BadUserInput(f"{field}: expected {allowed} characters, not {len(value)}", field)
    # PostgreSQL can store all texts of printable ASCII.
    if not (value.isascii() and value.isprintable()):
        document.check(field, value)
    if declared.insensitive and not folding.fits(value):
        what = f"{folding.MAX_BYTES} bytes without accents and with compound characters taken apart"
        raise BadUserInput(f"{field}: expected a text of at most {what}", field)


def fits(type_: Any, value: Any) -> bool:
    """Whether a number is in the range of a type."""
    least, most = _INTEGERS.get(type_, (value, value))
    return bool(least <= value <= most)


def _check_bounds(type_: Any, declared: Column, value: Any, field: str) -> None:
    least, most = bounds(type_, declared)
    if not fits(type_, value):
        first, last = _INTEGERS[type_]
        least, most = first if least is None else least, last if most is None else most
    if (least is not None and value < least) or (most is not None and value > most):
        ranges = {
            (True, True): f"{_shown(least)} to {_shown(most)}",
            (True, False): f"at least {_shown(least)}",
            (False, True): f"at most {_shown(most)}",
        }
        raise BadUserInput(f"{field}: expected {ranges[least is not None, most is not None]}", field)


def _check_moment(value: datetime, field: str) -> None:
    if value.tzinfo is None:
        raise BadUserInput(f"{field}: expected a time with an offset from UTC", field)


def _check_decimal(value: Decimal, declared: Column, field: str) -> None:
    digits, scale = precision(declared)
    # A context with lower precision would round excess digits away, and so accept them.
    exponent = value.normalize(_EXACT).as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -scale:
        raise BadUserInput(f"{field}: expected at most {scale} digits after the point", field)
    if value.adjusted() >= digits - scale:
        raise BadUserInput(f"{field}: expected at most {digits - scale} digits before the point", field)


def _shown(bound: Any) -> str:
    return bound.isoformat() if hasattr(bound, "isoformat") else str(bound)


async def refuse_missing(work: Work, declaration: Declaration, batch: Sequence[Mapping[str, Any]]) -> None:
    """Raise NotFound, naming the field, for a reference to a row that does not exist or that the user may not see."""
    for member in declaration.references:
        if member is declaration.owner:
            continue
        keys = {values[member.column] for values in batch if values.get(member.column) is not None}
        if keys:
            question = _count(member.target.table)
            parameters = {"keys": list(keys)}
            if await work.scalar(question, parameters) < len(keys):
                missing = NotFound(member.target.missing().message, field_of(member.column))
                existing = {row["id"] for row in await work.rows(_which(member.target.table), parameters)}
                missing.index = next(
                    index
                    for index, values in enumerate(batch)
                    if values.get(member.column) is not None and values[member.column] not in existing
                )
                raise missing


async def insert_all(work: Work, declaration: Declaration, batch: Sequence[Mapping[str, Any]]) -> Sequence[UUID]:
    """Insert rows with all their values by one statement; returns their ids, in order."""
    if len(batch) == 1:
        return [await work.scalar(_insert_one(declaration.subject.table, tuple(batch[0])), batch[0])]
    names = list(batch[0]) if batch else []
    if not names:
        return []
    rows = exact_json.dumps([{name: _plain(row[name]) for name in names} for row in batch])
    made = await work.rows(_insert_many(declaration.subject.table, tuple(names)), {"rows": rows})
    return [row["id"] for row in made]


def _plain(value: Any) -> Any:
    """The JSON form of a value, which PostgreSQL converts to the type of its column."""
    match value:
        case list():
            return [_plain(each) for each in value]
        case dict() | None | bool() | int() | float() | Decimal():
            return value
        case _:
            return value.isoformat() if hasattr(value, "isoformat") else str(value)


async def locked(
    work: Work, declaration: Declaration, keys: Sequence[UUID], names: tuple[str, ...]
) -> Sequence[Mapping[str, Any]]:
    """Rows that the user may see, locked until the end of the transaction; reads the columns ``names``.

    They are locked in the order of their ids, to avoid deadlocks.
    """
    return await work.rows(_locked(declaration.subject.table, names), {"row__ids": list(keys)})


async def found_by_all(
    work: Work, declaration: Declaration, key: Sequence[str], wanted: Sequence[Sequence[Any]], *, lock: bool
) -> Mapping[int, UUID]:
    """The ids of the rows with these values of the columns ``key``, by their index in ``wanted``.

    They are those that the user may see. With ``lock``, they are locked until the end of the transaction, in the order
    of their ids.
    """
    rows = exact_json.dumps([dict(zip(key, map(_plain, values), strict=True)) for values in wanted])
    found = await work.rows(_by_all(declaration.subject.table, tuple(key), lock=lock), {"rows": rows})
    return {row["ordinality"] - 1: row["id"] for row in found}


async def change(work: Work, declaration: Declaration, key: UUID, values: Mapping[str, Any]) -> None:
    """Update some values of a row, by column, and its time of change."""
    table = declaration.subject.table
    if values.keys().isdisjoint(visibility.deciding(table)):
        await work.execute(_update(table), {"row__id": key, **values})
        return
    # The change may hide the row from the user who makes it. PostgreSQL refuses that in an update that searches the row
    # itself, as its policies for reading then hold for the new row as well. The cursor searches under these policies.
    await work.execute(_cursor(table), {"row__id": key})
    await work.execute(_TO_FIRST)
    await work.execute(_update_current(table, tuple(values)), values)
    await work.execute(_CLOSE)


async def remove(work: Work, declaration: Declaration, keys: Sequence[UUID]) -> None:
    await work.execute(_delete(declaration.subject.table), {"row__ids": list(keys)})


@cache
def _locked(table: Table, names: tuple[str, ...]) -> Select[Any]:
    query = select(*(table.c[name] for name in names)).where(table.c.id == func.any(KEYS)).order_by(table.c.id)
    return query.with_for_update(of=table)


@cache
def _by_all(table: Table, names: tuple[str, ...], *, lock: bool) -> Select[Any]:
    """If a row is changed while this waits for its lock, PostgreSQL evaluates the condition again."""
    given = _given(table, names)
    same = and_(*(table.c[name] == given.c[name] for name in names))
    query = select(table.c.id, given.c.ordinality).select_from(table.join(given, same)).order_by(table.c.id)
    return query.with_for_update(of=table) if lock else query


@cache
def _update(table: Table) -> Update:
    changed = update(table).where(table.c.id == KEY)
    return changed.values(updated_at=func.now()) if "updated_at" in table.c else changed


_TO_FIRST = text("MOVE NEXT FROM changing")
_CLOSE = text("CLOSE changing")


@cache
def _cursor(table: Table) -> TextClause:
    declared = f"DECLARE changing CURSOR FOR SELECT FROM {quoted(table.name)} WHERE id = :row__id FOR UPDATE"
    return text(declared).bindparams(KEY)


@cache
def _update_current(table: Table, names: tuple[str, ...]) -> TextClause:
    """Without a condition, of the strategy or otherwise: the cursor has them."""
    changes = [f"{quoted(name)} = :{name}" for name in names] + ["updated_at = now()"] * ("updated_at" in table.c)
    sql = f"UPDATE {quoted(table.name)} SET {', '.join(changes)} WHERE CURRENT OF changing"
    return text(sql).bindparams(*(bindparam(name, type_=table.c[name].type) for name in names))


@cache
def _delete(table: Table) -> Delete:
    return delete(table).where(table.c.id == func.any(KEYS))


@cache
def _count(table: Table) -> Select[Any]:
    return _which(table).with_only_columns(func.count())


@cache
def _which(table: Table) -> Select[Any]:
    passed = table.c.id == func.any(bindparam("keys", type_=ARRAY(Uuid)))
    return select(table.c.id).select_from(table).where(passed)


@cache
def _insert_one(table: Table, names: tuple[str, ...]) -> Insert | Select[Any]:
    if visibility.rule_of(table) is None:
        return insert(table).returning(table.c.id)
    values = select(*(bindparam(name, type_=table.c[name].type).label(name) for name in names)).subquery("given")
    return _insert_unseen(table, names, values)


def _insert_unseen(
    table: Table, names: tuple[str, ...], values: FromClause, order: Sequence[ColumnElement[Any]] = ()
) -> Select[Any]:
    """Insert rows that their user may not be allowed to see. Then RETURNING is refused: so the ids are made first."""
    made = select(func.isola.uuid_v7(type_=Uuid()).label("id"), *values.c).order_by(*order).cte("made")
    stored = insert(table).from_select(["id", *names], select(made.c.id, *(made.c[name] for name in names)))
    return select(made.c.id).add_cte(stored.cte("stored"))


def _given(table: Table, names: Sequence[str]) -> Subquery:
    """The rows of the parameter ``rows``, a JSON array, with their ``ordinality``."""
    columns = [column(name, table.c[name].type) for name in names]
    # A JSON null would be stored as a document; a missing key is stored as NULL.
    types = ", ".join(f"{quoted(name)} {table.c[name].type.compile(DIALECT)}" for name in names)
    rows = text(
        f"SELECT * FROM ROWS FROM (jsonb_to_recordset(CAST(:rows AS text)::jsonb) AS ({types})) WITH ORDINALITY"
    )
    rows = rows.bindparams(bindparam("rows", type_=Text()))
    return rows.columns(*columns, column("ordinality", Integer())).subquery("given")


@cache
def _insert_many(table: Table, names: tuple[str, ...]) -> Insert | Select[Any]:
    given = _given(table, names)
    if visibility.rule_of(table) is not None:
        return _insert_unseen(table, names, given, [given.c.ordinality])
    query = select(*(given.c[name] for name in names)).order_by(given.c.ordinality)
    return insert(table).from_select(list(names), query).returning(table.c.id)
