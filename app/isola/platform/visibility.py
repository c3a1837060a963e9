"""Who may read which rows, in every home: the policies of visibility rules, and the views of the log and of statistics.

They follow from the declarations, so no revision contains them: a migration drops them first, as PostgreSQL refuses to
alter columns that they use, and creates them last. ``isola migrate`` applies the change of a rule like a revision:
homes and the registry have a digest of each application's rules.
"""

import re
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from functools import cache
from hashlib import sha256

from sqlalchemy import MetaData, Table

from isola.database.transactions import Transaction
from isola.installed import metadata
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
_RELEASED = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN
        SELECT polrelid::regclass AS relation FROM pg_policy JOIN pg_class c ON c.oid = polrelid
        WHERE relnamespace = current_schema()::regnamespace AND polname = '{policy}'
    LOOP
        EXECUTE format('DROP POLICY {policy} ON %s', one.relation);
    END LOOP;
    IF to_regclass('{log}') IS NOT NULL THEN
        REVOKE ALL ON {log} FROM {traffic};
    END IF;
END $$
"""


@cache
def digest(application: str) -> str:
    """A digest of the visibility rules of an application; of the one that ships, of the views as well."""
    tables = [table for table in metadata.sorted_tables if table.info.get("application", BUILT_IN) == application]
    parts = [f"{table.name}: {condition}" for table, condition in _conditions() if table in tables]
    if application == BUILT_IN:
        parts += [visibility.in_sql(daily()), visibility.in_sql(masked(tables=tables))]
    return sha256("\n".join(parts).encode()).hexdigest()[:16]


def _conditions() -> Iterator[tuple[Table, str]]:
    for table in metadata.sorted_tables:
        if (condition := visibility.condition_in_sql(table)) is not None:
            yield table, condition


def release(strategy: Strategy, home: Home) -> Sequence[str]:
    """Statements that drop the policies and the views of a home, in its schema."""
    return (
        f"DROP VIEW IF EXISTS {audit_log.name}, {STATISTICS}",
        _RELEASED.format(policy=POLICY, log=audit_entries.name, traffic=_traffic(strategy, home)),
    )


def hold(strategy: Strategy, home: Home, roles: Roles) -> Iterator[str]:
    """Statements that create them.

    Policies hold for tenant traffic, and for the role that reads on behalf of users: in the view, and for partners.
    They do not hold for the roles that count and log all rows, nor for the owner.
    """
    physical = strategy.shape(audit_entries, MetaData())
    query = masked([column.name for column in physical.columns if column.name not in audit_entries.c])
    for table, condition in _conditions():
        # WITH CHECK concerns the tenant alone: a change may hide a row from the user who makes it.
        yield (
            f"CREATE POLICY {POLICY} ON {quoted(table.name)} AS RESTRICTIVE "
            f"TO {_traffic(strategy, home)}, {roles.sharing} USING ({condition}) WITH CHECK (true)"
        )
    yield f"GRANT SELECT ON {audit_entries.name} TO {roles.sharing}"
    for name, columns in read_for_users().items():
        yield f"GRANT SELECT ({', '.join(map(quoted, columns))}) ON {quoted(name)} TO {roles.sharing}"
    # With the rights of the reader, and so under the reader's policies.
    yield f"CREATE VIEW {STATISTICS} WITH (security_invoker = true) AS {visibility.in_sql(daily())}"
    yield f"GRANT SELECT ON {STATISTICS} TO {_traffic(strategy, home)}"
    yield f"CREATE VIEW {audit_log.name} AS {visibility.in_sql(query)}"
    yield f"GRANT SELECT ON {audit_log.name} TO {_traffic(strategy, home)}"
    yield f"GRANT CREATE ON SCHEMA {home.schema} TO {roles.sharing}"
    yield f"ALTER VIEW {audit_log.name} OWNER TO {roles.sharing}"
    yield f"REVOKE CREATE ON SCHEMA {home.schema} FROM {roles.sharing}"


_COMPLETE = """
SELECT nspname FROM pg_namespace n
WHERE nspname = ANY ($1) AND (
    SELECT count(*) FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
    WHERE c.relnamespace = n.oid AND p.polname = $2 AND cardinality(p.polroles) = 2
) = $3 AND (
    SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind = 'v'
      AND (c.relname = $4 OR c.relname = $5 AND pg_get_userbyid(c.relowner) = $6)
) = 2
"""


async def complete(owner: Transaction, homes: Sequence[Home], roles: Roles) -> AbstractSet[str]:
    """Those of the homes, by schema, that have all policies and views."""
    names = [home.schema for home in homes]
    expected = (POLICY, len(restricted()), STATISTICS, audit_log.name, roles.sharing)
    return set(await owner.texts(_COMPLETE, names, *expected))


def is_touched(revisions: str) -> bool:
    """Whether the SQL of revisions names a table that policies or views read: its columns cannot be altered then."""
    names = {audit_entries.name, spans.name, *restricted(), *read_for_users()}
    return any(re.search(rf"\b{name}\b", revisions) for name in names)


def restricted() -> Sequence[str]:
    """The names of the tables that have the policy."""
    return [table.name for table, _ in _conditions()]


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


def _traffic(strategy: Strategy, home: Home) -> str:
    """The role of tenant traffic in a home."""
    return home.role or strategy.login
