"""Code that runs with privileges other than the caller's: views, functions, event triggers, extensions."""

from isola.doctor.check import Check, Severity
from isola.doctor.vocabulary import literal
from isola.platform.logins import FOR_NO_TENANT

# Extensions that allow a bypass, and which one. Most are restricted to superusers until somebody grants them.
WAYS_OUT = {
    "adminpack": "writes files on the server",
    "dblink": "connects to databases as the server's own user, which pg_hba.conf may trust",
    "file_fdw": "reads files and runs programs on the server",
    "mysql_fdw": "reads other servers with a stored password",
    "pageinspect": "reads pages of tables, rows of all tenants included",
    "pg_buffercache": "reveals which tables others use",
    "pg_cron": "runs statements later, outside the tenant's transaction",
    "pg_visibility": "reads pages of tables",
    "plperlu": "runs programs on the server",
    "plpython3u": "runs programs on the server",
    "plsh": "runs programs on the server",
    "pltclu": "runs programs on the server",
    "postgres_fdw": "reads other databases with a stored password",
}
VALUES = ", ".join(f"({literal(extension)}, {literal(way)})" for extension, way in WAYS_OUT.items())
REACHING = ", ".join(map(literal, FOR_NO_TENANT))
CALLABLE = (
    "EXISTS (SELECT FROM aclexplode(f.proacl) a JOIN reached w ON w.oid = a.grantee WHERE a.grantee <> f.proowner)"
)
PINNED = "(SELECT substr(c, 13) FROM unnest(f.proconfig) c WHERE c LIKE 'search_path=%')"


CHECKS = (
    Check(
        "VIW001",
        Severity.DANGER,
        "a view reads with its owner's rights",
        "PostgreSQL checks policies and grants for the owner, not for the tenant that reads, and no policy restricts "
        "the owner.",
        """
        SELECT v.name AS object, NULL AS detail, format('ALTER VIEW %s SET (security_invoker = true)', v.name) AS fix
        FROM relations v JOIN pg_roles o ON o.oid = v.relowner
        WHERE v.relkind = 'v' AND NOT EXISTS (
            SELECT FROM pg_options_to_table(v.reloptions)
            WHERE option_name = 'security_invoker' AND lower(option_value) IN ('true', 'on', 'yes', '1')
        )
        AND (o.rolbypassrls OR EXISTS (
            SELECT FROM pg_rewrite w
            JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid
            JOIN pg_class t ON d.refclassid = 'pg_class'::regclass AND t.oid = d.refobjid
            WHERE w.ev_class = v.oid AND t.oid <> v.oid
              AND (NOT t.relrowsecurity OR pg_has_role(v.relowner, t.relowner, 'USAGE'))
        ))
        """,
    ),
    Check(
        "VIW002",
        Severity.DANGER,
        "tenant traffic reads a materialised view",
        "It contains rows of all tenants, read by its owner, and cannot have policies.",
        """
        SELECT g.relation AS object, string_agg(DISTINCT w.name, ', ') AS detail,
            string_agg(DISTINCT format('REVOKE ALL ON %s FROM %s', g.relation, w.name), '; ') AS fix
        FROM grants g JOIN reached w ON w.oid = g.grantee WHERE g.relkind = 'm' GROUP BY g.relation
        """,
    ),
    Check(
        "VIW003",
        Severity.WARNING,
        "tenant traffic reads a foreign table",
        "Only the remote server can isolate tenants: a foreign table cannot have policies.",
        """
        SELECT g.relation AS object, string_agg(DISTINCT w.name, ', ') AS detail, NULL AS fix
        FROM grants g JOIN reached w ON w.oid = g.grantee WHERE g.relkind = 'f' GROUP BY g.relation
        """,
    ),
    Check(
        "FUN001",
        Severity.DANGER,
        "PUBLIC may call a function that runs with its owner's rights",
        "Every current and future role can act with its owner's rights through the function.",
        """
        SELECT f.name AS object, 'runs as ' || quote_ident(pg_get_userbyid(f.proowner)) AS detail,
            format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f.name) AS fix
        FROM functions f CROSS JOIN aclexplode(f.proacl) a WHERE f.prosecdef AND a.grantee = 0
        """,
    ),
    Check(
        "FUN002",
        Severity.DANGER,
        "a function that runs with its owner's rights uses the search path of its caller",
        "The caller determines which tables and functions it uses, and runs them as the owner.",
        f"""
        SELECT f.name AS object, NULL AS detail, NULL AS fix FROM functions f WHERE f.prosecdef AND {PINNED} IS NULL
        """,
    ),
    Check(
        "FUN003",
        Severity.WARNING,
        "a function that runs with its owner's rights searches temporary tables first",
        "If pg_temp is not last in its search path, a temporary table of the caller replaces the intended one.",
        rf"""
        SELECT f.name AS object, 'search_path = ' || {PINNED} AS detail,
            format('ALTER ROUTINE %s SET search_path = %s', f.name,
                concat_ws(', ', nullif({PINNED}, '""'), 'pg_temp')) AS fix
        FROM functions f WHERE f.prosecdef AND {PINNED} !~ '\mpg_temp"?\s*$'
        """,
    ),
    Check(
        "FUN004",
        Severity.DANGER,
        "a function that runs with its owner's rights searches a schema in which tenant traffic can create objects",
        "It uses a table or function that a tenant creates there, and runs it as the owner.",
        rf"""
        SELECT f.name AS object, string_agg(DISTINCT e.name, ', ') AS detail, NULL AS fix
        FROM functions f JOIN entries e ON e.privilege_type = 'CREATE'
        WHERE f.prosecdef AND e.nspname IN (
            SELECT btrim(p, ' "') FROM regexp_split_to_table({PINNED}, ',') p
        )
        GROUP BY f.name
        """,
    ),
    Check(
        "FUN005",
        Severity.WARNING,
        "tenant traffic may call a function that bypasses policies",
        "Its owner is a superuser or has BYPASSRLS, so only its own code restricts access.",
        f"""
        SELECT f.name AS object, 'runs as ' || quote_ident(o.rolname) AS detail, NULL AS fix
        FROM functions f JOIN pg_roles o ON o.oid = f.proowner
        WHERE f.prosecdef AND (o.rolsuper OR o.rolbypassrls) AND {CALLABLE}
        """,
    ),
    Check(
        "FUN006",
        Severity.WARNING,
        "a function is declared LEAKPROOF",
        "PostgreSQL may run it before it checks the policy; if it leaks, it leaks other tenants' values.",
        """
        SELECT name AS object, NULL AS detail, format('ALTER FUNCTION %s NOT LEAKPROOF', name) AS fix
        FROM functions WHERE proleakproof
        """,
    ),
    Check(
        "FUN007",
        Severity.WARNING,
        "tenant traffic may call a function in an untrusted language",
        "Its code runs as the server's own user, without any check of grants or policies.",
        f"""
        SELECT f.name AS object, l.lanname AS detail, format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', f.name) AS fix
        FROM functions f JOIN pg_language l ON l.oid = f.prolang
        WHERE NOT l.lanpltrusted AND {CALLABLE}
        """,
    ),
    Check(
        "FUN008",
        Severity.DANGER,
        "policies trust an unproven setting of the transaction",
        "Whoever runs SQL of their own in one tenant reaches all: any SQL can change the setting that names it.",
        """
        SELECT name AS object, NULL AS detail, 'CREATE OR REPLACE FUNCTION isola.current_tenant_id() RETURNS uuid '
            'LANGUAGE sql STABLE PARALLEL RESTRICTED RETURN isola.proved_tenant_id()' AS fix
        FROM functions
        WHERE oid = to_regprocedure('isola.current_tenant_id()') AND pg_get_function_sqlbody(oid) ~ 'claimed_tenant_id'
        """,
    ),
    Check(
        "FUN009",
        Severity.WARNING,
        "tenant traffic may call functions that bypass schemas and policies",
        "Prepared statements of a connection are visible to its next tenant; sessions of one login may end each other; "
        "large objects are in no schema. PostgreSQL grants all of this to PUBLIC; only a superuser can revoke it.",
        f"""
        SELECT quote_ident(current_database()) AS object, string_agg(oid::regprocedure::text, ', ') AS detail,
            format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', string_agg(oid::regprocedure::text, ', ')) AS fix
        FROM unnest(ARRAY[{REACHING}]::regprocedure[]) f (oid)
        WHERE EXISTS (
            SELECT FROM reached w LEFT JOIN pg_roles r ON r.oid = w.oid
            WHERE has_function_privilege(w.oid, f.oid, 'EXECUTE') AND r.rolsuper IS NOT TRUE
        )
        HAVING count(*) > 0
        """,
    ),
    Check(
        "EVT001",
        Severity.WARNING,
        "an event trigger is enabled",
        "Its function runs with the rights of the role that changes the schema or logs in, including the owner.",
        """
        SELECT quote_ident(e.evtname) AS object, format('%s: %s', e.evtevent, e.evtfoid::regprocedure) AS detail,
            format('ALTER EVENT TRIGGER %I DISABLE', e.evtname) AS fix
        FROM pg_event_trigger e
        WHERE e.evtenabled <> 'D' AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = 'pg_event_trigger'::regclass AND d.objid = e.oid
              AND d.deptype = 'e'
        )
        """,
    ),
    Check(
        "EXT001",
        Severity.WARNING,
        "an extension gives access to files, programs or other databases, or bypasses policies",
        "One wrong grant gives tenant traffic this access.",
        f"""
        SELECT quote_ident(e.extname) AS object, w.way AS detail, NULL AS fix
        FROM pg_extension e JOIN (VALUES {VALUES}) w (extension, way) ON w.extension = e.extname
        """,
    ),
    Check(
        "EXT002",
        Severity.NOTE,
        "statements of all tenants are stored where the login can read them",
        "Literal values in statements are readable there. Proofs of bindings are parameters.",
        """
        SELECT quote_ident(e.extname) AS object, w.what AS detail, NULL AS fix
        FROM pg_extension e JOIN (VALUES
            ('pg_qualstats', 'constants of conditions'),
            ('pg_stat_monitor', 'texts, with values if they are not normalised'),
            ('pg_stat_statements', 'texts; those of SET and the like with their values before PostgreSQL 18'),
            ('pg_store_plans', 'plans, with the constants of conditions')
        ) w (extension, what) ON w.extension = e.extname
        """,
    ),
)
