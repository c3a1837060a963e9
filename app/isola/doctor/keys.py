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
        "a foreign key does not include the tenant",
        "A row can refer to another tenant's, and attempts reveal which keys exist there.",
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
        "a unique key does not include the tenant",
        "A refused value reveals that another tenant has it, and one tenant can block values for all others.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE is_key AND tenant <> ALL (columns)
        """,
    ),
    Check(
        "KEY003",
        Severity.NOTE,
        "an index does not begin with the tenant",
        "A read that uses it scans rows of all tenants, and its duration reveals their number.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE columns[1] <> tenant AND NOT (is_key AND tenant <> ALL (columns))
        """,
    ),
    Check(
        "KEY004",
        Severity.DANGER,
        "a foreign key refers to a table outside its tenant's home",
        "Rows of one tenant depend on rows of others, and attempts reveal which keys exist there.",
        """
        SELECT format('%I ON %s', k.conname, t.name) AS object, 'refers to ' || f.name AS detail, NULL AS fix
        FROM pg_constraint k JOIN relations t ON t.oid = k.conrelid JOIN relations f ON f.oid = k.confrelid
        WHERE k.contype = 'f' AND t.schema <> f.schema AND (t.is_home OR f.is_home)
        """,
    ),
    Check(
        "KEY005",
        Severity.WARNING,
        "a foreign key can set the tenant of a row to NULL or its default",
        "When the referenced row is deleted or changed, the row loses its tenant, or the statement fails.",
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
        "tenants share a sequence",
        "The gaps between its own numbers reveal to a tenant how much the others write.",
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
        "an index cannot be used under row-level security",
        "Its operator is not leakproof, so PostgreSQL checks the policy first. Declaring it leakproof would be unsafe.",
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
        "an index on an expression, or of a kind that is not leakproof, cannot be used under row-level security",
        "Its functions (lower(), full text, jsonb, geometry) are not leakproof, so PostgreSQL checks the policy first.",
        f"""
        SELECT name AS object, definition AS detail, NULL AS fix
        FROM ({INDEXES}) i WHERE relrowsecurity AND (has_expressions OR amname NOT IN ('btree', 'hash'))
        """,
    ),
)
