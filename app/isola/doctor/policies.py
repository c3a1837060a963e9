"""Row-level security of the tables that tenants share."""

from isola.doctor.check import Check, Severity

# One row for each expression of a permissive policy. A restrictive policy can only hide more rows.
EXPRESSIONS = r"""
    SELECT p.name, e.clause, e.expression,
        '\m' || regexp_replace(g.tenant_column, '(\W)', '\\\1', 'g') || '\M' AS tenant
    FROM policies p CROSS JOIN parameters g
    CROSS JOIN LATERAL (VALUES ('USING', p."using"), ('WITH CHECK', p.with_check)) e (clause, expression)
    WHERE p.polpermissive AND e.expression IS NOT NULL
"""

CHECKS = (
    Check(
        "RLS001",
        Severity.DANGER,
        "row-level security is off",
        "Every transaction reads and writes the rows of all tenants.",
        """
        SELECT name AS object, NULL AS detail, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', name) AS fix
        FROM tenant_tables WHERE NOT relrowsecurity
        """,
    ),
    Check(
        "RLS002",
        Severity.WARNING,
        "row-level security is not forced on the owner",
        "A function or job that runs as the owner reads and writes the rows of all tenants.",
        """
        SELECT name AS object, 'owned by ' || quote_ident(pg_get_userbyid(relowner)) AS detail,
            format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', name) AS fix
        FROM tenant_tables WHERE relrowsecurity AND NOT relforcerowsecurity
        """,
    ),
    Check(
        "RLS003",
        Severity.WARNING,
        "row-level security is on, without a policy",
        "Only roles that bypass row-level security can use the table, so tenant traffic may come to use one.",
        """
        SELECT name AS object, NULL AS detail, NULL AS fix FROM tenant_tables t
        WHERE relrowsecurity AND NOT EXISTS (SELECT FROM policies p WHERE p.relation = t.oid)
        """,
    ),
    Check(
        "RLS004",
        Severity.WARNING,
        "a policy lacks USING or WITH CHECK",
        "Without WITH CHECK, a wider condition for reads also widens writes; without USING, no row is visible.",
        """
        SELECT name AS object,
            CASE WHEN polwithcheck IS NULL THEN 'no WITH CHECK' ELSE 'no USING' END AS detail,
            CASE WHEN polwithcheck IS NULL AND polqual IS NOT NULL THEN
                format('ALTER POLICY %s WITH CHECK (%s)', name, pg_get_expr(polqual, relation)) END AS fix
        FROM policies
        WHERE polwithcheck IS NULL AND commands && ARRAY['INSERT', 'UPDATE']
           OR polqual IS NULL AND commands <> ARRAY['INSERT']
        """,
    ),
    Check(
        "RLS005",
        Severity.WARNING,
        "several permissive policies apply to the same command",
        "They are combined with OR: a new one can allow what the others forbid.",
        """
        SELECT table_name AS object, string_agg(DISTINCT quote_ident(polname), ', ') AS detail, NULL AS fix
        FROM (
            SELECT *, count(*) OVER (PARTITION BY relation, command) AS together
            FROM policies CROSS JOIN unnest(commands) command WHERE polpermissive
        ) p
        WHERE together > 1 GROUP BY table_name
        """,
    ),
    Check(
        "RLS006",
        Severity.WARNING,
        "a policy is more than an equality with the tenant",
        "An alternative in it can admit other tenants' rows, and prevents the use of indexes.",
        rf"""
        SELECT name AS object, string_agg(format('%s %s', clause, expression), '; ') AS detail, NULL AS fix
        FROM ({EXPRESSIONS}) e
        WHERE expression ~ tenant
          AND (expression ~ '\m(OR|CASE|COALESCE|EXISTS|DISTINCT|ANY)\M'
               OR expression !~ (tenant || '"?\)?(::[a-z ]+)?(, true)?\)? = | = \(*"?' || tenant))
        GROUP BY name
        """,
    ),
    Check(
        "RLS007",
        Severity.DANGER,
        "a policy does not depend on the tenant",
        "It admits rows of all tenants.",
        f"""
        SELECT name AS object, string_agg(format('%s %s', clause, expression), '; ') AS detail, NULL AS fix
        FROM ({EXPRESSIONS}) e WHERE expression !~ tenant GROUP BY name
        """,
    ),
    Check(
        "RLS008",
        Severity.WARNING,
        "the policies leave out commands or roles",
        "They are refused, until a policy for them is added, which may be wider than the others.",
        """
        SELECT t.name AS object, 'none for every role: ' || string_agg(command, ', ' ORDER BY command) AS detail,
            NULL AS fix
        FROM tenant_tables t CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) command
        WHERE t.oid IN (SELECT relation FROM policies) AND NOT EXISTS (
            SELECT FROM policies p
            WHERE p.relation = t.oid AND p.polpermissive AND p.polroles = '{0}' AND command = ANY (p.commands)
        )
        GROUP BY t.name
        """,
    ),
    Check(
        "RLS009",
        Severity.WARNING,
        "a table next to the tenants' tables has no tenant column",
        "Tenants can access each other's rows in it, unless all its rows are common to all tenants.",
        """
        SELECT r.name AS object, string_agg(DISTINCT g.privilege_type, ', ') AS detail, NULL AS fix
        FROM relations r JOIN grants g ON g.oid = r.oid JOIN reached w ON w.oid = g.grantee
        WHERE r.relkind IN ('r', 'p', 'f') AND r.tenant IS NULL AND NOT r.is_home AND NOT r.relrowsecurity
          AND r.schema IN (SELECT schema FROM tenant_tables)
        GROUP BY r.name
        """,
    ),
    Check(
        "RLS010",
        Severity.WARNING,
        "the tenant of a row can be NULL",
        "Such a row belongs to no tenant, and foreign and unique keys do not check it.",
        """
        SELECT t.name AS object, NULL AS detail,
            format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL', t.name, a.attname) AS fix
        FROM tenant_tables t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = t.tenant
        WHERE NOT a.attnotnull
        """,
    ),
    Check(
        "RLS011",
        Severity.NOTE,
        "policies trust a setting that any SQL can set",
        "SQL injected into a tenant's transaction can bind it to another tenant.",
        """
        SELECT f.name AS object, 'used by policies of ' || count(DISTINCT p.relation) || ' tables' AS detail,
            NULL AS fix
        FROM policies p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
        JOIN functions f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
        WHERE f.prokind = 'f' AND NOT f.prosecdef AND pg_get_functiondef(f.oid) LIKE '%current_setting(%'
        -- Isola's own functions return what a proof contains, after it was checked.
        AND NOT EXISTS (
            SELECT FROM pg_depend c WHERE c.classid = 'pg_proc'::regclass AND c.objid = f.oid
              AND c.refobjid = to_regprocedure('isola.proved_tenant_id()')
        )
        GROUP BY f.name
        UNION ALL
        SELECT name, NULL, NULL FROM policies WHERE concat("using", with_check) LIKE '%current_setting(%'
        """,
    ),
    Check(
        "RLS012",
        Severity.WARNING,
        "a table has a rule, or a trigger whose owner bypasses policies",
        "It runs with the rights of its owner, and can access the rows of all tenants.",
        """
        SELECT format('%I ON %s', w.rulename, t.name) AS object, 'rule' AS detail, NULL AS fix
        FROM pg_rewrite w JOIN tenant_tables t ON t.oid = w.ev_class
        UNION ALL
        SELECT format('%I ON %s', g.tgname, t.name), 'trigger', NULL
        FROM pg_trigger g JOIN tenant_tables t ON t.oid = g.tgrelid JOIN pg_proc p ON p.oid = g.tgfoid
        JOIN pg_roles o ON o.oid = p.proowner
        WHERE NOT g.tgisinternal AND p.prosecdef
          AND (o.rolsuper OR o.rolbypassrls OR (o.oid = t.relowner AND NOT t.relforcerowsecurity))
        """,
    ),
    Check(
        "RLS013",
        Severity.DANGER,
        "a table without row-level security is the parent of a tenants' table",
        "A read of the parent returns the rows of all tenants: policies of a child do not apply to its parent.",
        """
        SELECT p.name AS object, 'parent of ' || string_agg(t.name, ', ') AS detail, NULL AS fix
        FROM pg_inherits i JOIN tenant_tables t ON t.oid = i.inhrelid JOIN relations p ON p.oid = i.inhparent
        WHERE NOT p.relrowsecurity AND p.tenant IS NULL
        GROUP BY p.name
        """,
    ),
)
