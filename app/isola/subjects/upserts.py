"""Upserts: rows are found by a unique key, and changed, or made if there are none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from isola.errors import BadUserInput, Conflict, Refusal
from isola.subjects import uniques
from isola.subjects.actor import Actor
from isola.subjects.declaration import field_of
from isola.subjects.operations import changeable_all, refuse_too_many, stale
from isola.subjects.subject import Subject
from isola.subjects.values import complete, found_by_all, locked, stored_row
from isola.subjects.work import Work


@dataclass(frozen=True, slots=True)
class Item:
    """Change the row with the same values of the columns ``key``, or make it.

    ``given`` are values by column. With ``expected``, the row has to exist with this ``updated_at``.
    """

    key: Sequence[str]
    given: Mapping[str, Any]
    expected: datetime | None = None


async def upsert(work: Work, actor: Actor, subject: type[Subject], item: Item) -> tuple[UUID, bool]:
    """Change or make a row; returns its id, and whether it is new.

    Raises as ``create`` and ``update``: Conflict for a row that the actor may not see, and, with ``expected``, also if
    there is no row.
    """
    try:
        [made] = await upsert_all(work, actor, subject, [item])
    except Refusal as refusal:
        refusal.index = None
        raise
    return made


async def upsert_all(
    work: Work, actor: Actor, subject: type[Subject], items: Sequence[Item]
) -> Sequence[tuple[UUID, bool]]:
    """Change or make up to MOST rows, all of them or none: the id of each in order, and whether it is new.

    Raises as ``upsert``, and BadUserInput for two items of the same row.
    """
    actor.require(subject.declaration.permissions["write"])
    refuse_too_many(items)
    batch = _Batch(work, actor, subject, items)
    batch.read()
    await batch.run()
    return [(batch.ids[index], index in batch.created) for index in range(len(items))]


class _Batch:
    def __init__(self, work: Work, actor: Actor, subject: type[Subject], items: Sequence[Item]) -> None:
        self.work = work
        self.actor = actor
        self.subject = subject
        self.items = items
        self.complete: list[Mapping[str, Any]] = []
        self.wanted: list[tuple[Any, ...]] = []
        """The values of the key of each item."""
        self.ids: dict[int, UUID] = {}
        self.created: set[int] = set()

    def read(self) -> None:
        """Read the keys. Raises BadUserInput for an item that is invalid, or has the key of another one."""
        seen: set[object] = set()
        for index, item in enumerate(self.items):
            try:
                self.complete.append(complete(self.subject.declaration, item.given, self.actor))
                key = tuple(self._of_key(index, name) for name in item.key)
                if (tuple(item.key), key) in seen:
                    raise _repeated()
            except Refusal as refusal:
                refusal.index = index
                raise
            seen.add((tuple(item.key), key))
            self.wanted.append(key)

    def _of_key(self, index: int, name: str) -> Any:
        if (value := self.complete[index][name]) is None:
            field = field_of(name)
            raise BadUserInput(f"{field}: expected a value, since it finds the object", field)
        return value

    async def run(self) -> None:
        found = await self._found(range(len(self.items)))
        while True:
            await self._change(found)
            # Several upserts at once make their rows in the same order, so that none waits for another in a circle.
            rest = sorted(set(range(len(self.items))) - self.ids.keys(), key=lambda index: repr(self.wanted[index]))
            if not rest:
                return
            self._refuse_expected(rest)
            try:
                await self._create(rest)
            except Conflict as conflict:
                if conflict.rule is None:
                    raise
                # Other transactions may have made some meanwhile. Otherwise the actor may not see one of them, or it
                # violates another rule.
                found = await self._found(rest)
                if not found:
                    await self._locate(conflict, rest)
                    raise

    async def _found(self, indexes: Sequence[int]) -> Mapping[int, UUID]:
        """The ids of the rows of items that exist, locked, by the index of the item."""
        keys = sorted({tuple(self.items[index].key) for index in indexes})
        if len(keys) > 1:
            # Locked by one key after the other, two requests would wait for each other.
            every = [id_ for key in keys for id_ in (await self._by(key, indexes, lock=False)).values()]
            await locked(self.work, self.subject.declaration, every, ("id",))
        found: dict[int, UUID] = {}
        for key in keys:
            found |= await self._by(key, indexes, lock=True)
        return found

    async def _by(self, key: Sequence[str], indexes: Sequence[int], *, lock: bool) -> Mapping[int, UUID]:
        """The ids of the rows of the items with this key."""
        of_key = [index for index in indexes if tuple(self.items[index].key) == key]
        wanted = [self.wanted[index] for index in of_key]
        found = await found_by_all(self.work, self.subject.declaration, key, wanted, lock=lock)
        return {of_key[place]: id_ for place, id_ in found.items()}

    async def _change(self, found: Mapping[int, UUID]) -> None:
        """Change the rows of items."""
        by_id: dict[UUID, int] = {id_: index for index, id_ in self.ids.items()}
        for index in sorted(found):
            if by_id.setdefault(found[index], index) != index:
                # They have different keys of the same row.
                repeated = _repeated()
                repeated.index = index
                raise repeated
        if not found:
            return
        order = sorted(found)
        try:
            rows = await changeable_all(
                self.work,
                self.actor,
                self.subject,
                [found[index] for index in order],
                whole=True,
                expected=[self.items[index].expected for index in order],
            )
        except Refusal as refusal:
            refusal.index = None if refusal.index is None else order[refusal.index]
            raise
        for row in rows:
            index = by_id[row.id]
            try:
                await self._update(row, self.items[index])
            except Refusal as refusal:
                refusal.index = index
                raise
        self.ids |= found

    async def _update(self, row: Subject, item: Item) -> None:
        changes = {name: value for name, value in item.given.items() if name not in item.key}
        _leave_fixed(row, changes)
        await row.update(self.work, self.actor, **changes)

    def _refuse_expected(self, indexes: Sequence[int]) -> None:
        for index in sorted(indexes):
            if self.items[index].expected is not None:
                conflict = stale()
                conflict.index = index
                raise conflict

    async def _create(self, indexes: Sequence[int]) -> None:
        try:
            # Undone as a whole if there is such a row: its rules may have changed others.
            async with self.work.savepoint():
                batch = [self.items[index].given for index in indexes]
                rows = await self.subject.create_all(self.work, self.actor, batch)
        except Refusal as refusal:
            refusal.index = None if refusal.index is None else indexes[refusal.index]
            raise
        self.ids |= {index: row.id for index, row in zip(indexes, rows, strict=True)}
        self.created |= set(indexes)

    async def _locate(self, conflict: Conflict, indexes: Sequence[int]) -> None:
        """Add the index of the item that could not be made because of a unique constraint, if that can be known."""
        if conflict.index is None and conflict.rule is not None:
            rows = [self.complete[index] for index in indexes]
            place = await uniques.conflicting(self.work, self.subject.table, conflict.rule, rows)
            conflict.index = None if place is None else indexes[place]


def _repeated() -> BadUserInput:
    return BadUserInput("expected one item for each object: this is that of an earlier item")


def _leave_fixed(row: Subject, changes: dict[str, Any]) -> None:
    """Remove the values of fixed columns from ``changes``, by column. Raises BadUserInput unless the row has them."""
    current = stored_row(row)
    for member in row.declaration.columns:
        if member.is_fixed and member.column in changes and changes.pop(member.column) != current[member.column]:
            field = field_of(member.column)
            raise BadUserInput(f"{field}: it is fixed: expected the value that the object has", field)
