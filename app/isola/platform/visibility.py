"""Who may read which rows, in every home: the policies of visibility rules, and the views of the log and of statistics.

They follow from the declarations, so no revision contains them: a migration drops them first, as PostgreSQL refuses to
alter columns that they use, and creates them last. ``isola migrate`` applies the change of a rule like a revision:
homes and the registry have a digest for each application.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256

from sqlalchemy import MetaData

from isola.database.transactions import Transaction
from isola.installed import metadata
from isola.platform import family_policies
from isola.platform.roles import Roles
from isola.subjects import visibility
from isola.subjects.applications import BUILT_IN
from isola.subjects.audit import audit_entries, audit_log, masked
from isola.subjects.metadata import quoted
from isola.subjects.spans import spans
from isola.subjects.spans.statistics import daily
from isola_strategies.base import Home, Strategy

POLICY = "visible_rows"
STATISTICS = "tenant_stats"
"""The view of the statistics of spans."""

# The policies, and the rights of tenant traffic on the log, where there are any: the first homes have no log.
_DROPPED = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT polname, polrelid::regclass AS relation FROM pg_policy JOIN pg_class c ON c.oid = polrelid
        WHERE relnamespace = current_schema()::regnamespace
          AND polname = ANY ('{{{policies}}}') AND relname = ANY ('{{{tables}}}')
    LOOP
        EXECUTE format('DROP POLICY %I ON %s', one.polname, one.relation);
    END LOOP;
    IF to_regclass('{log}') IS NOT NULL THEN
        REVOKE ALL ON {log} FROM {traffic};
    END IF;
END $$
"""
# $1 are homes, $2 the name of the policies and $3 their number, $4 the views, $5 the one that reads the log, and $6 the
# role that it belongs to. Each policy is for three roles.
_LACKING = """
SELECT h.schema, CASE
    WHEN coalesce(p.policies, 0) < $3 THEN format('a policy %s is missing', $2::text)
    WHEN coalesce(v.views, 0) < cardinality($4::text[]) THEN 'a view is missing'
    ELSE format('%s does not belong to %s', $5::text, $6::text)
END
FROM unnest($1::text[]) h (schema)
LEFT JOIN (
    SELECT n.nspname, count(*) AS policies
    FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE p.polname = $2::text AND NOT p.polpermissive AND p.polcmd = '*' AND cardinality(p.polroles) = 3 GROUP BY 1
) p ON p.nspname = h.schema
LEFT JOIN (
    SELECT n.nspname, count(*) AS views,
        bool_or(c.relname = $5::text AND pg_get_userbyid(c.relowner) = $6::text) AS is_owned
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'v' AND c.relname = ANY ($4) GROUP BY 1
) v ON v.nspname = h.schema
WHERE coalesce(p.policies, 0) < $3 OR coalesce(v.views, 0) < cardinality($4::text[]) OR NOT v.is_owned
"""


@cache
def policies() -> Mapping[str, str]:
    """The conditions of the policies, in SQL, by table."""
    made = {table.name: visibility.condition_in_sql(table) for table in metadata.sorted_tables}
    return {name: condition for name, condition in made.items() if condition is not None}


def condition(strategy: Strategy, name: str) -> str:
    """The condition of the policy of a table, which is evaluated only for rows of the bound tenant.

    PostgreSQL evaluates conditions in the order of their cost. If the rule of a table cost no more than the comparison
    of the tenant, it would be evaluated for other tenants' rows as well, and whether it was shows in EXPLAIN ANALYZE:
    that would reveal what these rows contain. So it costs more: see isola.subjects.visibility.IN_ORDER.
    Comparisons with the user are repeated after that of the tenant, which costs the same, so that indexes serve them.
    """
    rule, proved = policies()[name], strategy.proved(quoted(name))
    if proved is None:
        return rule
    in_order = visibility.IN_ORDER.format(first=proved, rule=rule)
    served = visibility.of_user_in_sql(metadata.tables[name])
    return " AND ".join([proved, *served, in_order]) if served else in_order


def _check(name: str) -> str:
    """The condition of new and changed rows of a table with a policy.

    A change may hide a row from the user who makes it. But nobody makes a pair with a hidden row: an error of its
    foreign key would also tell whether the row exists.
    """
    return "true" if visibility.rule_of(metadata.tables[name]) is not None else policies()[name]


@cache
def read_for_users() -> Mapping[str, Sequence[str]]:
    """The columns, by table, that policies and the view of the log read on behalf of users, beside the log itself."""
    read = visibility.columns_read(masked())
    for table in metadata.sorted_tables:
        read |= visibility.columns_read_by_rule(table)
    found: dict[str, list[str]] = {}
    for name, column in sorted(read):
        if name != audit_entries.name:
            found.setdefault(name, []).append(column)
    return found


@cache
def _log(further: tuple[str, ...]) -> str:
    return visibility.in_sql(masked(further))


@cache
def _statistics() -> str:
    return visibility.in_sql(daily())


@cache
def digest(application: str) -> str:
    """A digest of what an application adds: its visibility rules, its tables, its subjects in the view of the log."""
    tables = [table for table in metadata.sorted_tables if table.info.get("application", BUILT_IN) == application]
    rules = [
        f"{table.name}: {policies()[table.name]}, {_check(table.name)}" for table in tables if table.name in policies()
    ]
    views = [visibility.in_sql(masked(tables=tables)), *([_statistics()] if application == BUILT_IN else [])]
    read = [f"{table.name} {family_policies.VERSION}" for table in tables if table in family_policies.tables()]
    return sha256("\n".join((visibility.IN_ORDER, *rules, *views, *read)).encode()).hexdigest()[:16]


def clear_caches() -> None:
    """Clear the caches of all definitions, after a change of declarations."""
    visibility.clear_caches()
    for cached in (policies, read_for_users, _log, _statistics, digest):
        cached.cache_clear()


def drop(strategy: Strategy, home: Home) -> Sequence[str]:
    """Statements that drop the policies and the views of a home, in its schema.

    Tables of applications that are not installed here keep their policies.
    """
    tables, traffic = ",".join(metadata.tables), _traffic(strategy, home)
    policies = f"{POLICY},{family_policies.READS},{family_policies.ROWS}"
    return (
        f"DROP VIEW IF EXISTS {audit_log.name}, {STATISTICS}",
        _DROPPED.format(policies=policies, tables=tables, log=audit_entries.name, traffic=traffic),
    )


def create(strategy: Strategy, home: Home, roles: Roles) -> Iterator[str]:
    """Statements that create them.

    Policies hold for tenant traffic, and for the roles that read on behalf of users: in the view, for partners, and for
    sessions with a ticket. They do not hold for the roles that count and log all rows, nor for the owner.
    """
    traffic = _traffic(strategy, home)
    for name in policies():
        yield (
            f"CREATE POLICY {POLICY} ON {quoted(name)} AS RESTRICTIVE "
            f"TO {traffic}, {roles.sharing}, {roles.sql_functions} "
            f"USING ({condition(strategy, name)}) WITH CHECK ({_check(name)})"
        )
    yield from family_policies.create(strategy, home, roles)
    yield f"GRANT SELECT ON {audit_entries.name} TO {roles.sharing}"
    for name, columns in read_for_users().items():
        readers = f"{roles.sharing}, {roles.sql_functions}"
        yield f"GRANT SELECT ({', '.join(map(quoted, columns))}) ON {quoted(name)} TO {readers}"
    # With the rights of the reader, and so under the reader's policies.
    yield f"CREATE VIEW {STATISTICS} WITH (security_invoker = true) AS {_statistics()}"
    physical = strategy.shape(audit_entries, MetaData()).columns
    further = tuple(column.name for column in physical if column.name not in audit_entries.c)
    yield f"CREATE VIEW {audit_log.name} AS {_log(further)}"
    yield f"GRANT SELECT ON {STATISTICS}, {audit_log.name} TO {traffic}"
    yield f"GRANT CREATE ON SCHEMA {home.schema} TO {roles.sharing}"
    yield f"ALTER VIEW {audit_log.name} OWNER TO {roles.sharing}"
    yield f"REVOKE CREATE ON SCHEMA {home.schema} FROM {roles.sharing}"


async def lacking(owner: Transaction, homes: Iterable[Home], roles: Roles) -> Mapping[str, str]:
    """The homes, by schema, in which a policy or view is missing, or the log is read with other rights; with which."""
    schemas, views = [home.schema for home in homes], [STATISTICS, audit_log.name]
    return await owner.pairs(_LACKING, schemas, POLICY, len(policies()), views, audit_log.name, roles.sharing)


def is_touched(revisions: str) -> bool:
    """Whether the SQL of revisions names a table that policies or views read: its columns cannot be altered then."""
    names = {audit_entries.name, spans.name, *policies(), *read_for_users()}
    return any(re.search(rf"\b{name}\b", revisions) for name in names)


def _traffic(strategy: Strategy, home: Home) -> str:
    """The role of tenant traffic in a home."""
    return home.role or strategy.login
