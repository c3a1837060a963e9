"""What clients do with the rows of a subject: with the permissions that its declaration names, and its rules."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Table, delete
from sqlalchemy.dialects.postgresql import insert

from isola.errors import BadUserInput, Conflict, NotFound
from isola.subjects.actor import Actor
from isola.subjects.declaration import Member, field_of
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.work import Work

MOST = 1000
"""How many rows one mutation makes, changes or deletes."""

AnySubject = TypeVar("AnySubject", bound=Subject)


async def create(work: Work, actor: Actor, subject: type[Subject], values: Mapping[str, Any]) -> UUID:
    """Make a row of ``values`` by attribute. Raises Forbidden, BadUserInput naming the field, NotFound and Conflict."""
    actor.require(subject.declaration.permissions["write"])
    return (await subject.create(work, actor, **values)).id


async def create_all(
    work: Work, actor: Actor, subject: type[Subject], batch: Sequence[Mapping[str, Any]]
) -> Sequence[UUID]:
    """Make up to MOST rows, all of them or none. Raises as ``create``."""
    actor.require(subject.declaration.permissions["write"])
    _refuse_too_many(batch)
    return [row.id for row in await subject.create_all(work, actor, batch)]


async def update(work: Work, actor: Actor, subject: type[Subject], key: UUID, changes: Mapping[str, Any]) -> None:
    """Change a row. Raises NotFound, Forbidden, BadUserInput naming the field, and Conflict."""
    await update_all(work, actor, subject, [(key, changes)])


async def update_all(
    work: Work, actor: Actor, subject: type[Subject], batch: Sequence[tuple[UUID, Mapping[str, Any]]]
) -> None:
    """Change up to MOST rows, all of them or none. Raises as ``update``."""
    _refuse_too_many(batch)
    whole = subject.before_update is not Subject.before_update
    rows = await changeable_all(work, actor, subject, [key for key, _ in batch], whole=whole)
    by_key = {row.id: row for row in rows}
    for key, changes in batch:
        await by_key[key].update(work, actor, **changes)


async def remove(work: Work, actor: Actor, subject: type[Subject], key: UUID) -> None:
    """Delete a row. Raises NotFound, Forbidden, and Conflict while others refer to it."""
    await remove_all(work, actor, subject, [key])


async def remove_all(work: Work, actor: Actor, subject: type[Subject], keys: Sequence[UUID]) -> None:
    """Delete up to MOST rows, all of them or none. Raises as ``remove``."""
    _refuse_too_many(keys)
    whole = subject.before_delete is not Subject.before_delete
    await subject.delete_all(work, actor, await changeable_all(work, actor, subject, keys, whole=whole))


async def changeable(
    work: Work, actor: Actor, subject: type[AnySubject], key: UUID, *, whole: bool = True
) -> AnySubject:
    """A row that the actor may change, locked until the end of the transaction.

    Unless it is asked for as a ``whole``, only what decides about that is read of it. Raises NotFound and Forbidden.
    """
    [row] = await changeable_all(work, actor, subject, [key], whole=whole)
    return row


async def changeable_all(
    work: Work, actor: Actor, subject: type[AnySubject], keys: Sequence[UUID], *, whole: bool
) -> list[AnySubject]:
    """The same for several rows, each once, by id."""
    declaration = subject.declaration
    owner = [declaration.owner.column] if declaration.owner else []
    only = None if whole or subject.may_change is not Subject.may_change else owner
    rows = await subject.lock_all(work, actor, keys, only=only)
    actor.require(declaration.permissions["write"])
    for row in rows:
        row.may_change(actor).enforce()
    return rows


async def pair(work: Work, actor: Actor, subject: type[Subject], member: Member, key: UUID, other: UUID) -> None:
    """Add a row to a relation that is many-to-many. Raises NotFound for either, Forbidden, and Conflict."""
    await changeable(work, actor, subject, key, whole=False)
    field = field_of(pair_columns(subject.declaration, member)[1])
    if not await member.target.find(work, actor, member.target.table.c.id == other, most=1):
        raise NotFound(str(member.target.missing()), field)
    table, values = _pairs(subject, member, key, other)
    if not await work.execute(insert(table).values(values).on_conflict_do_nothing()):
        raise Conflict("they are related already", field)


async def unpair(work: Work, actor: Actor, subject: type[Subject], member: Member, key: UUID, other: UUID) -> None:
    """Undo ``pair``. Raises NotFound and Forbidden."""
    await changeable(work, actor, subject, key, whole=False)
    table, values = _pairs(subject, member, key, other)
    gone = delete(table).where(*(table.c[name] == value for name, value in values.items()))
    if not await work.execute(gone):
        raise NotFound("they are not related")


def _pairs(subject: type[Subject], member: Member, key: UUID, other: UUID) -> tuple[Table, Mapping[str, UUID]]:
    near, far = pair_columns(subject.declaration, member)
    return pairs_table(subject.declaration, member), {near: key, far: other}


def _refuse_too_many(batch: Sequence[object]) -> None:
    if not 1 <= len(batch) <= MOST:
        raise BadUserInput(f"items: expected 1 to {MOST}, not {len(batch)}", "items")
