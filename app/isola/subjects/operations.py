"""The clients' operations on rows of a subject, which check its permissions and rules."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Table, delete
from sqlalchemy.dialects.postgresql import insert

from isola.errors import BadUserInput, Conflict, NotFound, Refusal
from isola.subjects import uniques
from isola.subjects.actor import Actor
from isola.subjects.declaration import Member, field_of
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.values import complete
from isola.subjects.work import Work

MOST = 1000
"""The most rows that one mutation makes, changes or deletes."""

AnySubject = TypeVar("AnySubject", bound=Subject)
Item = TypeVar("Item")
Made = TypeVar("Made")


@contextmanager
def items_of(name: str | None) -> Iterator[None]:
    """Make the refusal of one of several items name its place in the input ``name``; None if there is no such input."""
    try:
        yield
    except Refusal as refusal:
        if name is not None and refusal.index is not None:
            refusal.item = f"{name}.{refusal.index}"
        raise


def each(items: Sequence[Item], read: Callable[[Item], Made]) -> list[Made]:
    """Apply ``read`` to each item. A refusal has the index of its item."""
    made = []
    for index, item in enumerate(items):
        try:
            made.append(read(item))
        except Refusal as refusal:
            refusal.index = index
            raise
    return made


async def create(work: Work, actor: Actor, subject: type[Subject], values: Mapping[str, Any]) -> UUID:
    """Make a row of ``values`` by attribute. Raises Forbidden, BadUserInput naming the field, NotFound and Conflict."""
    actor.require(subject.declaration.permissions["write"])
    return (await subject.create(work, actor, **values)).id


async def create_all(
    work: Work, actor: Actor, subject: type[Subject], batch: Sequence[Mapping[str, Any]]
) -> Sequence[UUID]:
    """Make up to MOST rows, all of them or none. Raises as ``create``."""
    actor.require(subject.declaration.permissions["write"])
    refuse_too_many(batch)
    return [row.id for row in await subject.create_all(work, actor, batch)]


async def conflicting(
    work: Work, actor: Actor, subject: type[Subject], batch: Sequence[Mapping[str, Any]], rule: str
) -> int | None:
    """Which row of a batch could not be made because of a unique constraint; None if that cannot be known.

    The transaction that failed cannot tell, so this is for another one. What rules change in rows is not considered.
    """
    rows = [complete(subject.declaration, each, actor) for each in batch]
    return await uniques.conflicting(work, subject.table, rule, rows)


async def update(
    work: Work,
    actor: Actor,
    subject: type[Subject],
    key: UUID,
    changes: Mapping[str, Any],
    expected: datetime | None = None,
) -> None:
    """Change a row; with ``expected``, only if this is its ``updated_at``.

    Raises NotFound, Forbidden, BadUserInput naming the field, and Conflict, also for a row that has changed since.
    """
    await update_all(work, actor, subject, [(key, changes)], [expected])


async def update_all(
    work: Work,
    actor: Actor,
    subject: type[Subject],
    batch: Sequence[tuple[UUID, Mapping[str, Any]]],
    expected: Sequence[datetime | None] = (),
) -> None:
    """Change up to MOST rows, all of them or none. Raises as ``update``."""
    refuse_too_many(batch)
    whole = subject.before_update is not Subject.before_update
    rows = await changeable_all(work, actor, subject, [key for key, _ in batch], whole=whole, expected=expected)
    by_key = {row.id: row for row in rows}
    for index, (key, changes) in enumerate(batch):
        try:
            await by_key[key].update(work, actor, **changes)
        except Refusal as refusal:
            refusal.index = index
            raise


async def remove(work: Work, actor: Actor, subject: type[Subject], key: UUID, expected: datetime | None = None) -> None:
    """Delete a row; with ``expected``, only if this is its ``updated_at``.

    Raises NotFound, Forbidden, and Conflict while others refer to it, also for a row that has changed since.
    """
    await remove_all(work, actor, subject, [key], [expected])


async def remove_all(
    work: Work, actor: Actor, subject: type[Subject], keys: Sequence[UUID], expected: Sequence[datetime | None] = ()
) -> None:
    """Delete up to MOST rows, all of them or none. Raises as ``remove``."""
    refuse_too_many(keys)
    whole = subject.before_delete is not Subject.before_delete
    rows = await changeable_all(work, actor, subject, keys, whole=whole, expected=expected)
    try:
        await subject.delete_all(work, actor, rows)
    except Refusal as refusal:
        # Rows are sorted by id, without duplicates.
        refusal.index = None if refusal.index is None else keys.index(rows[refusal.index].id)
        raise


async def changeable(
    work: Work, actor: Actor, subject: type[AnySubject], key: UUID, *, whole: bool = True
) -> AnySubject:
    """A row that the actor may change, locked until the end of the transaction.

    Unless ``whole``, it reads only the columns that decide whether they may. Raises NotFound and Forbidden.
    """
    [row] = await changeable_all(work, actor, subject, [key], whole=whole)
    return row


async def changeable_all(
    work: Work,
    actor: Actor,
    subject: type[AnySubject],
    keys: Sequence[UUID],
    *,
    whole: bool,
    expected: Sequence[datetime | None] = (),
) -> list[AnySubject]:
    """``changeable`` for several rows, sorted by id, without duplicates.

    ``expected`` has the ``updated_at`` that is expected of each key, or None. Raises Conflict for another one.
    """
    declaration = subject.declaration
    needed = [declaration.owner.column] if declaration.owner else []
    needed += ["updated_at"] if any(expected) else []
    only = None if whole or subject.may_change is not Subject.may_change else needed
    rows = await subject.lock_all(work, keys, only=only)
    actor.require(declaration.permissions["write"])
    for row in rows:
        try:
            row.may_change(actor).enforce()
        except Refusal as refusal:
            refusal.index = keys.index(row.id)
            raise
    if any(expected):
        _refuse_changed({row.id: row for row in rows}, list(zip(keys, expected, strict=True)))
    return rows


def _refuse_changed(rows: Mapping[UUID, Any], expected: Sequence[tuple[UUID, datetime | None]]) -> None:
    for index, (key, moment) in enumerate(expected):
        if moment is not None and rows[key].updated_at != moment:
            conflict = stale()
            conflict.index = index
            raise conflict


def stale() -> Conflict:
    """The error for a row that does not have the version that a client expects."""
    return Conflict("expectedUpdatedAt: the object has been changed since then", "expectedUpdatedAt")


async def pair(work: Work, actor: Actor, subject: type[Subject], member: Member, key: UUID, other: UUID) -> None:
    """Add a row to a many-to-many relation. Raises NotFound for either row, Forbidden, and Conflict."""
    await _paired(work, actor, subject, member, key)
    field = field_of(pair_columns(subject.declaration, member)[1])
    if not await member.target.find(work, member.target.table.c.id == other, most=1):
        raise NotFound(str(member.target.missing()), field)
    table, values = _pairs(subject, member, key, other)
    if not await work.execute(insert(table).values(values).on_conflict_do_nothing()):
        raise Conflict("they are related already", field)


async def unpair(work: Work, actor: Actor, subject: type[Subject], member: Member, key: UUID, other: UUID) -> None:
    """Undo ``pair``. Raises NotFound and Forbidden."""
    await _paired(work, actor, subject, member, key)
    table, values = _pairs(subject, member, key, other)
    gone = delete(table).where(*(table.c[name] == value for name, value in values.items()))
    if not await work.execute(gone):
        raise NotFound("they are not related", field_of(pair_columns(subject.declaration, member)[1]))


async def _paired(work: Work, actor: Actor, subject: type[Subject], member: Member, key: UUID) -> None:
    try:
        await changeable(work, actor, subject, key, whole=False)
    except NotFound as error:
        raise NotFound(error.message, field_of(pair_columns(subject.declaration, member)[0])) from None


def _pairs(subject: type[Subject], member: Member, key: UUID, other: UUID) -> tuple[Table, Mapping[str, UUID]]:
    near, far = pair_columns(subject.declaration, member)
    return pairs_table(subject.declaration, member), {near: key, far: other}


def refuse_too_many(batch: Sequence[object]) -> None:
    """Raise BadUserInput for no items, or more than MOST."""
    if not 1 <= len(batch) <= MOST:
        raise BadUserInput(f"items: expected 1 to {MOST}, not {len(batch)}", "items")
