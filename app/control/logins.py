"""The roles that the server works with, what each may do, and what none may be able to do.

====================  =======================================================================================
the owner             makes everything and owns it; used by commands, never by requests
the tenant login      tenant traffic; owns nothing, inherits nothing
the control login     reads and writes the directory
``isola_members``     what every bound transaction may call; each tenant's own role is a member
``isola_sharing``     no login; the functions that cross from one tenant to another run as it, and nothing else
``isola_audit``       no login; the triggers that write the log of what was done run as it, and nothing else
``isola_quotas``      no login; the triggers that keep quotas, and what counts for them, run as it, and nothing else
``isola_watchdog``    no login; a member of the tenant login, whose sessions it ends; nothing else runs as it
====================  =======================================================================================
"""

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Table, make_url
from sqlalchemy.engine import URL

from app import address
from app.database import DIALECT, Transaction
from app.errors import OperatorError
from app.settings import Settings
from strategies.base import Home

quote = DIALECT.identifier_preparer.quote

INNER = ("isola_sharing", "isola_audit", "isola_quotas", "isola_watchdog")
"""Roles without a login that functions run as. No tenant's transaction may become one of them."""

CALLED_BY_MEMBERS = (
    "isola.bound_tenant()",
    "isola.share_resource(uuid, text, uuid, timestamptz, boolean)",
    "isola.revoke_share(uuid)",
    "isola.revoke_shares_of(uuid)",
    "isola.shares_of(uuid)",
    "isola.share_offers()",
    "isola.answer_share(uuid, boolean, uuid)",
    "isola.shares_received()",
    "isola.share_received(uuid)",
    "isola.page_of_shares_received(timestamptz, uuid, int)",
    "isola.shared_resource(uuid)",
    "isola.domains()",
    "isola.add_domain(text)",
    "isola.verify_domain(uuid)",
    "isola.remove_domain(uuid)",
    "isola.api_keys()",
    "isola.create_api_key(text, bytea, text, text[], uuid, uuid, timestamptz)",
    "isola.revoke_api_key(uuid)",
    "isola.announce(text, text)",
    "isola.remember_member(text)",
    "isola.sign_out(uuid, text)",
    "isola.note_access(uuid)",
    "isola.note_intervention(uuid)",
    "isola.begin_session(uuid, uuid)",
    "isola.note_sign_ins()",
)
COUNTED_FOR_MEMBERS = ("isola.plan()", "isola.quotas()", "isola.used(text)")
# What keeps answers within their limit, in the statements of reads.
MEASURED = "isola.measured(text, bigint, bigint, text)"
CALLED_BY_ALL = (
    "isola.claimed_tenant_id()",
    "isola.current_tenant_id()",
    "isola.proved_request()",
    "isola.proved_tenant_id()",
    "isola.this_transaction()",
    "isola.uuid_v7()",
)
# What reads or writes what its callers may not: it runs as isola_sharing.
AS_SHARING = (*CALLED_BY_MEMBERS, "isola.proved_tenant_id()", "isola.proof(uuid)")

# What notes changes, and writes them into the log, runs as isola_audit. These are triggers, and what they call; only
# that staff look in, and what becomes of sign-ins, is noted by functions, which run as isola_sharing.
NOTE_PLATFORM = "isola.audit_platform(text, text, text, text, jsonb, jsonb)"
AS_AUDIT = (
    "isola.audit()",
    "isola.audit_note(oid, text[], jsonb[], jsonb[])",
    "isola.audit_link()",
    NOTE_PLATFORM,
)
# What keeps quotas, and what tells of them.
AS_QUOTAS = (*COUNTED_FOR_MEMBERS, "isola.quota_keep()", "isola.quota_keep_at_once()")
CALLED_BY_QUOTAS = (
    "isola.quota_taken(jsonb)",
    "isola.quota_used(uuid, text, text, bigint)",
    "isola.quota_counted(uuid, text, text, bigint)",
)
# What PostgreSQL lets everybody call, and no tenant needs: it reaches over to other tenants, past all policies. The
# next tenant runs the statements that a connection keeps; all sessions of tenant traffic are one login's, and so may
# end each other; large objects are in no schema.
FOR_NO_TENANT = (
    "pg_prepared_statement()",
    "pg_cancel_backend(integer)",
    "pg_terminate_backend(integer, bigint)",
    "lo_creat(integer)",
    "lo_create(oid)",
    "lo_from_bytea(oid, bytea)",
    "lo_get(oid)",
    "lo_get(oid, bigint, integer)",
    "lo_open(oid, integer)",
    "lo_put(oid, bigint, bytea)",
    "lo_unlink(oid)",
)
AS_WATCHDOG = ("control.end_sessions(text, interval, timestamptz)",)
HIERARCHY = (
    "control.ancestors(uuid)",
    "control.descendants(uuid)",
    "control.below_inactive(uuid)",
    "control.status_of(uuid)",
)
CALLED_BY_AUDIT = (
    "isola.audit_values(jsonb, text[])",
    "isola.audit_difference(jsonb, jsonb, text[])",
    "isola.audit_of_owner(oid)",
    "isola.audit_placed(uuid, text)",
)


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the owner, tenant traffic and the control plane connect. The owner's may be unknown to a server."""

    owner: str | None
    tenant: str
    control: str

    @property
    def tenant_login(self) -> str:
        return str(make_url(self.tenant).username)

    @property
    def control_login(self) -> str:
        return str(make_url(self.control).username)


def addresses(settings: Settings, embedded: str | None = None) -> Addresses:
    """The three addresses. A login's address that is not set is the owner's with another name and password.

    That password is derived from the owner's, so that two processes given the same owner agree on it; also from one
    that the owner has from ``PGPASSWORD`` or a password file.
    Raises OperatorError naming the setting that is missing.
    """
    owner = settings.database_url.get_secret_value() if settings.database_url else embedded
    secret = address.password(make_url(owner)) if owner and settings.database_url else None
    logins = []
    for setting, name in ((settings.tenant_url, "isola_tenant"), (settings.control_url, "isola_control")):
        if setting is not None:
            logins.append(setting.get_secret_value())
        elif owner is not None:
            logins.append(derived(make_url(owner), name, secret).render_as_string(hide_password=False))
        else:
            variable = name.replace("isola_", "ISOLA_").upper() + "_URL"
            raise OperatorError(f"{variable} is not set, and without ISOLA_DATABASE_URL it cannot be derived")
    return Addresses(owner, *logins)


def derived(owner: URL, login: str, secret: str | None = None) -> URL:
    """The address of a login at the owner's database, with a password that only who knows the owner's can tell.

    ``secret`` is the owner's password where that does not stand in its address.
    """
    secret = secret or owner.password
    if secret is None:
        return owner.set(username=login)
    password = hmac.digest(str(secret).encode(), login.encode(), hashlib.sha256).hex()
    return owner.set(username=login, password=password).difference_update_query(["passfile"])


async def prepare(owner: Transaction, where: Addresses) -> None:
    """Make the roles and the platform's schemas where they are missing. Can be repeated.

    Raises OperatorError when a login that is already there could do what a login must not.
    """
    for role in ("isola_members", *INNER):
        await owner.script(_made(role, "NOLOGIN"))
    for url in (where.tenant, where.control):
        await _prepare_login(owner, make_url(url))
    await owner.script(f"GRANT {quote(where.tenant_login)} TO isola_watchdog")
    await _limit_connections(owner, where.tenant_login)
    await owner.script(admit_to_database(await owner.value("SELECT current_database()"), where))
    # They are the superuser's: no other owner can take them from anybody.
    if await owner.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await owner.script(
            f"""
            REVOKE EXECUTE ON FUNCTION {", ".join(FOR_NO_TENANT)} FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION pg_cancel_backend(integer), pg_terminate_backend(integer, bigint)
            TO pg_signal_backend;
            GRANT EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) TO isola_watchdog
            """
        )
    await owner.script(
        f"""
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        GRANT {", ".join(INNER)} TO CURRENT_USER;
        CREATE SCHEMA IF NOT EXISTS control;
        CREATE SCHEMA IF NOT EXISTS isola
        """
    )


def admit_to_database(name: str, where: Addresses) -> str:
    """Statements that say who may use a database for what, which is all that a copy of it lacks."""
    database = quote(name)
    return f"""
        REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {database} TO {quote(where.tenant_login)}, {quote(where.control_login)}
        """


async def _prepare_login(owner: Transaction, url: URL) -> None:
    name = quote(str(url.username))
    powerful = await owner.value(
        "SELECT rolsuper OR rolbypassrls OR rolname = current_user FROM pg_roles WHERE rolname = $1", url.username
    )
    if powerful:
        raise OperatorError(f"the login {url.username} is the owner, a superuser or has BYPASSRLS: name another one")
    await owner.script(_made(name, "LOGIN NOINHERIT"))
    if url.password is not None:
        await owner.script(
            await owner.value(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", url.username, str(url.password)
            )
        )


async def _limit_connections(owner: Transaction, login: str) -> None:
    """Leave room for the owner and the control plane, whatever sessions tenant traffic piles up.

    A limit that an operator has set stays.
    """
    most = await owner.value(
        "SELECT greatest(1, current_setting('max_connections')::int * 4 / 5) FROM pg_roles "
        "WHERE rolname = $1 AND rolconnlimit = -1",
        login,
    )
    if most is not None:
        await owner.script(f"ALTER ROLE {quote(login)} CONNECTION LIMIT {most}")


def _made(role: str, attributes: str) -> str:
    return f"""
        DO $$ BEGIN
            CREATE ROLE {role} {attributes};
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- Roles belong to the cluster: another database may have brought it.
        END $$
    """


def admit_to_platform(where: Addresses) -> str:
    """Statements that give each role its rights on the platform's own tables and functions. They can be repeated."""
    tenant, control = quote(where.tenant_login), quote(where.control_login)
    owners = "".join(
        f"ALTER FUNCTION {function} OWNER TO {role}; "
        for role, functions in zip(INNER, (AS_SHARING, AS_AUDIT, AS_QUOTAS, AS_WATCHDOG), strict=True)
        for function in functions
    )
    return f"""
        REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA isola, control FROM PUBLIC;
        GRANT USAGE ON SCHEMA isola TO {tenant}, {control}, isola_members, isola_sharing;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)} TO {tenant}, {control}, isola_members, isola_sharing;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_MEMBERS)}, {MEASURED} TO {tenant}, isola_members;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)}, isola.bound_tenant() TO isola_audit;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_AUDIT)} TO isola_audit;
        GRANT EXECUTE ON FUNCTION isola.audit_note(oid, text[], jsonb[], jsonb[]) TO isola_sharing;
        GRANT EXECUTE ON FUNCTION {NOTE_PLATFORM} TO {control}, isola_sharing;
        GRANT USAGE ON SCHEMA isola TO isola_quotas;
        GRANT EXECUTE ON FUNCTION {", ".join(COUNTED_FOR_MEMBERS)} TO {tenant}, isola_members;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_ALL)}, isola.bound_tenant() TO isola_quotas;
        GRANT EXECUTE ON FUNCTION {", ".join(CALLED_BY_QUOTAS)} TO isola_quotas;
        GRANT EXECUTE ON FUNCTION {", ".join(HIERARCHY)} TO {control}, isola_sharing;
        GRANT USAGE ON SCHEMA isola TO isola_audit;
        GRANT CREATE ON SCHEMA isola, control TO {", ".join(INNER)};
        {owners}
        REVOKE CREATE ON SCHEMA isola, control FROM {", ".join(INNER)};
        GRANT USAGE ON SCHEMA control TO {control}, {", ".join(INNER)};
        GRANT EXECUTE ON FUNCTION {", ".join(AS_WATCHDOG)} TO {control};
        GRANT INSERT ON control.audit_entries TO isola_audit;
        GRANT SELECT ON control.audit_entries TO {control};
        GRANT SELECT, INSERT ON control.interventions TO {control};
        GRANT SELECT, UPDATE (done_at) ON control.interventions TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE ON control.plans TO {control};
        GRANT SELECT (id, home, plan) ON control.tenants TO isola_quotas;
        GRANT SELECT, INSERT, UPDATE ON control.quota_bounds TO isola_quotas;
        GRANT SELECT (name, title, quotas) ON control.plans TO isola_quotas;
        GRANT SELECT (tenant_id, revoked_at, expires_at) ON control.api_keys TO isola_quotas;
        GRANT SELECT (tenant_id) ON control.domains TO isola_quotas;
        GRANT SELECT (owner_id, revoked_at, expires_at) ON control.shares TO isola_quotas;
        GRANT SELECT, INSERT, DELETE ON control.audit_staged TO isola_audit;
        GRANT SELECT, UPDATE ON control.audit_heads TO isola_audit;
        GRANT SELECT (id, home, moving_to) ON control.tenants TO isola_audit;
        GRANT SELECT ON control.audit_heads, control.memberships TO {control};
        GRANT SELECT, INSERT, UPDATE (state, finished_at) ON control.orders TO {control};
        GRANT SELECT, INSERT ON control.memberships TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE ON control.tenants TO {control};
        GRANT SELECT ON control.alembic_version, control.secrets TO {control};
        GRANT SELECT ON control.binding_key TO {control}, isola_sharing;
        GRANT SELECT, INSERT, DELETE ON control.changes TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.revocations, control.sessions TO {control};
        GRANT SELECT, INSERT, UPDATE ON control.refresh_tokens TO {control};
        GRANT SELECT, UPDATE (user_id), DELETE ON control.sessions TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE (count, last_at) ON control.refusals TO {control};
        GRANT SELECT, DELETE ON control.refusals TO isola_sharing;
        GRANT SELECT ON control.sign_outs TO {control};
        GRANT SELECT, INSERT, UPDATE (ended_at) ON control.access_grants TO {control};
        GRANT SELECT ON control.access_grants TO isola_sharing;
        GRANT INSERT, SELECT (transaction) ON control.changes TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE ON control.sign_outs TO isola_sharing;
        GRANT SELECT ON control.domains, control.api_keys TO {control};
        GRANT UPDATE (last_used_at) ON control.api_keys TO {control};
        GRANT UPDATE (proven_at) ON control.domains TO {control};
        GRANT SELECT, INSERT, UPDATE, DELETE ON control.domains TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE ON control.api_keys TO isola_sharing;
        GRANT SELECT ON control.tenants, control.live_shares, control.sharers TO isola_sharing;
        GRANT SELECT, INSERT, UPDATE ON control.shares, control.share_answers TO isola_sharing
    """


def admit_audit(home: Home) -> Sequence[str]:
    """Statements that let the log of a home be written: it may be added to, and nothing else."""
    return [
        f"GRANT USAGE ON SCHEMA {home.schema} TO isola_audit",
        f"GRANT INSERT ON {home.schema}.audit_entries TO isola_audit",
    ]


def admit_quotas(home: Home) -> Sequence[str]:
    """Statements that let what a quota is of be counted in a home; nothing of it can be read that says more."""
    return [
        f"GRANT USAGE ON SCHEMA {home.schema} TO isola_quotas",
        f"GRANT SELECT (id) ON {home.schema}.resources TO isola_quotas",
        f"GRANT SELECT (seen_at, disabled_at) ON {home.schema}.users TO isola_quotas",
    ]


def admit_sharing(home: Home, tables: Iterable[Table]) -> Sequence[str]:
    """Statements that let the sharing functions read, in one home, the columns that tables declare as shared."""
    shared = [table for table in tables if "shared_columns" in table.info]
    return [
        f"GRANT USAGE ON SCHEMA {home.schema} TO isola_sharing",
        *(
            f"GRANT SELECT ({', '.join(table.info['shared_columns'])}) ON {home.schema}.{table.name} TO isola_sharing"
            for table in shared
        ),
    ]


DANGERS = f"""
SELECT 'is a superuser' FROM pg_roles WHERE rolname = session_user AND rolsuper
UNION ALL
SELECT format('can become %I, which is a superuser or has BYPASSRLS, REPLICATION, CREATEROLE or CREATEDB', rolname)
FROM pg_roles
WHERE (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole OR rolcreatedb)
  AND pg_has_role(session_user, oid, 'MEMBER')
UNION ALL
SELECT format('can become %I', rolname) FROM pg_roles
WHERE (rolname LIKE 'pg\\_%' OR rolname IN ({", ".join(map(repr, INNER))}))
  AND pg_has_role(session_user, oid, 'MEMBER')
UNION ALL
SELECT format('owns, or can become the owner of, %s', string_agg(oid::regclass::text, ', '))
FROM (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND pg_has_role(session_user, c.relowner, 'MEMBER')
    LIMIT 3
) owned
HAVING count(*) > 0
UNION ALL
SELECT format('owns, or can become the owner of, %s', string_agg(oid::regprocedure::text, ', '))
FROM (
    SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND pg_has_role(session_user, p.proowner, 'MEMBER')
    LIMIT 3
) owned
HAVING count(*) > 0
UNION ALL
SELECT format('may, or can become one that may, %s %s', privilege_type, oid::regclass)
FROM (
    SELECT c.oid, a.privilege_type
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, aclexplode(c.relacl) a
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND a.privilege_type NOT IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')
      AND a.grantee <> c.relowner AND (a.grantee = 0 OR pg_has_role(session_user, a.grantee, 'MEMBER'))
    LIMIT 3
) beyond_rows
UNION ALL
SELECT format('can become %I, which may use the schema control', rolname) FROM pg_namespace n, pg_roles r
WHERE nspname = 'control' AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND pg_has_role(session_user, r.oid, 'MEMBER')
UNION ALL
SELECT format('may %s in the database', privilege) FROM unnest(ARRAY['CREATE', 'TEMPORARY']) privilege
WHERE has_database_privilege(session_user, current_database(), privilege)
UNION ALL
SELECT format('may CREATE in the schema %I', nspname) FROM pg_namespace
WHERE nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(session_user, oid, 'CREATE')
UNION ALL
SELECT 'inherits the rights of the roles it can become' FROM pg_roles WHERE rolname = session_user AND rolinherit
LIMIT 10
"""


async def refuse_dangerous(tenant: Transaction) -> None:
    """Raise OperatorError, naming every reason, if this login could bypass the isolation of tenants."""
    found = await tenant.texts(DANGERS)
    if found:
        login = await tenant.value("SELECT session_user")
        raise OperatorError(f"the login of tenant traffic, {login}, could bypass isolation: it {'; it '.join(found)}")
