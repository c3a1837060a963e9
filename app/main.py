"""The composition root: here settings, databases, strategies and the schema become one server."""

import gc
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from app import embedded
from app.admin import http as admin_http
from app.admin.looking import Looking
from app.admin.staff import StaffVerifier
from app.api import http
from app.api.execute import Executor
from app.api.schema import model
from app.api.services import Services
from app.binding import BindingKey
from app.control import logins, migrations, secrets
from app.control.api_keys import ApiKeys
from app.control.challenges import Challenges
from app.control.changes import Changes
from app.control.directory import Directory
from app.control.domains import Domains
from app.control.logins import Addresses
from app.database import Database
from app.errors import BadUserInput, OperatorError
from app.identity import issuers, openid, passwords as password_file, signing
from app.identity.api_keys import KeyVerifier, Mint
from app.identity.authentication import Authenticator
from app.identity.descendants import Descendants
from app.identity.hosts import Hosts
from app.identity.members import Members
from app.identity.memberships import Memberships
from app.identity.resolution import Resolution
from app.identity.revocations import Revocations
from app.identity.sessions import Sessions
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

    async def control(self, connections: int = CONTROL_CONNECTIONS) -> Database:
        """The control plane's connections."""
        return await self._opened(self.addresses.control, connections)

    async def tenants(self) -> Database:
        """The connections of tenant traffic."""
        return await self._opened(self.addresses.tenant, self.settings.pool_size)

    async def _binding_key(self) -> BindingKey:
        async with await self.control(1) as control, control.unbound() as work:
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
    signer = signing.from_settings(settings)
    own = {signer.name: signer.issuer} if signer else {}
    of_tenants = {**issuers.from_settings(settings), **own}
    tokens = TokenVerifier(of_tenants, settings.token_cache_size)
    of_staff = issuers.of_staff(settings.admin_issuer, of_tenants) if settings.admin_issuer else None
    passwords = password_file.from_settings(settings)
    providers = openid.from_settings(settings)
    hosts = Hosts(settings)
    async with await installed.control() as control, await installed.tenants() as tenants:
        async with tenants.unbound() as work:
            await logins.refuse_dangerous(work)
        async with control.unbound() as work:
            await migrations.refuse_behind(work)
            secret = await secrets.cursor_secret(work)
        # On a connection of its own: what is remembered is trusted for as long as changes are heard of.
        async with (
            await installed.control(1) as hearing,
            Changes(hearing) as changes,
            ApiKeys(control, changes, settings.directory_ttl) as api_keys,
        ):
            mint = Mint(secret)
            domains = Domains(control, changes, settings.directory_ttl)
            directory = Directory(control, changes, settings.directory_ttl)
            members = Members(tenants, control, changes, ttl=settings.directory_ttl, first_role=settings.first_role)
            revocations = Revocations(control, changes)
            authenticator = Authenticator(
                Resolution(settings, hosts),
                tokens,
                KeyVerifier(mint, api_keys),
                directory,
                domains,
                Memberships(control, changes),
                members,
                revocations,
                Descendants(control, changes, settings.directory_ttl),
                default=settings.default_tenant,
            )
            sessions = Sessions(
                settings,
                secret=secret,
                control=control,
                tenants=tenants,
                directory=directory,
                domains=domains,
                signer=signer,
                passwords=passwords,
                providers=providers,
            )
            challenges = Challenges(hosts.reserved, settings.dns_servers, settings.dns_port)
            services = Services(mint, challenges, sessions)
            executor = _executor(settings, secret, services)
            administration: Sequence[BaseRoute] = ()
            if of_staff is not None:
                staff_tokens = TokenVerifier(of_staff, settings.token_cache_size)
                verifier = StaffVerifier(settings, hosts, staff_tokens, revocations)
                looking = Looking(verifier, control, directory, members)
                administration = admin_http.routes(settings, verifier, looking, executor, tenants, control)
            served = http.application(settings, authenticator, executor, tenants, control, administration)
            # What there is now stays: without this, each full collection looks through all of it, for some 50 ms.
            gc.collect()
            gc.freeze()
            yield served


def _executor(settings: Settings, secret: bytes, services: Services) -> Executor:
    trusted = _trusted(settings)
    try:
        return Executor(
            model,
            secret=secret,
            services=services,
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
