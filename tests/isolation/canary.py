"""Rows that say whose they are, in every table, so that a trace of one tenant is known wherever it turns up."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy import Column, MetaData, Table, Text, insert, select
from sqlalchemy.dialects.postgresql import JSONB

from app import domain
from app.control.tenants import Tenant
from app.database import Database, Transaction
from app.domain.metadata import metadata
from strategies.base import Strategy

# Parents first. The package is imported for its effect: all of its tables are declared then.
TABLES: Sequence[Table] = metadata.sorted_tables if domain else ()

# What PostgreSQL answers with where a right is missing.
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_TABLE = "42P01"

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Canary:
    """What a tenant holds: one row in every table, each with the tenant's marker or its keys."""

    tenant: Tenant
    marker: str
    rows: Mapping[str, Row]

    def traced_in(self, seen: object) -> bool:
        """Whether anything of this tenant is in what somebody saw."""
        text = str(seen)
        keys = {str(value) for row in self.rows.values() for name, value in row.items() if name.endswith("id")}
        return any(trace in text for trace in (self.marker, str(self.tenant.id), *keys))


async def plant(database: Database, tenant: Tenant, marker: str | None = None) -> Canary:
    """Make a row in each table of a tenant, every one that can be pointing at the ones before."""
    marker = marker or f"canary-{tenant.slug}"
    rows: dict[str, Row] = {}
    async with database.transaction(tenant) as work:
        for table in TABLES:
            values = {column.name: _value(column, marker, rows) for column in table.columns if _is_given(column)}
            [row] = await work.rows(insert(table).values(values).returning(table))
            rows[table.name] = dict(row)
    return Canary(tenant, marker, rows)


async def content(database: Database, tenant: Tenant) -> Mapping[str, Sequence[Row]]:
    """All that a tenant has."""
    async with database.transaction(tenant) as work:
        return {
            table.name: [dict(row) for row in await work.rows(select(table).order_by(*table.primary_key))]
            for table in TABLES
        }


def physical(strategy: Strategy, tenant: Tenant, table: Table) -> str:
    """The qualified name of a tenant's table."""
    return f"{strategy.home(tenant.id).schema}.{table.name}"


def discriminators(strategy: Strategy, table: Table) -> Sequence[str]:
    """The columns that the strategy adds to a table to tell tenants apart."""
    return [name for name in strategy.shape(table, MetaData()).columns.keys() if name not in table.columns]  # noqa: SIM118


def forgery(strategy: Strategy, table: Table, canary: Canary) -> tuple[str, Row]:
    """A statement and its parameter that write into the canary's tenant a row that breaks no constraint there."""
    fresh = {
        column.name: f"{canary.marker}-forged"
        for column in table.columns
        if isinstance(column.type, Text) and column.server_default is None
    }
    # Keys of its own, but for a table whose key is made of the keys of others.
    own = {column.name for column in table.primary_key if column.server_default is not None}
    mine = dict.fromkeys(discriminators(strategy, table), canary.tenant.id)
    row = {name: value for name, value in {**canary.rows[table.name], **fresh, **mine}.items() if name not in own}
    name, columns = physical(strategy, canary.tenant, table), ", ".join(row)
    sql = f"INSERT INTO {name} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{name}, $1) RETURNING *"
    return sql, json.loads(json.dumps(row, default=str))


async def tried(connection: Transaction | asyncpg.Connection, sql: str, *values: object) -> Sequence[Row] | str:
    """Run a statement in a savepoint: the rows that it returned, or the code of the error that it met."""
    raw = connection._connection if isinstance(connection, Transaction) else connection
    await raw.execute("SAVEPOINT tried")
    try:
        rows = [dict(row) for row in await raw.fetch(sql, *values)]
    except asyncpg.PostgresError as error:
        await raw.execute("ROLLBACK TO tried")
        return str(error.sqlstate)
    await raw.execute("RELEASE tried")
    return rows


def _is_given(column: Column[Any]) -> bool:
    return column.server_default is None or isinstance(column.type, JSONB)


def _value(column: Column[Any], marker: str, rows: Mapping[str, Row]) -> object:
    for key in column.foreign_keys:
        return rows[key.column.table.name][key.column.name]
    match column.type:
        case JSONB():
            return {"canary": marker}
        case Text():
            return marker
        case _:
            raise TypeError(f"{column}: tell the canary what to put in a column of this type")
