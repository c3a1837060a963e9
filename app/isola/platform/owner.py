"""Checks the database and its owner's privileges before anything is created: what is missing is one error."""

from isola.database.transactions import Transaction
from isola.errors import OperatorError

# $1 are the roles of the installation. ``another`` are those with rights in another database's schema that another role
# owns. Before PostgreSQL 16, a role with CREATEROLE may also grant all roles.
_MISSING_RIGHTS = """
WITH another AS (
    SELECT rolname, datname FROM pg_shdepend used
    JOIN pg_roles r ON r.oid = used.refobjid JOIN pg_database d ON d.oid = used.dbid
    LEFT JOIN pg_shdepend owns ON owns.deptype = 'o'
        AND (owns.dbid, owns.classid, owns.objid) = (used.dbid, used.classid, used.objid)
    WHERE rolname = ANY ($1) AND used.refclassid = 'pg_authid'::regclass AND used.classid = 'pg_namespace'::regclass
      AND used.deptype = 'a' AND datname <> current_database()
      -- Of what belongs to the first superuser, whose id this is, PostgreSQL keeps no note.
      AND coalesce(owns.refobjid, 10) <> current_user::regrole::oid
)
SELECT 'the database takes no changes: expected one that is no standby, and whose transactions are not read-only'
WHERE current_setting('transaction_read_only')::bool
UNION ALL
SELECT format(
    'the encoding of the database is %s: expected UTF8: CREATE DATABASE another TEMPLATE template0 ENCODING ''UTF8''',
    pg_encoding_to_char(encoding)
)
FROM pg_database WHERE datname = current_database() AND pg_encoding_to_char(encoding) <> 'UTF8'
UNION ALL
SELECT format('%1$I may not make roles, which a superuser can change: ALTER ROLE %1$I CREATEROLE', rolname)
FROM pg_roles WHERE rolname = current_user AND NOT rolcreaterole AND NOT rolsuper
UNION ALL
SELECT format(
    'the database is not %3$I''s, but %2$I''s, which a superuser can change: ALTER DATABASE %1$I OWNER TO %3$I',
    datname, datdba::regrole::text, current_user
)
FROM pg_database WHERE datname = current_database() AND NOT pg_has_role(datdba, 'USAGE')
UNION ALL
SELECT format(
    'what is in the schema %s belongs to %s: connect as that role, or restore with pg_restore --no-owner --role=%I',
    string_agg(DISTINCT nspname, ', '), string_agg(DISTINCT owner::regrole::text, ', '), current_user
)
FROM pg_namespace n CROSS JOIN LATERAL (
    SELECT nspowner UNION SELECT relowner FROM pg_class WHERE relnamespace = n.oid
    UNION SELECT proowner FROM pg_proc WHERE pronamespace = n.oid
) owners (owner)
WHERE nspname IN ('control', 'isola') AND NOT pg_has_role(owner, 'USAGE')
  AND owner NOT IN (SELECT oid FROM pg_roles WHERE rolname = ANY ($1))
HAVING count(*) > 0
UNION ALL
SELECT format(
    '%s belong to the installation in the database %I: set ISOLA_ROLES to a name of this installation''s own, and '
    'name no logins of the other in ISOLA_TENANT_URL and ISOLA_CONTROL_URL',
    string_agg(DISTINCT quote_ident(rolname), ', '), min(datname)
)
FROM another HAVING count(*) > 0
UNION ALL
SELECT format(
    '%s are there, and %I may not grant them: set ISOLA_ROLES to a name of this installation''s own, or let who made '
    'them GRANT them TO %2$I WITH ADMIN OPTION', string_agg(quote_ident(rolname), ', ' ORDER BY rolname), current_user
)
FROM pg_roles
WHERE rolname = ANY ($1) AND rolname NOT IN (SELECT rolname FROM another)
  AND current_setting('server_version_num')::int >= 160000 AND NOT pg_has_role(oid, 'MEMBER WITH ADMIN OPTION')
HAVING count(*) > 0
"""


async def refuse_powerless(owner: Transaction, roles: list[str]) -> None:
    """Raise OperatorError, naming all that is missing, if the owner cannot create and migrate the installation here.

    ``roles`` are those that it creates, or has created.
    """
    missing = await owner.texts(_MISSING_RIGHTS, roles)
    if missing:
        raise OperatorError(f"this cannot be migrated: {'; '.join(missing)}")
