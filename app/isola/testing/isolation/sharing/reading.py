"""Reads rows that others shared with a tenant."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from isola.database.transactions import DIALECT, Database, Transaction
from isola.platform.tenants import Tenant
from isola.subjects.resources import resources as table
from isola.testing.oracles.canary import Row

# The code of the error that isola.bound_tenant() raises.
NOT_BOUND = "IS001"
NOT_PROVED = "IS002"
ALL_PAGES = "SELECT * FROM isola.page_of_shares_received(NULL, NULL, 1000000)"


COLUMNS: Sequence[str] = table.info["shared_columns"]
OF_SHARE = (
    "granted_fields text[], share_id uuid, owner_slug text, owner_name text, "
    "shared_at timestamptz, ends_at timestamptz, note text, access text"
)
"""What the rows have of their shares, after the shared columns."""


def row_of(share: str = "$1", alias: str = "s") -> str:
    """The FROM clause for the resource of a share: a function call with the types of the columns."""
    columns = ", ".join(f"{name} {table.c[name].type.compile(DIALECT)}" for name in COLUMNS)
    return f"isola.shared_rows('resource', {share}) AS {alias} ({columns}, {OF_SHARE})"


SHARED_RESOURCE = f"SELECT {', '.join(COLUMNS)}, granted_fields FROM {row_of()}"


LISTED = f"SELECT * FROM {row_of('NULL')}"
"""The resources of all received shares."""


async def shared(work: Transaction, share: UUID) -> Sequence[Row]:
    """The resource of a share; checks that the list of all shared resources has the same."""
    alone = [dict(row) for row in await work._connection.fetch(SHARED_RESOURCE, share)]
    assert alone == [
        {name: row[name] for name in (*COLUMNS, "granted_fields")}
        for row in await all_shared(work)
        if row["share_id"] == share
    ]
    return alone


async def all_shared(work: Transaction) -> Sequence[Row]:
    """The resources of all received shares; checks that the copies are the same, but for those of a parent's shares."""
    rows = await work._connection.fetch(LISTED)
    copies = await work._connection.fetch("SELECT * FROM isola.received_resource")
    live = [[*row.values()] for row in rows if row["owner_slug"] is not None]
    assert sorted(([*row.values()] for row in copies), key=str) == sorted(live, key=str)
    return [dict(row) for row in rows]


async def received(work: Transaction) -> Sequence[Row]:
    """The received shares; checks that reading them by page or one by one gives the same result."""
    connection = work._connection
    rows = [dict(row) for row in await connection.fetch("SELECT * FROM isola.shares_received()")]
    paged = [dict(row) for row in await connection.fetch(ALL_PAGES)]
    assert sorted(rows, key=by_age, reverse=True) == paged
    return paged


def by_age(row: Row) -> tuple[Any, ...]:
    return row["granted_at"], row["id"]


async def seen(database: Database, tenant: Tenant, share: UUID) -> tuple[Sequence[Row], Sequence[Row]]:
    """The resource behind a share, and the list of what is shared."""
    async with database.transaction(tenant) as work:
        listed = await received(work)
        alone = await work._connection.fetch("SELECT * FROM isola.share_received($1)", share)
        assert [dict(row) for row in alone] == [row for row in listed if row["id"] == share]
        return await shared(work, share), listed
