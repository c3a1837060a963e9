"""The log of a tenant, verified: that no entry was changed, removed, put in between or cut off at the end."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    Identity,
    LargeBinary,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    extract,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from isola.database.transactions import Database
from isola.platform import platform_log
from isola.platform.tenants import Tenant, metadata
from isola.subjects.audit import audit_entries
from isola.subjects.metadata import moment

BATCH = 1000

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("entries", BigInteger, nullable=False, server_default=text("0")),
    Column("hash", LargeBinary, nullable=False, server_default=text(r"'\x'")),
)


# What was noted in a transaction that has not committed yet.
audit_staged = Table(
    "audit_staged",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant_id", Uuid, nullable=False),
    Column("home", Text, nullable=False),
    moment("at"),
    Column("actor", Text),
    Column("on_behalf_of", Text),
    Column("request", Text),
    # The quota that a statement takes places of, and how many: see control.counted.
    Column("quota", Text),
    Column("added", BigInteger),
    Column("changes", ARRAY(JSONB), nullable=False),
    prefixes=["UNLOGGED"],
)

_HEAD = select(audit_heads.c.entries, audit_heads.c.hash).where(audit_heads.c.tenant_id == bindparam("tenant"))


def _next(entries: Table) -> Select[Any]:
    """The next entries of a log, as they lie in a table."""
    written = func.jsonb_build_array(
        bindparam("tenant", type_=Uuid()),
        entries.c.number,
        entries.c.id,
        extract("epoch", entries.c.at),
        entries.c.actor,
        entries.c.on_behalf_of,
        entries.c.request,
        entries.c.action,
        entries.c.object,
        entries.c.old,
        entries.c.new,
    )
    return (
        select(entries.c.number, entries.c.id, entries.c.hash, written.cast(Text).label("content"))
        .where(entries.c.number > bindparam("after", type_=BigInteger()))
        .order_by(entries.c.number)
        .limit(BATCH)
    )


_SMALLEST = -(2**63)
_NEXT, _NEXT_OF_PLATFORM = _next(audit_entries), _next(platform_log.entries)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken`` says what is wrong with the first entry that is; None where all are as they were written.

    ``head`` is the hash of the last entry, in hexadecimal digits. Kept elsewhere, and passed as ``known`` to a later
    run, it shows whether the whole log was written anew, or cut off together with its head.
    """

    entries: int
    head: str
    broken: str | None


Read = Callable[[int], Awaitable[Sequence[Mapping[str, Any]]]]
"""Reads the next entries of a log after the one with that number."""


class _Head(NamedTuple):
    entries: int
    hash: bytes


async def verify(control: Database, tenants: Database, tenant: Tenant, known: str | None = None) -> Verdict:
    """Check every entry of a tenant's log. Entries that are added meanwhile are checked, too.

    ``known`` is the hash that an earlier run printed, kept elsewhere: the log still has to contain the entry with it.
    """

    async def read(after: int) -> Sequence[Mapping[str, Any]]:
        async with tenants.transaction(tenant, read_only=True) as work:
            return await work.rows(_NEXT, {"tenant": tenant.id, "after": after})

    return await _verify(control, tenant.id, read, known)


async def verify_platform(control: Database, known: str | None = None) -> Verdict:
    """Check every entry of the platform's log, as ``verify``."""

    async def read(after: int) -> Sequence[Mapping[str, Any]]:
        async with control.unbound() as transaction:
            return await transaction.rows(_NEXT_OF_PLATFORM, {"tenant": platform_log.NOWHERE, "after": after})

    return await _verify(control, platform_log.NOWHERE, read, known)


async def _verify(control: Database, chain: UUID, read: Read, known: str | None) -> Verdict:
    head = await _head(control, chain)
    if head is None:
        return Verdict(0, "", "its head is missing")
    walk = _Walk(head, known)
    # From the smallest number that the column can hold: an entry before the first is a forgery, too.
    after = _SMALLEST
    while walk.broken is None and (batch := await read(after)):
        walk.check(batch)
        after = walk.number
    # Read after the entries, the head counts all of them, however many were added meanwhile.
    return walk.verdict(await _head(control, chain))


class _Walk:
    """Entries checked one after the other, up to the first that is broken."""

    def __init__(self, head: _Head, known: str | None) -> None:
        self.number = 0
        self.broken: str | None = None
        self._head = head
        self._hash = b""
        self._known = known

    def check(self, batch: Iterable[Mapping[str, Any]]) -> None:
        for row in batch:
            linked = sha256(self._hash + row["content"].encode()).digest()
            self.broken = self._reason(row, linked)
            if self.broken:
                return
            self.number += 1
            self._hash = linked
            if linked.hex() == self._known:
                self._known = None

    def _reason(self, row: Mapping[str, Any], linked: bytes) -> str | None:
        expected = self.number + 1
        if row["number"] != expected:
            return f"entry {expected} is missing" if row["number"] > expected else f"entry {row['number']} is forged"
        if row["hash"] != linked:
            return f"entry {expected} (aud_{row['id']}) is not as it was written"
        if expected == self._head.entries and linked != self._head.hash:
            return f"entry {expected} (aud_{row['id']}) was written anew"
        return None

    def verdict(self, head: _Head | None) -> Verdict:
        counted = head.entries if head else 0
        if self.broken is None and self.number < self._head.entries:
            self.broken = f"entry {self.number + 1} is missing: there were {self._head.entries}"
        elif self.broken is None and self.number > counted:
            self.broken = f"entry {counted + 1} is forged: the head counts {counted} entries"
        elif self.broken is None and self._known is not None:
            self.broken = "the entry with the known hash is missing"
        return Verdict(self.number, self._hash.hex(), self.broken)


async def _head(control: Database, chain: UUID) -> _Head | None:
    async with control.unbound() as transaction:
        rows = await transaction.rows(_HEAD, {"tenant": chain})
    return _Head(rows[0]["entries"], rows[0]["hash"]) if rows else None
