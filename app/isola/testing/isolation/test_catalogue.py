"""Checks every table, view, function and role in PostgreSQL's catalogue.

Each query returns offenders from the catalogue, so objects that a later migration adds are checked too.
"""

from collections.abc import Sequence

import pytest

from isola.database.transactions import Database
from isola.installed import metadata
from isola.platform import family_policies, received, rights
from isola.platform.roles import Roles
from isola.platform.shares import disabled_users, received_shares, shares as share_table
from isola.platform.tenants import Tenant
from isola.platform.visibility import POLICY, STATISTICS
from isola.subjects import visibility
from isola.subjects.audit import READABLE, audit_entries, audit_log, audit_visibility, masked
from isola.subjects.search import words_of
from isola.subjects.shares import own_shares
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import TABLES, discriminators
from isola_strategies.base import Capability, Strategy

# Relations in the homes on which roles other than the owner have privileges: not the table of revisions.
REACHED_RELATIONS = """
SELECT DISTINCT c.oid, c.oid::regclass::text AS name, c.relname, n.nspname, c.relrowsecurity, c.relforcerowsecurity,
    c.relkind
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
CROSS JOIN LATERAL (
    SELECT grantee FROM aclexplode(c.relacl)
    UNION ALL SELECT e.grantee FROM pg_attribute t, aclexplode(t.attacl) e WHERE t.attrelid = c.oid
) a
WHERE n.nspname = ANY ($1::text[]) AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND a.grantee <> c.relowner
"""
REACHED = f"SELECT * FROM ({REACHED_RELATIONS}) every WHERE relkind <> 'v'"
VIEWS = (audit_log.name, STATISTICS)
OUTSIDE_THE_SYSTEM = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"


@pytest.fixture
async def owner(owner: Database) -> Database:
    """The owner of a database without extensions: PUBLIC may use their objects, which are not Isola's."""
    async with owner.unbound() as work:
        await work.script("DROP EXTENSION IF EXISTS pg_stat_statements")
    return owner


@pytest.fixture
def homes(strategy: Strategy, a: Tenant, b: Tenant) -> list[str]:
    return sorted({home.schema for home in strategy.homes([a.id, b.id])})


async def offenders(owner: Database, sql: str, *values: object) -> Sequence[str]:
    async with owner.unbound() as transaction:
        return await transaction.texts(sql, *values)


def guarded(strategy: Strategy) -> None:
    if Capability.POLICIES not in strategy.capabilities:
        pytest.skip("no two tenants share a table")


async def test_tenants_reach_the_declared_tables_and_no_others(owner: Database, homes: list[str]) -> None:
    found = await offenders(owner, f"SELECT nspname || '.' || relname FROM ({REACHED}) r ORDER BY 1", homes)
    assert found == sorted(f"{home}.{table}" for home in homes for table in metadata.tables)
    views = f"SELECT nspname || '.' || relname FROM ({REACHED_RELATIONS}) r WHERE relkind = 'v' ORDER BY 1"
    assert await offenders(owner, views, homes) == sorted(f"{home}.{view}" for home in homes for view in VIEWS)


async def test_nobody_but_the_owner_owns_a_home_or_what_is_in_it(owner: Database, homes: list[str]) -> None:
    """Whoever owns a table can turn off its policies. Views read with the rights of their owners, which differ."""
    owned = """
        SELECT nspname || '.' || name FROM pg_namespace n JOIN (
            SELECT oid AS schema, nspname AS name, nspowner AS by FROM pg_namespace
            UNION ALL SELECT relnamespace, relname, relowner FROM pg_class WHERE relkind <> 'v'
            UNION ALL SELECT pronamespace, proname, proowner FROM pg_proc
        ) o ON o.schema = n.oid
        WHERE nspname = ANY ($1::text[]) AND by <> (SELECT oid FROM pg_roles WHERE rolname = current_user)
    """
    assert await offenders(owner, owned, homes) == []


async def test_row_level_security_is_enabled_and_forced(strategy: Strategy, owner: Database, homes: list[str]) -> None:
    guarded(strategy)
    unguarded = f"SELECT name FROM ({REACHED}) r WHERE NOT (relrowsecurity AND relforcerowsecurity)"
    assert await offenders(owner, unguarded, homes) == []


async def test_one_policy_of_plain_equality_holds_all_commands_and_roles(
    strategy: Strategy, owner: Database, homes: list[str]
) -> None:
    guarded(strategy)
    sql = f"""
        SELECT name FROM ({REACHED}) r
        LEFT JOIN pg_policy p ON p.polrelid = r.oid AND p.polpermissive AND p.polname <> '{family_policies.READS}'
        GROUP BY name
        HAVING count(p.oid) <> 1 OR NOT bool_and(
            p.polcmd = '*' AND p.polroles = '{{0}}'
            AND pg_get_expr(p.polqual, p.polrelid) = $2 AND pg_get_expr(p.polwithcheck, p.polrelid) = $3
        )
    """
    equality = "(tenant_id = ( SELECT isola.current_tenant_id() AS current_tenant_id))"
    first = "((tenant_id, true) = ( SELECT isola.current_tenant_id() AS current_tenant_id,\n    true))"
    assert await offenders(owner, sql, homes, first, equality) == []


async def test_the_restrictive_policies_are_those_of_visibility_rules(
    strategy: Strategy, owner: Database, copy: Copy, a: Tenant, b: Tenant
) -> None:
    """One for each table with a rule, and for each table of pairs of such rows, for all commands of tenant traffic.

    And one for each table that tenants above read, for the role that reads it.

    A change may hide a row from the user who makes it, but nobody makes a pair with a hidden row.
    """
    found = """
        SELECT format('%s.%s %s %s %s for %s', n.nspname, c.relname, p.polname, p.polcmd,
            CASE pg_get_expr(p.polwithcheck, p.polrelid) WHEN 'true' THEN 'any row' ELSE 'visible rows' END,
            (SELECT string_agg(role::regrole::text, ', ' ORDER BY role::regrole::text) FROM unnest(p.polroles) role))
        FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT p.polpermissive AND n.nspname = ANY ($1)
    """
    homes = {home.schema: home.role or copy.where.tenant_login for home in strategy.homes([a.id, b.id])}
    expected = {
        f"{home}.{table.name} {POLICY} * {written} for "
        f"{', '.join(sorted([role, 'isola_sharing', 'isola_sql_functions']))}"
        for home, role in homes.items()
        for table in metadata.sorted_tables
        for ruled in [visibility.rule_of(table) is not None]
        for written in ["any row" if ruled else "visible rows"]
        if ruled or visibility.hidden_ends(table)
    }
    assert expected
    if Capability.FAMILIES in strategy.capabilities:
        expected |= {
            f"{home}.{table.name} {family_policies.ROWS} * visible rows for isola_family"
            for home in homes
            for table in family_policies.tables()
        }
    assert set(await offenders(owner, found, list(homes))) == expected


async def test_the_role_that_reads_descendants_reads_all_but_the_log_under_policies_of_its_own(
    strategy: Strategy, owner: Database, homes: list[str]
) -> None:
    """The policy that admits rows is restricted by one that asks for the descendants, and for nothing first."""
    if Capability.FAMILIES not in strategy.capabilities:
        pytest.skip("no tenant above reads these tables")
    read = {f"{home}.{table.name}" for home in homes for table in family_policies.tables()}
    policies = """
        SELECT DISTINCT format('%s.%s', n.nspname, c.relname) FROM pg_policy p
        JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY ($1) AND p.polroles = ARRAY['isola_family'::regrole::oid]
          AND (p.polpermissive AND p.polname = $2 AND p.polcmd = 'r' AND pg_get_expr(p.polqual, p.polrelid) = 'true'
               OR NOT p.polpermissive AND p.polname = $3 AND p.polcmd = '*'
                  AND pg_get_expr(p.polwithcheck, p.polrelid) = 'false'
                  AND pg_get_expr(p.polqual, p.polrelid) ~ format($4, n.nspname))
        GROUP BY n.nspname, c.relname HAVING count(*) = 2
    """
    first = r"^\(+ SELECT \(isola\.family\(''%s''::text\) <> ''\{\}''::uuid\[\]\)"
    names = family_policies.READS, family_policies.ROWS
    assert set(await offenders(owner, policies, homes, *names, first.replace("''", "'"))) == read
    rights_held = """
        SELECT format('%s.%s %s', n.nspname, c.relname, a.privilege_type)
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
        WHERE a.grantee = 'isola_family'::regrole
          AND (n.nspname = ANY ($1) OR n.nspname IN ('control', 'isola', 'public'))
        UNION ALL
        SELECT format('%s %s', a.attrelid::regclass, a.attname) FROM pg_attribute a, aclexplode(a.attacl) e
        WHERE e.grantee = 'isola_family'::regrole
    """
    assert set(await offenders(owner, rights_held, homes)) == {f"{table} SELECT" for table in read}
    executed = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND has_function_privilege('isola_family', p.oid, 'EXECUTE')
    """
    called = {*rights.CALLED_BY_ALL, *rights.CALLED_BY_FAMILY, rights.MEASURED}
    assert {each.replace(",", ", ") for each in await offenders(owner, executed)} == called
    powers = """
        SELECT rolname FROM pg_roles WHERE rolname = 'isola_family'
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolcanlogin)
        UNION ALL
        SELECT roleid::regrole::text FROM pg_auth_members WHERE member = 'isola_family'::regrole
    """
    assert await offenders(owner, powers) == []


async def test_every_index_and_key_begins_with_the_tenant(
    strategy: Strategy, owner: Database, homes: list[str]
) -> None:
    """Constraint checks bypass policies: a key without the tenant would reveal other tenants' rows."""
    guarded(strategy)
    [discriminator] = {column for table in TABLES for column in discriminators(strategy, table)}
    indexes = f"""
        SELECT i.indexrelid::regclass::text FROM pg_index i JOIN ({REACHED}) r ON r.oid = i.indrelid
        LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = i.indkey[0]
        WHERE a.attname IS DISTINCT FROM $2 OR i.indexprs IS NOT NULL
    """
    assert await offenders(owner, indexes, homes, discriminator) == []
    foreign_keys = f"""
        SELECT k.conname FROM pg_constraint k JOIN ({REACHED}) r ON r.oid = k.conrelid AND k.contype = 'f'
        JOIN pg_attribute here ON here.attrelid = k.conrelid AND here.attnum = k.conkey[1]
        JOIN pg_attribute there ON there.attrelid = k.confrelid AND there.attnum = k.confkey[1]
        WHERE here.attname <> $2 OR there.attname <> $2
           OR k.confdeltype IN ('n', 'd') AND (k.confdelsetcols IS NULL OR k.conkey[1] = ANY (k.confdelsetcols))
    """
    assert await offenders(owner, foreign_keys, homes, discriminator) == []
    exclusions = f"SELECT k.conname FROM pg_constraint k JOIN ({REACHED}) r ON r.oid = k.conrelid AND k.contype = 'x'"
    assert await offenders(owner, exclusions, homes) == []


async def test_the_tenant_of_a_row_is_never_null(strategy: Strategy, owner: Database, homes: list[str]) -> None:
    guarded(strategy)
    [discriminator] = {column for table in TABLES for column in discriminators(strategy, table)}
    sql = f"""
        SELECT name FROM ({REACHED}) r LEFT JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = $2
        LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
        WHERE a.attnotnull IS NOT TRUE OR a.atttypid <> 'uuid'::regtype
           OR pg_get_expr(d.adbin, r.oid) IS DISTINCT FROM 'isola.claimed_tenant_id()'
    """
    assert await offenders(owner, sql, homes, discriminator) == []


async def test_no_foreign_key_leaves_its_schema(owner: Database) -> None:
    sql = """
        SELECT k.conname FROM pg_constraint k
        JOIN pg_class f ON f.oid = k.conrelid JOIN pg_class t ON t.oid = k.confrelid
        WHERE k.contype = 'f' AND f.relnamespace <> t.relnamespace
    """
    assert await offenders(owner, sql) == []


async def test_no_trigger_but_those_of_the_log_and_of_words_and_no_rule_stands_behind_a_table(
    owner: Database, homes: list[str]
) -> None:
    """They would run with other privileges and at other times than the statement."""
    triggers = f"""
        SELECT format('%s.%s %s', r.nspname, r.relname, t.tgfoid::regproc)
        FROM pg_trigger t JOIN ({REACHED}) r ON r.oid = t.tgrelid WHERE NOT tgisinternal AND tgenabled = 'O'
    """
    audited = [name for name, table in metadata.tables.items() if "audited" in table.info]
    searched = [name for name, table in metadata.tables.items() if words_of(table) is not None]
    expected = [f"{home}.{table} isola.audit" for home in homes for table in audited for _ in range(3)]
    expected += [f"{home}.{table} isola.keep_words" for home in homes for table in searched for _ in range(2)]
    consuming = [name for name, table in metadata.tables.items() if "consumes" in table.info]
    expected += [f"{home}.{table} isola.consume_rows" for home in homes for table in consuming]
    expected += [f"{home}.{users.name} isola.note_disabled" for home in homes for _ in range(3)]
    assert sorted(await offenders(owner, triggers, homes)) == sorted(expected)
    rules = f"SELECT rulename FROM pg_rewrite w JOIN ({REACHED}) r ON r.oid = w.ev_class"
    assert await offenders(owner, rules, homes) == []


async def test_a_log_is_readable_by_its_tenant_through_its_view_and_writable_only_by_its_triggers(
    strategy: Strategy, owner: Database, copy: Copy, a: Tenant, b: Tenant
) -> None:
    """Tenant traffic reads the columns of the table that contain no values of rows, and the view."""
    rights = f"""
        SELECT format('%s.%s %s %s', r.nspname, r.relname, a.grantee::regrole, a.privilege_type)
        FROM ({REACHED_RELATIONS}) r JOIN pg_class c ON c.oid = r.oid, aclexplode(c.relacl) a
        WHERE a.grantee <> c.relowner
          AND (a.grantee::regrole::text ~ '^isola_(audit|sharing)$' OR r.relname ~ '^audit_')
    """
    columns = f"""
        SELECT format('%s.%s %s %s %s', r.nspname, r.relname, a.grantee::regrole, a.privilege_type, t.attname)
        FROM ({REACHED_RELATIONS}) r JOIN pg_attribute t ON t.attrelid = r.oid, aclexplode(t.attacl) a
        WHERE r.relname ~ '^audit_' AND a.grantee <> 'isola_sharing'::regrole
    """
    homes = {home.schema: home.role or copy.where.tenant_login for home in strategy.homes([a.id, b.id])}
    assert set(await offenders(owner, rights, list(homes))) == {
        *(
            f"{home}.audit_entries {right}"
            for home in homes
            for right in (
                "isola_audit INSERT",
                "isola_retention DELETE",
                "isola_retention SELECT",
                "isola_sharing SELECT",
            )
        ),
        *(f"{home}.audit_log {role} SELECT" for home, role in homes.items()),
    }
    assert set(await offenders(owner, columns, list(homes))) == {
        f"{home}.audit_entries {role} SELECT {column}" for home, role in homes.items() for column in READABLE
    }
    assert not {"old", "new", "hash"} & set(READABLE)


def test_every_table_is_audited_or_read_only() -> None:
    forgotten = {name for name, table in metadata.tables.items() if not {"audited", "readable"} & table.info.keys()}
    assert forgotten == set()


async def test_rights_on_tables_are_to_rows_alone(owner: Database, copy: Copy, homes: list[str]) -> None:
    sql = f"""
        SELECT format('%s %s %s', a.grantee::regrole, a.privilege_type, r.name)
        FROM ({REACHED}) r JOIN pg_class c ON c.oid = r.oid, aclexplode(c.relacl) a
        WHERE a.grantee <> c.relowner
          AND (a.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE') OR a.is_grantable
               OR a.grantee::regrole::text <> ALL (ARRAY[
                   $2, r.nspname, 'isola_audit', 'isola_family', 'isola_retention', 'isola_sharing',
                   'isola_sql_functions', 'isola_storage', 'isola_words'
               ]))
    """
    assert await offenders(owner, sql, homes, copy.where.tenant_login) == []


async def test_public_has_no_rights(owner: Database) -> None:
    """PUBLIC is every existing and future role. Its USAGE on the empty schema public is PostgreSQL's default."""
    sql = f"""
        SELECT format('%s %s', a.privilege_type, o.name) FROM (
            SELECT c.oid::regclass::text AS name, c.relacl AS acl FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OUTSIDE_THE_SYSTEM}
            UNION ALL
            SELECT format('%s.%s', attrelid::regclass, attname), attacl
            FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
            JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {OUTSIDE_THE_SYSTEM}
            UNION ALL
            SELECT p.oid::regprocedure::text, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p
            JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {OUTSIDE_THE_SYSTEM}
            UNION ALL
            SELECT nspname, nspacl FROM pg_namespace n WHERE {OUTSIDE_THE_SYSTEM} AND nspname <> 'public'
            UNION ALL
            SELECT 'by default', defaclacl FROM pg_default_acl
        ) o, aclexplode(o.acl) a
        WHERE a.grantee = 0
        UNION ALL
        SELECT format('%s database', privilege) FROM unnest(ARRAY['CREATE', 'TEMPORARY']) privilege
        WHERE has_database_privilege('public', current_database(), privilege)
        UNION ALL
        SELECT 'CREATE public' WHERE has_schema_privilege('public', 'public', 'CREATE')
    """
    assert await offenders(owner, sql) == []


async def test_the_schema_public_is_empty(owner: Database) -> None:
    sql = """
        SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    """
    assert await offenders(owner, sql) == []


async def test_outside_of_homes_tenant_traffic_reads_its_own_shares_and_what_it_receives_alone(
    owner: Database, copy: Copy
) -> None:
    """By views: it cannot name the tables. Not whether a recipient exists."""
    readers = [copy.where.tenant_login, "isola_members"]
    columns = """
        SELECT DISTINCT format('%s.%s %s', c.relname, a.attname, has_table_privilege(
            r.rolname, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER'
        ) OR has_any_column_privilege(r.rolname, c.oid, 'INSERT, UPDATE, REFERENCES'))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
        JOIN pg_roles r ON r.rolname = ANY ($1)
        WHERE n.nspname IN ('control', 'isola', 'received') AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND a.attnum > 0
          AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')
    """
    read = {column.name for column in share_table.columns} - {"grantee_id"}
    expected = {f"shares.{name} f" for name in read} | {f"own_shares.{column.name} f" for column in own_shares.columns}
    for table in (disabled_users, received_shares):
        expected |= {f"{table.name}.{column.name} f" for column in table.columns}
    expected.add("received_now.id f")
    copied = """
        SELECT format('%s.%s f', relname, attname) FROM pg_class c JOIN pg_attribute ON attrelid = c.oid AND attnum > 0
        WHERE relnamespace = 'received'::regnamespace AND relkind = 'r'
           OR relnamespace = 'isola'::regnamespace AND relname LIKE 'received%' AND relkind = 'v'
    """
    assert set(await offenders(owner, columns, readers)) == expected | set(await offenders(owner, copied))
    policies = """
        SELECT DISTINCT qual FROM pg_policies
        WHERE tablename = $2 AND roles && $1::text[]::name[] AND cmd = 'SELECT'
    """
    [rule] = await offenders(owner, policies, readers, "shares")
    assert " ".join(rule.split()).startswith("((owner_id = ( SELECT isola.bound_tenant() AS bound_tenant)) AND (")
    [rule] = await offenders(owner, policies, readers, "received_shares")
    assert " ".join(rule.split()) == "(grantee_id = ( SELECT isola.bound_tenant() AS bound_tenant))"
    rows = "SELECT relname FROM pg_class WHERE relnamespace = 'control'::regnamespace AND relrowsecurity"
    assert sorted(await offenders(owner, rows)) == ["received_shares", "shares"]
    of_copies = """
        SELECT format('%s %s', c.relrowsecurity, string_agg(p.cmd || ' ' || split_part(p.qual, ' AND ', 1), ','))
        FROM pg_class c LEFT JOIN pg_policies p ON p.schemaname = 'received' AND p.tablename = c.relname
            AND p.roles && $1::text[]::name[]
        WHERE c.relnamespace = 'received'::regnamespace AND c.relkind = 'r' GROUP BY c.oid
    """
    own = "t SELECT ((grantee_id = ( SELECT isola.bound_tenant() AS bound_tenant))"
    assert set(await offenders(owner, of_copies, readers)) == {own}


async def test_views_run_with_the_rights_of_who_reads_them(owner: Database) -> None:
    """But the view of the log, which runs as a role that policies apply to, and which nobody can write to."""
    views = f"""
        SELECT concat_ws(' ', c.relname, c.relowner::regrole, pg_relation_is_updatable(c.oid, true))
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND c.relkind = 'v'
          AND NOT coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false)
    """
    assert set(await offenders(owner, views)) == {"audit_log isola_sharing 0"}
    # A materialized view contains rows read by its owner, to whom the tenant's binding does not apply.
    materialised = f"""
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
        aclexplode(c.relacl) a WHERE {OUTSIDE_THE_SYSTEM} AND c.relkind = 'm' AND a.grantee <> c.relowner
    """
    assert await offenders(owner, materialised) == []


async def test_security_definer_functions_set_their_search_path(owner: Database) -> None:
    """With pg_temp last: if it is not listed, it is searched first."""
    sql = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND p.prosecdef
          AND NOT coalesce(p.proconfig && ARRAY['search_path=pg_catalog, pg_temp'], false)
    """
    assert await offenders(owner, sql) == []


async def test_functions_that_read_other_tenants_print_no_plans(owner: Database) -> None:
    """With debug_print_plan, which everybody may set, the client would get the values that their statements use.

    Three that run for each statement or each mutation are not asked: they use values of the bound tenant alone, and the
    key of proofs, which is in no plan.
    """
    sql = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND p.prosecdef AND p.proowner::regrole::text = 'isola_sharing'
          AND p.proname <> ALL (ARRAY['proved_tenant_id', 'claim_answer', 'keep_answer'])
          AND NOT coalesce(p.proconfig && ARRAY['client_min_messages=error'], false)
    """
    assert await offenders(owner, sql) == []


async def test_security_definer_functions_run_as_roles_with_minimal_rights(owner: Database) -> None:
    sql = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND p.prosecdef
          AND p.proowner::regrole::text <> CASE
              WHEN p.proname ~ '^(audit|feed|seal|unsealed)' THEN 'isola_audit'
              WHEN p.proname ~ '^(plan|quota|used)' THEN 'isola_quotas'
              WHEN p.proname = 'end_sessions' THEN 'isola_watchdog'
              WHEN p.proname = 'keep_words' THEN 'isola_words'
              WHEN p.proname = 'measure_rows' THEN 'isola_storage'
              WHEN p.oid = ANY ($2::text[]::regprocedure[]) THEN 'isola_retention'
              WHEN p.oid = ANY ($1::text[]::regprocedure[]) THEN 'isola_sql_functions'
              ELSE 'isola_sharing'
          END
    """
    assert await offenders(owner, sql, list(rights.AS_SQL), list(rights.AS_RETENTION)) == []


async def test_functions_that_set_the_tenant_require_a_bound_transaction(owner: Database) -> None:
    """Every SECURITY DEFINER function first checks its caller: isola.bound_tenant() raises an error if unbound.

    isola.entered() does, in functions for SQL sessions. isola.proved_tenant_id() then returns no tenant, and so do
    functions that only read the log. Two read nothing but the declarations of subjects. isola.family() asks
    isola.family_list(). isola.copy_all() is for who owns the database and binds no tenant.
    """
    sql = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND p.prosecdef
          AND p.proname <> ALL (ARRAY[
              'bound_tenant', 'proved_tenant_id', 'proof', 'proof_of', 'audit_platform', 'end_sessions', 'seal',
                  'open_subjects', 'shared_of', 'family', 'copy_all'
          ])
          AND p.prorettype <> 'trigger'::regtype
          AND coalesce(p.prosrc, '') || pg_get_functiondef(p.oid) !~ 'isola\\.((bound|proved)_tenant|entered\\()'
    """
    assert await offenders(owner, sql) == []


async def test_the_log_of_the_platform_is_written_by_the_control_plane_and_by_what_was_announced_to_it(
    owner: Database, copy: Copy
) -> None:
    sql = f"""
        SELECT rolname FROM pg_roles WHERE NOT rolsuper
          AND has_function_privilege(rolname, '{rights.NOTE_PLATFORM}', 'EXECUTE')
    """
    may = {copy.where.control_login, "isola_sharing", "isola_audit"}
    async with owner.unbound() as work:
        assert set(await work.texts(sql)) - {await work.value("SELECT current_user")} == may


async def test_the_quota_role_reads_only_counted_columns(owner: Database, homes: list[str]) -> None:
    """The readable columns: ids, and times of beginning and end. It can also write its counts."""
    sql = f"""
        SELECT format('%s.%s %s', c.relname, a.attname, acl.privilege_type) FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(a.attacl) acl
        WHERE {OUTSIDE_THE_SYSTEM} AND acl.grantee = 'isola_quotas'::regrole AND n.nspname = ANY ($1)
    """
    read = [
        f"{table.name}.{column} SELECT"
        for table in TABLES
        if (counted := table.info.get("counted")) is not None
        for column in counted.columns or table.primary_key.columns.keys()
    ]
    assert sorted(await offenders(owner, sql, homes)) == sorted(read * len(homes))
    whole = f"""
        SELECT format('%s %s', c.relname, acl.privilege_type) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) acl
        WHERE {OUTSIDE_THE_SYSTEM} AND acl.grantee = 'isola_quotas'::regrole
    """
    bounds = [f"quota_bounds {each}" for each in ("INSERT", "SELECT", "UPDATE")]
    turns = [each.replace("bounds", "turns") for each in bounds]
    assert sorted(await offenders(owner, whole)) == ["counted SELECT", *bounds, *turns]


async def test_a_tenants_role_can_use_only_its_own_schema_and_common_functions(
    strategy: Strategy, owner: Database, a: Tenant, b: Tenant
) -> None:
    if strategy.home(a.id).role is None:
        pytest.skip("transactions run as the login")
    for tenant in (a, b):
        home = strategy.home(tenant.id)
        entered = (
            f"SELECT nspname FROM pg_namespace n WHERE {OUTSIDE_THE_SYSTEM} AND has_schema_privilege($1, oid, 'USAGE')"
        )
        assert sorted(await offenders(owner, entered, home.role)) == sorted({home.schema, "isola", "public"})
        created = (
            f"SELECT nspname FROM pg_namespace n WHERE {OUTSIDE_THE_SYSTEM} AND has_schema_privilege($1, oid, 'CREATE')"
        )
        assert await offenders(owner, created, home.role) == []
        become = "SELECT rolname FROM pg_roles WHERE pg_has_role($1, oid, 'MEMBER') ORDER BY 1"
        assert sorted(await offenders(owner, become, home.role)) == sorted([str(home.role), "isola_members"])
        read = f"""
            SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE {OUTSIDE_THE_SYSTEM} AND n.nspname <> $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
              AND (has_table_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
                   OR has_any_column_privilege($1, c.oid, 'SELECT, INSERT, UPDATE, REFERENCES'))
        """
        views = {f"isola.received_{table.info['audited'].subject}" for table in received.tables()}
        copies = {f"received.{table.name}" for table in received.tables()}
        others = {"control.shares", "isola.own_shares", "control.received_shares", "control.received_now"}
        others.add("control.disabled_users")
        assert set(await offenders(owner, read, home.role, home.schema)) == others | views | copies


async def test_the_login_itself_reaches_tables_that_tenants_share_and_no_tenants_own(
    strategy: Strategy, owner: Database, copy: Copy, homes: list[str], a: Tenant, b: Tenant
) -> None:
    """If a home has a role, the login needs no privileges before it switches to that role."""
    reached = """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY ($2) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_any_column_privilege($1, c.oid, 'SELECT')
    """

    def tables(of: set[str]) -> set[str]:
        return {f"{home}.{table}" for home in of for table in (*metadata.tables, *VIEWS)}

    needed = {home.schema for home in strategy.homes([a.id, b.id]) if home.role is None}
    shared = set(homes) if Capability.POLICIES in strategy.capabilities else set()
    found = set(await offenders(owner, reached, copy.where.tenant_login, homes))
    assert tables(needed) <= found <= tables(shared)


async def test_tenant_traffic_cannot_access_the_control_plane(owner: Database, copy: Copy) -> None:
    sql = """
        SELECT rolname FROM pg_roles
        WHERE pg_has_role($1, oid, 'MEMBER') AND has_schema_privilege(oid, 'control', 'USAGE')
    """
    assert await offenders(owner, sql, copy.where.tenant_login) == []


async def test_the_sharing_role_reads_the_shared_columns_and_nothing_else(
    strategy: Strategy, owner: Database, homes: list[str]
) -> None:
    """It also reads what visibility rules and the view of the log need, on behalf of the user who reads.

    And whether the user of a ticket is disabled, and which roles that user has; and the caps of customers.
    """
    read = {("users", "id"), ("users", "disabled_at")}
    read |= {("tiers", "id"), ("tiers", "usage_caps"), ("tier_customers", "name"), ("tier_customers", "tier_id")}
    read |= {("user_roles", "user_id"), ("user_roles", "role_id"), ("roles", "id"), ("roles", "permissions")}
    shared = [table for table in TABLES if "shared_columns" in table.info]
    read |= {(table.name, column) for table in shared for column in ("id", *table.info["shared_columns"])}
    for table in metadata.sorted_tables:
        read |= visibility.columns_read_by_rule(table)
        if visibility.rule_of(table) is not None:
            read.add((table.name, "id"))
    logged = {column.name for column in audit_entries.columns}
    read |= {(audit_log.name, column.name) for column in (*audit_log.columns, *audit_visibility.columns)}
    read |= {(audit_entries.name, name) for name in logged}
    for name in discriminators(strategy, audit_entries):
        read |= {(audit_entries.name, name), (audit_log.name, name)}
    declared = {f"{home}.{table}.{column}" for home in homes for table, column in read}
    columns = """
        SELECT format('%s.%s', c.oid::regclass, a.attname) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_column_privilege('isola_sharing', c.oid, a.attnum, 'SELECT')
    """
    assert set(await offenders(owner, columns, homes)) == declared
    more = """
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND (has_table_privilege('isola_sharing', c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
               OR has_any_column_privilege('isola_sharing', c.oid, 'INSERT, UPDATE, REFERENCES'))
    """
    # It owns the view, which nobody can write to.
    assert set(await offenders(owner, more, homes)) == {f"{home}.{audit_log.name}" for home in homes}


async def test_the_role_of_functions_for_sql_sessions_reads_and_adds_what_they_need_and_nothing_else(
    owner: Database, homes: list[str]
) -> None:
    read = {(table, column) for table, columns in rights.READ_BY_SQL.items() for column in columns}
    for table in metadata.sorted_tables:
        read |= visibility.columns_read_by_rule(table)
    read |= visibility.columns_read(masked())
    columns = """
        SELECT format('%s.%s', c.oid::regclass, a.attname) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_column_privilege('isola_sql_functions', c.oid, a.attnum, 'SELECT')
    """
    expected = {f"{home}.{table}.{column}" for home in homes for table, column in read if table != audit_entries.name}
    assert set(await offenders(owner, columns, homes)) == expected
    more = """
        SELECT format('%s %s', c.oid::regclass, privilege) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace,
        unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
        WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_table_privilege('isola_sql_functions', c.oid, privilege)
    """
    added = {f"{home}.{table} INSERT" for home in homes for table in rights.INSERTED_BY_SQL}
    assert set(await offenders(owner, more, homes)) == added


async def test_the_role_that_keeps_words_reads_adds_and_deletes_them_and_nothing_else(
    owner: Database, homes: list[str]
) -> None:
    words = [each for table in metadata.tables.values() if (each := words_of(table)) is not None]
    columns = """
        SELECT format('%s.%s', c.oid::regclass, a.attname) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
        WHERE n.nspname = ANY ($1 || ARRAY['control', 'isola', 'public']) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_column_privilege('isola_words', c.oid, a.attnum, 'SELECT')
    """
    expected = {
        f"{home}.{each.table.name}.{column.name}" for home in homes for each in words for column in each.table.columns
    }
    assert set(await offenders(owner, columns, homes)) == expected
    changed = """
        SELECT format('%s %s', c.oid::regclass, privilege) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace,
        unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) privilege
        WHERE n.nspname = ANY ($1 || ARRAY['control', 'isola', 'public']) AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
          AND has_table_privilege('isola_words', c.oid, privilege)
    """
    kept = {f"{home}.{each.table.name} {right}" for home in homes for each in words for right in ("DELETE", "INSERT")}
    assert set(await offenders(owner, changed, homes)) == kept
    executed = f"""
        SELECT p.oid::regprocedure::text FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE {OUTSIDE_THE_SYSTEM} AND has_function_privilege('isola_words', p.oid, 'EXECUTE')
    """
    called = {*rights.CALLED_BY_ALL, *rights.AS_WORDS, "isola.audit_of_owner(oid)"}
    assert {each.replace(",", ", ") for each in await offenders(owner, executed)} == called


async def test_tenant_traffic_only_reads_words(owner: Database, copy: Copy, strategy: Strategy, a: Tenant) -> None:
    home = strategy.home(a.id)
    words = [each.table.name for table in metadata.tables.values() if (each := words_of(table)) is not None]
    held = """
        SELECT format('%s %s', c.relname, acl.privilege_type) FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) acl
        WHERE n.nspname = $1 AND c.relname = ANY ($2) AND acl.grantee IN ($3::regrole, 'isola_members'::regrole, 0)
    """
    role = home.role or copy.where.tenant_login
    assert sorted(await offenders(owner, held, home.schema, words, role)) == sorted(f"{each} SELECT" for each in words)


async def test_the_roles_of_functions_have_no_powers_and_only_the_owner_can_become_them(owner: Database) -> None:
    powers = """
        SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolcanlogin)
    """
    assert await offenders(owner, powers, ["isola_members", *Roles().inner]) == []
    members = """
        SELECT r.rolname FROM pg_roles r, unnest($1::text[]) lent
        WHERE NOT r.rolsuper AND pg_has_role(r.oid, lent, 'MEMBER') AND r.rolname NOT IN (lent, current_user)
    """
    assert await offenders(owner, members, list(Roles().inner)) == []


async def test_only_the_control_plane_ends_sessions_and_only_those_of_tenant_traffic(
    owner: Database, copy: Copy
) -> None:
    may = """
        SELECT rolname FROM pg_roles WHERE NOT rolsuper AND rolname NOT IN ('isola_watchdog', current_user)
          AND has_function_privilege(rolname, 'control.end_sessions(text, interval, timestamptz, text[])', 'EXECUTE')
    """
    ended = """
        SELECT rolname FROM pg_roles
        WHERE rolname !~ '^isola_(login_|watchdog)' AND pg_has_role('isola_watchdog', oid, 'USAGE')
    """
    assert await offenders(owner, may) == [copy.where.control_login]
    assert await offenders(owner, ended) == [copy.where.tenant_login]


async def test_the_role_of_a_tenant_has_no_powers_and_nobody_but_the_login_and_the_owner_can_become_it(
    strategy: Strategy, owner: Database, copy: Copy, a: Tenant, b: Tenant
) -> None:
    if strategy.home(a.id).role is None:
        pytest.skip("transactions run as the login")
    roles = [str(strategy.home(tenant.id).role) for tenant in (a, b)]
    powers = """
        SELECT rolname FROM pg_roles WHERE rolname = ANY ($1)
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolcanlogin)
    """
    assert await offenders(owner, powers, roles) == []
    members = """
        SELECT format('%s in %s', member::regrole, roleid::regrole) FROM pg_auth_members
        WHERE roleid::regrole::text = ANY ($1) AND member::regrole::text <> $2 AND member <> current_user::regrole
    """
    assert await offenders(owner, members, roles, copy.where.tenant_login) == []


async def test_the_login_has_no_powers(owner: Database, copy: Copy) -> None:
    powers = """
        SELECT rolname FROM pg_roles WHERE rolname = $1
          AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication OR rolinherit)
    """
    assert await offenders(owner, powers, copy.where.tenant_login) == []
