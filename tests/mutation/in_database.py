"""Sabotages of the database: policies, rights, owners, keys, and the functions that cross between tenants."""

from isola.installed import metadata
from isola.platform.proofs import TRUSTED
from isola.subjects.applications import BUILT_IN
from tests.mutation.sabotage import BOTH, Sql

CATALOGUE = "app/isola/testing/isolation/test_catalogue.py"
CONTEXT = "app/isola/testing/isolation/test_context.py"
WRITING = "app/isola/testing/isolation/test_writing.py"
NAMES = "app/isola/testing/isolation/test_names.py"
LOGIN = "app/isola/testing/isolation/test_login.py"
DOMAINS = "app/isola/testing/isolation/test_domains.py"
OFFERS = "app/isola/testing/isolation/sharing/test_offers.py"
CONSENT = "app/isola/testing/isolation/sharing/test_consent.py"
SHARING = "app/isola/testing/isolation/sharing/test_reading.py"
SUBJECTS_SHARED = "app/isola/testing/isolation/sharing/test_subjects.py"
GRANTED = "app/isola/testing/isolation/sharing/test_grants.py"
LISTED = "app/isola/testing/isolation/sharing/test_listed.py"
COMMENTS = "app/isola/testing/isolation/sharing/test_comments.py"
RULES = "app/isola/testing/isolation/sharing/test_rules.py"
BOTH_LOGS = "app/isola/testing/isolation/sharing/test_both_logs.py"
READS_IN_THE_LOG = "app/isola/testing/isolation/sharing/test_reads_in_the_log.py"
BINDINGS = "app/isola/testing/isolation/test_binding.py"
VISIBILITY = "app/isola/testing/isolation/test_visibility.py"
TICKETS = "app/isola/testing/isolation/test_tickets.py"
IDEMPOTENCY = "app/isola/testing/isolation/test_idempotency.py"
CONNECTIONS = "app/isola/testing/isolation/test_connections.py"
FLOODING = "app/isola/testing/isolation/sharing/test_flooding.py"
ORDER = "app/isola/testing/isolation/test_order_of_conditions.py"
INVITATIONS = "tests/http/test_invitations.py"
COPIES = "app/isola/testing/isolation/sharing/test_copies.py"
FAMILY_SHARES = "app/isola/testing/isolation/families/test_shares.py"
STORAGE = "app/isola/testing/isolation/test_storage.py"
RETENTION = "app/isola/testing/isolation/test_retention.py"
ENDING = "app/isola/testing/isolation/sharing/test_ending.py"

RLS, SCHEMA = "rls", "schema"
# A table of an application, whichever applications are installed.
DECLARED = next(
    table.name
    for table in reversed(metadata.sorted_tables)
    if table.info.get("application", BUILT_IN) != BUILT_IN and "audited" in table.info
)
# A table with ids that no foreign key refers to.
REFERRED = {key.column.table.name for table in metadata.sorted_tables for key in table.foreign_keys}
LEAF = next(
    table.name
    for table in metadata.sorted_tables
    if "id" in table.c and "audited" in table.info and table.name not in REFERRED
)
IS_BOUND = "tenant_id = (SELECT isola.current_tenant_id())"


def policy(table: str, using: str, check: str | None = None) -> str:
    """Replace the policy of a table."""
    checked = "" if check is None else f" WITH CHECK ({check})"
    return f"DROP POLICY bound_tenant ON {table}; CREATE POLICY bound_tenant ON {table} USING ({using}){checked}"


def rewritten(function: str, old: str, new: str) -> str:
    """Replace text in the definition of a function. Fails if the text is not in it."""
    return _replaced(f"pg_get_functiondef('{function}'::regprocedure)", function, old, new)


def rewritten_view(view: str, old: str, new: str) -> str:
    """Replace text in the definition of a view, as PostgreSQL prints it. Fails if the text is not in it."""
    created = f"CREATE OR REPLACE VIEW {view} WITH (security_invoker = true) AS "
    return _replaced(f"'{created}' || pg_get_viewdef('{view}'::regclass)", view, old, new)


def received(only: str) -> str:
    """Let recipients read the copies of resources that satisfy this condition."""
    return f"ALTER POLICY received ON received.resources USING ({only})"


def _replaced(definition: str, name: str, old: str, new: str) -> str:
    return f"""
        DO $sabotage$ DECLARE
            text text := {definition};
        BEGIN
            IF position($old${old}$old$ IN text) = 0 THEN
                RAISE EXCEPTION '% does not say %', '{name}', $old${old}$old$;
            END IF;
            EXECUTE replace(text, $old${old}$old$, $new${new}$new$);
        END $sabotage$
    """


def this_transaction(expression: str) -> str:
    """Replace how the database identifies the current transaction."""
    return (
        "CREATE OR REPLACE FUNCTION isola.this_transaction() RETURNS text LANGUAGE sql STABLE PARALLEL RESTRICTED "
        f"RETURN {expression}"
    )


def definer(body: str, arguments: str = "", returns: str = "SETOF rls.resources") -> str:
    """A SECURITY DEFINER function of the owner that every role may call."""
    return (
        f"CREATE FUNCTION isola.looked_up({arguments}) RETURNS {returns} LANGUAGE sql SECURITY DEFINER"
        f" SET search_path = pg_catalog, pg_temp AS $$ {body} $$;"
        "GRANT EXECUTE ON FUNCTION isola.looked_up TO PUBLIC"
    )


POLICIES = (
    Sql(
        "policies off for an application's table",
        "row-level security of a table that an application declares",
        RLS,
        f"ALTER TABLE rls.{DECLARED} DISABLE ROW LEVEL SECURITY",
        (CONTEXT,),
    ),
    Sql(
        "rights to an application's table of another tenant",
        "that only a tenant's own role has rights to a table that an application declares",
        SCHEMA,
        f"GRANT USAGE ON SCHEMA {{b}} TO {{a}}; GRANT SELECT, INSERT, UPDATE, DELETE ON {{b}}.{DECLARED} TO {{a}};"
        f"DROP POLICY bound_tenant ON {{b}}.{DECLARED};"
        f"CREATE POLICY bound_tenant ON {{b}}.{DECLARED} USING (true)",
        (CONTEXT, CATALOGUE),
    ),
    Sql(
        "an application's table without log",
        "that changes of a table that an application declares are logged",
        BOTH,
        f"DROP TRIGGER audit_update ON {{a}}.{DECLARED}",
        (CATALOGUE,),
    ),
    Sql(
        "policies off",
        "row-level security of one table",
        RLS,
        "ALTER TABLE rls.spans DISABLE ROW LEVEL SECURITY",
        (CONTEXT,),
    ),
    Sql(
        "policies not forced",
        "FORCE of one table",
        RLS,
        "ALTER TABLE rls.users NO FORCE ROW LEVEL SECURITY",
        (CATALOGUE,),
    ),
    Sql("policy dropped", "the policy of one table", RLS, "DROP POLICY bound_tenant ON rls.organizations", (CONTEXT,)),
    Sql("policy always true", "the condition of the policy", RLS, policy("rls.resources", "true"), (CONTEXT,)),
    Sql(
        "policy without check",
        "WITH CHECK",
        RLS,
        f"ALTER POLICY bound_tenant ON rls.resources USING ({IS_BOUND}) WITH CHECK (true)",
        (WRITING,),
    ),
    Sql(
        "policy after cheaper conditions",
        "the second column of the policy's sub-select",
        RLS,
        policy("rls.resources", IS_BOUND),
        (ORDER,),
    ),
    Sql(
        "second policy for some rows",
        "that permissive policies are OR-ed",
        RLS,
        "CREATE POLICY published ON rls.spans USING (visibility = 'public')",
        (CATALOGUE,),
    ),
    Sql(
        "second policy for INSERT",
        "WITH CHECK, for one command",
        RLS,
        "CREATE POLICY welcome ON rls.spans FOR INSERT WITH CHECK (true)",
        (WRITING,),
    ),
    Sql(
        "second policy for UPDATE",
        "WITH CHECK, for one command",
        RLS,
        "CREATE POLICY welcome ON rls.users FOR UPDATE USING (true) WITH CHECK (true)",
        (WRITING,),
    ),
    Sql(
        "policy with an OR for public rows",
        "plain equality",
        RLS,
        policy("rls.spans", f"{IS_BOUND} OR visibility = 'public'"),
        (CATALOGUE,),
    ),
    Sql(
        "policy with an OR for unbound transactions",
        "that unbound transactions read nothing",
        RLS,
        policy("rls.users", f"{IS_BOUND} OR nullif(current_setting('isola.tenant', true), '') IS NULL"),
        (CONTEXT,),
    ),
    Sql(
        "policy by owner only",
        "the tenant in the policy",
        RLS,
        policy("rls.resources", "owner_id IN (SELECT id FROM rls.users)"),
        (CATALOGUE,),
    ),
    Sql(
        "policy for one role",
        "the policy, for any other role",
        RLS,
        "ALTER POLICY bound_tenant ON rls.memberships TO {owner}",
        (CONTEXT,),
    ),
    Sql(
        "policy that reads a list of friends",
        "that policies do not implement sharing",
        RLS,
        policy(
            "rls.resources",
            f"{IS_BOUND} OR id IN (SELECT resource_id FROM rls.spans WHERE visibility = 'public')",
        ),
        (CATALOGUE,),
    ),
    Sql(
        "row without a tenant",
        "NOT NULL of the tenant's column",
        RLS,
        "ALTER TABLE rls.resources DROP CONSTRAINT pk_resources_id CASCADE;"
        "ALTER TABLE rls.resources ALTER tenant_id DROP NOT NULL",
        (CATALOGUE,),
    ),
    Sql(
        "rows that get no tenant",
        "the default of the tenant's column",
        RLS,
        "ALTER TABLE rls.spans ALTER tenant_id DROP DEFAULT",
        (CATALOGUE,),
    ),
)

KEYS = (
    Sql(
        "unique across tenants",
        "the tenant in a unique key",
        RLS,
        "ALTER TABLE rls.users DROP CONSTRAINT uq_users_subject, ADD CONSTRAINT uq_users_subject UNIQUE (subject)",
        (WRITING,),
    ),
    Sql(
        "unique across tenants by index",
        "the tenant in a unique index",
        RLS,
        "CREATE UNIQUE INDEX one_of_each ON rls.organizations (name)",
        (WRITING,),
    ),
    Sql(
        "primary key without the tenant",
        "the tenant in a primary key",
        RLS,
        f"ALTER TABLE rls.{LEAF} DROP CONSTRAINT pk_{LEAF}_id, ADD CONSTRAINT pk_{LEAF}_id PRIMARY KEY (id)",
        (WRITING,),
    ),
    Sql(
        "foreign key without the tenant",
        "the tenant in a foreign key",
        RLS,
        "ALTER TABLE rls.resources ADD CONSTRAINT by_id UNIQUE (id);"
        "ALTER TABLE rls.spans DROP CONSTRAINT fk_spans_resource_id,"
        " ADD CONSTRAINT fk_spans_resource_id FOREIGN KEY (resource_id) REFERENCES rls.resources (id)",
        (CATALOGUE, WRITING),
    ),
    Sql(
        "foreign key gone",
        "a foreign key",
        RLS,
        "ALTER TABLE rls.resources DROP CONSTRAINT fk_resources_owner_id",
        (WRITING,),
    ),
    Sql(
        "foreign key into another schema",
        "that no foreign key leaves a schema",
        SCHEMA,
        "ALTER TABLE {a}.spans DROP CONSTRAINT fk_spans_author_id,"
        " ADD CONSTRAINT fk_spans_author_id FOREIGN KEY (author_id) REFERENCES {b}.users (id)",
        (CATALOGUE,),
    ),
    Sql(
        "index without the tenant",
        "the tenant as the first column of an index",
        RLS,
        "DROP INDEX rls.ix_resources_name_id; CREATE INDEX ix_resources_name_id ON rls.resources (name, id)",
        (CATALOGUE,),
    ),
    Sql(
        "exclusion across tenants",
        "that no constraint compares rows of two tenants",
        RLS,
        "ALTER TABLE rls.organizations ADD CONSTRAINT one_of_each EXCLUDE (name WITH =)",
        (CATALOGUE, WRITING),
    ),
)

ROLES = (
    Sql(
        "login that bypasses",
        "NOBYPASSRLS of the login",
        RLS,
        "ALTER ROLE {login} BYPASSRLS",
        (CONTEXT,),
        each_copy=True,
    ),
    Sql(
        "login that is a superuser",
        "NOSUPERUSER of the login",
        BOTH,
        "ALTER ROLE {login} SUPERUSER",
        (CONTEXT,),
        each_copy=True,
    ),
    Sql(
        "login that inherits",
        "NOINHERIT of the login",
        SCHEMA,
        "ALTER ROLE {login} INHERIT; GRANT {b} TO {login} WITH INHERIT TRUE",
        (LOGIN, CATALOGUE),
    ),
    Sql("login that creates roles", "NOCREATEROLE of the login", BOTH, "ALTER ROLE {login} CREATEROLE", (CATALOGUE,)),
    Sql(
        "login that can become the sharing role",
        "the memberships of the login",
        BOTH,
        "GRANT isola_sharing TO {login}",
        (LOGIN, CATALOGUE),
    ),
    Sql(
        "login that reads all data",
        "the memberships of the login",
        BOTH,
        "GRANT pg_read_all_data TO {login} WITH INHERIT TRUE",
        (LOGIN, CONTEXT),
    ),
    Sql(
        "role of one tenant in that of another",
        "that tenants' roles are separate",
        SCHEMA,
        "GRANT {b} TO {a}",
        (CATALOGUE,),
    ),
    Sql(
        "role of a tenant with attributes",
        "the limits of a tenant's role",
        SCHEMA,
        "ALTER ROLE {a} BYPASSRLS",
        (CATALOGUE,),
    ),
    Sql(
        "sharing role with attributes",
        "the limits of the sharing role",
        BOTH,
        "ALTER ROLE isola_sharing BYPASSRLS",
        (CATALOGUE,),
    ),
    Sql(
        "table of the login",
        "that the login owns nothing",
        RLS,
        "ALTER TABLE rls.users OWNER TO {login}",
        (LOGIN, CATALOGUE, CONTEXT),
    ),
    Sql(
        "schema of its tenant",
        "that a tenant's role owns nothing",
        SCHEMA,
        "ALTER SCHEMA {a} OWNER TO {a}",
        (CATALOGUE,),
    ),
)

GRANTS = (
    Sql(
        "foreign schema for one tenant",
        "no USAGE on a foreign schema",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO {a}; GRANT SELECT ON ALL TABLES IN SCHEMA {b} TO {a}",
        (CATALOGUE,),
    ),
    Sql(
        "foreign schema to read",
        "no USAGE on a foreign schema",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO {a}",
        (CATALOGUE,),
    ),
    Sql(
        "foreign table to write to",
        "no right on a foreign table",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO {a}; GRANT INSERT ON {b}.spans TO {a}",
        (WRITING, CATALOGUE),
    ),
    Sql(
        "schema for the login",
        "that the login enters schemas by roles only",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO {login}; GRANT SELECT ON ALL TABLES IN SCHEMA {b} TO {login}",
        (CONTEXT, CATALOGUE),
    ),
    Sql(
        "schema for PUBLIC",
        "that PUBLIC has no rights",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO PUBLIC; GRANT SELECT ON {b}.resources TO PUBLIC",
        (CATALOGUE, CONTEXT),
    ),
    Sql(
        "schema for all members",
        "that members may call functions and no more",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {b} TO isola_members; GRANT SELECT (name) ON {b}.resources TO isola_members",
        (CATALOGUE,),
    ),
    Sql(
        "truncate", "that rights are to rows alone", RLS, "GRANT TRUNCATE ON rls.spans TO {login}", (WRITING, CATALOGUE)
    ),
    Sql(
        "references",
        "that rights are to rows alone",
        RLS,
        "GRANT REFERENCES ON rls.users TO {login}",
        (WRITING, CATALOGUE),
    ),
    Sql("trigger", "that rights are to rows alone", SCHEMA, "GRANT TRIGGER ON {b}.users TO {b}", (CATALOGUE,)),
    Sql(
        "secrets",
        "that tenant traffic cannot access the control plane",
        BOTH,
        "GRANT USAGE ON SCHEMA control TO {login}, isola_members;"
        "GRANT SELECT ON control.secrets, control.binding_key TO {login}, isola_members",
        (CATALOGUE, SHARING),
    ),
    Sql(
        "directory",
        "that tenant traffic cannot access the control plane",
        SCHEMA,
        "GRANT USAGE ON SCHEMA control TO isola_members;"
        "GRANT SELECT ON control.tenants, control.shares TO isola_members",
        (CATALOGUE, SHARING),
    ),
    Sql(
        "temporary tables",
        "no TEMP",
        BOTH,
        "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC",
        (LOGIN, CATALOGUE),
        each_copy=True,
    ),
    Sql(
        "tables in public",
        "no CREATE in public",
        BOTH,
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        (LOGIN, CATALOGUE),
        each_copy=True,
    ),
    Sql(
        "default privileges for new tables",
        "the rights of PUBLIC on new tables",
        BOTH,
        "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
        (CATALOGUE,),
    ),
)

OBJECTS = (
    Sql(
        "view of its owner",
        "that views run with the reader's rights",
        RLS,
        "CREATE VIEW rls.everything AS SELECT * FROM rls.resources; GRANT SELECT ON rls.everything TO {login}",
        (CATALOGUE,),
    ),
    Sql(
        "view without security_invoker",
        "security_invoker",
        BOTH,
        "ALTER VIEW control.live_shares SET (security_invoker = false)",
        (CATALOGUE,),
    ),
    Sql(
        "materialised view",
        "that materialised views are not granted",
        RLS,
        "CREATE MATERIALIZED VIEW isola.names AS SELECT name FROM rls.users; GRANT SELECT ON isola.names TO {login}",
        (CATALOGUE,),
    ),
    Sql(
        "function with its owner's rights that reads rows",
        "no functions with the owner's rights",
        RLS,
        definer("SELECT * FROM rls.resources WHERE id = $1", "uuid"),
        (CATALOGUE,),
    ),
    Sql(
        "function with its owner's rights that lists a schema",
        "no functions with the owner's rights",
        SCHEMA,
        definer("SELECT name FROM {b}.resources", returns="SETOF text"),
        (CATALOGUE,),
    ),
    Sql(
        "function without its search path",
        "the pinned search_path",
        BOTH,
        "ALTER FUNCTION isola.shared_rows(text, uuid) RESET search_path",
        (CATALOGUE,),
    ),
    Sql(
        "function that prints its plans",
        "that functions send no messages",
        BOTH,
        "ALTER FUNCTION isola.shared_rows(text, uuid) RESET client_min_messages",
        (CATALOGUE, LISTED),
    ),
    Sql(
        "function with a search path that begins with pg_temp",
        "the pinned search_path",
        BOTH,
        "ALTER FUNCTION isola.may_read_own(text, uuid) SET search_path = pg_temp, pg_catalog",
        (CATALOGUE,),
    ),
    Sql(
        "trigger that copies",
        "that no trigger or rule copies rows",
        SCHEMA,
        "CREATE TABLE isola.seen (name text);"
        "CREATE FUNCTION isola.see() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER SET search_path = pg_catalog, pg_temp"
        " AS $$ BEGIN INSERT INTO isola.seen VALUES (NEW.name); RETURN NEW; END $$;"
        "CREATE TRIGGER seen AFTER INSERT ON {a}.resources FOR EACH ROW EXECUTE FUNCTION isola.see()",
        (CATALOGUE,),
    ),
    Sql("table in public", "that public is empty", BOTH, "CREATE TABLE public.resources (id uuid)", (CATALOGUE, NAMES)),
)

# As PostgreSQL prints functions with a parsed body.
TO_THE_BOUND = "_id = ( SELECT isola.bound_tenant() AS bound_tenant)"
TO_ANYBODY = "_id IS NOT NULL"
SHARE_ROW = "isola.share(text, uuid, text, text[], timestamptz, text, text)"
MAKE_SHARE = "isola.make_share(uuid, text, uuid, text, uuid, uuid, text[], timestamptz, text, text)"
KEEP_RULE = "isola.keep_share_rule(control.share_rules, uuid[], uuid[])"
KEEP_RULES = "isola.keep_share_rules(text, jsonb[], jsonb[])"
MAKE_RULE = "isola.make_share_rule(text, text, text[], timestamptz, text, text, jsonb, jsonb, text[], integer)"
COMMENT_ON_SHARE = "isola.comment_on_share(uuid, text)"
SHARE_OF_BOUND = "isola.share_of_bound(uuid, uuid)"
CHANGE_SHARE = "isola.change_share(uuid, text[], timestamptz, boolean, text, boolean, text)"

# The conditions of control.current_shares and control.live_shares.
IN_TIME = "revoked_at IS NULL AND NOT lapsed AND (expires_at IS NULL OR expires_at > statement_timestamp())"
IN_PARTNERSHIP = (
    "EXISTS (SELECT FROM control.partners p"
    " WHERE p.tenant_id = owner_id AND p.partner_id = grantee_id AND p.id = partnership_id)"
)


def current_shares(condition: str) -> str:
    """Replace the condition on which a share has not ended by itself."""
    return _shares("control.current_shares", "control.shares", condition)


def live_shares(condition: str) -> str:
    """Replace the condition on which the partnership of a share has not ended."""
    return _shares("control.live_shares", "control.current_shares", condition)


def _shares(view: str, of: str, condition: str) -> str:
    return (
        f"CREATE OR REPLACE VIEW {view} WITH (security_invoker = true) AS"
        " SELECT id, owner_id, subject, row_id, grantee_slug, grantee_id, partnership_id, granted_by, granted_at,"
        f" expires_at, fields, note, rule_id, access FROM {of} WHERE {condition}"
    )


DOMAINS_OF_TENANTS = (
    Sql(
        "domains that reveal their tenant",
        "that a claim reveals nothing about others",
        BOTH,
        rewritten(
            "isola.add_domain(text)",
            "    INSERT INTO control.domains",
            "    IF EXISTS (SELECT FROM control.domains o WHERE o.name = add_domain.name AND verified_at IS NOT NULL)"
            " THEN RETURN NULL; END IF; INSERT INTO control.domains",
        ),
        ("tests/http/test_domains.py",),
    ),
    Sql(
        "domains without verification",
        "that a server verified the domain",
        BOTH,
        rewritten("isola.verify_domain(uuid)", " AND proven_at > now() - interval '1 minute'", ""),
        (DOMAINS,),
    ),
    Sql(
        "verifications that outlive their challenge",
        "that a new challenge needs a new verification",
        BOTH,
        rewritten("isola.add_domain(text)", ", proven_at = NULL", ""),
        (DOMAINS,),
    ),
)

SHARES = (
    Sql(
        "shares that never expire",
        "the expiry of shares",
        BOTH,
        current_shares("revoked_at IS NULL"),
        (ENDING,),
    ),
    Sql(
        "shares that expire by the transaction's clock",
        "that a share ends with the next statement",
        BOTH,
        current_shares("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())"),
        (ENDING,),
    ),
    Sql(
        "lapsed shares in the index of received shares",
        "that the index of received shares has no lapsed ones",
        BOTH,
        # Without the latter, the planner would read the owner's index of its own shares instead.
        "DROP INDEX control.ix_shares_partnership_id_owner_id_granted_at_id, control.ix_shares_owner_id_granted_at_id;"
        "CREATE INDEX ix_shares_partnership_id_owner_id_granted_at_id"
        " ON control.shares (partnership_id, owner_id, granted_at, id) INCLUDE (expires_at) WHERE revoked_at IS NULL",
        (FLOODING,),
    ),
    Sql(
        "shares that tenants mark as lapsed",
        "that no tenant writes shares by itself",
        BOTH,
        "GRANT USAGE ON SCHEMA control TO {login}, isola_members;"
        "GRANT SELECT (id), UPDATE (lapsed) ON control.shares TO {login}, isola_members",
        (FLOODING, CATALOGUE),
    ),
    Sql(
        "shares that cannot be revoked",
        "revocation",
        BOTH,
        current_shares("(expires_at IS NULL OR expires_at > statement_timestamp())"),
        (ENDING,),
    ),
    Sql(
        "shares for any tenant with their id",
        "the grantee of a share",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", "s.id = of_share AND s.grantee_id = grantee", "s.id = of_share"),
        (SHARING,),
    ),
    Sql(
        "shares listed for any tenant",
        "the grantee of the shares in a list",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", "p.tenant_id = grantee AND of_share IS NULL", "of_share IS NULL"),
        (LISTED,),
    ),
    Sql(
        "shares listed as one of those who shared",
        "that a row is read as the user who shared it",
        BOTH,
        rewritten(
            "isola.shared_rows(text, uuid)",
            "CASE WHEN declared.restricted THEN s.granted_by END AS sharer",
            "(SELECT max(o.granted_by::text)::uuid FROM control.shares o WHERE o.owner_id = s.owner_id) AS sharer",
        ),
        (LISTED,),
    ),
    Sql(
        "copies received by all tenants",
        "the grantee of a copy",
        BOTH,
        received("true"),
        (CATALOGUE, COPIES),
    ),
    Sql(
        "copies received after a partnership",
        "that the partnership of a copy is compared when it is read",
        BOTH,
        received("grantee_id = (SELECT isola.bound_tenant())"),
        (CONSENT, ENDING),
    ),
    Sql(
        "copies received without their shares",
        "that a copy is shown only as long as its share is current",
        BOTH,
        received(
            "grantee_id = (SELECT isola.bound_tenant()) "
            "AND partnership_id = ANY ((SELECT isola.received_partnerships())::uuid[])"
        ),
        (ENDING, COPIES),
    ),
    Sql(
        "copies received from suspended owners",
        "that the owner of a copy is active",
        BOTH,
        rewritten("isola.received_partnerships()", "control.sharers t", "control.tenants t"),
        (ENDING,),
    ),
    Sql(
        "copies of disabled users",
        "that copies of what disabled users shared are hidden",
        BOTH,
        rewritten("isola.note_disabled()", "VALUES (tenant, NEW.id)", "SELECT tenant, NEW.id WHERE false"),
        (COPIES,),
    ),
    Sql(
        "copies that stay as they were",
        "that a written row is copied again",
        BOTH,
        rewritten(
            "isola.audit_note(oid, text, text[], jsonb[], jsonb[])",
            "PERFORM isola.copy_written(names[0], written)",
            "NULL",
        ),
        (COPIES,),
    ),
    Sql(
        "copies of more than is granted",
        "that a copy has only what its share grants",
        BOTH,
        rewritten(
            "isola.copy_received(uuid, text, uuid[])",
            "CASE WHEN %L = ANY (s.fields) THEN r.%I END', each.name, each.name)",
            "r.%I', each.name)",
        ),
        (SHARING, COPIES),
    ),
    Sql(
        "copies of ended shares",
        "that a copy goes with its share",
        BOTH,
        "DROP TRIGGER copy_update ON control.shares",
        (ENDING, COPIES),
    ),
    Sql(
        "shares read as another subject",
        "that a share is of rows of one subject",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", " AND s.subject = of_subject", ""),
        (LISTED,),
    ),
    Sql(
        "shares received by all tenants",
        "the grantee of a share",
        BOTH,
        rewritten("isola.shares_received()", TO_THE_BOUND, TO_ANYBODY),
        (SHARING,),
    ),
    Sql(
        "shares received by all tenants, by id",
        "the grantee of a share",
        BOTH,
        rewritten("isola.share_received(uuid)", TO_THE_BOUND, TO_ANYBODY),
        (SHARING,),
    ),
    Sql(
        "shares received by all tenants, by page",
        "the grantee of a share",
        BOTH,
        rewritten("isola.page_of_shares_received(timestamptz, uuid, int)", TO_THE_BOUND, TO_ANYBODY),
        (SHARING,),
    ),
    Sql(
        "rows that match no more, and stay shared",
        "that a rule shares rows as they are at the time",
        BOTH,
        rewritten(KEEP_RULE, "AND row_id = ANY (others)", "AND row_id = ANY (others) AND false"),
        (RULES,),
    ),
    Sql(
        "rows that wait for a rule, and are not compared with it",
        "that the rules are looked for in a snapshot of after the lock",
        BOTH,
        rewritten(
            "isola.audit_note(oid, text, text[], jsonb[], jsonb[])",
            "names[0])) IS NOT NULL THEN",
            "names[0])) IS NOT NULL AND EXISTS (SELECT FROM control.share_rules r WHERE r.owner_id = tenant"
            " AND r.subject = names[0] AND r.ended_at IS NULL) THEN",
        ),
        (RULES,),
    ),
    Sql(
        "conditions that stop writes",
        "that a condition which cannot be evaluated shares nothing",
        BOTH,
        rewritten(KEEP_RULES, "WHEN data_exception OR case_not_found OR statement_too_complex", "WHEN no_data_found"),
        (RULES,),
    ),
    Sql(
        "rules of all tenants applied to each row",
        "that a rule shares rows of its own tenant",
        BOTH,
        rewritten(KEEP_RULES, "WHERE r.owner_id = owner AND r.subject", "WHERE r.subject")
        + ";"
        + rewritten("isola.audit_note(oid, text, text[], jsonb[], jsonb[])", "WHERE r.owner_id = tenant AND", "WHERE"),
        (RULES,),
    ),
    Sql(
        "rules that share what their users may not read",
        "that a rule shares no rows that the user who made it may not read",
        BOTH,
        rewritten(
            "isola.shareable_rows(uuid, text, uuid, uuid[])",
            "isola.proof(owner, reader)",
            "isola.proof(owner, isola.current_user_id())",
        ),
        (RULES,),
    ),
    Sql(
        "rules made beside rows that are being written",
        "that no row is written beside a rule that does not know it",
        BOTH,
        rewritten(
            MAKE_RULE, "PERFORM pg_advisory_xact_lock(", "PERFORM isola.share_rules_lock(owner, of_subject), abs("
        ),
        (RULES,),
    ),
    Sql(
        "rules of others that are ended by their ids",
        "that only its tenant ends a rule",
        BOTH,
        rewritten(
            "isola.locked_share_rule(uuid, uuid)", "WHERE r.id = rule AND r.owner_id = owner", "WHERE r.id = rule"
        ),
        (RULES,),
    ),
    Sql(
        "shares to read that take comments",
        "that a share to read takes no comments",
        BOTH,
        rewritten(COMMENT_ON_SHARE, "found.access <> 'comment'", "false"),
        (COMMENTS,),
    ),
    Sql(
        "changes of shares that let partners comment",
        "that a change which omits the access of a share leaves it",
        BOTH,
        rewritten(CHANGE_SHARE, "coalesce(granted_access, s.access)", "coalesce(granted_access, 'comment')"),
        (COMMENTS,),
    ),
    Sql(
        "comments that every tenant reads",
        "that the comments on a share are those of its owner and of its partner",
        BOTH,
        rewritten(SHARE_OF_BOUND, "ELSE false", "ELSE true"),
        (COMMENTS,),
    ),
    Sql(
        "comments that outlive their share",
        "that the comments on a share end with it",
        BOTH,
        rewritten(SHARE_OF_BOUND, "control.live_shares", "control.shares"),
        (COMMENTS,),
    ),
    Sql(
        "comments on rows that are hidden from the reader",
        "that users who may not read a row do not read the comments on it",
        BOTH,
        rewritten(SHARE_OF_BOUND, "isola.may_read(s.owner_id, s.subject, s.row_id)", "true"),
        (COMMENTS,),
    ),
    Sql(
        "comments on rows that the partner reads no more",
        "that comments are hidden while the user who shared the row is disabled",
        BOTH,
        rewritten(SHARE_OF_BOUND, "isola.reads_row_of(s.id)", "true"),
        (COMMENTS,),
    ),
    Sql(
        "authors of comments that the other tenant learns",
        "that a tenant learns nothing of the users of another",
        BOTH,
        rewritten("isola.share_comments(uuid)", "c.by_owner = s.by_owner", "c.by_owner IS NOT NULL"),
        (COMMENTS,),
    ),
    Sql(
        "comments that any user deletes",
        "that only its author, or a manager of the owner, deletes a comment",
        BOTH,
        rewritten("isola.delete_share_comment(uuid)", "deleted.author_id = isola.current_user_id()", "true"),
        (COMMENTS,),
    ),
    Sql(
        "comments that managers of the partner delete",
        "that only its author, or a manager of the owner, deletes a comment",
        BOTH,
        rewritten("isola.delete_share_comment(uuid)", "(of_owner AND 'share:manage'", "('share:manage'"),
        (COMMENTS,),
    ),
    Sql(
        "shares that outlive their partnership",
        "that shares end with the partnership",
        BOTH,
        live_shares("true"),
        (CONSENT,),
    ),
    Sql(
        "own shares that outlive their partnership",
        "that owners no longer list shares after the end of the partnership",
        BOTH,
        "CREATE OR REPLACE VIEW isola.own_shares WITH (security_invoker = true) AS SELECT id, subject, row_id,"
        " grantee_slug, granted_by, granted_at, expires_at, note, isola.shared_of(subject, fields) AS fields,"
        " partnership_id = owner_id AS to_children, rule_id, access"
        f" FROM control.shares WHERE {IN_TIME}",
        (CONSENT,),
    ),
    Sql(
        "shares revoked after their partnership",
        "that nothing can be done with shares after the end of the partnership",
        BOTH,
        rewritten(
            "isola.revoke_share(uuid)", "EXISTS (SELECT FROM control.partners p WHERE p.id = s.partnership_id)", "true"
        ),
        (CONSENT,),
    ),
    Sql(
        "shares of an earlier partnership",
        "that shares do not come back with a new partnership",
        BOTH,
        live_shares(IN_PARTNERSHIP.replace(" AND p.id = partnership_id", "")),
        (CONSENT,),
    ),
    Sql(
        "lists of shares of an earlier partnership",
        "that shares do not come back to lists with a new partnership",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", "s.partnership_id = p.id AND ", ""),
        (CONSENT,),
    ),
    Sql(
        "parents that children see",
        "that a child learns nothing of its parent",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", "CASE WHEN NOT g.by_parent THEN t.slug END", "t.slug"),
        (FAMILY_SHARES,),
    ),
    Sql(
        "one id of a share for all children",
        "that a child learns nothing of its siblings",
        BOTH,
        "CREATE OR REPLACE FUNCTION control.permuted(id uuid, key uuid, rounds int[]) RETURNS uuid"
        " LANGUAGE sql IMMUTABLE RETURN id",
        (FAMILY_SHARES,),
    ),
    Sql(
        "shares of a former parent",
        "that a child that leaves its parent reads nothing more of it",
        BOTH,
        rewritten_view(
            "control.family_shares",
            "s.owner_id = c.parent_id",
            "s.owner_id = s.partnership_id AND c.child_key IS NOT NULL AND c.parent_id IS NULL"
            " OR s.owner_id = c.parent_id",
        )
        + ";"
        + rewritten_view("control.family_shares", "s.partnership_id = c.parent_id", "s.partnership_id = s.owner_id"),
        (FAMILY_SHARES,),
    ),
    Sql(
        "rows of a parent that is a partner as well",
        "that a child does not receive from its parent what a partner shares",
        BOTH,
        rewritten_view("control.family_shares", "o.grantee_id = c.id", "false"),
        (FAMILY_SHARES,),
    ),
    Sql(
        "children that every user finds",
        "that the permission to see what is below is proved",
        BOTH,
        rewritten(
            "isola.share_with_children(text, uuid, text[], timestamptz, text)",
            "('family:read' = ANY (isola.current_permissions())) IS NOT TRUE",
            "false",
        ),
        (FAMILY_SHARES,),
    ),
    Sql(
        "shares outside of a partnership",
        "that a tenant shares only with partners",
        BOTH,
        rewritten(
            SHARE_ROW,
            "IF NOT owned OR partner IS NULL",
            "IF partner IS NULL THEN SELECT id, gen_random_uuid() INTO partner, partnership FROM control.tenants"
            " WHERE slug = grantee AND status <> 'deleted'; END IF; IF NOT owned OR partner IS NULL",
        ),
        (CONSENT,),
    ),
    Sql(
        "shares with suspended partners",
        "that a suspended tenant looks like nobody",
        BOTH,
        rewritten(SHARE_ROW, "JOIN control.sharers t", "JOIN control.tenants t"),
        (CONSENT,),
    ),
    Sql(
        "offers that depend on whether there is such a tenant",
        "that an offer reveals nothing about a tenant",
        BOTH,
        rewritten(
            "isola.offer_partnership(text)",
            "    returned := EXISTS",
            "    IF NOT EXISTS (SELECT FROM control.tenants WHERE id = target) THEN RETURN; END IF; returned := EXISTS",
        ),
        (OFFERS,),
    ),
    Sql(
        "offers that take longer if there is such a tenant",
        "that an offer does the same for all slugs",
        BOTH,
        rewritten(
            "isola.offer_partnership(text)",
            "    returned := EXISTS",
            "    IF EXISTS (SELECT FROM control.tenants WHERE id = target AND status <> 'deleted') THEN"
            " PERFORM FROM control.partners WHERE tenant_id = target; END IF; returned := EXISTS",
        ),
        (OFFERS,),
    ),
    Sql(
        "partners named before they accept",
        "that an offer reveals nothing about a tenant",
        BOTH,
        rewritten(
            "isola.partnerships()", "NULL::text", "(SELECT t.name FROM control.tenants t WHERE t.id = o.partner_id)"
        ),
        (OFFERS,),
    ),
    Sql(
        "offers without a limit",
        "that a tenant has a limited number of open offers",
        BOTH,
        rewritten("isola.offer_partnership(text)", ">= most", ">= 1000 * most"),
        (OFFERS,),
    ),
    Sql(
        "offers accepted by anybody",
        "that the tenant that is offered a partnership accepts it",
        BOTH,
        rewritten("isola.accept_partnership(uuid)", " AND o.partner_id = own", ""),
        (CONSENT,),
    ),
    Sql(
        "partnerships ended by anybody",
        "that one of the partners ends a partnership",
        BOTH,
        rewritten("isola.end_partnership(uuid)", "p.id = partnership AND p.tenant_id = own", "p.id = partnership"),
        (CONSENT,),
    ),
    Sql(
        "offers of blocked tenants",
        "that blocked tenants offer nothing",
        BOTH,
        rewritten("isola.accept_partnership(uuid)", " AND NOT isola.has_blocked(own, o.tenant_id)", ""),
        (OFFERS,),
    ),
    Sql(
        "offers of blocked tenants accepted by a rule",
        "that blocked tenants are not accepted by a rule",
        BOTH,
        rewritten("isola.offer_partnership(text)", " AND NOT refuses", "")
        + ";"
        + rewritten("isola.offer_partnership(text)", " AND NOT isola.has_blocked(target, own)", ""),
        (OFFERS,),
    ),
    Sql(
        "rules by domains that nobody has verified",
        "that a rule accepts verified domains",
        BOTH,
        rewritten("isola.offer_partnership(text)", " AND d.verified_at IS NOT NULL", ""),
        (OFFERS,),
    ),
    Sql(
        "blocks that a concurrent acceptance survives",
        "that blocking waits for an acceptance",
        BOTH,
        rewritten("isola.offer_partnership(text)", " FOR SHARE", ""),
        (OFFERS,),
    ),
    Sql(
        "partnerships missing in the partner's log",
        "that both tenants log a partnership",
        BOTH,
        rewritten("isola.note_partners()", "PERFORM isola.audit_of_partner(", "PERFORM concat("),
        (CONSENT,),
    ),
    Sql(
        "shares missing in the partner's log",
        "that what happens to a share is in both logs",
        BOTH,
        "DROP TRIGGER received_insert ON control.shares; DROP TRIGGER received_update ON control.shares",
        (BOTH_LOGS,),
    ),
    Sql(
        "reads by partners in no log",
        "that the owner's log has what partners read",
        BOTH,
        rewritten(
            "isola.note_sign_ins()",
            "shared:,subject}}'::text[], NULL, partners",
            "shared:,subject}}'::text[], NULL, NULL",
        ),
        (READS_IN_THE_LOG,),
    ),
    Sql(
        "ids of the owner in the partner's log",
        "what the partner's log tells about a share",
        BOTH,
        rewritten(
            "isola.audit_received(jsonb, text)", "'owner', owner,", "'owner', owner, 'row_id', (share -> 'row_id'),"
        ),
        (BOTH_LOGS,),
    ),
    Sql(
        "the choice of logged reads of all tenants changed",
        "the tenant whose reads are logged",
        BOTH,
        rewritten(
            "isola.log_reads(text[])", "SET logged_reads = subjects WHERE id = tenant", "SET logged_reads = subjects"
        ),
        ("tests/http/test_logged_reads.py",),
    ),
    Sql(
        "shares listed for all tenants",
        "the owner of a share",
        BOTH,
        "ALTER POLICY own ON control.shares USING (owner_id IS NOT NULL)",
        (GRANTED, SHARING, CATALOGUE),
    ),
    Sql(
        "columns that are not granted served",
        "that a share grants what its owner chose",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", "CASE WHEN %L = ANY (s.fields)", "CASE WHEN %L IS NOT NULL"),
        (GRANTED, "tests/subjects/nouns/test_shares.py"),
    ),
    Sql(
        "columns granted that are not declared",
        "that only declared columns are granted",
        BOTH,
        rewritten("isola.granted_columns(text, text[])", "granted_columns.chosen <@ o.shared", "true"),
        (GRANTED,),
    ),
    Sql(
        "shares that are widened by what a change leaves out",
        "that a change keeps what it leaves out",
        BOTH,
        rewritten(CHANGE_SHARE, "CASE WHEN chosen IS NULL THEN s.fields ELSE granted END", "granted"),
        (GRANTED,),
    ),
    Sql(
        "shares without an end by a change that leaves it out",
        "that a change keeps what it leaves out",
        BOTH,
        rewritten(CHANGE_SHARE, "CASE WHEN keep_until THEN s.expires_at ELSE until END", "until"),
        (GRANTED,),
    ),
    Sql(
        "shares widened by sharing again",
        "that sharing again changes nothing",
        BOTH,
        rewritten(
            MAKE_SHARE,
            "WHERE revoked_at IS NULL DO NOTHING",
            "WHERE revoked_at IS NULL DO UPDATE SET fields = excluded.fields, expires_at = excluded.expires_at",
        ),
        (GRANTED,),
    ),
    Sql(
        "shares changed by any tenant with their id",
        "the owner of a share",
        BOTH,
        rewritten(
            CHANGE_SHARE,
            "s.owner_id = isola.bound_tenant() AND isola.may_read(s.owner_id, s.subject, s.row_id)",
            "isola.bound_tenant() IS NOT NULL",
        )
        + ";"
        + rewritten(CHANGE_SHARE, "s.owner_id = isola.bound_tenant() AND ", ""),
        (GRANTED,),
    ),
    Sql(
        "shares revoked by any tenant with their id",
        "the owner of a share",
        BOTH,
        rewritten(
            "isola.revoke_share(uuid)", "owner_id = isola.bound_tenant() AND", "isola.bound_tenant() IS NOT NULL AND"
        )
        + ";"
        + rewritten("isola.revoke_share(uuid)", "AND isola.may_read(s.owner_id, s.subject, s.row_id)", ""),
        (SHARING,),
    ),
    Sql(
        "shares of another tenant's object revoked with one's own",
        "the owner of a share",
        BOTH,
        rewritten(
            "isola.revoke_shares_of(uuid)",
            "owner_id = isola.bound_tenant() AND",
            "isola.bound_tenant() IS NOT NULL AND",
        ),
        (SHARING,),
    ),
    Sql(
        "shares of another tenant's objects",
        "that only the owner of a resource shares it",
        BOTH,
        rewritten(
            SHARE_ROW,
            "IF NOT owned OR partner",
            "IF partner",
        ),
        (SHARING,),
    ),
    Sql(
        "shares by whoever the caller names",
        "that the database fills in who shared a row",
        BOTH,
        rewritten(
            MAKE_SHARE,
            "isola.current_user_id()",
            "nullif(current_setting('isola.sharer', true), '')::uuid",
        ),
        (SUBJECTS_SHARED,),
    ),
    Sql(
        "shares that outlive the access of whoever shared",
        "that the shares of a disabled user end",
        BOTH,
        rewritten("isola.shared_rows(text, uuid)", " AND u.disabled_at IS NULL", ""),
        (SUBJECTS_SHARED,),
    ),
    Sql(
        "recipients of shares that their owner can look up",
        "that an owner sees of a recipient what it wrote",
        BOTH,
        "GRANT SELECT (grantee_id) ON control.shares TO {login}, isola_members",
        (CATALOGUE,),
    ),
    Sql(
        "shares of hidden rows listed",
        "that shares of a row are for those who may read it",
        BOTH,
        "ALTER POLICY own ON control.shares USING (owner_id = (SELECT isola.bound_tenant()))",
        (SUBJECTS_SHARED,),
    ),
    Sql(
        "shares of hidden rows revoked",
        "that shares of a row are for those who may read it",
        BOTH,
        rewritten("isola.revoke_share(uuid)", "AND isola.may_read(s.owner_id, s.subject, s.row_id)", ""),
        (SUBJECTS_SHARED,),
    ),
    Sql(
        "shares with oneself",
        "that a share is with another",
        BOTH,
        "ALTER TABLE control.shares DROP CONSTRAINT ck_shares_with_another;"
        "ALTER TABLE control.partners DROP CONSTRAINT ck_partners_with_another;"
        "INSERT INTO control.partners (tenant_id, partner_id, partner_slug, id, offered_at)"
        " SELECT id, id, slug, gen_random_uuid(), now() FROM control.tenants",
        (SHARING,),
    ),
    Sql(
        "shares of suspended tenants",
        "that a suspended owner shares nothing",
        BOTH,
        "CREATE OR REPLACE VIEW control.sharers WITH (security_invoker = true) AS SELECT id, slug, name, home"
        " FROM control.tenants WHERE parent_id IS NULL OR NOT control.below_inactive(id)",
        (ENDING,),
    ),
    Sql(
        "binding without its role",
        "that the role must match the binding",
        SCHEMA,
        rewritten("isola.bound_tenant()", "t.role = current_setting('role')", "true"),
        (BINDINGS,),
    ),
    Sql(
        "binding of suspended tenants",
        "that a suspended tenant cannot call functions",
        BOTH,
        rewritten("isola.bound_tenant()", " AND t.status = 'active'", ""),
        (ENDING,),
    ),
    Sql(
        "one more shared column",
        "the shared columns",
        RLS,
        "GRANT SELECT (owner_id) ON rls.resources TO isola_sharing",
        (CATALOGUE,),
    ),
    Sql(
        "one more shared table",
        "the shared tables",
        SCHEMA,
        "GRANT SELECT ON {b}.spans TO isola_sharing",
        (CATALOGUE,),
    ),
    Sql(
        "sharing role that writes",
        "that sharing is read-only",
        RLS,
        "GRANT UPDATE (name) ON rls.resources TO isola_sharing",
        (CATALOGUE,),
    ),
)

PROOFS = (
    Sql(
        "policy on the claimed tenant",
        "the proof of a binding",
        RLS,
        policy("rls.resources", "tenant_id = isola.claimed_tenant_id()"),
        (CATALOGUE, CONTEXT),
    ),
    Sql(
        "policy of a home removed",
        "the policy of a table in a tenant's own schema",
        SCHEMA,
        "ALTER TABLE {b}.resources DISABLE ROW LEVEL SECURITY",
        (BINDINGS, "app/isola/testing/isolation/test_smuggled.py"),
    ),
    Sql(
        "proofs without verification",
        "the check of a proof",
        BOTH,
        rewritten("isola.proved_tenant_id()", "IF right(proof, 64) = encode(", "IF true OR right(proof, 64) = encode("),
        (BINDINGS,),
    ),
    Sql(
        "policies that trust the claimed tenant",
        "that policies use the proven tenant",
        BOTH,
        TRUSTED,
        (BINDINGS,),
    ),
    Sql(
        "prepared statements that all sessions can list",
        "that names of prepared statements are not readable",
        BOTH,
        "GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO PUBLIC",
        (CONNECTIONS,),
    ),
    Sql(
        "proofs for any tenant",
        "the tenant in a proof",
        BOTH,
        rewritten("isola.proved_tenant_id()", "AND left(proof, 36) = tenant", ""),
        (BINDINGS,),
    ),
    Sql(
        "proofs for every process",
        "the server process in a proof",
        BOTH,
        this_transaction("extract(epoch FROM transaction_timestamp())::text"),
        (BINDINGS,),
    ),
    Sql(
        "proofs for every transaction of a process",
        "the transaction in a proof",
        BOTH,
        this_transaction("pg_backend_pid()::text"),
        (BINDINGS,),
    ),
    Sql(
        "proofs for a transaction named by a setting",
        "that no setting determines the transaction of a proof",
        BOTH,
        this_transaction("current_setting('application_name')"),
        (BINDINGS,),
    ),
    Sql(
        "log with an unproven actor",
        "that the actor is proved",
        BOTH,
        rewritten(
            "isola.audit_note(oid, text, text[], jsonb[], jsonb[])",
            "proved := isola.proved_request();",
            "proved := isola.proved_request(); "
            "proved[3] := coalesce(nullif(current_setting('isola.actor', true), ''), proved[3]);",
        ),
        ("app/isola/testing/isolation/test_smuggled.py",),
    ),
    Sql(
        "proofs without the actor",
        "the actor in a proof",
        BOTH,
        rewritten("isola.proved_request()", "IF isola.proved_tenant_id() IS NULL THEN", "IF false THEN"),
        ("app/isola/testing/isolation/test_binding.py",),
    ),
    Sql(
        "proofs made by tenants",
        "that tenants can make no proofs",
        BOTH,
        "GRANT EXECUTE ON FUNCTION isola.proof(uuid, uuid) TO {login}, isola_members",
        (BINDINGS, CATALOGUE),
    ),
    Sql(
        "visibility of reads only",
        "that a statement without a condition changes and deletes only rows that its user may see",
        BOTH,
        """
            DO $$ DECLARE
                rule text := (SELECT pg_get_expr(polqual, polrelid) FROM pg_policy
                    WHERE polrelid = '{a}.spans'::regclass AND polname = 'visible_rows');
            BEGIN
                DROP POLICY visible_rows ON {a}.spans;
                EXECUTE format('CREATE POLICY visible_rows ON {a}.spans AS RESTRICTIVE FOR SELECT USING (%s)', rule);
            END $$
        """,
        (VISIBILITY,),
    ),
    Sql(
        "tickets that are used twice",
        "that a ticket binds one transaction",
        BOTH,
        rewritten("isola.enter(text)", " AND used_at IS NULL", ""),
        (TICKETS,),
    ),
    Sql(
        "tickets that are used elsewhere after a rollback",
        "that a ticket stays with the session that used it",
        BOTH,
        rewritten(
            "isola.enter(text)", "NOT pg_try_advisory_lock(hashtext('isola.ticket'), hashtext(held.id::text))", "false"
        ),
        (TICKETS,),
    ),
    Sql(
        "locks that are kept between transactions",
        "that the watchdog ends sessions that keep advisory locks",
        BOTH,
        rewritten(
            "control.end_sessions(text, interval, timestamptz, text[])",
            "OR h.kept AND a.state = 'idle' AND",
            "OR false AND",
        ),
        ("app/isola/testing/isolation/test_leftovers.py",),
    ),
    Sql(
        "locks that keep the platform waiting",
        "that the watchdog ends SQL sessions whose advisory locks the platform waits for",
        BOTH,
        rewritten("control.end_sessions(text, interval, timestamptz, text[])", "OR h.waited_for\n", "\n"),
        ("app/isola/testing/isolation/test_leftovers.py",),
    ),
    Sql(
        "tickets that never expire",
        "that a ticket expires, also in an open transaction",
        BOTH,
        rewritten("isola.entered(text)", "held.expires_at <= clock_timestamp()", "false"),
        (TICKETS,),
    ),
    Sql(
        "tickets for every process",
        "that a ticket is for the process that it names",
        BOTH,
        rewritten("isola.enter(text)", "held.backend <> pg_backend_pid()", "false"),
        (TICKETS,),
    ),
    Sql(
        "a second ticket in a transaction",
        "that a transaction enters one tenant",
        BOTH,
        rewritten("isola.enter(text)", "coalesce(current_setting('isola.tenant', true), '') <> ''", "false"),
        (TICKETS,),
    ),
    Sql(
        "tickets of the owner",
        "that what a session with a ticket changes is logged",
        BOTH,
        rewritten("isola.enter(text)", "isola.audit_of_owner('control.tickets'::regclass)", "false"),
        (TICKETS,),
    ),
    Sql(
        "functions without permissions",
        "that functions for SQL sessions need the permissions of the API",
        BOTH,
        rewritten(
            "isola.entered(text)",
            "permission IS NOT NULL AND array_position(held.permissions, permission) IS NULL",
            "false",
        ),
        (TICKETS,),
    ),
    Sql(
        "tickets refused for settings that others left",
        "that a setting without a proof keeps nobody from entering",
        BOTH,
        rewritten("isola.enter(text)", "WHEN SQLSTATE 'IS002'", "WHEN SQLSTATE 'IS00X'"),
        (TICKETS,),
    ),
    Sql(
        "tickets that outlive roles",
        "that a ticket ends when the roles of its user change",
        BOTH,
        rewritten("isola.entered(text)", "isola.roles_of(home, held.user_id) <> held.roles", "false"),
        (TICKETS,),
    ),
    Sql(
        "tickets beyond the limit, at the same time",
        "that transactions that issue tickets wait for each other",
        BOTH,
        rewritten(
            "isola.issue_ticket(bytea, text[], uuid, integer, integer)",
            "DO UPDATE SET tenant_id = excluded.tenant_id",
            "DO NOTHING",
        ),
        (TICKETS,),
    ),
    Sql(
        "tickets of disabled users",
        "that a ticket ends with its user",
        BOTH,
        rewritten("isola.entered(text)", "NOT enabled", "false"),
        (TICKETS,),
    ),
    Sql(
        "tickets of users who signed out",
        "that signing out ends tickets",
        BOTH,
        rewritten("isola.entered(text)", "o.not_before >= held.issued_at", "false"),
        (TICKETS,),
    ),
    Sql(
        "tickets for somebody else",
        "that code inside a tenant issues tickets for its own user",
        BOTH,
        rewritten(
            "isola.issue_ticket(bytea, text[], uuid, integer, integer)",
            "tenant, holder, issue_ticket.digest",
            "tenant, coalesce(holder, isola.uuid_v7()), issue_ticket.digest",
        ),
        (TICKETS,),
    ),
    Sql(
        "functions that bypass visibility",
        "that visibility rules hold for SQL sessions",
        SCHEMA,
        "ALTER POLICY visible_rows ON {a}.spans TO isola_sharing, {a}",
        (TICKETS,),
    ),
    Sql(
        "rights on tables for SQL sessions",
        "that SQL sessions reach functions only",
        SCHEMA,
        "GRANT USAGE ON SCHEMA {a} TO isola_sql; GRANT SELECT ON {a}.spans TO isola_sql",
        (TICKETS,),
    ),
    Sql(
        "hashes of entries that are not sealed yet",
        "that the hash of an entry is for those who may read the whole log",
        BOTH,
        rewritten("isola.unsealed()", "'isola:whole_log'::text = ANY (isola.current_permissions())", "true"),
        (VISIBILITY,),
    ),
    Sql(
        "API keys in the name of others",
        "that the creator of an API key, whose permissions limit it, is the proved user",
        BOTH,
        rewritten(
            "isola.create_api_key(text, bytea, text, text[], uuid, timestamptz)",
            "isola.current_user_id()",
            "create_api_key.user_id",
        ),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "the user of a claim",
        "that the user is proved",
        BOTH,
        rewritten(
            "isola.current_user_id()",
            "(isola.proved_tenant_id() IS NOT NULL)",
            "true",
        ),
        (VISIBILITY,),
    ),
    Sql(
        "log readable without its view",
        "that tenant traffic reads values in the log through the view only",
        BOTH,
        "GRANT SELECT ON {a}.audit_entries TO {login}, isola_members",
        (VISIBILITY,),
    ),
    Sql(
        "log that can be changed",
        "that the log is append-only",
        RLS,
        "GRANT UPDATE, DELETE ON rls.audit_entries TO {login}",
        ("app/isola/testing/isolation/test_audit.py", CATALOGUE),
    ),
)

FAMILY, FAMILY_SCOPE = (
    "app/isola/testing/isolation/families/test_reading.py",
    "app/isola/testing/isolation/families/test_scope.py",
)
FAMILIES = (
    Sql(
        "a table that is read without asking for the descendants",
        "the policy for reads of descendants",
        RLS,
        "DROP POLICY family_rows ON rls.users; "
        "CREATE POLICY family_rows ON rls.users AS RESTRICTIVE TO isola_family USING (true) WITH CHECK (false)",
        (FAMILY,),
    ),
    Sql(
        "descendants that are suspended are read",
        "that descendants are active",
        BOTH,
        rewritten(
            "control.active_descendants(uuid)",
            "(t.parent_id = active_descendants.tenant) AND (t.status = 'active'::text)",
            "t.parent_id = active_descendants.tenant",
        ),
        (FAMILY,),
    ),
    Sql(
        "descendants are read without the proof of a server",
        "the proof that descendants are read",
        BOTH,
        rewritten("isola.family_list()", "'{{family:read,isola:family}}'", "'{{}}'"),
        (FAMILY,),
    ),
    Sql(
        "the key of proofs in a plan",
        "that the key is no constant of a plan, which everybody may print",
        BOTH,
        # That the function sends no messages hides the plan as well.
        rewritten("isola.family_list()", "kept := set_config(", "PERFORM set_config(")
        + "; ALTER FUNCTION isola.family_list() RESET client_min_messages",
        (FAMILY,),
    ),
    Sql(
        "a list of descendants that anybody writes",
        "the code over the list of descendants",
        BOTH,
        rewritten(
            "isola.family(text)",
            "IF right(kept, 64) = encode(",
            "IF true OR '' = encode(",
        ),
        (FAMILY,),
    ),
    Sql(
        "reads of descendants in no log",
        "the log of reads of descendants",
        BOTH,
        rewritten(
            "isola.note_sign_ins()", "family:,subject}}'::text[], NULL, above", "family:,subject}}'::text[], NULL, NULL"
        ),
        (f"{FAMILY_SCOPE}::test_each_read_is_in_the_log_of_each_descendant_and_names_nobody_above",),
    ),
    Sql(
        "descendants for users without the permission",
        "the permission to list descendants",
        BOTH,
        rewritten("isola.descendants()", "('family:read'::text = ANY", "(true OR 'family:read'::text = ANY"),
        ("tests/http/test_families.py",),
    ),
)
PLATFORM_LOG, QUOTAS = "tests/control/test_platform_log.py", "tests/subjects/nouns/test_quotas.py"
LOG = "app/isola/testing/isolation/test_audit.py"
USAGE = "tests/subjects/nouns/test_usage.py"
TIERS = "tests/subjects/nouns/test_tiers.py"
PLATFORM = (
    Sql(
        "temporary read access to any tenant",
        "the tenant of temporary read access",
        BOTH,
        rewritten("isola.note_access(uuid)", "AND tenant_id = isola.bound_tenant()", ""),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "sessions that begin in any tenant",
        "the tenant of a session that was prepared",
        BOTH,
        rewritten("isola.begin_session(uuid, uuid)", "AND tenant_id = isola.bound_tenant()", ""),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "webhooks changed in any tenant",
        "the tenant of a webhook",
        BOTH,
        rewritten(
            "isola.update_webhook(uuid, text, text, text[], boolean, bytea, text)",
            "AND w.tenant_id = isola.bound_tenant()",
            "",
        ),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "use beyond a limit",
        "the limit of a meter",
        BOTH,
        rewritten(
            "isola.keep_limit(uuid, text, text, timestamptz, bigint, integer, boolean, bigint, bigint)",
            "asked > most",
            "false",
        ),
        (USAGE,),
    ),
    Sql(
        "use of a customer beyond its cap",
        "the cap of the tier of a customer",
        BOTH,
        rewritten("isola.customer_caps(uuid, text[])", "t.usage_caps <>", "false AND t.usage_caps <>"),
        (TIERS,),
    ),
    Sql(
        "use counted again under its key",
        "that a key counts once",
        BOTH,
        rewritten(
            "isola.record_usage(text[], bigint[], text[], timestamptz[], text[], jsonb[], boolean)",
            "SELECT * FROM given WHERE digest IS NULL",
            "SELECT * FROM given",
        ),
        (USAGE,),
    ),
    Sql(
        "use of any tenant",
        "the tenant whose use is shown",
        BOTH,
        rewritten("isola.usage()", "(u.tenant_id = ( SELECT isola.bound_tenant() AS bound_tenant))", "true"),
        (USAGE,),
    ),
    Sql(
        "invitations accepted in any tenant",
        "the tenant of an invitation",
        BOTH,
        rewritten("isola.accept_invitation(uuid, bytea, uuid)", "AND i.tenant_id = isola.bound_tenant()", ""),
        (INVITATIONS,),
    ),
    Sql(
        "invitations accepted twice",
        "that an invitation is accepted once",
        BOTH,
        rewritten("isola.accept_invitation(uuid, bytea, uuid)", "AND i.accepted_at IS NULL", ""),
        (INVITATIONS,),
    ),
    Sql(
        "expired invitations accepted",
        "that an invitation expires",
        BOTH,
        rewritten("isola.accept_invitation(uuid, bytea, uuid)", "AND i.expires_at > now()", ""),
        (INVITATIONS,),
    ),
    Sql(
        "refusals in the log of any tenant",
        "the tenant of logged refusals",
        BOTH,
        rewritten("isola.note_sign_ins()", "WHERE tenant_id = tenant AND due_at", "WHERE due_at"),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "ends of sessions in the log of any tenant",
        "the tenant of sessions that have ended",
        BOTH,
        rewritten("isola.note_sign_ins()", "WHERE tenant_id = tenant AND ended_at", "WHERE ended_at"),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "sessions of all users listed",
        "that users see only their own sessions",
        BOTH,
        rewritten("isola.own_sessions()", "(s.user_id = ( SELECT isola.current_user_id() AS current_user_id))", "true"),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "sessions of any tenant listed",
        "that users see only their sessions in this tenant",
        BOTH,
        rewritten("isola.own_sessions()", "(s.tenant_id = ( SELECT isola.bound_tenant() AS bound_tenant))", "true"),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "sessions of other users ended",
        "that users end only their own sessions",
        BOTH,
        rewritten("isola.end_own_sessions(uuid, uuid, text)", "AND user_id = isola.current_user_id()", ""),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "sessions in other tenants ended",
        "that users end only their sessions in this tenant",
        BOTH,
        rewritten("isola.end_own_sessions(uuid, uuid, text)", "tenant_id = isola.bound_tenant() AND", ""),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "ended sessions whose tokens are still good",
        "that a session that its user ends is announced to every server",
        BOTH,
        rewritten(
            "isola.end_own_sessions(uuid, uuid, text)",
            "SELECT 'revocation', key FROM keyed",
            "SELECT 'x', key FROM keyed WHERE false",
        ),
        ("tests/http/test_own_sessions.py",),
    ),
    Sql(
        "domains that reveal others' claims",
        "that adding a domain reveals nothing about other tenants",
        BOTH,
        rewritten(
            "isola.add_domain(text)",
            "INSERT INTO control.domains AS d",
            "IF EXISTS (SELECT FROM control.domains o WHERE o.name = add_domain.name AND o.verified_at IS NOT NULL "
            "AND o.tenant_id <> isola.bound_tenant()) THEN RETURN NULL; END IF; INSERT INTO control.domains AS d",
        ),
        ("app/isola/testing/isolation/test_platform.py",),
    ),
    Sql(
        "log of the platform that can be changed",
        "that the platform's log is append-only",
        BOTH,
        "GRANT UPDATE, DELETE ON control.audit_entries TO isola_control",
        (PLATFORM_LOG,),
    ),
    Sql(
        "platform log entries forged by a tenant",
        "who may log actions of staff",
        BOTH,
        "GRANT EXECUTE ON FUNCTION isola.audit_platform TO {login}, isola_members",
        (PLATFORM_LOG, CATALOGUE),
    ),
    Sql(
        "announced actions in any tenant",
        "the tenant of announced actions",
        BOTH,
        rewritten("isola.note_intervention(uuid)", " AND tenant_id = isola.bound_tenant()", ""),
        (PLATFORM_LOG, CATALOGUE),
    ),
    Sql(
        "quotas that concurrent transactions exceed",
        "counting when a transaction commits",
        BOTH,
        "ALTER TABLE control.audit_pending DISABLE TRIGGER quota",
        (QUOTAS,),
    ),
    Sql(
        "sealer that skips committing transactions",
        "that all drawn numbers are decided",
        BOTH,
        rewritten("control.seal(bigint)", "c.virtualtransaction = ANY (committing)", "false"),
        (LOG,),
    ),
    Sql(
        "numbers in the order of writes",
        "that entries are numbered in the order of commits",
        BOTH,
        rewritten("control.seal(bigint)", "max(p.place) OVER (PARTITION BY p.transaction)", "p.id"),
        (LOG,),
    ),
    Sql(
        "seals without the previous hash",
        "that seals are a chain",
        BOTH,
        rewritten("control.seal(bigint)", "sha256(h.hash || ", "sha256("),
        (LOG,),
    ),
)

ANSWERS = (
    Sql(
        "first answers of other users",
        "that a first answer is one user's",
        BOTH,
        rewritten("isola.first_answer(bytea, integer, bytea)", "a.user_id = holder AND ", ""),
        (IDEMPOTENCY,),
    ),
    Sql(
        "first answers of other tenants",
        "that a first answer is one tenant's",
        BOTH,
        rewritten("isola.first_answer(bytea, integer, bytea)", "a.tenant_id = tenant AND ", ""),
        (IDEMPOTENCY,),
    ),
    Sql(
        "repetitions that do not wait",
        "that requests with one key wait for each other",
        BOTH,
        rewritten(
            "isola.claim_answer(bytea, integer, bytea)",
            "pg_advisory_xact_lock(hashtextextended(encode(claim_answer.digest, 'hex'), 0)) IS NULL",
            "false",
        ),
        (IDEMPOTENCY,),
    ),
    Sql(
        "first answers that never expire",
        "that first answers expire",
        BOTH,
        rewritten("isola.claim_answer(bytea, integer, bytea)", "kept_at <= now() - interval '24 hours'", "false"),
        ("tests/http/test_idempotency.py",),
    ),
    Sql(
        "first answers of any size",
        "that an answer that is kept has a maximum size",
        BOTH,
        rewritten(
            "isola.keep_answer(bytea, integer, bytea, text, boolean, text)", "octet_length(keep_answer.answer)", "0"
        ),
        ("tests/http/test_idempotency.py",),
    ),
    Sql(
        "overrides without an end",
        "that a limit of one tenant ends when its override does",
        BOTH,
        rewritten("isola.quota_limit(uuid, text, timestamp with time zone)", "(o.ends_at > quota_limit.at)", "true"),
        ("tests/subjects/nouns/test_quotas.py",),
    ),
    Sql(
        "rows that go before their time",
        "that what a plan keeps is kept",
        BOTH,
        rewritten("isola.expire_rows(text, integer, timestamptz, uuid)", "days => days", "days => days - 2"),
        (RETENTION,),
    ),
    Sql(
        "deletions that are not logged after a batch",
        "that only the rows of a batch have one entry together",
        BOTH,
        rewritten(
            "isola.retention_delete(uuid, text, control.kept, timestamptz, integer, uuid[])",
            "DELETE FROM control.expiring WHERE transaction = pg_current_xact_id()::text RETURNING rows INTO gone",
            "SELECT rows INTO gone FROM control.expiring WHERE transaction = pg_current_xact_id()::text",
        ),
        (RETENTION,),
    ),
    Sql(
        "shares that outlive their rows",
        "that shares end with rows that a plan does not keep",
        BOTH,
        rewritten(
            "isola.retention_delete(uuid, text, control.kept, timestamptz, integer, uuid[])",
            "PERFORM isola.revoke_shares_of(id) FROM unnest(ids) id",
            "NULL",
        ),
        (RETENTION,),
    ),
    Sql(
        "broken logs that are cut",
        "that a log which is not as it was sealed is not cut",
        BOTH,
        rewritten("isola.cut_log(bigint)", "OR NOT was.whole", ""),
        (RETENTION,),
    ),
    Sql(
        "logs that are cut before webhooks have them",
        "that what a webhook has not got is not cut",
        BOTH,
        rewritten("isola.cut_log(bigint)", "> delivered THEN interval '30 days'", "> delivered THEN interval '0'"),
        (RETENTION,),
    ),
    Sql(
        "storage without a limit",
        "that nothing is added over the quota of storage",
        BOTH,
        rewritten("isola.quota_keep_storage()", "s.bytes > allowed", "false"),
        (STORAGE,),
    ),
    Sql(
        "storage without the last row of each page",
        "that all rows are measured",
        BOTH,
        rewritten("isola.measure_rows(text, text, uuid, integer)", "<= $2", "< $2"),
        (STORAGE,),
    ),
    Sql(
        "first answers in reach of tenants",
        "that tenants have no right on first answers",
        BOTH,
        "GRANT USAGE ON SCHEMA control TO {login}, isola_members;"
        "GRANT SELECT ON control.first_answers TO {login}, isola_members",
        (IDEMPOTENCY, CATALOGUE),
    ),
)

IN_DATABASE = (
    *ANSWERS,
    *POLICIES,
    *KEYS,
    *ROLES,
    *GRANTS,
    *OBJECTS,
    *DOMAINS_OF_TENANTS,
    *SHARES,
    *PROOFS,
    *PLATFORM,
    *FAMILIES,
)
