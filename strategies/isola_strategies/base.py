"""The interface of isolation strategies.

Everything else (pools, commits, retries, errors) is common to all strategies and implemented elsewhere.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from alembic.operations.ops import MigrateOperation
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table


class Capability(StrEnum):
    """What tests may query about a strategy. A test never depends on the name of a strategy."""

    POLICIES = "policies"
    """Tenants share tables; row-level security keeps their rows apart."""
    ROLES = "roles"
    """Each tenant has a database role of its own."""
    SHARING = "sharing"
    """Rows that a tenant shares can be read by tenants under every other strategy with this capability."""
    FAMILIES = "families"
    """A tenant's rows can be read together with those of others below a common ancestor, in one statement."""


@dataclass(frozen=True, slots=True)
class Home:
    """A schema whose tables are migrated together. Transactions in it run as ``role``; None for the login itself."""

    schema: str
    role: str | None = None


def rights(table: Table) -> str:
    """The privileges of tenant traffic on a table; if it is only ``readable``, SELECT on those columns, or on all."""
    if "readable" not in table.info:
        return "SELECT, INSERT, UPDATE, DELETE"
    readable = table.info["readable"]
    return f"SELECT ({', '.join(readable)})" if readable else "SELECT"


def create_role(name: str) -> str:
    """A statement that creates a role if it is missing: roles belong to the cluster, so it may exist already."""
    return f"DO $$ BEGIN IF to_regrole('{name}') IS NULL THEN CREATE ROLE {name} NOLOGIN; END IF; END $$"


class Strategy(Hashable, Protocol):
    """An isolation strategy, found through the entry-point group ``isola.strategies``.

    It is created with the name of the login role of tenant traffic, quoted for SQL if needed. Statements are texts
    without parameters; their values come from UUIDs and declarations, never from a client.
    """

    name: str
    capabilities: frozenset[Capability]
    login: str

    def __init__(self, login: str) -> None: ...

    def shape(self, table: Table, metadata: MetaData) -> Table:
        """The physical table for a tenant-blind table, made in ``metadata``, with the same constraint names."""
        ...

    def guard(self, table: str) -> Sequence[str]:
        """Statements that protect a new table in its home's schema, by row-level security."""
        ...

    def revise(self, operation: MigrateOperation, migration: MigrationContext) -> Iterable[MigrateOperation]:
        """The operations on the physical tables that implement an operation of a tenant-blind migration."""
        ...

    def home(self, tenant: UUID) -> Home:
        """The home with a tenant's tables."""
        ...

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        """The homes that a migration of these tenants has to process, each once."""
        ...

    def create_home(self, home: Home) -> Sequence[str]:
        """Statements that create an empty home, before its tables, and its role if it has one. The owner runs them.

        They are idempotent: a database may have been restored without its roles.
        """
        ...

    def admit(self, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        """Statements that grant tenant traffic its ``rights`` on a home's tables. They are idempotent.

        Row-level security has to be enabled afterwards, with a permissive policy: policies of visibility rules restrict
        it further.
        """
        ...

    def erase(self, tenant: UUID, tables: Sequence[Table]) -> Sequence[str]:
        """Statements that delete a tenant's data, and its home if no other tenant shares it. The owner runs them."""
        ...

    def bind(self, tenant: UUID) -> str:
        """Transaction-local statements, joined by semicolons, that bind a transaction to one tenant.

        They set ``isola.tenant`` to the tenant, and ``isola.home`` to the home: the tenant may have moved away from it.
        """
        ...

    def proved(self, table: str) -> str | None:
        """The condition, for further policies of ``table``, that a row is of the proved tenant.

        None where a home has one tenant.
        """
        ...

    def tenant_of(self, table: str) -> str | None:
        """SQL of the tenant of a row of ``table`` (a name or an alias), for reads of several tenants' rows at once.

        None where a home has one tenant.
        """
        ...

    def predicate(self, table: str) -> str | None:
        """The condition that restricts ``table`` (a name or an alias) to the bound tenant, as a hint for the planner.

        None if there is none. The database enforces isolation without it. It is required only when the owner moves a
        tenant out of or into a shared home.
        """
        ...
