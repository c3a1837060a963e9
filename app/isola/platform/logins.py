"""The roles that the server works with, their rights, and what none of them may be able to do.

=======================  =======================================================================================
the owner                creates everything and owns it; used by commands, never by requests
the tenant login         tenant traffic; owns nothing, inherits nothing
the control login        reads and writes the directory
``isola_members``        what every bound transaction may call; each tenant's own role is a member
``isola_sharing``        no login; runs the functions that cross tenant boundaries, and nothing else
``isola_audit``          no login; runs the triggers that write the audit log, and nothing else
``isola_quotas``         no login; runs the triggers that enforce quotas and the functions that count, and nothing else
``isola_watchdog``       no login; a member of the tenant login, to end its sessions; nothing else runs as it
``isola_sql``            what logins with a ticket may call; the operator grants it
``isola_sql_functions``  no login; runs the functions for sessions with a ticket, and nothing else
``isola_family``         reads the rows of descendants: transactions of their ancestors become it, and only read
``isola_words``          no login; runs the triggers that keep the words of searched texts, and nothing else
``isola_retention``      no login; runs the functions that delete what plans do not keep, and nothing else
``isola_storage``        no login; runs the function that measures rows, and nothing else
=======================  =======================================================================================

``isola`` stands for ``ISOLA_ROLES``: see app/isola/platform/roles.py.
"""

import hashlib
import hmac
from dataclasses import dataclass

from sqlalchemy import make_url
from sqlalchemy.engine import URL

from isola.database import address
from isola.database.transactions import DIALECT, Transaction, accepts
from isola.errors import OperatorError
from isola.platform.roles import DEFAULT, Roles
from isola.settings import Settings

quote = DIALECT.identifier_preparer.quote

# Functions that PostgreSQL grants to PUBLIC and no tenant needs, since they reach other tenants and bypass policies:
# prepared statements of a connection are also run by the next tenant; all sessions of tenant traffic have the same
# login, and could end each other; large objects are in no schema.
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


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the owner, tenant traffic and the control plane connect. A server may lack the owner's address."""

    owner: str | None
    tenant: str
    control: str
    prefix: str = DEFAULT

    @property
    def roles(self) -> Roles:
        return Roles(self.prefix)

    @property
    def all_roles(self) -> list[str]:
        roles = self.roles
        return [self.tenant_login, self.control_login, roles.members, roles.sql, roles.family, *roles.inner]

    @property
    def tenant_login(self) -> str:
        return str(make_url(self.tenant).username)

    @property
    def control_login(self) -> str:
        return str(make_url(self.control).username)


def addresses(settings: Settings, embedded: str | None = None) -> Addresses:
    """The three addresses. A login without an address uses the owner's, with another name and password.

    That password is derived from the owner's, so that two processes with the same owner agree on it; also from one
    that the owner has from ``PGPASSWORD`` or a password file.
    Raises OperatorError naming the missing setting.
    """
    owner = settings.database_url.get_secret_value() if settings.database_url else embedded
    secret = address.password(make_url(owner)) if owner and settings.database_url else None
    logins = []
    for setting, kind in ((settings.tenant_url, "tenant"), (settings.control_url, "control")):
        if setting is not None:
            logins.append(setting.get_secret_value())
        elif owner is not None:
            name = f"{settings.roles}_{kind}"
            logins.append(derived(make_url(owner), name, secret).render_as_string(hide_password=False))
        else:
            variable = f"ISOLA_{kind.upper()}_URL"
            raise OperatorError(f"{variable} is not set, and without ISOLA_DATABASE_URL it cannot be derived")
    tenant, control = logins
    return Addresses(owner, tenant, control, settings.roles)


def derived(owner: URL, login: str, secret: str | None = None) -> URL:
    """The address of a login at the owner's database, with a password derived from the owner's.

    ``secret`` is the owner's password if its address does not contain one.
    """
    secret = secret or owner.password
    if secret is None:
        return owner.set(username=login)
    password = hmac.digest(str(secret).encode(), login.encode(), hashlib.sha256).hex()
    return owner.set(username=login, password=password).difference_update_query(["passfile"])


async def prepare(owner: Transaction, urls: Addresses) -> None:
    """Create missing roles and schemas of the platform. Idempotent.

    Raises OperatorError if an existing login has rights that a login must not have.
    """
    roles = urls.roles
    for role in (roles.members, roles.sql, roles.family, *roles.inner):
        await owner.script(_made(role, "NOLOGIN"))
    for login in (urls.tenant_login, urls.control_login):
        await _prepare_login(owner, login)
    await owner.script(f"GRANT {quote(urls.tenant_login)} TO {roles.watchdog}")
    await owner.script(f"GRANT {roles.family} TO {quote(urls.tenant_login)}")
    await _limit_connections(owner, urls.tenant_login)
    await owner.script(admit_to_database(await owner.value("SELECT current_database()"), urls))
    # These functions belong to the superuser: no other owner can revoke them.
    if await owner.value("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        await owner.script(
            f"""
            REVOKE EXECUTE ON FUNCTION {", ".join(FOR_NO_TENANT)} FROM PUBLIC;
            GRANT EXECUTE ON FUNCTION pg_cancel_backend(integer), pg_terminate_backend(integer, bigint)
            TO pg_signal_backend;
            GRANT EXECUTE ON FUNCTION pg_terminate_backend(integer, bigint) TO {roles.watchdog}
            """
        )
    await owner.script(
        f"""
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        GRANT {", ".join(roles.inner)} TO CURRENT_USER;
        CREATE SCHEMA IF NOT EXISTS control;
        CREATE SCHEMA IF NOT EXISTS isola
        """
    )


def admit_to_database(name: str, urls: Addresses) -> str:
    """Statements that grant rights on a database itself: the only ones that a copy of it lacks."""
    database = quote(name)
    return f"""
        REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC;
        GRANT CONNECT ON DATABASE {database} TO {quote(urls.tenant_login)}, {quote(urls.control_login)}
        """


async def _prepare_login(owner: Transaction, login: str) -> None:
    powerful = await owner.value(
        "SELECT rolsuper OR rolbypassrls OR rolname = current_user FROM pg_roles WHERE rolname = $1", login
    )
    if powerful:
        raise OperatorError(f"the login {login} is the owner, a superuser or has BYPASSRLS: name another one")
    await owner.script(_made(quote(login), "LOGIN NOINHERIT"))


async def set_passwords(owner: Transaction, urls: Addresses, *, anyway: bool) -> None:
    """Set each login's password to that of its address.

    Raises OperatorError for a login that another database uses with another password, unless ``anyway`` overwrites it.
    """
    for text in (urls.tenant, urls.control):
        url = make_url(text)
        if url.password is None:
            continue
        others = await owner.texts(_USED_BY, url.username)
        if others and not anyway:
            if await accepts(text):
                continue
            raise OperatorError(
                f"the login {url.username} has another password in use for the database {others[0]}: set ISOLA_ROLES "
                "to a name of this installation's own, or give both this password by isola migrate --new-passwords"
            )
        await owner.script(
            await owner.value(
                "SELECT format('ALTER ROLE %I PASSWORD %L', $1::text, $2::text)", url.username, str(url.password)
            )
        )


async def refuse_without_password(urls: Addresses) -> None:
    """Raise OperatorError for a login without a password that cannot connect: the owner has none to derive one from."""
    for text in (urls.tenant, urls.control):
        url = make_url(text)
        if url.password is None and address.password(url) is None and not await accepts(text):
            raise OperatorError(
                f"the login {url.username} has no password, and the database asks for one: the owner has none to "
                "derive it from. Set ISOLA_TENANT_URL and ISOLA_CONTROL_URL with passwords, and migrate again"
            )


_USED_BY = """
SELECT DISTINCT datname FROM pg_shdepend JOIN pg_database d ON d.oid = dbid
WHERE refclassid = 'pg_authid'::regclass AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)
  AND datname <> current_database()
ORDER BY 1
"""


async def _limit_connections(owner: Transaction, login: str) -> None:
    """Reserve connections for the owner and the control plane, however many sessions tenant traffic opens.

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


# The roles that the login can become are collected once: it is a member of one role for each tenant in a schema, and
# pg_has_role would search all of them for each table.
DANGERS = """
WITH RECURSIVE become (oid) AS (
    SELECT oid FROM pg_roles WHERE rolname = session_user
    UNION
    SELECT roleid FROM pg_auth_members JOIN become ON member = become.oid
)
SELECT 'is a superuser' FROM pg_roles WHERE rolname = session_user AND rolsuper
UNION ALL
SELECT format('can become %I, which is a superuser or has BYPASSRLS, REPLICATION, CREATEROLE or CREATEDB', rolname)
FROM pg_roles
WHERE (rolsuper OR rolbypassrls OR rolreplication OR rolcreaterole OR rolcreatedb)
  AND oid IN (SELECT oid FROM become)
UNION ALL
SELECT format('can become %I', rolname) FROM pg_roles
WHERE (rolname LIKE 'pg\\_%' OR oid IN (
        SELECT proowner FROM pg_proc
        WHERE prosecdef AND pronamespace IN (to_regnamespace('isola'), to_regnamespace('control'))
    ))
  AND oid IN (SELECT oid FROM become)
UNION ALL
SELECT format('owns, or can become the owner of, %s', string_agg(oid::regclass::text, ', '))
FROM (
    SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relowner IN (SELECT oid FROM become)
    LIMIT 3
) owned
HAVING count(*) > 0
UNION ALL
SELECT format('owns, or can become the owner of, %s', string_agg(oid::regprocedure::text, ', '))
FROM (
    SELECT p.oid FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
      AND p.proowner IN (SELECT oid FROM become)
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
      AND a.grantee <> c.relowner AND (a.grantee = 0 OR a.grantee IN (SELECT oid FROM become))
    LIMIT 3
) beyond_rows
UNION ALL
SELECT format('can become %I, which may use the schema control', rolname) FROM pg_namespace n, pg_roles r
WHERE nspname = 'control' AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND r.oid IN (SELECT oid FROM become)
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
    # Connections of tenant traffic plan nested loops of index scans: for pages of rows, not for the whole catalogue.
    await tenant.script("SET LOCAL enable_hashjoin TO on; SET LOCAL enable_seqscan TO on")
    reasons = await tenant.texts(DANGERS)
    if reasons:
        login = await tenant.value("SELECT session_user")
        raise OperatorError(f"the login of tenant traffic, {login}, could bypass isolation: it {'; it '.join(reasons)}")
