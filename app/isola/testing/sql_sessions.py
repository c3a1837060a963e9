"""Logins of people who have only SQL, as an operator makes them: in the role ``isola_sql``, with no other right."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import asyncpg
from sqlalchemy import make_url

from isola.platform import logins
from isola.testing.fixtures import Copy


@dataclass(frozen=True, slots=True)
class Analyst:
    """A login, and the sessions that a test opens with it."""

    name: str
    address: str = field(repr=False)
    _opened: AsyncExitStack = field(repr=False)

    async def session(self) -> asyncpg.Connection:
        """A new session. It waits for no lock, and ends with the test at the latest."""
        connection = await asyncpg.connect(self.address, server_settings={"lock_timeout": "1s"})
        self._opened.push_async_callback(connection.close)
        return connection


@asynccontextmanager
async def analyst(copy: Copy, server: asyncpg.Connection) -> AsyncIterator[Analyst]:
    """A login that is dropped at the end."""
    name, password = f"analyst_{secrets.token_hex(4)}", secrets.token_hex(16)
    await server.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{password}' IN ROLE {copy.where.roles.sql}")
    url = make_url(str(copy.where.owner))
    await server.execute(f"GRANT CONNECT ON DATABASE {logins.quote(str(url.database))} TO {name}")
    address = url.set(username=name, password=password).render_as_string(hide_password=False)
    try:
        async with AsyncExitStack() as opened:
            yield Analyst(name, address, opened)
    finally:
        await server.execute(f"REVOKE ALL ON DATABASE {logins.quote(str(url.database))} FROM {name}")
        await server.execute(f"DROP ROLE {name}")
