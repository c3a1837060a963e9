"""The login of tenant traffic, the roles that it can switch to, and their attributes."""

from isola.doctor.check import Check, Severity


def _attribute(code: str, severity: Severity, column: str, attribute: str, consequence: str) -> Check:
    query = f"""
        SELECT name AS object, CASE WHEN NOT is_login THEN 'the login can become it' END AS detail,
            format('ALTER ROLE %s NO{attribute}', name) AS fix
        FROM traffic WHERE {column} AND rolname !~ '^pg_'
    """
    return Check(code, severity, f"a role of tenant traffic is {attribute}", consequence, query)


CHECKS = (
    _attribute("ROL001", Severity.DANGER, "rolsuper", "SUPERUSER", "It bypasses all policies, grants and role checks."),
    _attribute("ROL002", Severity.DANGER, "rolbypassrls", "BYPASSRLS", "It bypasses all policies."),
    _attribute("ROL003", Severity.DANGER, "rolreplication", "REPLICATION", "It can copy the whole server."),
    _attribute("ROL004", Severity.DANGER, "rolcreaterole", "CREATEROLE", "It can create roles, and change others."),
    _attribute("ROL005", Severity.WARNING, "rolcreatedb", "CREATEDB", "It owns the databases that it creates."),
    Check(
        "ROL006",
        Severity.DANGER,
        "the login inherits the rights of roles that it can become",
        "It has the rights of every tenant at once, without switching to one.",
        """
        SELECT t.name AS object, 'inherits from ' || min(quote_ident(r.rolname))
                || CASE WHEN count(*) > 1 THEN format(' and %s more', count(*) - 1) ELSE '' END AS detail,
            string_agg(DISTINCT format(
                CASE WHEN (to_jsonb(m) ->> 'inherit_option')::bool THEN 'GRANT %I TO %s WITH INHERIT FALSE'
                     ELSE 'ALTER ROLE %2$s NOINHERIT' END, r.rolname, t.name), '; ') AS fix
        FROM traffic t JOIN pg_auth_members m ON m.member = t.oid JOIN pg_roles r ON r.oid = m.roleid
        -- Up to PostgreSQL 15 the role says whether it inherits; since then each membership, and the role for new ones.
        WHERE t.is_login AND (t.rolinherit OR (to_jsonb(m) ->> 'inherit_option')::bool)
        GROUP BY t.name
        """,
    ),
    Check(
        "ROL007",
        Severity.DANGER,
        "tenant traffic can become a predefined role of PostgreSQL",
        "They read all data, files or settings, end others' sessions, or run programs.",
        """
        SELECT r.name AS object, t.name AS detail, format('REVOKE %s FROM %s', r.name, t.name) AS fix
        FROM pg_auth_members m JOIN traffic t ON t.oid = m.member JOIN traffic r ON r.oid = m.roleid
        WHERE r.rolname ~ '^pg_' AND t.rolname !~ '^pg_'
        """,
    ),
    Check(
        "ROL008",
        Severity.WARNING,
        "a role that the login switches to can log in directly",
        "Such a login bypasses the server, its limits and its log.",
        """
        SELECT name AS object, NULL AS detail, format('ALTER ROLE %s NOLOGIN', name) AS fix
        FROM traffic WHERE rolcanlogin AND NOT is_login AND NOT rolsuper
        """,
    ),
    Check(
        "ROL009",
        Severity.DANGER,
        "a tenant's role can become the role of another tenant",
        "A transaction inside one tenant can read and write the other tenant's data.",
        """
        SELECT t.name AS object, 'can become ' || string_agg(r.name, ', ') AS detail,
            string_agg(format('REVOKE %s FROM %s', r.name, t.name), '; ') AS fix
        FROM pg_auth_members m JOIN traffic t ON t.oid = m.member JOIN home_roles r ON r.oid = m.roleid
        WHERE NOT t.is_login GROUP BY t.name
        """,
    ),
    Check(
        "ROL010",
        Severity.WARNING,
        "another role can become a tenant's role",
        "It can read and write the tenant's data without the login of tenant traffic.",
        """
        SELECT r.name AS object, string_agg(quote_ident(o.rolname), ', ') AS detail,
            string_agg(format('REVOKE %s FROM %I', r.name, o.rolname), '; ') AS fix
        FROM pg_auth_members m JOIN home_roles r ON r.oid = m.roleid JOIN pg_roles o ON o.oid = m.member
        WHERE o.oid NOT IN (SELECT oid FROM traffic) AND NOT o.rolsuper
          AND o.oid NOT IN (SELECT nspowner FROM schemas WHERE is_home)
        GROUP BY r.name
        """,
    ),
    Check(
        "ROL011",
        Severity.DANGER,
        "tenant traffic can grant membership in a role",
        "It can give any role, including itself, the rights of that role.",
        """
        SELECT t.name AS object, 'ADMIN OPTION for ' || string_agg(quote_ident(r.rolname), ', ') AS detail,
            string_agg(format('REVOKE ADMIN OPTION FOR %I FROM %s', r.rolname, t.name), '; ') AS fix
        FROM pg_auth_members m JOIN traffic t ON t.oid = m.member JOIN pg_roles r ON r.oid = m.roleid
        WHERE m.admin_option GROUP BY t.name
        """,
    ),
    Check(
        "ROL012",
        Severity.WARNING,
        "the login may use every connection of the server",
        "Sessions that SQL inside a tenant keeps open can exclude the owner and the control plane.",
        """
        SELECT t.name AS object, NULL AS detail,
            format('ALTER ROLE %s CONNECTION LIMIT %s', t.name, current_setting('max_connections')::int * 4 / 5) AS fix
        FROM traffic t
        WHERE t.is_login AND NOT t.rolsuper
          AND t.rolconnlimit NOT BETWEEN 0 AND current_setting('max_connections')::int - 1
        """,
    ),
    Check(
        "OWN001",
        Severity.DANGER,
        "tenant traffic owns something, or can become its owner",
        "An owner can remove policies and grants, and bypasses policies that are not forced.",
        """
        SELECT t.name AS object, 'owns ' || min(o.name)
            || CASE WHEN count(*) > 1 THEN format(' and %s more', count(*) - 1) ELSE '' END AS detail, NULL AS fix
        FROM traffic t JOIN (
            SELECT relowner, name FROM relations
            UNION ALL SELECT proowner, name FROM functions
            UNION ALL SELECT nspowner, 'the schema ' || name FROM schemas
            UNION ALL SELECT datdba, 'the database ' || quote_ident(datname) FROM pg_database
                WHERE datname = current_database()
        ) o (owner, name) ON o.owner = t.oid
        GROUP BY t.name
        """,
    ),
)
