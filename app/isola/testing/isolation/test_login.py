"""The tenant login has no privileges except to be bound, and a server refuses a login that has more."""

from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import logins, migrations
from isola.testing.fixtures import Copy

# Dangerous privileges of a login, and the error message for each.
DANGERS = {
    "ALTER ROLE {login} SUPERUSER": "is a superuser",
    "ALTER ROLE {login} BYPASSRLS": "BYPASSRLS",
    "ALTER ROLE {login} REPLICATION": "REPLICATION",
    "ALTER ROLE {login} CREATEROLE": "CREATEROLE",
    "ALTER ROLE {login} CREATEDB": "CREATEDB",
    "ALTER ROLE {login} INHERIT": "inherits",
    # Two roles cannot be members of each other, and the owner is a member of the watchdog role.
    "REVOKE {login} FROM isola_watchdog; GRANT {owner} TO {login}": "can become",
    "GRANT isola_sharing TO {login}": "can become isola_sharing",
    "GRANT {control} TO {login}": "may use the schema control",
    "GRANT USAGE ON SCHEMA control TO {login}": "may use the schema control",
    "GRANT pg_read_all_data TO {login}": "can become pg_read_all_data",
    "GRANT pg_write_server_files TO {login}": "can become pg_write_server_files",
    "ALTER TABLE control.tenants OWNER TO {login}": "the owner of, control.tenants",
    "ALTER FUNCTION isola.proved_tenant_id() OWNER TO {login}": "the owner of, isola.proved_tenant_id()",
    "ALTER SCHEMA isola OWNER TO {login}": "may CREATE in the schema isola",
    "ALTER DATABASE {database} OWNER TO {login}": "may CREATE in the database",
    "GRANT CREATE ON SCHEMA public TO PUBLIC": "may CREATE in the schema public",
    "GRANT TEMPORARY ON DATABASE {database} TO PUBLIC": "may TEMPORARY in the database",
    "GRANT TRUNCATE ON control.tenants TO {login}": "TRUNCATE control.tenants",
    "GRANT REFERENCES ON control.tenants TO PUBLIC": "REFERENCES control.tenants",
    "GRANT TRIGGER ON control.tenants TO isola_members; GRANT isola_members TO {login}": "TRIGGER control.tenants",
}


@pytest.fixture
async def where(copy: Copy, owner: Database) -> AsyncIterator[logins.Addresses]:
    """A database with its own login. Roles belong to the server: a test must not change the login of other tests."""
    login = f"isola_login_{uuid4().hex[:8]}"
    changed = make_url(copy.where.tenant).set(username=login).render_as_string(hide_password=False)
    where = replace(copy.where, tenant=changed)
    await migrations.prepare(owner, where)
    yield where
    async with owner.unbound() as transaction:
        name = await transaction.value("SELECT quote_ident(current_user)")
        # Only members of a role may reassign its objects, and two roles cannot be members of each other.
        if await transaction.value("SELECT pg_has_role($1, current_user, 'MEMBER')", login):
            await transaction.script(f"REVOKE {name} FROM {login}")
        await transaction.script(f"GRANT {login} TO {name}")
        await transaction.script(f"REASSIGN OWNED BY {login} TO {name}; DROP OWNED BY {login}; DROP ROLE {login}")


async def refuse_dangerous(where: logins.Addresses) -> None:
    async with await Database.open(where.tenant) as database, database.unbound() as transaction:
        await logins.refuse_dangerous(transaction)


async def test_the_created_login_is_accepted(where: logins.Addresses) -> None:
    await refuse_dangerous(where)


@pytest.mark.parametrize("danger", DANGERS)
async def test_a_login_that_could_bypass_isolation_is_refused(
    danger: str, where: logins.Addresses, owner: Database
) -> None:
    async with owner.unbound() as transaction:
        names = {
            "login": where.tenant_login,
            "control": where.control_login,
            "owner": await transaction.value("SELECT quote_ident(current_user)"),
            "database": await transaction.value("SELECT quote_ident(current_database())"),
        }
    try:
        async with owner.unbound() as transaction:
            await transaction.script(danger.format(**names))
    except asyncpg.InsufficientPrivilegeError:
        pytest.skip("the owner given for the tests may not make a login that dangerous")
    with pytest.raises(OperatorError) as caught:
        await refuse_dangerous(where)
    assert DANGERS[danger] in caught.value.message
    assert where.tenant_login in caught.value.message


async def test_the_owner_is_never_used_as_the_login(copy: Copy, owner: Database) -> None:
    assert copy.where.owner
    with pytest.raises(OperatorError, match="name another one"):
        await migrations.prepare(owner, replace(copy.where, tenant=copy.where.owner))


async def test_the_login_cannot_create_temporary_tables(login: asyncpg.Connection) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await login.execute("CREATE TEMP TABLE mine (id int)")


async def test_the_login_cannot_read_files_or_run_programs(login: asyncpg.Connection) -> None:
    for sql in (
        "COPY (SELECT 1) TO '/tmp/copied'",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT pg_read_file('postgresql.conf')",
        "SELECT pg_ls_dir('.')",
        "SELECT lo_export(1, '/tmp/exported')",
        "ALTER ROLE CURRENT_USER BYPASSRLS",
        "SET SESSION AUTHORIZATION isola_sharing",
        "SET ROLE isola_sharing",
        "SET row_security TO off; SELECT * FROM control.tenants",
        "SET session_replication_role TO replica",
        "SET session_preload_libraries TO 'x'",
        "CREATE FUNCTION public.f() RETURNS int LANGUAGE sql RETURN 1",
        "SELECT rolpassword FROM pg_authid",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute(sql)
