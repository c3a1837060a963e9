"""Verifies a tenant's log: no entry was changed, removed, inserted or truncated, sealed or not yet."""

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    LargeBinary,
    Table,
    Text,
    TextClause,
    Uuid,
    bindparam,
    select,
    text,
)

from isola.database.transactions import Database
from isola.platform import platform_log
from isola.platform.tenants import Tenant, metadata
from isola.subjects import visibility
from isola.subjects.metadata import moment

BATCH = 1000
_CUT = '"retention:create", "retention:log"'
"""The action and object of an entry about a cut, in its content."""
SEALS = 100

audit_heads = Table(
    "audit_heads",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("entries", BigInteger, nullable=False, server_default=text("0")),
    Column("hash", LargeBinary, nullable=False, server_default=text(r"'\x'")),
)


# Committed entries that are not sealed yet.
audit_pending = Table(
    "audit_pending",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("transaction", Text, nullable=False, server_default=text("pg_current_xact_id()::text")),
    Column("tenant_id", Uuid, nullable=False),
    Column("home", Text, nullable=False),
    # The position of the commit among all others.
    Column("place", BigInteger),
    moment("at"),
    # The quota that a statement uses, and by how much: see control.counted.
    Column("quota", Text),
    Column("added", BigInteger),
    Column("ids", ARRAY(Uuid), nullable=False),
    Column("hashes", ARRAY(LargeBinary), nullable=False),
    CheckConstraint("cardinality(ids) = cardinality(hashes)", name="hashes"),
    # Rows are updated once and deleted soon after.
    postgresql_with={"fillfactor": 50, "autovacuum_vacuum_scale_factor": 0},
)

# Entries in commit order. Each hash covers the previous hash, the first number and the entries' hashes.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("first", BigInteger, primary_key=True),
    Column("ids", ARRAY(Uuid), nullable=False),
    Column("hash", LargeBinary, nullable=False),
)

# What was cut off the beginning of a log: the number and the hash of the last entry.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("number", BigInteger, nullable=False, server_default=text("0")),
    Column("hash", LargeBinary, nullable=False, server_default=text(r"'\x'")),
    moment("at"),
)

WHOLE = MappingProxyType({"permissions": visibility.WHOLE_LOG})
"""What a transaction proves to read the values of all rows in its tenant's log."""

_HEAD = select(audit_heads.c.entries, audit_heads.c.hash).where(audit_heads.c.tenant_id == bindparam("tenant"))
_MARK = select(audit_checkpoints.c.number, audit_checkpoints.c.hash).where(
    audit_checkpoints.c.tenant_id == bindparam("tenant")
)
_SEALS = (
    select(audit_seals.c.first, audit_seals.c.ids, audit_seals.c.hash)
    .where(audit_seals.c.tenant_id == bindparam("tenant"), audit_seals.c.first > bindparam("after", type_=BigInteger()))
    .order_by(audit_seals.c.first)
    .limit(SEALS)
)
# Inside tenants it is off: the planner would compare every entry with every number.
_PLANNING = "SET LOCAL enable_hashjoin TO on"
# Must match isola.audit_hash.
_CONTENT = """jsonb_build_array(
    CAST(:tenant AS uuid), e.id, extract(epoch FROM e.at), e.actor, e.on_behalf_of, e.request, e.action, e.object,
    e.old, e.new
)::text AS content"""


def _entries(table: str) -> TextClause:
    """The entries with the given ids."""
    return text(f"SELECT e.id, e.hash, {_CONTENT} FROM {table} e WHERE e.id = ANY (:ids)").bindparams(
        bindparam("ids", type_=ARRAY(Uuid))
    )


def _rest(table: str, sealed: str, unsealed: str) -> TextClause:
    """Unsealed data in the order of ids: entries, and what is noted about those that wait to be sealed."""
    return text(f"""
        SELECT r.id, r.noted, e.hash, {_CONTENT}
        FROM (
            SELECT id, string_agg(hash, '') AS noted
            FROM (
                SELECT u.id, u.hash FROM ({unsealed}) u
                UNION ALL
                SELECT e.id, NULL FROM {table} e WHERE NOT EXISTS (SELECT FROM ({sealed}) s WHERE s.id = e.id)
            ) found
            WHERE id > :after GROUP BY id ORDER BY id LIMIT {BATCH}
        ) r LEFT JOIN {table} e ON e.id = r.id ORDER BY r.id
    """).bindparams(bindparam("after", type_=Uuid()))


@dataclass(frozen=True, slots=True)
class _Log:
    """The statements that read one log: entries by id, and unsealed data."""

    entries: TextClause
    rest: TextClause


_OF_TENANT = _Log(
    _entries("audit_log"),
    _rest("audit_log", "SELECT id FROM isola.feed(0, NULL)", "SELECT id, hash FROM isola.unsealed()"),
)
_OF_PLATFORM = _Log(
    _entries("control.audit_entries"),
    _rest(
        "control.audit_entries",
        "SELECT unnest(ids) AS id FROM control.audit_seals WHERE tenant_id = :tenant",
        "SELECT unnest(ids) AS id, unnest(hashes) AS hash FROM control.audit_pending WHERE tenant_id = :tenant",
    ),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken`` describes the first invalid entry; None if all are unchanged.

    ``head`` is the hash of the last seal, in hexadecimal digits. Stored elsewhere, and passed as ``known`` to a later
    run, it reveals a log that was rewritten completely, or truncated together with its head. ``unsealed`` of the
    ``entries`` that were checked have no number yet.
    """

    entries: int
    unsealed: int
    head: str
    broken: str | None


Read = Callable[[TextClause, Mapping[str, Any]], Awaitable[Sequence[Mapping[str, Any]]]]
"""Runs a statement on a log, where that log is stored."""


class _Mark(NamedTuple):
    """What was cut off the beginning of a log: the number and the hash of the last entry. 0 and b"" if nothing was."""

    number: int
    hash: bytes


class _Head(NamedTuple):
    entries: int
    hash: bytes


async def verify(control: Database, tenants: Database, tenant: Tenant, known: str | None = None) -> Verdict:
    """Check every entry of a tenant's log, including entries added meanwhile.

    ``known`` is the hash that an earlier run printed, stored elsewhere: the log must still contain the seal with it.
    """

    async def read(statement: TextClause, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        async with tenants.transaction(tenant, read_only=True, about=WHOLE) as work:
            await work.script(_PLANNING)
            return await work.rows(statement, {"tenant": tenant.id, **values})

    return await _verify(control, tenant.id, _OF_TENANT, read, known)


async def verify_platform(control: Database, known: str | None = None) -> Verdict:
    """Check every entry of the platform's log, like ``verify``."""

    async def read(statement: TextClause, values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        async with control.unbound() as transaction:
            return await transaction.rows(statement, {"tenant": platform_log.NOWHERE, **values})

    return await _verify(control, platform_log.NOWHERE, _OF_PLATFORM, read, known)


async def _verify(control: Database, chain: UUID, log: _Log, read: Read, known: str | None) -> Verdict:
    mark = await _mark(control, chain)
    while True:
        head = await _head(control, chain)
        if head is None:
            return Verdict(0, 0, "", "its head is missing")
        walk = _Walk(head, mark, known)
        await _walk_seals(control, chain, log, read, walk)
        unsealed = await _check_rest(log, read, walk)
        # Entries that were sealed meanwhile.
        await _walk_seals(control, chain, log, read, walk)
        before, mark = mark, await _mark(control, chain)
        # If the log was cut further meanwhile, what was read may have gone. That happens about once a day.
        if mark.number <= before.number:
            return walk.verdict(await _head(control, chain), unsealed)


async def _walk_seals(control: Database, chain: UUID, log: _Log, read: Read, walk: "_Walk") -> None:
    while walk.broken is None:
        async with control.unbound() as transaction:
            seals = await transaction.rows(_SEALS, {"tenant": chain, "after": walk.first})
        if not seals:
            return
        for some in _batches(seals):
            entries: dict[UUID, Mapping[str, Any]] = {}
            ids = [key for seal in some for key in seal["ids"]]
            for start in range(0, len(ids), BATCH):
                read_now = await read(log.entries, {"ids": ids[start : start + BATCH]})
                entries |= {row["id"]: row for row in read_now}
            for seal in some:
                walk.check(seal, entries)
                if walk.broken is not None:
                    return


def _batches(seals: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Seals whose entries are read at once: with at most ``BATCH`` entries together, or a single one."""
    some: list[Mapping[str, Any]] = []
    size = 0
    for seal in seals:
        if some and size + len(seal["ids"]) > BATCH:
            yield some
            some, size = [], 0
        some.append(seal)
        size += len(seal["ids"])
    yield some


async def _check_rest(log: _Log, read: Read, walk: "_Walk") -> int:
    """Check the entries that are not sealed yet; how many."""
    after, checked = UUID(int=0), 0
    while walk.broken is None and (batch := await read(log.rest, {"after": after})):
        for row in batch:
            walk.broken = _unsealed_reason(row)
            if walk.broken is not None:
                return checked
            walk.attest(row["content"])
            checked += 1
            after = row["id"]
    return checked


def _unsealed_reason(row: Mapping[str, Any]) -> str | None:
    if row["noted"] is None:
        return f"aud_{row['id']} is forged: it is neither sealed nor waiting to be sealed"
    if row["hash"] is None:
        return f"aud_{row['id']}, which is not sealed yet, is missing"
    if not row["noted"] == row["hash"] == sha256(row["content"].encode()).digest():
        return f"aud_{row['id']}, which is not sealed yet, is not as it was written"
    return None


class _Walk:
    """Checks seals in order, up to the first that is broken."""

    def __init__(self, head: _Head, mark: _Mark, known: str | None) -> None:
        self.number = mark.number
        # From the smallest number that the column can hold: a seal before the first is a forgery.
        self.first = -(2**63)
        self.broken: str | None = None
        self._head = head
        self._mark = mark
        self._hash = mark.hash
        self._attested: _Mark | None = None
        self._known = None if known == mark.hash.hex() else known

    def check(self, seal: Mapping[str, Any], entries: Mapping[UUID, Mapping[str, Any]]) -> None:
        expected = self.number + 1
        if seal["first"] != expected:
            missing = seal["first"] > expected
            self.broken = f"entry {expected} is missing" if missing else f"entry {seal['first']} is forged"
            return
        chained = sha256(self._hash + expected.to_bytes(8, "big"))
        for number, key in enumerate(seal["ids"], expected):
            row = entries.get(key)
            if row is None:
                self.broken = f"entry {number} is missing"
            elif row["hash"] != sha256(row["content"].encode()).digest():
                self.broken = f"entry {number} (aud_{key}) is not as it was written"
            else:
                chained.update(row["hash"])
                self.attest(row["content"])
                if self.broken is None:
                    continue
            self.number = number - 1
            return
        last = self.number + len(seal["ids"])
        linked = chained.digest()
        if seal["hash"] != linked:
            self.broken = f"entries {expected} to {last} are not as they were sealed"
        elif last == self._head.entries and linked != self._head.hash:
            self.broken = f"entry {last} was written anew"
        else:
            self.first, self.number, self._hash = seal["first"], last, linked
            if linked.hex() == self._known:
                self._known = None

    def attest(self, content: str) -> None:
        """Read what a valid entry says about the beginning of the log, if it is about that."""
        if _CUT not in content:
            return
        _, key, at, *_, action, about, _, new = json.loads(content)
        if f'"{action}", "{about}"' != _CUT:
            return
        try:
            mark = _Mark(int(new["number"]), bytes.fromhex(new["hash"]))
            is_early = datetime.fromisoformat(new["until"]).timestamp() >= at - timedelta(new["days"]).total_seconds()
        except (KeyError, TypeError, ValueError):
            self.broken = f"aud_{key} is forged: it says nothing about where the log was cut"
            return
        if is_early:
            self.broken = f"aud_{key} cut the log further than it was to be kept"
        elif self._attested is None or mark.number > self._attested.number:
            self._attested = mark

    def verdict(self, head: _Head | None, unsealed: int) -> Verdict:
        counted = head.entries if head else 0
        if self.broken is None and self._mark != (self._attested or _Mark(0, b"")):
            self.broken = (
                f"the checkpoint at entry {self._mark.number} is forged: no entry says that the log was cut there"
            )
        if self.broken is None and self.number < self._head.entries:
            self.broken = f"entry {self.number + 1} is missing: there were {self._head.entries}"
        elif self.broken is None and self.number > counted:
            self.broken = f"entry {counted + 1} is forged: the head counts {counted} entries"
        elif self.broken is None and self._known is not None:
            self.broken = "the seal with the known hash is missing"
        return Verdict(self.number - self._mark.number + unsealed, unsealed, self._hash.hex(), self.broken)


async def _mark(control: Database, chain: UUID) -> _Mark:
    async with control.unbound() as transaction:
        rows = await transaction.rows(_MARK, {"tenant": chain})
    return _Mark(rows[0]["number"], rows[0]["hash"]) if rows else _Mark(0, b"")


async def _head(control: Database, chain: UUID) -> _Head | None:
    async with control.unbound() as transaction:
        rows = await transaction.rows(_HEAD, {"tenant": chain})
    return _Head(rows[0]["entries"], rows[0]["hash"]) if rows else None
