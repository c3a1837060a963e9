"""Privileges on schemas, tables and the database, and default privileges on future objects."""

from isola.doctor.check import Check, Severity

CHECKS = (
    Check(
        "GRT001",
        Severity.DANGER,
        "PUBLIC has rights on a table of tenants",
        "Every current and future role has them.",
        """
        SELECT name AS object, string_agg(privilege_type, ', ') AS detail,
            format('REVOKE ALL %sON %s FROM PUBLIC', '(' || column_name || ') ', relation) AS fix
        FROM grants WHERE grantee = 0 AND schema IN (SELECT oid FROM tenant_schemas)
        GROUP BY name, relation, column_name
        """,
    ),
    Check(
        "GRT002",
        Severity.DANGER,
        "PUBLIC has rights on a schema of tenants",
        "Every current and future role can use its objects, if they have a grant to PUBLIC.",
        """
        SELECT name AS object, string_agg(privilege_type, ', ') AS detail,
            format('REVOKE ALL ON SCHEMA %s FROM PUBLIC', name) AS fix
        FROM entries WHERE grantee = 0 AND nspname <> 'public' AND oid IN (SELECT oid FROM tenant_schemas)
        GROUP BY name
        """,
    ),
    Check(
        "GRT003",
        Severity.DANGER,
        "tenant traffic can create objects in a schema",
        "An object that it creates can replace one that other tenants' statements mean, and record their data.",
        """
        SELECT name AS object, role AS detail, format('REVOKE CREATE ON SCHEMA %s FROM %s', name, role) AS fix
        FROM entries WHERE privilege_type = 'CREATE'
        """,
    ),
    Check(
        "GRT004",
        Severity.DANGER,
        "tenant traffic has rights beyond rows",
        "TRUNCATE removes all tenants' rows, REFERENCES reveals which keys exist, TRIGGER and MAINTAIN run code on "
        "others' rows: policies do not apply to them.",
        """
        SELECT g.name AS object, w.name || ': ' || string_agg(g.privilege_type, ', ') AS detail,
            format('REVOKE %s ON %s FROM %s', string_agg(
                g.privilege_type || coalesce(' (' || g.column_name || ')', ''), ', '), g.relation, w.name) AS fix
        FROM grants g JOIN reached w ON w.oid = g.grantee
        WHERE g.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')
        GROUP BY g.name, g.relation, w.name
        """,
    ),
    Check(
        "GRT005",
        Severity.DANGER,
        "a role has access to a home of another tenant",
        "Only the search path then isolates tenants, and any SQL can set it.",
        """
        SELECT name AS object, role AS detail, format('REVOKE ALL ON SCHEMA %s FROM %s', name, role) AS fix
        FROM (
            SELECT e.name, e.nspname, e.role, t.rolname, t.is_login,
                count(*) OVER (PARTITION BY e.grantee) AS homes
            FROM entries e JOIN traffic t ON t.oid = e.grantee
            WHERE e.is_home AND e.privilege_type = 'USAGE'
              -- But a role that reads the rows of descendants, by policies of its own.
              AND NOT (e.grantee IN (SELECT role FROM family_policies) AND NOT EXISTS (
                  SELECT FROM grants g WHERE g.grantee = e.grantee AND g.nspname = e.nspname
                    AND (g.privilege_type <> 'SELECT'
                         OR (g.oid, g.grantee) NOT IN (SELECT relation, role FROM family_policies))
              ))
        ) e
        WHERE is_login OR (homes > 1 AND rolname <> nspname)
        """,
    ),
    Check(
        "GRT006",
        Severity.WARNING,
        "tenant traffic has rights on the revision of the tables",
        "If it is changed, a migration is skipped or repeated for all tenants.",
        """
        SELECT g.name AS object, w.name || ': ' || string_agg(g.privilege_type, ', ') AS detail,
            format('REVOKE ALL ON %s FROM %s', g.relation, w.name) AS fix
        FROM grants g JOIN reached w ON w.oid = g.grantee
        WHERE g.relname LIKE 'alembic\\_version%'
            OR g.relname IN ('django_migrations', 'schema_migrations', 'flyway_schema_history',
                             'databasechangelog', '_prisma_migrations', 'knex_migrations')
        GROUP BY g.name, g.relation, w.name
        """,
    ),
    Check(
        "GRT007",
        Severity.DANGER,
        "tenant traffic has access to the schema control",
        "It contains the directory of tenants, their shares and the platform's secrets.",
        """
        SELECT name AS object, role AS detail, format('REVOKE ALL ON SCHEMA %s FROM %s', name, role) AS fix
        FROM entries WHERE nspname = 'control' AND privilege_type = 'USAGE'
        """,
    ),
    Check(
        "GRT008",
        Severity.WARNING,
        "tenant traffic can grant its rights to others",
        "It can grant them to every other role.",
        """
        SELECT g.name AS object, w.name || ': ' || string_agg(g.privilege_type, ', ') AS detail,
            format('REVOKE GRANT OPTION FOR %s ON %s FROM %s', string_agg(
                g.privilege_type || coalesce(' (' || g.column_name || ')', ''), ', '), g.relation, w.name) AS fix
        FROM grants g JOIN reached w ON w.oid = g.grantee WHERE g.is_grantable
        GROUP BY g.name, g.relation, w.name
        """,
    ),
    Check(
        "GRT009",
        Severity.WARNING,
        "tenant traffic gets rights on objects that are created later",
        "It can access a new table before the table has a policy.",
        """
        SELECT format('%s of %I%s', k.kind, pg_get_userbyid(d.defaclrole), ' in ' || quote_ident(n.nspname)) AS object,
            w.name || ': ' || string_agg(a.privilege_type, ', ') AS detail,
            format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM %s', pg_get_userbyid(d.defaclrole),
                ' IN SCHEMA ' || quote_ident(n.nspname), upper(k.kind), w.name) AS fix
        FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
        JOIN (VALUES ('r', 'tables'), ('S', 'sequences'), ('f', 'functions'), ('T', 'types'), ('n', 'schemas'),
                     ('L', 'large objects')) k (type, kind) ON k.type = d.defaclobjtype::text
        CROSS JOIN aclexplode(d.defaclacl) a JOIN reached w ON w.oid = a.grantee
        WHERE a.grantee <> d.defaclrole
        GROUP BY k.kind, d.defaclrole, n.nspname, w.name
        """,
    ),
    Check(
        "GRT010",
        Severity.WARNING,
        "tenant traffic can change a protected setting",
        "Settings of superusers can disable the basis of isolation: foreign keys, the log, loaded libraries.",
        """
        SELECT p.parname AS object, w.name AS detail,
            format('REVOKE ALL ON PARAMETER %s FROM %s', p.parname, w.name) AS fix
        FROM pg_parameter_acl p CROSS JOIN aclexplode(p.paracl) a JOIN reached w ON w.oid = a.grantee
        GROUP BY p.parname, w.name
        """,
    ),
    Check(
        "GRT011",
        Severity.WARNING,
        "tenant traffic can create schemas or temporary tables",
        "A temporary table outlives the transaction, and hides a table of the same name from the next tenant.",
        """
        SELECT quote_ident(d.datname) AS object, w.name || ': ' || string_agg(a.privilege_type, ', ') AS detail,
            format('REVOKE %s ON DATABASE %I FROM %s', string_agg(a.privilege_type, ', '), d.datname, w.name) AS fix
        FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        JOIN reached w ON w.oid = a.grantee
        WHERE d.datname = current_database() AND a.privilege_type IN ('CREATE', 'TEMPORARY') AND a.grantee <> d.datdba
        GROUP BY d.datname, w.name
        """,
    ),
    Check(
        "GRT012",
        Severity.NOTE,
        "PUBLIC may connect to the database",
        "Every login of the server can read the catalogue, including names and sizes of tenants' tables.",
        """
        SELECT quote_ident(d.datname) AS object, NULL AS detail,
            format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', d.datname) AS fix
        FROM pg_database d CROSS JOIN aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        WHERE d.datname = current_database() AND a.privilege_type = 'CONNECT' AND a.grantee = 0
        """,
    ),
    Check(
        "GRT013",
        Severity.NOTE,
        "PUBLIC may call a function in a schema of tenants",
        "It runs with the caller's rights; still, the grant to PUBLIC is a default, not a decision.",
        """
        SELECT f.name AS object, NULL AS detail, format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f.name) AS fix
        FROM functions f CROSS JOIN aclexplode(f.proacl) a
        WHERE a.grantee = 0 AND NOT f.prosecdef AND f.schema IN (SELECT oid FROM tenant_schemas)
        """,
    ),
    Check(
        "GRT014",
        Severity.NOTE,
        "rows of tenants are published",
        "A subscriber gets the rows of all tenants: policies do not apply to logical replication.",
        """
        SELECT quote_ident(p.pubname) AS object, NULL AS detail, NULL AS fix
        FROM pg_publication p
        WHERE EXISTS (
            SELECT FROM pg_publication_tables t
            WHERE t.pubname = p.pubname AND t.schemaname IN (SELECT nspname FROM tenant_schemas)
        )
        """,
    ),
)
