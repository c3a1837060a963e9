"""One PostgreSQL server, a database for each tenant in it, and one process that serves them all.

Each database has an installation of its own: directory, keys, log, and logins that can connect to no other tenant's.
Inside a database nothing differs from other installations; it has one tenant under one of the installed strategies.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import asyncpg
from pydantic import SecretStr
from sqlalchemy import URL, make_url
from starlette.applications import Starlette
from starlette.routing import Host
from starlette.types import ASGIApp

from isola.database.transactions import DIALECT
from isola.errors import BadUserInput, NotFound, OperatorError
from isola.platform import migrations, provisioning
from isola.platform.logins import derived
from isola.server.application import application
from isola.server.installation import Installation, installation
from isola.settings import Settings

PREFIX = "tenant_"
# A database's logins are named after it, and PostgreSQL truncates names to 63 bytes.
LONGEST = 63 - len(PREFIX) - len("_control")

quote = DIALECT.identifier_preparer.quote


@dataclass(frozen=True, slots=True)
class Fleet:
    """``owner`` is the address of someone who may create databases and roles; ``settings`` hold for all tenants."""

    owner: str
    settings: Settings

    async def create(self, slug: str, name: str) -> None:
        """Create a tenant and its database. After an interruption, a second call resumes.

        Raises BadUserInput for an invalid slug or name, Conflict when the tenant exists, and OperatorError when its
        database cannot be migrated.
        """
        if len(slug) > LONGEST:
            raise BadUserInput(f"slug {slug[:80]!r}: expected at most {LONGEST} characters, as a database has its name")
        with self._installation(slug, owned=True) as installed:
            strategy = self.settings.strategy
            provisioning.refuse_impossible(installed.strategies, slug=slug, name=name, strategy=strategy)
            with suppress(asyncpg.DuplicateDatabaseError):
                await self._execute(f"CREATE DATABASE {quote(PREFIX + slug)}")
            # PUBLIC has this right in every new database, and PUBLIC includes the logins of other tenants.
            await self._execute(f"REVOKE CONNECT ON DATABASE {quote(PREFIX + slug)} FROM PUBLIC")
            await _migrate(installed)
            async with await installed.owner() as owner:
                await provisioning.create(owner, installed.strategies, slug=slug, name=name, strategy=strategy)

    async def migrate(self) -> None:
        """Migrate each tenant's database to the newest revision. After an interruption, a second call resumes.

        Raises OperatorError for the first that cannot be migrated.
        """
        for slug in await self.slugs():
            with self._installation(slug, owned=True) as installed:
                await _migrate(installed)

    async def drop(self, slug: str) -> None:
        """Drop a tenant's database at once, even with open connections. Raises NotFound when there is none."""
        if slug not in await self.slugs():
            raise NotFound(f"there is no tenant {slug!r} with a database of its own")
        with self._installation(slug, owned=True) as installed:
            with suppress(NotFound):  # an interrupted call
                async with await installed.owner() as owner:
                    await provisioning.drop(owner, installed.strategies, slug, notice=0)
            await self._execute(f"DROP DATABASE {quote(PREFIX + slug)} WITH (FORCE)")
            for login in (installed.addresses.tenant_login, installed.addresses.control_login):
                await self._execute(f"DROP ROLE IF EXISTS {quote(login)}")

    async def slugs(self) -> Sequence[str]:
        """The slugs of the tenants that have a database."""
        connection = await asyncpg.connect(self.owner)
        try:
            found = await connection.fetch(
                "SELECT substr(datname, $2) FROM pg_database WHERE starts_with(datname, $1) ORDER BY 1",
                PREFIX,
                len(PREFIX) + 1,
            )
        finally:
            await connection.close()
        return [row[0] for row in found]

    @asynccontextmanager
    async def application(self, domain: str) -> AsyncIterator[ASGIApp]:
        """Serve every tenant that has a database now at its own subdomain of ``domain``. Other hosts get 404.

        Raises OperatorError for a database that has not been migrated, Unavailable for one that cannot be reached.
        """
        async with AsyncExitStack() as held:
            routes = []
            for slug in await self.slugs():
                host = f"{slug}.{domain}"
                installed = held.enter_context(self._installation(slug, owned=False, host=host))
                routes.append(Host(host, await held.enter_async_context(application(installed))))
            yield Starlette(routes=routes)

    def _installation(self, slug: str, *, owned: bool, host: str | None = None) -> AbstractContextManager[Installation]:
        database = make_url(self.owner).set(database=PREFIX + slug)
        tenant, control = [derived(database, f"{PREFIX}{slug}_{kind}") for kind in ("tenant", "control")]
        own = {
            # A serving process has no owner address.
            "database_url": _secret(database) if owned else None,
            "tenant_url": _secret(tenant),
            "control_url": _secret(control),
            "hosts": [host] if host else [],
            "default_tenant": slug,
        }
        return installation(self.settings.model_copy(update=own))

    async def _execute(self, statement: str) -> None:
        """Run a statement outside of a transaction, as CREATE and DROP DATABASE require."""
        connection = await asyncpg.connect(self.owner)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


async def _migrate(installed: Installation) -> None:
    async with await installed.owner() as owner:
        report = await migrations.migrate(owner, installed.strategies, installed.addresses, workers=1)
    for home, reason in report.failed.items():
        raise OperatorError(f"{make_url(installed.addresses.tenant).database}: {home} is not migrated: {reason}")


def _secret(address: URL) -> SecretStr:
    return SecretStr(address.render_as_string(hide_password=False))
