"""All tenants in the same tables, with a column ``tenant_id``, isolated by row-level security.

Constraint checks bypass row-level security. So every key leads with the tenant: a foreign key without it could
reference another tenant's row, and a unique key without it would reveal another tenant's rows.
"""

from collections.abc import Iterable, Sequence
from uuid import UUID

from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from sqlalchemy import (
    CheckConstraint,
    Column,
    Computed,
    Constraint,
    ForeignKeyConstraint,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)

from isola_strategies.base import Capability, Home, rights

TENANT = "tenant_id"
# A scalar sub-select is evaluated once per statement: the function that checks the proof costs some microseconds.
IS_BOUND_TENANT = f"{TENANT} = (SELECT isola.current_tenant_id())"
# The same, evaluated before all other conditions. PostgreSQL evaluates cheap conditions of a statement, with leakproof
# operators, before a policy that costs more, and a sub-select only when a row gets that far. That is visible, as an
# error if the proof is invalid, or in EXPLAIN ANALYZE: it would reveal which rows of other tenants satisfy a condition.
# The second column alone is a condition without cost, so it is the first, and it needs the sub-select.
IS_BOUND_FIRST = f"({TENANT}, true) = (SELECT isola.current_tenant_id(), true)"

# Statements name the tenant by a sub-select, so the planner divides the rows by the number of tenants. For the average
# tenant it prefers plans that read all its rows, or all its entries of an index; these are slow for a far larger one.
# So it is made to assume few tenants: the plans for large ones suit small ones as well. See docs/decisions/0007.
ASSUMED_TENANTS = 4


class RowLevelSecurity:
    name = "rls"
    capabilities = frozenset({Capability.POLICIES, Capability.SHARING, Capability.FAMILIES})

    def __init__(self, login: str) -> None:
        self.login = login

    def shape(self, table: Table, metadata: MetaData) -> Table:
        return Table(
            table.name,
            metadata,
            Column(TENANT, Uuid, nullable=False, server_default=text("isola.claimed_tenant_id()")),
            *(_column(column) for column in table.columns),
            *(_constraint(constraint) for constraint in sorted(table.constraints, key=_name)),
            *(_index(index) for index in sorted(table.indexes, key=_name)),
        )

    def guard(self, table: str) -> Sequence[str]:
        return (
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
            # One policy, plain equality: permissive policies are OR-ed, and a second one would slow down every read.
            f"CREATE POLICY bound_tenant ON {table} USING ({IS_BOUND_FIRST}) WITH CHECK ({IS_BOUND_TENANT})",
            f"ALTER TABLE {table} ALTER COLUMN {TENANT} SET (n_distinct = {ASSUMED_TENANTS})",
        )

    def revise(self, operation: ops.MigrateOperation, migration: MigrationContext) -> Iterable[ops.MigrateOperation]:
        match operation:
            case ops.CreateTableOp():
                table = self.shape(operation.to_table(migration), MetaData())
                yield ops.CreateTableOp.from_table(table)
                for statement in self.guard(table.name):
                    yield ops.ExecuteSQLOp(statement)
            case ops.CreateIndexOp():
                index = operation.to_index(migration)
                columns = [TENANT, *operation.columns]
                yield ops.CreateIndexOp(index.name, operation.table_name, columns, unique=operation.unique)
            case ops.CreateUniqueConstraintOp():
                constraint = operation.to_constraint(migration)
                yield ops.CreateUniqueConstraintOp(constraint.name, operation.table_name, [TENANT, *operation.columns])
            case ops.CreateForeignKeyOp():
                local = list(operation.local_cols)
                yield ops.CreateForeignKeyOp(
                    operation.to_constraint(migration).name,
                    operation.source_table,
                    operation.referent_table,
                    [TENANT, *local],
                    [TENANT, *operation.remote_cols],
                    ondelete=_on_delete(operation.kw.get("ondelete"), local),
                    deferrable=operation.kw.get("deferrable"),
                )
            case ops.AddColumnOp(column=column) if column.foreign_keys or column.unique or column.index:
                raise ValueError(
                    f"add the column {column.name} first, then its key or index by an operation of its own"
                )
            case ops.CreateCheckConstraintOp():
                yield operation
            case ops.AddConstraintOp():
                raise ValueError(f"{type(operation).__name__} has no form with a tenant")
            case _:
                yield operation

    def home(self, tenant: UUID) -> Home:
        return Home("rls")

    def homes(self, tenants: Iterable[UUID]) -> Sequence[Home]:
        return [Home("rls")]

    def create_home(self, home: Home) -> Sequence[str]:
        return (f"CREATE SCHEMA IF NOT EXISTS {home.schema}", f"GRANT USAGE ON SCHEMA {home.schema} TO {self.login}")

    def admit(self, home: Home, tables: Iterable[Table]) -> Sequence[str]:
        return [f"GRANT {rights(table)} ON {home.schema}.{table.name} TO {self.login}" for table in tables]

    def erase(self, tenant: UUID, tables: Sequence[Table]) -> Sequence[str]:
        # The policies are forced on the owner too, so it is bound; a superuser bypasses them, so each statement
        # names the tenant as well.
        deletes = [f"DELETE FROM {table.name} WHERE {TENANT} = '{tenant}'" for table in reversed(tables)]
        return (
            self.bind(tenant),
            f"SELECT set_config('isola.proof', isola.proof('{tenant}'), true)",
            # Rows can reference each other in a cycle.
            "SET CONSTRAINTS ALL DEFERRED",
            *deletes,
        )

    def bind(self, tenant: UUID) -> str:
        return f"SET LOCAL search_path TO rls; SET LOCAL isola.home TO rls; SET LOCAL isola.tenant TO '{tenant}'"

    def proved(self, table: str) -> str:
        return f"{table}.{IS_BOUND_TENANT}"

    def tenant_of(self, table: str) -> str:
        return f"{table}.{TENANT}"

    def predicate(self, table: str) -> str:
        # A sub-select is evaluated once per statement, not for each repetition of a scan.
        return f"{table}.{TENANT} = (SELECT isola.claimed_tenant_id())"


def _name(item: Constraint | Index) -> str:
    return str(item.name)


def _column(column: Column[object]) -> Column[object]:
    default = column.server_default
    computed = column.computed
    return Column(
        column.name,
        column.type,
        *([] if computed is None else [Computed(computed.sqltext, persisted=computed.persisted)]),
        nullable=column.nullable,
        server_default=None if default is None or computed is not None else default.arg,  # type: ignore[attr-defined]  # ours are all DefaultClause
        comment=column.comment,
    )


def _index(index: Index) -> Index:
    return Index(index.name, TENANT, *(column.name for column in index.columns), unique=index.unique)


def _on_delete(action: str | None, columns: Iterable[str]) -> str | None:
    """Without its list of columns, SET NULL would set the tenant to NULL as well."""
    return f"SET NULL ({', '.join(columns)})" if action == "SET NULL" else action


def _constraint(constraint: Constraint) -> Constraint:
    match constraint:
        case PrimaryKeyConstraint():
            return PrimaryKeyConstraint(TENANT, *constraint.columns.keys(), name=_name(constraint))
        case UniqueConstraint():
            return UniqueConstraint(TENANT, *constraint.columns.keys(), name=constraint.name)
        case ForeignKeyConstraint():
            remote = [element.target_fullname.rpartition(".") for element in constraint.elements]
            return ForeignKeyConstraint(
                [TENANT, *constraint.column_keys],
                [f"{remote[0][0]}.{TENANT}", *(f"{table}.{column}" for table, _, column in remote)],
                name=constraint.name,
                ondelete=_on_delete(constraint.ondelete, constraint.column_keys),
                deferrable=constraint.deferrable,
            )
        case CheckConstraint():
            return CheckConstraint(constraint.sqltext, name=constraint.name)
        case _:
            raise ValueError(f"{type(constraint).__name__} of {constraint.table.name} has no form with a tenant")
