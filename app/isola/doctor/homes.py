"""Drift: objects that one tenant's home has and the others lack, or the other way round."""

from isola.doctor.check import Check, Severity
from isola.platform import protection

IN_HOMES = "(SELECT r.*, s.name AS home FROM relations r JOIN schemas s ON s.oid = r.schema WHERE s.is_home) r"


def _unnamed(definition: str, home: str = "r.home") -> str:
    """A definition without the name of its home, so that homes can be compared."""
    return f"replace({definition}, {home} || '.', '')"


OBJECTS = f"""
    SELECT r.home, NULL::text AS relation, r.relname::text AS item,
        format('kind %s, owner %s, row security %s', r.relkind,
            CASE WHEN quote_ident(pg_get_userbyid(r.relowner)) = r.home THEN 'its own role'
                 ELSE pg_get_userbyid(r.relowner) END,
            r.relrowsecurity) AS definition
    FROM {IN_HOMES}
    UNION ALL
    SELECT s.name, NULL, f.proname::text, {_unnamed("pg_get_functiondef(f.oid)", "s.name")}
    FROM functions f JOIN schemas s ON s.oid = f.schema WHERE s.is_home AND f.prokind IN ('f', 'p')
"""
COLUMNS = f"""
    SELECT r.home, r.relname::text AS relation, a.attname::text AS item,
        concat_ws(' ', {_unnamed("format_type(a.atttypid, a.atttypmod)")},
            CASE WHEN a.attnotnull THEN 'NOT NULL' END, nullif(a.attidentity::text, ''),
            nullif(a.attgenerated::text, ''),
            'DEFAULT ' || {_unnamed("pg_get_expr(d.adbin, r.oid)")}) AS definition
    FROM {IN_HOMES} JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = r.oid AND d.adnum = a.attnum
    WHERE r.relkind <> 'S'
"""
# Since PostgreSQL 18 NOT NULL is a constraint too; it is reported with the columns.
CONSTRAINTS = f"""
    SELECT r.home, r.relname::text AS relation, k.conname::text AS item,
        {_unnamed("pg_get_constraintdef(k.oid)")} AS definition
    FROM {IN_HOMES} JOIN pg_constraint k ON k.conrelid = r.oid AND k.contype <> 'n'
"""
# The index of a constraint is reported with the constraint.
INDEXES = f"""
    SELECT r.home, r.relname::text AS relation, x.relname::text AS item,
        {_unnamed("pg_get_indexdef(i.indexrelid)")} AS definition
    FROM {IN_HOMES} JOIN pg_index i ON i.indrelid = r.oid JOIN pg_class x ON x.oid = i.indexrelid
    WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid)
"""
GRANTS = """
    SELECT s.name AS home, g.relname::text AS relation,
        CASE WHEN pg_get_userbyid(g.grantee) = g.nspname THEN 'its own role'
             WHEN g.grantee = 0 THEN 'PUBLIC' ELSE pg_get_userbyid(g.grantee)::text END
            || coalesce(' on ' || g.column_name, '') AS item,
        string_agg(g.privilege_type, ', ' ORDER BY g.privilege_type) AS definition
    FROM grants g JOIN schemas s ON s.oid = g.schema WHERE s.is_home
    GROUP BY s.name, g.relname, g.grantee, g.nspname, g.column_name
"""


def _drift(code: str, aspect: str, consequence: str, items: str) -> Check:
    """A definition is expected if at least half of the homes have it: if two homes differ, both are reported."""
    query = f"""
        WITH items AS ({items}),
        usual AS (
            SELECT relation, item, definition FROM items GROUP BY 1, 2, 3
            HAVING count(*) * 2 >= (SELECT count(*) FROM schemas WHERE is_home)
        ),
        expected AS (
            SELECT s.name AS home, u.* FROM usual u CROSS JOIN schemas s
            -- A table that is missing is said to be missing once.
            WHERE s.is_home AND (u.relation IS NULL OR EXISTS (
                SELECT FROM relations r WHERE r.schema = s.oid AND r.relname = u.relation
            ))
        ),
        differences AS (
            SELECT 'lacks' AS verb, l.* FROM (SELECT * FROM expected EXCEPT SELECT * FROM items) l
            UNION ALL
            SELECT 'has', h.* FROM (SELECT * FROM items EXCEPT SELECT * FROM expected) h
        )
        SELECT home || coalesce('.' || quote_ident(relation), '') AS object,
            string_agg(format('%s %s: %s', verb, item, left(definition, 120)), '; ' ORDER BY verb, item) AS detail,
            NULL AS fix
        FROM differences GROUP BY 1
    """
    return Check(code, Severity.WARNING, f"a tenant's home differs from the others in its {aspect}", consequence, query)


CHECKS = (
    _drift(
        "DRF001",
        "objects",
        "A missing name may resolve to another schema; an unexpected object is not migrated.",
        OBJECTS,
    ),
    _drift("DRF002", "columns", "Statements written for all homes fail there, or have another effect.", COLUMNS),
    _drift("DRF003", "constraints", "Data can violate rules there that hold in all others.", CONSTRAINTS),
    _drift("DRF004", "indexes", "Reads are slower there, and use resources of all others.", INDEXES),
    _drift("DRF005", "grants", "Roles have more or fewer rights there than in all others.", GRANTS),
    Check(
        "DRF006",
        Severity.WARNING,
        "homes are at different revisions",
        "Statements written for the newest one fail there, and holes that a migration closed are still open.",
        """
        WITH versions AS (
            SELECT s.name, r.relname, v.word AS version
            FROM tenant_schemas s JOIN relations r ON r.schema = s.oid AND r.relkind = 'r'
            JOIN (VALUES ('alembic\\_version%', 'version_num'), ('schema\\_migrations', 'version'),
                         ('flyway\\_schema\\_history', 'version')) k (relation, revision) ON r.relname LIKE k.relation
            JOIN pg_attribute a ON a.attrelid = r.oid AND a.attname = k.revision
            -- Made for the words of documents, it runs a query on tables whose names are found by this one.
            CROSS JOIN ts_stat(format(
                $$SELECT array_to_tsvector(ARRAY[coalesce(max(%I::text), 'nothing')]) FROM %s$$, a.attname, r.name
            )) v
            WHERE has_schema_privilege(s.oid, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
            UNION ALL
            -- Isola writes it into the comment of the home.
            SELECT name, 'the home', coalesce(
                substring(obj_description(oid, 'pg_namespace') FROM '^isola (.*)'), '(none)'
            )
            FROM schemas WHERE is_home AND to_regprocedure('isola.bound_tenant()') IS NOT NULL
        )
        SELECT name AS object,
            string_agg(format('%s at %s; others are at %s', relname, version, newest), '; ' ORDER BY relname) AS detail,
            NULL AS fix
        FROM versions JOIN (SELECT relname, max(version) AS newest FROM versions GROUP BY 1) n USING (relname)
        WHERE version <> newest GROUP BY 1
        """,
    ),
    Check(
        "DRF007",
        Severity.WARNING,
        "a home belongs to no tenant",
        "It contains data of a former tenant, and is neither migrated nor erased.",
        """
        WITH directory AS (
            SELECT r.name FROM relations r
            WHERE r.nspname = 'control' AND r.relname = 'tenants'
              AND to_regprocedure('isola.bound_tenant()') IS NOT NULL
              AND has_schema_privilege(r.schema, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
        ),
        placed AS (
            -- A query on a table that other databases have not, as above.
            SELECT v.word AS home FROM directory CROSS JOIN ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[home]) FROM %s WHERE home IS NOT NULL', directory.name
            )) v
        )
        SELECT s.name AS object, 'no tenant is placed there' AS detail, NULL AS fix
        FROM schemas s CROSS JOIN directory
        WHERE s.is_home AND s.nspname NOT IN (SELECT home FROM placed)
        """,
    ),
    Check(
        "DRF008",
        Severity.WARNING,
        "a role that the installation needs is missing",
        "Transactions inside tenants fail: a database dump does not include roles.",
        """
        WITH directory AS (
            SELECT r.name FROM relations r
            WHERE r.nspname = 'control' AND r.relname = 'tenants'
              AND to_regprocedure('isola.bound_tenant()') IS NOT NULL
              AND has_schema_privilege(r.schema, 'USAGE') AND has_table_privilege(r.oid, 'SELECT')
        ),
        needed AS (
            -- A query on a table that other databases have not, as above.
            SELECT v.word AS role FROM directory CROSS JOIN ts_stat(format(
                'SELECT array_to_tsvector(ARRAY[role]) FROM %s WHERE home IS NOT NULL AND role <> ''none''',
                directory.name
            )) v
            UNION ALL
            -- Named as the one that owns this function, if that is none of the owner's since.
            SELECT coalesce(substring(proowner::regrole::text FROM '^(.*)_sharing$'), 'isola') || kind
            FROM directory JOIN pg_proc ON pg_proc.oid = to_regprocedure('isola.bound_tenant()')
            CROSS JOIN (VALUES ('_members'), ('_sharing'), ('_audit'), ('_quotas'), ('_watchdog')) kinds (kind)
        )
        SELECT role AS object, 'isola migrate makes it' AS detail, NULL AS fix
        FROM needed WHERE role NOT IN (SELECT rolname FROM pg_roles)
        """,
    ),
    Check(
        "DRF009",
        Severity.WARNING,
        "an index is invalid",
        "Its creation failed: a unique index admits duplicates, and no query uses the index.",
        """
        SELECT format('%I.%I', n.nspname, c.relname) AS object, NULL AS detail,
            format('REINDEX INDEX %I.%I', n.nspname, c.relname) AS fix
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE NOT i.indisvalid AND n.oid IN (SELECT oid FROM schemas)
        """,
    ),
    Check(
        "DRF010",
        Severity.WARNING,
        "the collation version differs from that of the indexes",
        "The system's collation was changed: indexes on texts miss rows, and unique ones admit duplicates.",
        """
        SELECT 'the database' AS object,
            format('REINDEX DATABASE %1$I, then ALTER DATABASE %1$I REFRESH COLLATION VERSION', datname) AS detail,
            NULL AS fix
        FROM pg_database
        WHERE datname = current_database() AND datcollversion IS NOT NULL
          AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
        UNION ALL
        SELECT format('the collation %s', c.oid::regcollation),
            format('REINDEX what uses it, then ALTER COLLATION %s REFRESH VERSION', c.oid::regcollation), NULL
        FROM pg_collation c
        WHERE c.collversion <> pg_collation_actual_version(c.oid) AND EXISTS (
            SELECT FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid WHERE a.attcollation = c.oid
        )
        """,
    ),
    Check(
        "DRF011",
        Severity.WARNING,
        "the lock table is too small for the tables of all homes",
        "pg_dump, which locks all of them at once, fails.",
        """
        SELECT 'max_locks_per_transaction' AS object,
            format('%s locks in all, for %s tables', capacity, tables) AS detail,
            format('ALTER SYSTEM SET max_locks_per_transaction = %s', 1 + tables / slots) AS fix
        FROM (
            SELECT slots, slots * current_setting('max_locks_per_transaction')::bigint AS capacity, tables
            FROM (
                SELECT current_setting('max_connections')::bigint
                    + current_setting('max_prepared_transactions')::bigint AS slots
            ) server, (
                SELECT count(*) AS tables FROM relations r WHERE r.relkind IN ('r', 'p')
            ) counted
        ) sized
        WHERE capacity < tables
        """,
    ),
    Check(
        "DRF012",
        Severity.WARNING,
        "the policies or views of a home are not as isola migrate made them",
        "Rows may be visible to users, or to tenants, that they should be hidden from.",
        f"""
        WITH made AS (
            SELECT array_agg(nspname) AS names FROM pg_namespace
            WHERE obj_description(oid, 'pg_namespace') LIKE 'isola %'
              AND to_regprocedure('isola.bound_tenant()') IS NOT NULL
        )
        SELECT quote_ident(name) AS object, 'isola migrate makes them again' AS detail, NULL AS fix
        FROM made CROSS JOIN unnest(names) one (name)
        LEFT JOIN ({protection.FOUND.format(homes="(SELECT names FROM made)::name[]")}) found ON found.nspname = name
        LEFT JOIN ({protection.MARKED.format(homes="(SELECT names FROM made)::name[]")}) marked ON marked.nspname = name
        WHERE found.mark IS DISTINCT FROM marked.mark
        """,
    ),
)
