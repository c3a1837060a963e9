"""The log of a tenant, verified: that no entry was changed, removed, put in between or cut off at the end."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Column,
    DateTime,
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

from app.control import platform_log
from app.control.tenants import Tenant, metadata
from app.database import Database
from app.domain.audit import audit_entries

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
    Column("at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    Column("actor", Text, server_default=text("nullif(current_setting('isola.actor', true), '')")),
    Column("on_behalf_of", Text, server_default=text("nullif(current_setting('isola.behalf', true), '')")),
    Column("request", Text, server_default=text("nullif(current_setting('isola.request', true), '')")),
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


_NEXT, _NEXT_OF_PLATFORM = _next(audit_entries), _next(platform_log.entries)


@dataclass(frozen=True, slots=True)
class Verdict:
    """``broken`` says what is wrong with the first entry that is; None where all are as they were written.

    ``head`` is the hash of the last entry, in hexadecimal digits. Whoever keeps it elsewhere can tell whether the
    whole log was written anew.
    """

    entries: int
    head: str
    broken: str | None


async def verify(control: Database, tenants: Database, tenant: Tenant) -> Verdict:
    """Check every entry of a tenant's log. What is being added meanwhile is checked too, but for its being the end."""

    async def read(after: int) -> Sequence[Mapping[str, Any]]:
        async with tenants.transaction(tenant, read_only=True) as work:
            return await work.rows(_NEXT, {"tenant": tenant.id, "after": after})

    return await _verify(control, tenant.id, read)


async def verify_platform(control: Database) -> Verdict:
    """Check every entry of the platform's log, as ``verify``."""

    async def read(after: int) -> Sequence[Mapping[str, Any]]:
        async with control.unbound() as transaction:
            return await transaction.rows(_NEXT_OF_PLATFORM, {"tenant": platform_log.NOWHERE, "after": after})

    return await _verify(control, platform_log.NOWHERE, read)


async def _verify(
    control: Database, chain: UUID, read: Callable[[int], Awaitable[Sequence[Mapping[str, Any]]]]
) -> Verdict:
    async with control.unbound() as transaction:
        rows = await transaction.rows(_HEAD, {"tenant": chain})
    expected, end = (rows[0]["entries"], rows[0]["hash"]) if rows else (0, b"")
    number, previous = 0, b""
    while True:
        batch = await read(number)
        for row in batch:
            number += 1
            if row["number"] != number:
                return Verdict(number - 1, previous.hex(), f"entry {number} is missing")
            previous = sha256(previous + row["content"].encode()).digest()
            if row["hash"] != previous:
                return Verdict(number - 1, previous.hex(), f"entry {number} (aud_{row['id']}) is not as it was written")
            if number == expected and previous != end:
                return Verdict(number - 1, previous.hex(), f"entry {number} (aud_{row['id']}) was written anew")
        if len(batch) < BATCH:
            break
    if number < expected:
        return Verdict(number, previous.hex(), f"entry {number + 1} is missing: there were {expected}")
    return Verdict(number, previous.hex(), None)
