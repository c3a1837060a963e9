"""The query for all objects of a schema that are no tables, columns, keys, checks or indexes of whole tables."""

OWN = "NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = {0}.oid AND e.classid = '{1}'::regclass AND e.deptype = 'e')"
"""The condition for objects that belong to no extension."""

OF_TABLES = "JOIN pg_class c ON c.oid = {0} JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = $1"
"""Joins objects to their tables in the schema."""

# PostgreSQL 17 and earlier have no such column.
OF_PERIODS = "coalesce((to_jsonb(k) ->> 'conperiod')::bool, false)"
"""The condition for constraints ``k`` that compare periods: ``WITHOUT OVERLAPS`` and ``PERIOD``."""

_RELATIONS = "CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'foreign table' END"
OTHERS = f"""
SELECT {_RELATIONS} AS kind, c.relname::text AS name, '' AS written
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind IN ('v', 'm', 'f') AND {OWN.format("c", "pg_class")}
UNION ALL
SELECT 'trigger', format('%s on %s', t.tgname, c.relname), pg_get_triggerdef(t.oid)
FROM pg_trigger t {OF_TABLES.format("t.tgrelid")} WHERE NOT t.tgisinternal AND t.tgparentid = 0
UNION ALL
SELECT 'rule', format('%s on %s', r.rulename, c.relname), ''
FROM pg_rewrite r {OF_TABLES.format("r.ev_class")} WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
    format('%s(%s)', p.proname, pg_get_function_identity_arguments(p.oid)), ''
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND {OWN.format("p", "pg_proc")}
  AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.objid = p.oid AND e.classid = 'pg_proc'::regclass AND e.deptype = 'i')
UNION ALL
SELECT 'row-level security', c.relname, coalesce((
    SELECT string_agg(format('policy %s: %s', polname, coalesce(pg_get_expr(polqual, polrelid), 'true')), '; ')
    FROM pg_policy WHERE polrelid = c.oid
), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND (c.relrowsecurity OR EXISTS (SELECT FROM pg_policy WHERE polrelid = c.oid))
UNION ALL
SELECT 'exclusion constraint', format('%s on %s', k.conname, c.relname), pg_get_constraintdef(k.oid)
FROM pg_constraint k {OF_TABLES.format("k.conrelid")}
WHERE (k.contype = 'x' OR k.contype IN ('p', 'u') AND {OF_PERIODS}) AND k.conparentid = 0
UNION ALL
SELECT 'foreign key', format('%s on %s', k.conname, c.relname), 'it compares periods: ' || pg_get_constraintdef(k.oid)
FROM pg_constraint k {OF_TABLES.format("k.conrelid")} WHERE k.contype = 'f' AND {OF_PERIODS} AND k.conparentid = 0
UNION ALL
SELECT 'rule of one partition', format('%s on %s', k.conname, c.relname), pg_get_constraintdef(k.oid)
FROM pg_constraint k {OF_TABLES.format("k.conrelid")}
WHERE c.relispartition AND k.conparentid = 0 AND k.conislocal AND k.contype IN ('c', 'p', 'u')
UNION ALL
SELECT 'index of one partition', format('%s on %s', i.relname, c.relname), pg_get_indexdef(i.oid)
FROM pg_index x {OF_TABLES.format("x.indrelid")} JOIN pg_class i ON i.oid = x.indexrelid
WHERE c.relispartition AND NOT i.relispartition
  AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'default of one partition', format('%s of %s', a.attname, c.relname), pg_get_expr(d.adbin, d.adrelid)
FROM pg_attrdef d {OF_TABLES.format("d.adrelid")}
JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated = ''
JOIN pg_attribute p ON p.attrelid = pg_partition_root(c.oid) AND p.attname = a.attname
LEFT JOIN pg_attrdef r ON r.adrelid = p.attrelid AND r.adnum = p.attnum
WHERE c.relispartition AND pg_get_expr(d.adbin, d.adrelid) IS DISTINCT FROM pg_get_expr(r.adbin, r.adrelid)
UNION ALL
SELECT CASE t.typtype WHEN 'c' THEN 'composite type' WHEN 'd' THEN 'domain' WHEN 'e' THEN 'enum' ELSE 'range type' END,
    t.typname::text, ''
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE n.nspname = $1 AND t.typtype IN ('c', 'd', 'e', 'r') AND coalesce(c.relkind = 'c', true) AND NOT EXISTS (
    SELECT FROM pg_attribute a JOIN pg_class r ON r.oid = a.attrelid AND r.relkind IN ('r', 'p')
    WHERE a.atttypid IN (t.oid, t.typarray) AND NOT a.attisdropped
) AND {OWN.format("t", "pg_type")}
UNION ALL
SELECT 'operator', format('%s(%s, %s)', oprname, format_type(NULLIF(oprleft, 0), NULL), format_type(oprright, NULL)), ''
FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
WHERE n.nspname = $1 AND {OWN.format("o", "pg_operator")}
UNION ALL
SELECT 'collation', collname, '' FROM pg_collation l JOIN pg_namespace n ON n.oid = l.collnamespace
WHERE n.nspname = $1 AND {OWN.format("l", "pg_collation")}
UNION ALL
SELECT 'text search configuration', cfgname, '' FROM pg_ts_config g JOIN pg_namespace n ON n.oid = g.cfgnamespace
WHERE n.nspname = $1 AND {OWN.format("g", "pg_ts_config")}
UNION ALL
SELECT 'sequence', c.relname, ''
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relkind = 'S' AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i', 'e')
)
UNION ALL
SELECT 'extended statistics', stxname, '' FROM pg_statistic_ext s {OF_TABLES.format("s.stxrelid")}
UNION ALL
SELECT 'schema', n.nspname, 'its tables are adopted by a call of their own, with --schema'
FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg\\_%' AND n.nspname NOT IN ('information_schema', $1)
  AND EXISTS (SELECT FROM pg_class c WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'p'))
ORDER BY 1, 2
"""
