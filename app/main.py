"""The composition root: here settings, databases, strategies and the schema become one server."""

import gc
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from starlette.types import ASGIApp

from app import embedded
from app.api import http
from app.api.execute import Executor
from app.api.schema import model
from app.binding import BindingKey
from app.control import logins, migrations, secrets
from app.control.directory import Directory
from app.control.logins import Addresses
from app.database import Database
from app.errors import BadUserInput, OperatorError
from app.identity import keys
from app.identity.authentication import Authenticator
from app.identity.tokens import TokenVerifier
from app.query.documents import InvalidError
from app.settings import Settings
from strategies import registry
from strategies.base import Strategy

# A migration builds indexes: what a request may take is no measure for it.
OWNER_TIMEOUT = 600.0
CONTROL_CONNECTIONS = 2


@dataclass(frozen=True, slots=True)
class Installation:
    """What a process works with: its settings, where its databases are, and the strategies that are installed."""

    settings: Settings
    addresses: Addresses
    strategies: Mapping[str, Strategy]

    async def owner(self, connections: int = 1) -> Database:
        """The owner's connections. Raises OperatorError when the owner's address is not known."""
        if self.addresses.owner is None:
            raise OperatorError("this needs the owner's address: set ISOLA_DATABASE_URL")
        return await Database.open(self.addresses.owner, size=connections, wait=10, statement_timeout=OWNER_TIMEOUT)

    async def control(self) -> Database:
        """The control plane's connections."""
        return await self._opened(self.addresses.control, CONTROL_CONNECTIONS)

    async def tenants(self) -> Database:
        """The connections of tenant traffic."""
        return await self._opened(self.addresses.tenant, self.settings.pool_size)

    async def _binding_key(self) -> BindingKey:
        async with await self.control() as control, control.unbound() as work:
            return await secrets.binding_key(work)

    async def _opened(self, address: str, connections: int) -> Database:
        return await Database.open(
            address,
            self.strategies,
            self._binding_key,
            size=connections,
            wait=self.settings.pool_wait,
            statement_timeout=self.settings.statement_timeout,
            statement_cache=self.settings.statement_cache,
        )


@contextmanager
def installation(settings: Settings, *, alone: bool = False) -> Iterator[Installation]:
    """The installation that the settings describe, with the embedded PostgreSQL running if they name no database.

    An embedded PostgreSQL that another process runs is used, too, unless this one must be ``alone``.
    Raises OperatorError when the database cannot be started, and for settings that do not fit together.
    """
    if settings.database_url or (settings.tenant_url and settings.control_url):
        yield _installed(settings, None)
    elif not alone and (address := embedded.address(settings.data_dir)) is not None:
        yield _installed(settings, address)
    else:
        with embedded.running(settings.data_dir) as address:
            yield _installed(settings, address)


def _installed(settings: Settings, embedded_address: str | None) -> Installation:
    where = logins.addresses(settings, embedded_address)
    strategies = registry.load(where.tenant_login)
    if settings.strategy not in strategies:
        raise OperatorError(f"ISOLA_STRATEGY: expected one of {', '.join(sorted(strategies))}")
    if where.tenant_login == where.control_login:
        raise OperatorError("ISOLA_TENANT_URL and ISOLA_CONTROL_URL name the same login: expected one for each")
    return Installation(settings, where, strategies)


@asynccontextmanager
async def application(installed: Installation) -> AsyncIterator[ASGIApp]:
    """The server's application, ready for requests, with its databases open as long as the context is.

    Raises OperatorError when the tenant login could bypass isolation, when the database has not been migrated, and
    for keys that cannot be used; Unavailable when the database cannot be reached.
    """
    settings = installed.settings
    verifier = TokenVerifier(settings, keys.from_settings(settings))
    async with await installed.control() as control, await installed.tenants() as tenants:
        async with tenants.unbound() as work:
            await logins.refuse_dangerous(work)
        async with control.unbound() as work:
            await migrations.refuse_behind(work)
            secret = await secrets.cursor_secret(work)
        authenticator = Authenticator(verifier, Directory(control, settings.directory_ttl), tenants)
        served = http.application(settings, authenticator, _executor(settings, secret), tenants, control)
        # What there is now stays: without this, each full collection looks through all of it, for some 50 ms.
        gc.collect()
        gc.freeze()
        yield served


def _executor(settings: Settings, secret: bytes) -> Executor:
    trusted = _trusted(settings)
    try:
        return Executor(
            model,
            secret=secret,
            production=settings.production,
            trusted=trusted,
            trusted_only=settings.trusted_documents_only,
        )
    except InvalidError as invalid:
        reasons = "; ".join(error.message for error in invalid.errors)
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: expected valid documents, but: {reasons}") from invalid
    except BadUserInput as refusal:
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: {refusal.message}") from refusal


def _trusted(settings: Settings) -> list[str]:
    files = sorted(settings.trusted_documents.glob("*.graphql"))
    if not files:
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: expected .graphql files in {settings.trusted_documents}")
    try:
        return [file.read_text(encoding="utf-8") for file in files]
    except (OSError, UnicodeError) as error:
        raise OperatorError(f"ISOLA_TRUSTED_DOCUMENTS: expected files in UTF-8 that can be read ({error})") from error
