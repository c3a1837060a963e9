"""Rows marked with their tenant, in every table, so that a trace of a tenant is recognizable in any output."""

import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain, combinations, islice
from random import Random
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import asyncpg
from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Float,
    LargeBinary,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    column,
    insert,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import Integer, TypeEngine

from isola.database.binding import NOTHING
from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput
from isola.installed import SUBJECTS, metadata
from isola.platform.audit import WHOLE
from isola.platform.idempotency import first_answers
from isola.platform.request_records import request_records
from isola.platform.shares import share_notices
from isola.platform.tenants import Tenant, metadata as platform
from isola.platform.usage import usage_events, usage_keys, usage_values
from isola.subjects import visibility
from isola.subjects.audit import audit_entries, audit_log
from isola.subjects.declaration import UNSET, Column as Declared
from isola.subjects.metadata import quoted
from isola.testing.oracles.hidden import allowed, hidden, varied
from isola_strategies.base import Strategy

# The tables that tenant traffic writes to, parents first. The database itself writes the others.
TABLES: Sequence[Table] = [table for table in metadata.sorted_tables if "readable" not in table.info]

# PostgreSQL's error code for a missing privilege.
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"

# Tables of the platform whose rows concern more than one tenant, and the directory of tenants.
BETWEEN_TENANTS = {
    "incident_tenants",
    "partners",
    "partnership_declines",
    "partnership_offers",
    "received_shares",
    "share_comments",
    "share_rules",
    "shares",
    "tenant_blocks",
    "tenants",
}

# The maximum length of a marker, and of texts made from it.
MAX_MARKER = 200

# The length of the stored digest of a secret.
DIGEST = 32

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Canary:
    """A tenant's canary: one row in every table, each with the tenant's marker or keys."""

    tenant: Tenant
    marker: str
    rows: Mapping[str, Row]

    def traced_in(self, seen: object) -> bool:
        """Whether an output contains any data of this tenant, in plain text, base64 or hexadecimal."""
        text = seen if isinstance(seen, str) else str(seen)
        return any(trace in text for trace in self._traces)

    def quoted_in(self, seen: str) -> bool:
        """Whether a text contains anything that this tenant wrote. Its keys are allowed: a log may name a tenant."""
        return any(form in seen for form in _forms(self.marker))

    @cached_property
    def about(self) -> Mapping[str, str]:
        """What a transaction proves to be one of the canary's user, who may see all its rows."""
        return _seeing(self.rows["users"]["id"])

    @cached_property
    def _traces(self) -> frozenset[str]:
        keys = {str(value) for row in self.rows.values() for value in row.values() if isinstance(value, UUID)}
        return frozenset(form for trace in {self.marker, str(self.tenant.id), *keys} for form in _forms(trace))


def _forms(trace: str) -> Iterator[str]:
    """A text, and its forms inside a longer text that was encoded, such as a cursor or a token."""
    yield trace
    yield trace.encode().hex()
    yield trace.replace("-", "")
    for before in range(3):
        # The characters at both ends depend on the bytes before and after, so they are cut off.
        first, last = -(-before * 8 // 6), (before + len(trace)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(before) + trace.encode()).decode()[first:last]


async def plant(database: Database, tenant: Tenant, marker: str | None = None) -> Canary:
    """Make a row in each table of a tenant; each references the earlier rows where it can."""
    marker = marker or f"canary-{tenant.slug}."
    rows: dict[str, Row] = {}
    with_users = TABLES.index(metadata.tables["users"]) + 1
    for tables in (TABLES[:with_users], TABLES[with_users:]):
        # Whoever stores a row and reads it back has to see it.
        about = _seeing(rows["users"]["id"]) if rows else NOTHING
        async with database.transaction(tenant, about=about) as work:
            for table in tables:
                values = _values(table, marker, rows)
                rows[table.name] = await _planted(work, table, values, _samples(table, values))
    return Canary(tenant, marker, rows)


def _seeing(user: UUID | None) -> Mapping[str, str]:
    """What a transaction proves to see all rows that a user could see with some permissions."""
    return {"user": str(user or ""), "permissions": " ".join(sorted(visibility.asked()))}


def insertable(table: Table, row: Row) -> Row:
    """A row without its generated columns, which nobody can insert."""
    return {name: value for name, value in row.items() if table.c[name].computed is None}


async def _planted(work: Transaction, table: Table, values: Row, samples: Row) -> Row:
    """Store a row. If check constraints refuse the values, use the samples, or the fewest empty columns possible.

    If the table has a visibility rule, prefer values with which the row is hidden from other users.
    """
    optional = [name for name in _in_rules(table) if table.c[name].nullable and name in values]
    fewer = chain.from_iterable(combinations(optional, count) for count in range(len(optional) + 1))
    without = ({name: value for name, value in values.items() if name not in left_out} for left_out in fewer)
    tries = [*islice(without, 1), *([{**values, **samples}] if samples else []), *without]
    async with aclosing(_preferred(work, table, tries)) as preferred:
        async for kept in preferred:
            # A rule can hide a row from its maker, too, who then cannot read it back.
            with suppress(BadUserInput, asyncpg.InsufficientPrivilegeError):
                return await _stored(work, table, kept)
    return await _stored(work, table, tries[-1])


async def _preferred(work: Transaction, table: Table, tries: Sequence[Row]) -> AsyncGenerator[Row, None]:
    """The rows in the order in which they are tried."""
    async with aclosing(hidden(work, table, tries)) as rows:
        async for row in rows:
            yield row
    for row in varied(table, tries):
        yield row


async def _stored(work: Transaction, table: Table, values: Row) -> Row:
    async with work.savepoint():
        [row] = await work.rows(insert(table).values(values).returning(table))
        return insertable(table, row)


def _samples(table: Table, values: Row) -> Row:
    """The sample values of a table's subject, for columns in which they differ from the given values."""
    subject = next((each for each in SUBJECTS if each.table is table), None)
    if subject is None or not subject.samples:
        return {}
    columns = [(each, each.declared) for each in subject.declaration.columns if isinstance(each.declared, Declared)]
    # A sample may depend on any earlier column, and so on one with a default.
    found: dict[str, Any] = {
        each.column: declared.initial for each, declared in columns if declared.default is not UNSET
    }
    found.update(values)
    sampled: dict[str, Any] = {}
    for member, _ in columns:
        if member.attribute in subject.samples:
            sample = subject.samples[member.attribute](Random(0), found)  # noqa: S311  the same each time
            found[member.column] = sampled[member.column] = sample
    return {name: value for name, value in sampled.items() if name not in values or value != values[name]}


def _in_rules(table: Table) -> Sequence[str]:
    """The columns that a check constraint of the table reads together with others."""
    rules = [str(each.sqltext) for each in table.constraints if isinstance(each, CheckConstraint)]
    read = [{column.name for column in table.columns if re.search(rf"\b{column.name}\b", rule)} for rule in rules]
    return sorted({name for names in read if len(names) > 1 for name in names})


async def plant_platform(owner: Database, canary: Canary) -> Canary:
    """Make a row about the canary's tenant in each of the platform's tables with data about tenants.

    These include secrets (hashes of keys, sessions): a tenant may see its own, but no other tenant's.
    """
    rows: dict[str, Row] = {"tenants": {"id": canary.tenant.id}}
    async with owner.unbound() as work:
        for table in platform.sorted_tables:
            if table.name not in BETWEEN_TENANTS and any(key.column.table.name in rows for key in table.foreign_keys):
                [row] = await work.rows(insert(table).values(_values(table, canary.marker, rows)).returning(table))
                rows[table.name] = dict(row)
        # They have no foreign key.
        for table in (first_answers, request_records, share_notices, usage_events, usage_keys, usage_values):
            values = {**_values(table, canary.marker, rows), "tenant_id": canary.tenant.id}
            [row] = await work.rows(insert(table).values(values).returning(table))
            rows[table.name] = dict(row)
    del rows["tenants"]
    return Canary(canary.tenant, canary.marker, {**rows, **canary.rows})


async def content(database: Database, tenant: Tenant) -> Mapping[str, Sequence[Row]]:
    """All rows of a tenant: of tables with visibility rules, those that any of its users may see."""
    async with database.transaction(tenant) as work:
        found = {table.name: await _rows(work, table) for table in TABLES if visibility.condition(table) is None}
    ruled = [table for table in TABLES if table.name not in found]
    seen: dict[str, dict[str, Row]] = {table.name: {} for table in ruled}
    for user in [None, *(row["id"] for row in found["users"])]:
        async with database.transaction(tenant, read_only=True, about=_seeing(user)) as work:
            for table in ruled:
                seen[table.name] |= {
                    str([row[key.name] for key in table.primary_key]): row for row in await _rows(work, table)
                }
    return found | {name: [rows[key] for key in sorted(rows)] for name, rows in seen.items()}


async def log(database: Database, tenant: Tenant) -> Sequence[Row]:
    """The entries of a tenant's log, with the values of all rows."""
    columns = [audit_log.c[column.name] for column in audit_entries.columns]
    async with database.transaction(tenant, read_only=True, about=WHOLE) as work:
        return [dict(row) for row in await work.rows(select(*columns).order_by(audit_log.c.id))]


async def stored(owner: Database, strategy: Strategy, tenant: Tenant) -> Mapping[str, Sequence[Row]]:
    """All rows of a tenant and its log, as the owner of the tables reads them."""
    async with owner.unbound() as work:
        home = strategy.home(tenant.id).schema
        await work.script(f"SET LOCAL row_security TO off; SET LOCAL search_path TO {home}")
        return {
            table.name: await _rows(
                work, table, *(column(name) == tenant.id for name in discriminators(strategy, table))
            )
            for table in metadata.sorted_tables
        }


async def _rows(work: Transaction, table: Table, *conditions: ColumnElement[bool]) -> Sequence[Row]:
    return [dict(row) for row in await work.rows(select(table).where(*conditions).order_by(*table.primary_key))]


def physical(strategy: Strategy, tenant: Tenant, table: Table) -> str:
    """The qualified name of a tenant's table."""
    return f"{strategy.home(tenant.id).schema}.{table.name}"


def discriminators(strategy: Strategy, table: Table) -> Sequence[str]:
    """The columns that the strategy adds to a table to tell tenants apart."""
    return [name for name in strategy.shape(table, MetaData()).columns.keys() if name not in table.columns]  # noqa: SIM118


def forgery(strategy: Strategy, table: Table, canary: Canary) -> tuple[str, Row]:
    """A statement and its parameter that insert a row into the canary's tenant without violating a constraint."""
    fresh = {
        column.name: f"{canary.marker}-forged"[-_longest(column) :]
        for column in table.columns
        if not column.primary_key and _is_fresh(column, canary)
    }
    # New keys, except in tables whose key consists of foreign keys.
    own = {column.name for column in table.primary_key if column.server_default is not None}
    mine = dict.fromkeys(discriminators(strategy, table), canary.tenant.id)
    row = {name: value for name, value in {**canary.rows[table.name], **fresh, **mine}.items() if name not in own}
    name, columns = physical(strategy, canary.tenant, table), ", ".join(map(quoted, row))
    sql = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{name}, $1) RETURNING *"
    return sql, json.loads(json.dumps(row, default=_as_text))


def unique_again(table: Table, canary: Canary) -> bool:
    """Whether a forged row has the same values as the canary's row in all columns of a key."""
    keys = [each for each in table.constraints if isinstance(each, PrimaryKeyConstraint | UniqueConstraint)]
    row = canary.rows[table.name]
    return any(not any(_is_fresh(each, canary) or row[each.name] is None for each in key.columns) for key in keys)


def referred(canary: Canary) -> Iterator[str]:
    """The tables whose canary row cannot be deleted because another row of the canary references it.

    Rows that would be deleted by CASCADE are checked as well.
    """
    keys = [
        (table.name, key.referred_table.name, key.ondelete)
        for table in TABLES
        for key in table.foreign_key_constraints
        if None not in [canary.rows[table.name][name] for name in key.column_keys]
    ]
    for table in TABLES:
        gone = {table.name}
        while more := {child for child, parent, rule in keys if rule == "CASCADE" and parent in gone} - gone:
            gone |= more
        if any(parent in gone and child not in gone and rule in {None, "RESTRICT"} for child, parent, rule in keys):
            yield table.name


def _is_fresh(column: Column[Any], canary: Canary) -> bool:
    """Whether a forged row has a new value in a column: in generated keys, and in texts with the marker."""
    if column.primary_key:
        return column.server_default is not None
    return isinstance(column.type, Text) and canary.rows[column.table.name].get(column.name) == _marker(
        column, canary.marker
    )


def _marker(column: Column[Any], marker: str) -> str:
    return marker[: _longest(column)]


async def tried(connection: Transaction | asyncpg.Connection, sql: str, *values: object) -> Sequence[Row] | str:
    """Run a statement in a savepoint; returns its rows, or the code of its error."""
    raw = connection._connection if isinstance(connection, Transaction) else connection
    await raw.execute("SAVEPOINT tried")
    try:
        rows = [dict(row) for row in await raw.fetch(sql, *values)]
    except asyncpg.PostgresError as error:
        await raw.execute("ROLLBACK TO tried")
        return str(error.sqlstate)
    await raw.execute("RELEASE tried")
    return rows


def _as_text(value: object) -> str:
    """A value in PostgreSQL's text form."""
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _values(table: Table, marker: str, rows: Mapping[str, Row]) -> dict[str, object]:
    return {
        column.name: _value(column, marker, rows)
        for column in table.columns
        if column.server_default is None or isinstance(column.type, JSONB)
    }


def _value(column: Column[Any], marker: str, rows: Mapping[str, Row]) -> object:
    for key in column.foreign_keys:
        parent = key.column.table
        if parent is column.table and column.nullable:
            return None  # the root of a tree has no parent
        return rows[parent.name][key.column.name]
    if chosen := allowed(column) or column.info.get("examples"):
        return chosen[0]
    if column.nullable and isinstance(column.type, DateTime):
        return None  # a moment cannot mark a tenant, but can decide whether a row still counts
    least, most = column.info.get("bounds", (None, None))
    if least is not None or most is not None:
        return least if least is not None else most
    return _of(column.type, f"{marker}{column}", _marker(column, marker), str(column))


def _of(type_: TypeEngine[Any], seed: str, marker: str, where: str) -> object:  # noqa: PLR0911  one return for each type
    match type_:
        case JSONB():
            return {"canary": marker}
        case Text():
            return marker
        case ARRAY():
            return [_of(type_.item_type, seed, marker, where)]
        case LargeBinary():
            return marker.encode().ljust(DIGEST, b".")[:DIGEST]
        case Uuid():
            return uuid5(NAMESPACE_OID, seed)
        case Boolean():
            return False
        case Float() | Integer() | Numeric():
            return 1
        case DateTime():
            return datetime(2001, 1, 1, tzinfo=UTC)
        case Date():
            return datetime(2001, 1, 1, tzinfo=UTC).date()
        case _:
            raise TypeError(f"{where}: tell the canary what to put in a column of this type")


def _longest(column: Column[Any]) -> int:
    """The maximum length of a text column, limited to that of a marker."""
    longest: int = column.info.get("longest", MAX_MARKER)
    return longest
