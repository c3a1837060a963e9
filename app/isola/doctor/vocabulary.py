"""The vocabulary of the checks: common table expressions that precede each query.

==================  =========================================================================================
``parameters``      one row: ``login``, ``tenant_column``, ``homes``, ``version``, ``today``
``schemas``         all but the system's; ``is_home`` where one belongs to one tenant
``relations``       tables, views and sequences in them; ``tenant`` is the number of the tenant column
``tenant_tables``   tables that several tenants share
``tenant_schemas``  homes, and schemas with such tables
``functions``       functions and procedures
``policies``        policies of the shared tables, with their expressions, literals taken out
``traffic``         the login of tenant traffic, and every role that it can switch to
``home_roles``      those of these roles that have access to a home
``reached``         the roles of ``traffic``, and PUBLIC as 0: all roles that tenant traffic can act as
``grants``          privileges on relations and their columns of roles other than the owner
``entries``         privileges on schemas, likewise
``overrides``       session defaults set for the database, or for a role of tenant traffic
``family_policies`` tables whose rows a role reads only if Isola says that their tenant is a descendant
``bindings``        names of the settings that policies and functions read
==================  =========================================================================================

Objects of extensions are excluded. Names of roles are quoted for SQL.
"""

# The defaults of ``parameters``: those of Isola's own databases.
TENANT_COLUMN = "tenant_id"
HOMES = "^t_[0-9a-f]{32}$"


def literal(text: str) -> str:
    """A text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


DEFINITIONS = r"""
WITH RECURSIVE parameters AS (
    SELECT $1::text AS login, $2::text AS tenant_column, $3::text AS homes, $4::int AS version, $5::date AS today
),
schemas AS (
    SELECT n.oid, n.nspname, quote_ident(n.nspname) AS name, n.nspowner, n.nspacl, n.nspname ~ g.homes AS is_home
    FROM pg_namespace n, parameters g
    WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
),
relations AS (
    SELECT c.oid, c.relname, c.relkind, c.relowner, c.relacl, c.reloptions, c.relrowsecurity, c.relforcerowsecurity,
        s.oid AS schema, s.nspname, s.is_home, s.name || '.' || quote_ident(c.relname) AS name, a.attnum AS tenant
    FROM pg_class c JOIN schemas s ON s.oid = c.relnamespace CROSS JOIN parameters g
    LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = g.tenant_column AND a.attnum > 0
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
    )
),
tenant_tables AS (
    SELECT * FROM relations WHERE relkind IN ('r', 'p') AND tenant IS NOT NULL AND NOT is_home
        -- Isola's own control plane speaks of tenants and is shared by none: GRT007 sees to it.
        AND (nspname <> 'control' OR to_regprocedure('isola.bound_tenant()') IS NULL)
),
tenant_schemas AS (
    SELECT * FROM schemas WHERE is_home OR oid IN (SELECT schema FROM tenant_tables)
),
functions AS (
    SELECT p.oid, p.proname, p.prokind, p.prosecdef, p.proleakproof, p.proowner, p.prolang, p.proconfig, s.nspname,
        s.oid AS schema, coalesce(p.proacl, acldefault('f', p.proowner)) AS proacl,
        format('%s.%I(%s)', s.name, p.proname, pg_get_function_identity_arguments(p.oid)) AS name
    FROM pg_proc p JOIN schemas s ON s.oid = p.pronamespace
    WHERE NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    )
),
family_policies AS (
    SELECT p.polrelid AS relation, p.polroles[1] AS role
    FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = to_regprocedure('isola.family(text)')
    WHERE NOT p.polpermissive AND cardinality(p.polroles) = 1 AND p.polroles <> '{0}'
    GROUP BY 1, 2
),
policies AS (
    SELECT p.oid, t.oid AS relation, t.name AS table_name, format('%I ON %s', p.polname, t.name) AS name,
        p.polname, p.polpermissive, p.polroles, p.polqual, p.polwithcheck,
        CASE p.polcmd WHEN '*' THEN ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE'] WHEN 'r' THEN ARRAY['SELECT']
            WHEN 'a' THEN ARRAY['INSERT'] WHEN 'w' THEN ARRAY['UPDATE'] ELSE ARRAY['DELETE'] END AS commands,
        regexp_replace(pg_get_expr(p.polqual, p.polrelid), '''[^'']*''', '''''', 'g') AS "using",
        regexp_replace(pg_get_expr(p.polwithcheck, p.polrelid), '''[^'']*''', '''''', 'g') AS with_check
    FROM pg_policy p JOIN tenant_tables t ON t.oid = p.polrelid
    -- Without those for the role that reads descendants: of them one admits rows, and another asks whose they are.
    WHERE NOT EXISTS (
        SELECT FROM family_policies f WHERE f.relation = p.polrelid AND p.polroles = ARRAY[f.role]
    )
),
traffic_oids AS (
    SELECT oid FROM pg_roles JOIN parameters ON login = rolname
    UNION
    SELECT m.roleid FROM pg_auth_members m JOIN traffic_oids t ON t.oid = m.member
),
traffic AS (
    SELECT r.*, quote_ident(r.rolname) AS name, r.rolname = g.login AS is_login
    FROM pg_roles r JOIN traffic_oids USING (oid) CROSS JOIN parameters g
),
reached AS (
    SELECT oid, name FROM traffic UNION ALL SELECT 0, 'PUBLIC'
),
entries AS (
    SELECT s.oid, s.nspname, s.name, s.is_home, a.grantee, a.privilege_type, r.name AS role
    FROM schemas s CROSS JOIN aclexplode(s.nspacl) a JOIN reached r ON r.oid = a.grantee
    WHERE a.grantee <> s.nspowner
),
home_roles AS (
    SELECT DISTINCT t.oid, t.rolname, t.name
    FROM entries e JOIN traffic t ON t.oid = e.grantee WHERE e.is_home AND NOT t.is_login
),
grants AS (
    SELECT r.oid, r.name, r.name AS relation, NULL AS column_name, r.schema, r.nspname, r.relname, r.relkind,
        a.grantee, a.privilege_type, a.is_grantable
    FROM relations r CROSS JOIN aclexplode(r.relacl) a
    WHERE a.grantee <> r.relowner
    UNION ALL
    SELECT r.oid, r.name || '.' || quote_ident(c.attname), r.name, quote_ident(c.attname), r.schema, r.nspname,
        r.relname, r.relkind, a.grantee, a.privilege_type, a.is_grantable
    FROM relations r JOIN pg_attribute c ON c.attrelid = r.oid CROSS JOIN aclexplode(c.attacl) a
    WHERE a.grantee <> r.relowner
),
overrides AS (
    SELECT split_part(c, '=', 1) AS setting, substr(c, strpos(c, '=') + 1) AS value, d.setrole <> 0 AS of_role,
        d.setdatabase <> 0 AS of_database,
        CASE WHEN d.setrole = 0 AND d.setdatabase <> 0 THEN format('DATABASE %I', current_database())
            ELSE format('ROLE %s%s', coalesce(t.name, 'ALL'),
                CASE WHEN d.setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) END) END AS owner
    FROM pg_db_role_setting d CROSS JOIN unnest(d.setconfig) c
    LEFT JOIN traffic t ON t.oid = d.setrole
    WHERE (d.setrole = 0 OR t.oid IS NOT NULL)
      AND (d.setdatabase = 0 OR d.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))
),
bindings AS (
    SELECT DISTINCT (regexp_matches(source, $re$current_setting\('([^']+)'$re$, 'g'))[1] AS setting
    FROM (
        SELECT pg_get_expr(polqual, relation) FROM policies
        UNION ALL SELECT pg_get_expr(polwithcheck, relation) FROM policies
        UNION ALL SELECT pg_get_functiondef(oid) FROM functions WHERE prokind IN ('f', 'p')
    ) read (source)
)
"""
