"""The numbered log as a feed of changes to rows: what changed after a number, and which tenants have something new.

Nothing notifies a reader: it asks, for many tenants at once, which logs have grown. See docs/live.md.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, BigInteger, Select, Table, Uuid, any_, bindparam, column, func, select

from isola.database.transactions import Database, Transaction
from isola.platform.audit import audit_checkpoints, audit_heads
from isola.subjects.audit import audit_entries, audit_visibility

_GIVEN = bindparam("given", type_=ARRAY(Uuid))
_HEADS = select(audit_heads.c.tenant_id, audit_heads.c.entries).where(audit_heads.c.tenant_id == any_(_GIVEN))
_BEGINNING = select(audit_checkpoints.c.number).where(audit_checkpoints.c.tenant_id == bindparam("tenant"))
_SEEN = select(audit_visibility).where(audit_visibility.c.id == any_(_GIVEN))


class Kind(StrEnum):
    """What happened to a row."""

    CREATED = "create"
    UPDATED = "update"
    DELETED = "delete"


_KINDS = frozenset(Kind)


def _after() -> Select[Any]:
    given = bindparam("number", type_=BigInteger), bindparam("most", type_=BigInteger)
    feed = func.isola.feed(*given).table_valued(column("number", BigInteger), column("id", Uuid))
    entries = select(feed.c.number, audit_entries.c.id, audit_entries.c.action, audit_entries.c.object)
    return entries.join(feed, feed.c.id == audit_entries.c.id).order_by(feed.c.number)


_AFTER = _after()


@cache
def _present(table: Table) -> Select[Any]:
    """Those of the given rows that can be found."""
    return select(table.c.id).where(table.c.id == any_(_GIVEN))


@dataclass(frozen=True, slots=True)
class Change:
    """A change to a row: its number in the log, and the entry about it. ``subject`` is the log's name of the row."""

    number: int
    entry: UUID
    kind: Kind
    subject: str
    key: UUID


async def heads(control: Database, tenants: Collection[UUID]) -> Mapping[UUID, int]:
    """The last number in the log of each of these tenants; one query for all of them."""
    async with control.unbound() as work:
        rows = await work.rows(_HEADS, {"given": list(tenants)})
    return {row["tenant_id"]: row["entries"] for row in rows}


async def beginning(control: Database, tenant: UUID) -> int:
    """The number of the last entry that was cut off the log of a tenant; 0 if none was."""
    async with control.unbound() as work:
        return await work.scalar(_BEGINNING, {"tenant": tenant}) or 0


async def after(work: Transaction, number: int, most: int) -> tuple[int, Sequence[Change]]:
    """The changes to rows in the first ``most`` entries after a number, and the number of the last of these entries.

    Entries about anything but a row with an id of its own are left out.
    """
    rows = await work.rows(_AFTER, {"number": number, "most": most})
    changes = []
    for row in rows:
        subject, _, action = row["action"].partition(":")
        key = _key(row["object"])
        if action in _KINDS and key is not None:
            changes.append(Change(row["number"], row["id"], Kind(action), subject, key))
    return (rows[-1]["number"] if rows else number), changes


def _key(name: str) -> UUID | None:
    prefix, separator, key = name.partition("_")
    if not separator or not prefix.isalpha():
        return None
    try:
        return UUID(key)
    except ValueError:
        return None


async def visible(work: Transaction, table: Table, changes: Sequence[Change]) -> Sequence[Change]:
    """The changes to rows of a table with a visibility rule, as the transaction's user may learn of them.

    A change is shown if the user could see the row after it, and can see the row now. A change that hid the row from
    the user is a deletion to them. All others are left out; if the user can see the row later, a later change shows it.
    """
    seen = {row["id"]: row for row in await work.rows(_SEEN, {"given": [each.entry for each in changes]})}
    rows = await work.rows(_present(table), {"given": [c.key for c in changes]})
    now = {row["id"] for row in rows}
    shown = []
    for change in changes:
        entry = seen.get(change.entry)
        if entry is None:
            continue
        if entry["new_visible"]:
            if change.key in now:
                shown.append(change)
        elif entry["old_visible"]:
            shown.append(Change(change.number, change.entry, Kind.DELETED, change.subject, change.key))
    return shown
