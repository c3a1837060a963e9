"""Initial settings of sessions of tenant traffic, and logging settings of the server."""

from isola.doctor.check import Check, Severity


def _beginning(setting: str) -> str:
    """The initial settings of a session of the login."""
    return f"""coalesce(
        (SELECT value FROM overrides WHERE setting = '{setting}' ORDER BY of_role DESC, of_database DESC LIMIT 1),
        (SELECT reset_val FROM pg_settings WHERE name = '{setting}')
    )"""


CHECKS = (
    Check(
        "SET001",
        Severity.DANGER,
        "a binding is set outside transactions",
        "A transaction that binds no tenant still runs inside one.",
        """
        SELECT format('%s: %s', owner, setting) AS object, NULL AS detail,
            format('ALTER %s RESET %s', owner, setting) AS fix
        FROM overrides
        WHERE setting = 'role' OR (strpos(setting, '.') > 0 AND setting IN (SELECT setting FROM bindings))
           OR setting = 'search_path' AND EXISTS (
               SELECT FROM schemas s, regexp_split_to_table(value, ',') p WHERE s.is_home AND s.nspname = btrim(p, ' "')
           )
        UNION ALL
        SELECT 'the server: ' || setting, 'in its configuration, or for the login of this examination', NULL
        FROM bindings b
        WHERE strpos(setting, '.') > 0 AND nullif(current_setting(setting, true), '') IS NOT NULL
          AND NOT EXISTS (SELECT FROM overrides o WHERE o.setting = b.setting)
        """,
    ),
    Check(
        "SET002",
        Severity.WARNING,
        "a session of tenant traffic starts with a protection off, or with other code loaded",
        "Protections of every other session do not apply there.",
        """
        SELECT format('%s: %s', o.owner, o.setting) AS object, d.what AS detail,
            format('ALTER %s RESET %s', o.owner, o.setting) AS fix
        FROM overrides o JOIN (VALUES
            ('row_security', '^(off|false|no|0|f|n|of)$', 'statements fail where a policy holds them'),
            ('session_replication_role', '^(replica|local)$', 'triggers and the checks of foreign keys do not run'),
            ('check_function_bodies', '^(off|false|no|0)$', 'functions are made unchecked'),
            ('session_preload_libraries', '.', 'a library is loaded into each session'),
            ('local_preload_libraries', '.', 'a library is loaded into each session'),
            ('allow_system_table_mods', '^(on|true|yes|1)$', 'the catalogue can be changed')
        ) d (setting, value, what) ON d.setting = o.setting AND o.value ~* d.value
        """,
    ),
    Check(
        "SET003",
        Severity.DANGER,
        "the search path of the login includes a schema in which tenant traffic can create objects",
        "A table or function created there can replace one that another tenant's statement means.",
        f"""
        SELECT DISTINCT e.name AS object, 'search_path = ' || path AS detail,
            format('REVOKE CREATE ON SCHEMA %s FROM %s', e.name, e.role) AS fix
        FROM entries e CROSS JOIN parameters g CROSS JOIN (
            SELECT {_beginning("search_path")}
        ) s (path)
        WHERE e.privilege_type = 'CREATE' AND e.nspname IN (
            SELECT replace(btrim(p, ' "'), '$user', g.login) FROM regexp_split_to_table(path, ',') p
        )
        """,
    ),
    Check(
        "SET004",
        Severity.WARNING,
        "the server writes statements and their values into its log",
        "Rows of all tenants are in one file, with other access rules than the database. Proofs of bindings "
        "are among the parameters, and of no use by then.",
        """
        SELECT s.owner || s.setting AS object, s.setting || ' = ' || s.value AS detail,
            CASE WHEN s.owner = '' THEN format('ALTER SYSTEM SET %s = %s', s.setting, d.quiet) END AS fix
        FROM (
            SELECT '' AS owner, name, setting FROM pg_settings WHERE name NOT IN (SELECT setting FROM overrides)
            UNION ALL SELECT owner || ': ', setting, value FROM overrides
        ) s (owner, setting, value)
        JOIN (VALUES
            ('log_statement', '^(mod|all)$', 'none'),
            ('log_min_duration_statement', '^[0-9]', '-1'),
            ('log_min_duration_sample', '^[0-9]', '-1'),
            ('auto_explain.log_min_duration', '^[0-9]', '-1'),
            ('log_transaction_sample_rate', '^(0?[.]0*[1-9]|[1-9])', '0'),
            ('log_parameter_max_length_on_error', '^(-1|[1-9])', '0'),
            ('debug_print_parse', '^(on|true|yes|1)', 'off'),
            ('debug_print_rewritten', '^(on|true|yes|1)', 'off'),
            ('debug_print_plan', '^(on|true|yes|1)', 'off')
        ) d (setting, value, quiet) ON d.setting = s.setting AND s.value ~ d.value
        """,
    ),
    Check(
        "SET005",
        Severity.NOTE,
        "the server writes details of errors into its log",
        "Details quote rows, and failed statements contain values.",
        """
        SELECT name AS object, name || ' = ' || setting AS detail,
            format('ALTER SYSTEM SET %s = %s', name,
                CASE name WHEN 'log_error_verbosity' THEN 'terse' ELSE 'panic' END) AS fix
        FROM pg_settings
        WHERE name = 'log_error_verbosity' AND setting <> 'terse'
           OR name = 'log_min_error_statement' AND setting NOT IN ('fatal', 'panic')
        """,
    ),
    Check(
        "SET006",
        Severity.NOTE,
        "sessions of the login can read each other's statements",
        "In pg_stat_activity, SQL injected into one tenant's transaction can read the running statements of others, "
        "including literal values. It cannot read parameters, which include the proofs of bindings.",
        f"""
        SELECT t.name AS object,
            'up to ' || current_setting('track_activity_query_size') || ' of each' AS detail,
            format('ALTER ROLE %s SET track_activities = off', t.name) AS fix
        FROM traffic t
        WHERE t.is_login AND EXISTS (SELECT FROM tenant_tables)
          AND {_beginning("track_activities")} IN ('on', 'true', 'yes', '1')
        """,
    ),
    Check(
        "SET007",
        Severity.WARNING,
        "sessions of the login begin with settings that it can change itself",
        "SQL inside one tenant may have set them for all. Servers reset them; use settings of the database instead.",
        """
        SELECT format('%s: %s', owner, setting) AS object, NULL AS detail,
            format('ALTER %s RESET %s', owner, setting) AS fix
        FROM overrides
        WHERE of_role AND owner <> 'ROLE ALL' AND owner NOT LIKE 'ROLE ALL IN %'
          AND (setting = 'role' OR setting IN (SELECT name FROM pg_settings WHERE context = 'user'))
        """,
    ),
    Check(
        "SET008",
        Severity.NOTE,
        "a transaction can be left prepared",
        "It outlives its session and keeps its locks. Servers roll back those of tenant traffic.",
        """
        SELECT 'max_prepared_transactions' AS object,
            (
                SELECT nullif(count(*), 0) || ' by tenant traffic'
                FROM pg_prepared_xacts p JOIN traffic t ON t.rolname = p.owner WHERE p.database = current_database()
            ) AS detail,
            'ALTER SYSTEM SET max_prepared_transactions = 0' AS fix
        WHERE current_setting('max_prepared_transactions') <> '0'
        """,
    ),
    Check(
        "SET009",
        Severity.WARNING,
        "a transaction of tenant traffic has been open for more than five minutes",
        "Its locks block others, and it prevents vacuum from removing dead rows. Servers end such sessions.",
        """
        SELECT 'the session ' || a.pid AS object, (statement_timestamp() - a.xact_start)::text AS detail,
            format('SELECT pg_terminate_backend(%s)', a.pid) AS fix
        FROM pg_stat_activity a JOIN traffic t ON t.is_login AND t.oid = a.usesysid
        WHERE a.datname = current_database() AND a.xact_start < statement_timestamp() - interval '5 minutes'
        """,
    ),
)
