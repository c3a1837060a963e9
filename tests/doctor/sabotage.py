"""What can be done to a healthy database, and which check has to notice it. Names in braces are filled in."""

from dataclasses import dataclass

from isola.platform.proofs import TRUSTED


@dataclass(frozen=True, slots=True)
class Sabotage:
    """``object`` is what the check ``code`` names; ``also`` are other checks that rightly notice the same."""

    code: str
    sql: str
    object: str
    also: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.code}: {self.sql}"


DEFINER = (
    "CREATE FUNCTION isola.f() RETURNS int LANGUAGE sql SECURITY DEFINER {options} AS 'SELECT 1';"
    "REVOKE ALL ON FUNCTION isola.f() FROM PUBLIC;"
    "ALTER FUNCTION isola.f() OWNER TO {owner}"
)


def definer(options: str = "SET search_path = pg_catalog, pg_temp", owner: str = "isola_members") -> str:
    """A function with its owner's rights that nobody else may call."""
    grant = f"GRANT CREATE ON SCHEMA isola TO {owner}; " if owner != "{owner}" else ""
    revoke = f"; REVOKE CREATE ON SCHEMA isola FROM {owner}" if grant else ""
    return grant + DEFINER.replace("{options}", options).replace("{owner}", owner) + revoke


EXPRESSION = "tenant_id = isola.current_tenant_id()"

SABOTAGES = (
    # --- Row-level security
    Sabotage("RLS001", "ALTER TABLE rls.users DISABLE ROW LEVEL SECURITY", "rls.users"),
    Sabotage(
        "RLS001",
        "CREATE TABLE isola.parts (tenant_id uuid NOT NULL, PRIMARY KEY (tenant_id))",
        "isola.parts",
    ),
    Sabotage("RLS002", "ALTER TABLE rls.users NO FORCE ROW LEVEL SECURITY", "rls.users"),
    Sabotage("RLS003", "DROP POLICY bound_tenant ON rls.users", "rls.users"),
    Sabotage(
        "RLS004",
        f"DROP POLICY bound_tenant ON rls.users; CREATE POLICY p ON rls.users USING ({EXPRESSION})",
        "p ON rls.users",
    ),
    Sabotage(
        "RLS004",
        f"DROP POLICY bound_tenant ON rls.users; CREATE POLICY p ON rls.users WITH CHECK ({EXPRESSION})",
        "p ON rls.users",
    ),
    Sabotage(
        "RLS005",
        f"CREATE POLICY second ON rls.users USING ({EXPRESSION}) WITH CHECK ({EXPRESSION})",
        "rls.users",
    ),
    Sabotage(
        "RLS006",
        f"ALTER POLICY bound_tenant ON rls.users USING ({EXPRESSION} OR name = 'admin')",
        "bound_tenant ON rls.users",
    ),
    Sabotage(
        "RLS006",
        "ALTER POLICY bound_tenant ON rls.users WITH CHECK (tenant_id <> isola.current_tenant_id())",
        "bound_tenant ON rls.users",
    ),
    Sabotage(
        "RLS006",
        "ALTER POLICY bound_tenant ON rls.users USING (tenant_id = coalesce(isola.current_tenant_id(), tenant_id))",
        "bound_tenant ON rls.users",
    ),
    Sabotage("RLS007", "ALTER POLICY bound_tenant ON rls.users USING (true)", "bound_tenant ON rls.users"),
    Sabotage(
        "RLS007",
        "ALTER POLICY bound_tenant ON rls.users WITH CHECK (name <> 'tenant_id')",
        "bound_tenant ON rls.users",
    ),
    Sabotage(
        "RLS008",
        f"DROP POLICY bound_tenant ON rls.users;"
        f"CREATE POLICY p ON rls.users TO {{login}} USING ({EXPRESSION}) WITH CHECK ({EXPRESSION})",
        "rls.users",
    ),
    Sabotage(
        "RLS008",
        f"DROP POLICY bound_tenant ON rls.users; CREATE POLICY p ON rls.users FOR SELECT USING ({EXPRESSION})",
        "rls.users",
    ),
    Sabotage("RLS009", "CREATE TABLE rls.notes (text text); GRANT SELECT ON rls.notes TO {login}", "rls.notes"),
    Sabotage(
        "RLS010",
        "ALTER TABLE rls.users DROP CONSTRAINT pk_users_id CASCADE, ALTER tenant_id DROP NOT NULL",
        "rls.users",
    ),
    Sabotage(
        "RLS011",
        "CREATE OR REPLACE FUNCTION isola.current_user_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL RESTRICTED "
        "RETURN nullif(split_part(current_setting('isola.proof'), chr(10), 2), '')::uuid",
        "isola.current_user_id()",
    ),
    Sabotage(
        "RLS011",
        "ALTER POLICY bound_tenant ON rls.users USING (tenant_id = current_setting('isola.tenant')::uuid)",
        "bound_tenant ON rls.users",
    ),
    Sabotage("RLS012", "CREATE RULE r AS ON DELETE TO rls.users DO INSTEAD NOTHING", "r ON rls.users"),
    Sabotage(
        "RLS012",
        "CREATE FUNCTION isola.t() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER"
        " SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END';"
        "REVOKE ALL ON FUNCTION isola.t() FROM PUBLIC;"
        "CREATE TRIGGER t AFTER INSERT ON rls.users EXECUTE FUNCTION isola.t()",
        "t ON rls.users",
    ),
    Sabotage(
        "RLS013", "CREATE TABLE rls.named (name text NOT NULL); ALTER TABLE rls.users INHERIT rls.named", "rls.named"
    ),
    # --- Grants
    Sabotage("GRT001", "GRANT SELECT ON rls.users TO PUBLIC", "rls.users"),
    Sabotage("GRT001", "GRANT SELECT (email) ON rls.users TO PUBLIC", "rls.users.email"),
    Sabotage("GRT001", "GRANT SELECT ON {a}.users TO PUBLIC", "{a}.users", also=("DRF005",)),
    Sabotage("GRT002", "GRANT USAGE ON SCHEMA {a} TO PUBLIC", "{a}"),
    Sabotage("GRT003", "GRANT CREATE ON SCHEMA isola TO isola_members", "isola"),
    Sabotage("GRT003", "GRANT CREATE ON SCHEMA {a} TO {a}", "{a}"),
    Sabotage("GRT004", "GRANT TRUNCATE ON rls.users TO {login}", "rls.users"),
    Sabotage("GRT004", "GRANT REFERENCES (id) ON rls.users TO {login}", "rls.users.id"),
    Sabotage("GRT004", "GRANT TRIGGER ON {a}.users TO {a}", "{a}.users", also=("DRF005",)),
    Sabotage("GRT005", "GRANT USAGE ON SCHEMA {a} TO {b}", "{a}"),
    Sabotage("GRT005", "GRANT USAGE ON SCHEMA {a} TO {login}", "{a}"),
    Sabotage(
        "GRT006",
        "CREATE TABLE rls.alembic_version (version_num text); GRANT UPDATE ON rls.alembic_version TO {login}",
        "rls.alembic_version",
        also=("RLS009",),
    ),
    Sabotage("GRT007", "GRANT USAGE ON SCHEMA control TO isola_members", "control"),
    Sabotage("GRT008", "GRANT SELECT ON rls.users TO {login} WITH GRANT OPTION", "rls.users"),
    Sabotage(
        "GRT009",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA rls GRANT SELECT ON TABLES TO {login}",
        "tables of {owner} in rls",
    ),
    Sabotage("GRT009", "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "tables of {owner}"),
    Sabotage("GRT010", "GRANT SET ON PARAMETER session_replication_role TO {login}", "session_replication_role"),
    Sabotage("GRT011", "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC", "{database}"),
    Sabotage("GRT011", "GRANT CREATE ON DATABASE {database} TO {login}", "{database}"),
    Sabotage("GRT013", "CREATE FUNCTION rls.f() RETURNS int LANGUAGE sql RETURN 1", "rls.f()"),
    Sabotage("GRT014", "CREATE PUBLICATION feed FOR TABLE rls.users", "feed"),
    # --- Roles and owners
    Sabotage("ROL001", "ALTER ROLE {login} SUPERUSER", "{login}"),
    Sabotage("ROL002", "ALTER ROLE {login} BYPASSRLS", "{login}"),
    Sabotage("ROL002", "CREATE ROLE doctor_reports BYPASSRLS; GRANT doctor_reports TO {a}", "doctor_reports"),
    Sabotage("ROL003", "ALTER ROLE {login} REPLICATION", "{login}"),
    Sabotage("ROL004", "ALTER ROLE {login} CREATEROLE", "{login}"),
    Sabotage("ROL005", "ALTER ROLE {login} CREATEDB", "{login}"),
    Sabotage("ROL006", "ALTER ROLE {login} INHERIT", "{login}"),
    Sabotage("ROL007", "GRANT pg_read_all_data TO {a}", "pg_read_all_data"),
    Sabotage("ROL008", "ALTER ROLE {a} LOGIN", "{a}"),
    Sabotage("ROL009", "GRANT {b} TO {a}", "{a}"),
    Sabotage("ROL010", "CREATE ROLE doctor_reports LOGIN; GRANT {a} TO doctor_reports", "{a}"),
    Sabotage("ROL011", "GRANT {a} TO {login} WITH ADMIN OPTION", "{login}"),
    Sabotage("OWN001", "ALTER TABLE rls.users OWNER TO {login}", "{login}"),
    Sabotage("OWN001", "ALTER SCHEMA {a} OWNER TO {a}", "{a}"),
    # --- Views, functions, extensions
    Sabotage("VIW001", "CREATE VIEW rls.names AS SELECT name FROM rls.users", "rls.names"),
    Sabotage("VIW001", "ALTER VIEW rls.audit_log OWNER TO CURRENT_USER", "rls.audit_log"),
    Sabotage("VIW001", "ALTER VIEW control.live_shares SET (security_invoker = off)", "control.live_shares"),
    Sabotage(
        "VIW002",
        "CREATE MATERIALIZED VIEW rls.names AS SELECT name FROM rls.users; GRANT SELECT ON rls.names TO {login}",
        "rls.names",
    ),
    Sabotage(
        "VIW003",
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;"
        "CREATE FOREIGN TABLE isola.remote (id int) SERVER s; GRANT SELECT ON isola.remote TO {login}",
        "isola.remote",
    ),
    Sabotage("FUN001", definer() + "; GRANT EXECUTE ON FUNCTION isola.f() TO PUBLIC", "isola.f()", also=("OWN001",)),
    Sabotage("FUN002", definer(""), "isola.f()", also=("OWN001",)),
    Sabotage("FUN003", definer("SET search_path = pg_temp, pg_catalog"), "isola.f()", also=("OWN001",)),
    Sabotage("FUN003", definer("SET search_path = ''"), "isola.f()", also=("OWN001",)),
    Sabotage(
        "FUN004",
        definer("SET search_path = control, pg_temp") + "; GRANT CREATE ON SCHEMA control TO {login}",
        "isola.f()",
        also=("GRT003", "OWN001"),
    ),
    Sabotage(
        "FUN005",
        definer(owner="{owner}") + "; GRANT EXECUTE ON FUNCTION isola.f() TO isola_members",
        "isola.f()",
    ),
    Sabotage("FUN006", "ALTER FUNCTION isola.current_tenant_id() LEAKPROOF", "isola.current_tenant_id()"),
    Sabotage(
        "FUN007",
        "CREATE FUNCTION isola.c(cstring) RETURNS int LANGUAGE internal AS 'int4in'",
        "isola.c(cstring)",
    ),
    Sabotage("FUN008", TRUSTED, "isola.current_tenant_id()"),
    Sabotage("FUN009", "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC", "{database}"),
    Sabotage(
        "EVT001",
        "CREATE FUNCTION isola.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';"
        "CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION isola.e()",
        "watching",
    ),
    # Not every server of the tests has these extensions to install.
    Sabotage("EXT001", "UPDATE pg_extension SET extname = 'dblink' WHERE extname = 'plpgsql'", "dblink"),
    Sabotage(
        "EXT002",
        "UPDATE pg_extension SET extname = 'pg_stat_monitor' WHERE extname = 'plpgsql'",
        "pg_stat_monitor",
    ),
    # --- Keys and indexes
    Sabotage(
        "KEY001",
        "ALTER TABLE rls.users ADD UNIQUE (id);"
        "ALTER TABLE rls.spans ADD CONSTRAINT k FOREIGN KEY (author_id) REFERENCES rls.users (id)",
        "k ON rls.spans",
        also=("KEY002",),
    ),
    Sabotage(
        "KEY001",
        "ALTER TABLE rls.spans ADD CONSTRAINT k FOREIGN KEY (author_id, tenant_id)"
        " REFERENCES rls.users (tenant_id, id)",
        "k ON rls.spans",
    ),
    Sabotage("KEY002", "CREATE UNIQUE INDEX k ON rls.users (email) INCLUDE (tenant_id)", "rls.k"),
    Sabotage("KEY002", "ALTER TABLE rls.users ADD CONSTRAINT k EXCLUDE (name WITH =)", "rls.k"),
    Sabotage("KEY003", "CREATE INDEX k ON rls.users (name, tenant_id)", "rls.k"),
    Sabotage(
        "KEY004",
        "ALTER TABLE {a}.spans ADD CONSTRAINT k FOREIGN KEY (author_id) REFERENCES {b}.users",
        "k ON {a}.spans",
        also=("DRF003",),
    ),
    Sabotage(
        "KEY005",
        "ALTER TABLE rls.spans ADD CONSTRAINT k FOREIGN KEY (tenant_id, author_id)"
        " REFERENCES rls.users ON DELETE SET NULL",
        "k ON rls.spans",
    ),
    Sabotage("KEY006", "ALTER TABLE rls.users ADD number int GENERATED ALWAYS AS IDENTITY", "rls.users.number"),
    Sabotage("KEY006", "ALTER TABLE rls.users ADD number serial", "rls.users.number"),
    Sabotage(
        "LKP001",
        "CREATE TYPE rls.mood AS ENUM ('good', 'bad'); ALTER TABLE rls.users ADD mood rls.mood;"
        "CREATE INDEX k ON rls.users (tenant_id, mood)",
        "rls.k",
    ),
    Sabotage("LKP002", "CREATE INDEX k ON rls.users (tenant_id, lower(name))", "rls.k"),
    Sabotage("LKP002", "CREATE INDEX k ON rls.resources USING gin (data)", "rls.k", also=("KEY003",)),
    # --- Drift
    Sabotage("DRF001", "DROP TABLE {a}.user_roles", "{a}"),
    Sabotage("DRF001", "CREATE TABLE {a}.notes (text text)", "{b}"),
    Sabotage("DRF002", "ALTER TABLE {a}.users ADD nickname text", "{b}.users"),
    Sabotage("DRF002", "ALTER TABLE {a}.resources ALTER name TYPE varchar(200)", "{a}.resources", also=("DRF003",)),
    Sabotage("DRF003", "ALTER TABLE {a}.users DROP CONSTRAINT uq_users_subject", "{a}.users"),
    Sabotage("DRF004", "DROP INDEX {a}.ix_resources_name_id", "{a}.resources"),
    Sabotage("DRF005", "REVOKE DELETE ON {a}.users FROM {a}", "{a}.users"),
    Sabotage("DRF008", "UPDATE control.tenants SET role = 't_gone' WHERE slug = 'schema-a'", "t_gone"),
    Sabotage(
        "DRF009",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'rls.uq_organizations_name'::regclass",
        "rls.uq_organizations_name",
    ),
    Sabotage(
        "DRF010",
        "UPDATE pg_database SET datcollversion = 'another' WHERE datname = current_database()",
        "the database",
    ),
    Sabotage("DRF006", "COMMENT ON SCHEMA {a} IS 'isola 0001'", "{a}"),
    Sabotage("DRF006", "COMMENT ON SCHEMA {a} IS NULL", "{a}"),
    Sabotage("DRF007", "UPDATE control.tenants SET home = 'elsewhere' WHERE home = '{a}'", "{a}"),
    Sabotage("DRF012", "ALTER POLICY visible_rows ON rls.spans USING (true)", "rls"),
    Sabotage("DRF012", "ALTER VIEW {a}.tenant_stats SET (security_invoker = false)", "{a}", also=("VIW001",)),
    # --- Settings
    Sabotage(
        "SET001",
        "ALTER ROLE {login} SET isola.tenant = '00000000-0000-0000-0000-000000000000'",
        "ROLE {login}: isola.tenant",
    ),
    Sabotage("SET007", "ALTER ROLE {login} SET synchronous_commit = off", "ROLE {login}: synchronous_commit"),
    Sabotage(
        "SET007",
        "ALTER ROLE {login} IN DATABASE {database} SET lock_timeout = 1",
        "ROLE {login} IN DATABASE {database}: lock_timeout",
    ),
    Sabotage("ROL012", "ALTER ROLE {login} CONNECTION LIMIT -1", "{login}"),
    Sabotage("ROL012", "ALTER ROLE {login} CONNECTION LIMIT 100000", "{login}"),
    Sabotage("SET001", "ALTER DATABASE {database} SET search_path = {a}", "DATABASE {database}: search_path"),
    Sabotage("SET001", "ALTER ROLE {login} SET role = '{a}'", "ROLE {login}: role", also=("SET007",)),
    Sabotage("SET001", "SET LOCAL isola.tenant = 'x'", "the server: isola.tenant"),
    Sabotage(
        "SET002",
        "ALTER ROLE {login} IN DATABASE {database} SET row_security = off",
        "ROLE {login} IN DATABASE {database}: row_security",
        also=("SET007",),
    ),
    Sabotage(
        "SET002",
        "ALTER ROLE {login} SET session_preload_libraries = 'auto_explain'",
        "ROLE {login}: session_preload_libraries",
    ),
    Sabotage("SET003", "GRANT CREATE ON SCHEMA public TO PUBLIC", "public", also=("GRT003",)),
    Sabotage("SET004", "SET LOCAL log_statement = 'all'", "log_statement"),
    Sabotage(
        "SET004",
        "LOAD 'auto_explain'; SET LOCAL auto_explain.log_min_duration = 0",
        "auto_explain.log_min_duration",
    ),
    Sabotage(
        "SET004",
        "ALTER ROLE {login} SET log_parameter_max_length_on_error = -1",
        "ROLE {login}: log_parameter_max_length_on_error",
        also=("SET007",),
    ),
    Sabotage("SET005", "SET LOCAL log_error_verbosity = verbose", "log_error_verbosity"),
)
