"""The statements of a sabotage as a database runs them, with its names filled in."""

import asyncpg
from sqlalchemy import make_url

from isola.platform import logins
from isola.testing.fixtures import DEFAULTS
from isola_strategies import registry
from tests.mutation.sabotage import Sql


async def run(sabotage: Sql, connection: asyncpg.Connection, url: str) -> None:
    """Run the statements of a sabotage in a transaction of their own. Raises asyncpg.PostgresError."""
    statements = sabotage.sql.format(**await _names(connection, url))
    async with connection.transaction():
        await connection.execute(statements)


async def _names(connection: asyncpg.Connection, url: str) -> dict[str, str]:
    login = logins.addresses(DEFAULTS, url).tenant_login
    strategy = registry.load(login)["schema"]
    tenants = dict(await connection.fetch("SELECT slug, id FROM control.tenants"))
    return {
        "login": login,
        "owner": await connection.fetchval("SELECT quote_ident(current_user)"),
        "database": str(make_url(url).database),
        "a": strategy.home(tenants["schema-a"]).schema,
        "b": strategy.home(tenants["schema-b"]).schema,
    }
