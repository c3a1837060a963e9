"""A schema and a role for every tenant. The role enforces; the search path only routes.

The login can switch to every tenant's role, and so can injected SQL. So the tables have a policy as well: they return
no rows to a transaction without a valid proof for their tenant.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from alembic.operations.ops import MigrateOperation
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, Table

from isola_strategies.base import Capability, Home, create_role, rights


class SchemaPerTenant:
    name = "schema"
    capabilities = frozenset({Capability.ROLES, Capability.SHARING, Capability.FAMILIES})

    def __init__(self, login: str) -> None:
        self.login = login

    def shape(self, table: Table, metadata: MetaData) -> Table:
        return table.to_metadata(metadata)

    def guard(self, table: str) -> Sequence[str]:
        return ()

    def revise(self, operation: MigrateOperation, migration: MigrationContext) -> Iterable[MigrateOperation]:
        return (operation,)

    def home(self, tenant: UUID) -> Home:
        return Home(f"t_{tenant.hex}", f"t_{tenant.hex}")

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        return [self.home(tenant) for tenant in tenants]

    def create_home(self, home: Home) -> Sequence[str]:
        name = home.schema
        return (
            create_role(name),
            f"CREATE SCHEMA IF NOT EXISTS {name}",
            f"GRANT USAGE ON SCHEMA {name} TO {name}",
            f"GRANT {name} TO {self.login}",
        )

    def admit(self, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        tenant = UUID(hex=home.schema.removeprefix("t_"))
        named = {f"{home.schema}.{table.name}": table for table in tables}
        return (
            *(f"GRANT {rights(table)} ON {name} TO {home.schema}" for name, table in named.items()),
            *(statement for name in named for statement in _locked(name, tenant)),
        )

    def erase(self, tenant: UUID, tables: Sequence[Table]) -> Sequence[str]:
        name = self.home(tenant).schema
        return (f"DROP SCHEMA IF EXISTS {name} CASCADE", _forgotten(name))

    def bind(self, tenant: UUID) -> str:
        name = self.home(tenant).schema
        return (
            f"SET LOCAL ROLE {name}; SET LOCAL search_path TO {name}; "
            f"SET LOCAL isola.home TO {name}; SET LOCAL isola.tenant TO '{tenant}'"
        )

    def proved(self, table: str) -> None:
        return None

    def tenant_of(self, table: str) -> None:
        return None

    def predicate(self, table: str) -> None:
        return None


def _forgotten(role: str) -> str:
    """Sessions of the role may have left objects that prevent dropping it; only a member of it can remove them."""
    return f"""
        DO $$ BEGIN
            IF to_regrole('{role}') IS NOT NULL THEN
                GRANT {role} TO CURRENT_USER;
                DROP OWNED BY {role};
                DROP ROLE {role};
            END IF;
        END $$
    """


def _locked(table: str, tenant: UUID) -> Sequence[str]:
    return (
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        f"DROP POLICY IF EXISTS bound_tenant ON {table}",
        f"CREATE POLICY bound_tenant ON {table} USING ((SELECT isola.current_tenant_id() = '{tenant}'))",
    )
