"""Cells with a role each: a schema and a database role for every group of tenants.

As under ``cells``, tenants of a group share tables and row-level security keeps them apart; as under ``schema``, the
login has no rights on any table, and a transaction enters as a role that has them in one schema only. So SQL that gets
past a policy finds the rows of one group, and not those of all tenants.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from sqlalchemy import Table

from isola_strategies.base import Home, create_role, rights
from isola_strategies.rls import RowLevelSecurity

# As for cells: must not change once there are tenants.
GROUPS = 2


class Groups(RowLevelSecurity):
    name = "groups"

    def home(self, tenant: UUID) -> Home:
        return _group(tenant.int % GROUPS)

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        return [_group(number) for number in range(GROUPS)]

    def create_home(self, home: Home) -> Sequence[str]:
        name = home.schema
        return (
            create_role(name),
            f"CREATE SCHEMA IF NOT EXISTS {name}",
            f"GRANT USAGE ON SCHEMA {name} TO {name}",
            f"GRANT {name} TO {self.login}",
        )

    def admit(self, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        return [f"GRANT {rights(table)} ON {home.schema}.{table.name} TO {home.role}" for table in tables]

    def erase(self, tenant: UUID, tables: Sequence[Table]) -> Sequence[str]:
        # As the owner: the role of a group may not create proofs.
        _, *statements = super().erase(tenant, tables)
        return (self._routed(tenant), *statements)

    def bind(self, tenant: UUID) -> str:
        return f"SET LOCAL ROLE {self.home(tenant).role}; {self._routed(tenant)}"

    def _routed(self, tenant: UUID) -> str:
        home = self.home(tenant).schema
        return f"SET LOCAL search_path TO {home}; SET LOCAL isola.home TO {home}; SET LOCAL isola.tenant TO '{tenant}'"


def _group(number: int) -> Home:
    return Home(f"group_{number}", f"group_{number}")
