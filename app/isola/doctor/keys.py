"""Keys and indexes of the tables that tenants share. Constraint checks bypass policies."""

from isola.doctor.check import Check, Severity

INDEXES = """
    SELECT x.relname, s.name || '.' || quote_ident(x.relname) AS name, t.name AS table_name, t.tenant,
        (i.indkey::int2[])[0:i.indnkeyatts - 1] AS columns, i.indclass::oid[] AS classes, m.amname, i.indrelid,
        i.indisunique OR i.indisexclusion AS is_key, i.indexprs IS NOT NULL AS has_expressions, t.relrowsecurity,
        pg_get_indexdef(i.indexrelid) AS definition
    FROM pg_index i JOIN tenant_tables t ON t.oid = i.indrelid JOIN schemas s ON s.oid = t.schema
    JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am m ON m.oid = x.relam
"""

CHECKS = (
    Check(
        "KEY001",
        Severity.DANGER,
        "a foreign key does not hold the tenant",
        "A row can refer to another tenant's, and trying tells which keys exist there.",
        """
        SELECT format('%I ON %s', k.conname, t.name) AS object, 'refers to ' || f.name AS detail, NULL AS fix
        FROM pg_constraint k JOIN relations t ON t.oid = k.conrelid JOIN tenant_tables f ON f.oid = k.confrelid
        WHERE k.contype = 'f' AND NOT EXISTS (
            SELECT FROM unnest(k.conkey, k.confkey) c (here, there) WHERE c.here = t.tenant AND c.there = f.tenant
        )
        """,
    ),
    Check(
        "KEY002",
        Severity.WARNING,
        "a unique key does not hold the tenant",
        "Whether a value is refused tells that another tenant has it, and one tenant can take it from all others.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE is_key AND tenant <> ALL (columns)
        """,
    ),
    Check(
        "KEY003",
        Severity.NOTE,
        "an index is not led by the tenant",
        "A read through it passes the rows of all tenants, and its time tells how many they have.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE columns[1] <> tenant AND NOT (is_key AND tenant <> ALL (columns))
        """,
    ),
    Check(
        "KEY004",
        Severity.DANGER,
        "a foreign key leaves the home of its tenant",
        "Rows of one tenant depend on rows that are not its own, and trying tells which keys exist there.",
        """
        SELECT format('%I ON %s', k.conname, t.name) AS object, 'refers to ' || f.name AS detail, NULL AS fix
        FROM pg_constraint k JOIN relations t ON t.oid = k.conrelid JOIN relations f ON f.oid = k.confrelid
        WHERE k.contype = 'f' AND t.schema <> f.schema AND (t.is_home OR f.is_home)
        """,
    ),
    Check(
        "KEY005",
        Severity.WARNING,
        "a foreign key blanks the tenant of a row",
        "When what it refers to is deleted or changed, the row becomes nobody's, or the statement fails.",
        """
        SELECT format('%I ON %s', k.conname, t.name) AS object, NULL AS detail, NULL AS fix
        FROM pg_constraint k JOIN tenant_tables t ON t.oid = k.conrelid
        WHERE k.contype = 'f' AND t.tenant = ANY (k.conkey)
          AND (k.confupdtype IN ('n', 'd')
               OR k.confdeltype IN ('n', 'd') AND (k.confdelsetcols IS NULL OR t.tenant = ANY (k.confdelsetcols)))
        """,
    ),
    Check(
        "KEY006",
        Severity.NOTE,
        "tenants draw numbers from one sequence",
        "The gaps between its own numbers tell a tenant how much the others write.",
        """
        SELECT t.name || '.' || quote_ident(a.attname) AS object, NULL AS detail, NULL AS fix
        FROM tenant_tables t JOIN pg_attribute a ON a.attrelid = t.oid
        LEFT JOIN pg_attrdef d ON d.adrelid = t.oid AND d.adnum = a.attnum
        WHERE a.attidentity <> '' OR pg_get_expr(d.adbin, t.oid) LIKE 'nextval(%'
        """,
    ),
    Check(
        "LKP001",
        Severity.NOTE,
        "an index is of no use under row-level security",
        "Its operator is not leakproof, so a policy has to be asked first; to declare it leakproof would open a leak.",
        f"""
        SELECT DISTINCT i.name AS object,
            format('%s on %s', o.amopopr::regoperator, format_type(c.opcintype, NULL)) AS detail, NULL AS fix
        FROM ({INDEXES}) i CROSS JOIN unnest(i.classes) class
        JOIN pg_opclass c ON c.oid = class
        JOIN pg_amop o ON o.amopfamily = c.opcfamily AND o.amoplefttype = c.opcintype AND o.amoprighttype = c.opcintype
            AND o.amopstrategy = CASE i.amname WHEN 'btree' THEN 3 ELSE 1 END
        JOIN pg_operator p ON p.oid = o.amopopr JOIN pg_proc f ON f.oid = p.oprcode
        WHERE i.relrowsecurity AND i.amname IN ('btree', 'hash') AND NOT f.proleakproof
        """,
    ),
    Check(
        "LKP002",
        Severity.NOTE,
        "an index on an expression, or of a kind that is not leakproof, is of no use under row-level security",
        "Its functions (lower(), full text, jsonb, geometry) are not leakproof, so a policy has to be asked first.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE relrowsecurity AND (has_expressions OR amname NOT IN ('btree', 'hash'))
        """,
    ),
)
