"""What a way of keeping tenants apart has to say.

All the rest (pools, commits, retries, errors) is said once for all of them, elsewhere.
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
    """What tests may ask of a strategy. A test never asks for a strategy by its name."""

    POLICIES = "policies"
    """Tenants share tables; row-level security keeps their rows apart."""
    ROLES = "roles"
    """Each tenant has a database role of its own."""
    SHARING = "sharing"
    """What a tenant grants can be read by tenants under every other strategy with this capability."""


@dataclass(frozen=True, slots=True)
class Home:
    """Tables that migrate as one: a schema. ``role`` is what transactions in it run as, None for the login itself."""

    schema: str
    role: str | None = None


def rights(table: Table) -> str:
    """What tenant traffic may do with the rows of a table; with those of one that is declared read-only, just that."""
    return "SELECT" if table.info.get("read_only") else "SELECT, INSERT, UPDATE, DELETE"


def create_role(name: str) -> str:
    """A statement that makes a role where there is none: roles belong to the cluster, and another may have made it."""
    return f"DO $$ BEGIN IF to_regrole('{name}') IS NULL THEN CREATE ROLE {name} NOLOGIN; END IF; END $$"


class Strategy(Hashable, Protocol):
    """One way of keeping tenants apart, found through the entry-point group ``isola.strategies``.

    It is made with the name of the login role of tenant traffic, quoted where SQL needs that. Statements are texts
    without parameters; what stands in them comes from UUIDs and declarations, never from a client.
    """

    name: str
    capabilities: frozenset[Capability]

    def __init__(self, login: str) -> None: ...

    def shape(self, table: Table, metadata: MetaData) -> Table:
        """The physical form of a tenant-blind table, made in ``metadata``, constraint names kept."""
        ...

    def guard(self, table: str) -> Sequence[str]:
        """Statements that put a table just made in its home's schema under guard."""
        ...

    def revise(self, operation: MigrateOperation, migration: MigrationContext) -> Iterable[MigrateOperation]:
        """The operations that do to the physical tables what a tenant-blind migration asks for."""
        ...

    def home(self, tenant: UUID) -> Home:
        """Where a tenant's tables are."""
        ...

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        """What a migration has to visit for these tenants, each home once."""
        ...

    def found(self, home: Home) -> Sequence[str]:
        """Statements that make an empty home, before its tables, and the role if it has one. The owner runs them.

        They can be repeated: a database can have been restored without its roles.
        """
        ...

    def admit(self, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        """Statements that give tenant traffic its rights on a home's tables. They can be repeated."""
        ...

    def erase(self, tenant: UUID, tables: Sequence[Table]) -> Sequence[str]:
        """Statements that remove a tenant's data, and its home if it has one of its own. The owner runs them."""
        ...

    def bind(self, tenant: UUID) -> str:
        """Transaction-local statements, joined by semicolons, that put a transaction inside one tenant.

        They name the tenant as ``isola.tenant``, and as ``isola.home`` the home: a tenant may have moved away from it.
        """
        ...

    def predicate(self, table: str) -> str | None:
        """The condition that keeps ``table`` (a name or an alias in a statement) to the bound tenant, for the planner.

        None where there is none to say. What enforces is the database, with or without it. Only where the owner moves
        a tenant out of a home that several share, or into one, does it have to be there.
        """
        ...
