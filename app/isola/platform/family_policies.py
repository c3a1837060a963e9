"""Who reads the rows of descendants: policies and rights of one role, in every home.

A transaction of an ancestor becomes that role, and has to prove that it reads descendants: see isola.family_list() in
migrations/control/0001_families.sql. The policies hold for that role alone, so they cost other reads nothing. Its user
is no user of the descendant: where a table has a visibility rule, the rows are those that a user without any say sees.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Boolean, ColumnElement, FromClause, Select, Table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.visitors import replacement_traverse

from isola.installed import metadata
from isola.platform.roles import Roles
from isola.subjects import visibility
from isola.subjects.audit import audit_entries
from isola.subjects.metadata import quoted
from isola_strategies.base import Capability, Home, Strategy

# Permissive policies are OR-ed, so this one admits all rows, and the restrictive one decides: a condition of its own
# would be tested after that of the bound tenant.
READS, ROWS = "family_reads", "family_rows"
_ANY = "(SELECT isola.family('{home}') <> '{{}}')"
# PostgreSQL evaluates what compares no column before it reads a table. So a transaction without the proof reads no
# row, and tells nothing by what its other conditions find, as in EXPLAIN ANALYZE.
_OURS = _ANY + " AND {tenant} = ANY ((SELECT isola.family('{home}'))::uuid[])"
VERSION = f"{READS} {ROWS} {_OURS} {visibility.IN_ORDER}"
"""Changes whenever the policies do."""


def tables() -> Sequence[Table]:
    """The tables with rows that are read: all but the log."""
    return [table for table in metadata.sorted_tables if table is not audit_entries]


def create(strategy: Strategy, home: Home, roles: Roles) -> Iterator[str]:
    """Statements that create the policies in a home's schema, if the strategy has the capability."""
    if Capability.FAMILIES not in strategy.capabilities:
        return
    for table in tables():
        name = quoted(table.name)
        yield f"CREATE POLICY {READS} ON {name} FOR SELECT TO {roles.family} USING (true)"
        yield (
            f"CREATE POLICY {ROWS} ON {name} AS RESTRICTIVE TO {roles.family} "
            f"USING ({condition(strategy, home, table)}) WITH CHECK (false)"
        )


def admit(strategy: Strategy, home: Home, roles: Roles) -> Sequence[str]:
    """Statements that grant the role its rights in a home. They are idempotent."""
    if Capability.FAMILIES not in strategy.capabilities:
        return ()
    names = ", ".join(f"{home.schema}.{quoted(table.name)}" for table in tables())
    return (f"GRANT USAGE ON SCHEMA {home.schema} TO {roles.family}", f"GRANT SELECT ON {names} TO {roles.family}")


def condition(strategy: Strategy, home: Home, table: Table) -> str:
    """The condition of the restrictive policy of a table."""
    tenant = strategy.tenant_of(quoted(table.name))
    # A home of one tenant has all the rows of that tenant, and of no other.
    ours = (_ANY if tenant is None else _OURS).format(home=home.schema, tenant=tenant)
    rule = visibility.condition(table)
    if rule is None:
        return ours
    ruled = visibility.IN_ORDER.format(first=ours, rule=visibility.within(table, _of_one_tenant(rule, table, strategy)))
    return f"{_ANY.format(home=home.schema)} AND {ruled}"


def _of_one_tenant(rule: Any, table: Table, strategy: Strategy) -> Any:
    """A rule whose sub-selects find only rows of the tenant of the row: the policies of what they read admit more."""
    if strategy.tenant_of("any") is None:
        return rule

    def narrow(element: Any, within: object) -> Any:
        def replace(each: Any, **_: Any) -> Any:
            if not isinstance(each, Select) or each is within:
                return None
            scans = [scan for scan in each.get_final_froms() if scan is not table]
            return narrow(each, each).where(*(_SameTenant(scan, table, strategy) for scan in scans))

        return replacement_traverse(element, {}, replace)  # type: ignore[call-overload]  # any of its kinds

    return narrow(rule, None)


class _SameTenant(ColumnElement[bool]):
    inherit_cache = False
    type = Boolean()

    def __init__(self, scan: FromClause, table: Table, strategy: Strategy) -> None:
        self.scan = scan
        self.table = table
        self.strategy = strategy


@compiles(_SameTenant)
def _write_same_tenant(element: _SameTenant, compiler: SQLCompiler, **options: Any) -> str:
    name = compiler.process(next(iter(element.scan.c)), **options).rpartition(".")[0]
    return f"{element.strategy.tenant_of(name)} = {element.strategy.tenant_of(quoted(element.table.name))}"
