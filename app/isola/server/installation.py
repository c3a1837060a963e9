"""The resources of a process, whether it serves or runs one command: settings, addresses, strategies, connections."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from isola.database import embedded
from isola.database.binding import BindingKey
from isola.database.transactions import Database
from isola.errors import OperatorError
from isola.platform import logins, secrets
from isola.platform.logins import Addresses
from isola.settings import Settings
from isola_strategies import registry
from isola_strategies.base import Strategy

# Migrations build indexes: the time limits of requests do not suit them.
OWNER_TIMEOUT = 600.0
CONTROL_CONNECTIONS = 2


@dataclass(frozen=True, slots=True)
class Installation:
    """The resources of a process: its settings, the addresses of its databases, and the installed strategies."""

    settings: Settings
    addresses: Addresses
    strategies: Mapping[str, Strategy]

    async def owner(self, connections: int = 1) -> Database:
        """The owner's connections. Raises OperatorError when the owner's address is not known."""
        if self.addresses.owner is None:
            raise OperatorError("this needs the owner's address: set ISOLA_DATABASE_URL")
        return await Database.open(self.addresses.owner, size=connections, wait=10, statement_timeout=OWNER_TIMEOUT)

    async def control(self, connections: int = CONTROL_CONNECTIONS, kind: type[Database] = Database) -> Database:
        """The control plane's connections."""
        return await self._opened(self.addresses.control, connections, kind)

    async def tenants(self, connections: int | None = None, kind: type[Database] = Database) -> Database:
        """The connections of tenant traffic; as many as the settings say, if None."""
        return await self._opened(self.addresses.tenant, connections or self.settings.pool_size, kind)

    async def _binding_key(self) -> BindingKey:
        async with await self.control(1) as control, control.unbound() as work:
            return await secrets.binding_key(work)

    async def _opened(self, address: str, connections: int, kind: type[Database]) -> Database:
        return await kind.open(
            address,
            self.strategies,
            self._binding_key,
            size=connections,
            wait=self.settings.pool_wait,
            statement_timeout=self.settings.statement_timeout,
            statement_cache=self.settings.statement_cache,
        )


@contextmanager
def installation(settings: Settings, *, alone: bool = False, start: bool = True) -> Iterator[Installation]:
    """The installation from the settings, with the embedded PostgreSQL running if they name no database.

    An embedded PostgreSQL that another process runs is used, too, unless this one must be ``alone``. If none runs, it
    is started if ``start`` is set.
    Raises OperatorError when the database cannot be started, and for inconsistent settings: the embedded PostgreSQL
    does not replace a single missing address, and in production none at all unless it is enabled.
    """
    addresses = {"ISOLA_TENANT_URL": settings.tenant_url, "ISOLA_CONTROL_URL": settings.control_url}
    missing = [name for name, address in addresses.items() if address is None]
    if settings.database_url or not missing:
        yield _installed(settings, None)
    elif len(missing) == 1:
        raise OperatorError(f"{missing[0]} is not set: expected both addresses of the server, or ISOLA_DATABASE_URL")
    elif not (settings.embedded if settings.embedded is not None else not settings.production):
        raise OperatorError(
            "no database is set: expected ISOLA_TENANT_URL and ISOLA_CONTROL_URL, ISOLA_DATABASE_URL, "
            "or ISOLA_EMBEDDED=true for an embedded PostgreSQL"
        )
    elif not alone and (address := embedded.address(settings.data_dir)) is not None:
        yield _installed(settings, address)
    elif not start:
        raise OperatorError(
            f"no PostgreSQL is running in {settings.data_dir}: run isola serve, or set ISOLA_DATABASE_URL, "
            "or ISOLA_DATA_DIR to where isola serve has it"
        )
    else:
        with embedded.running(settings.data_dir) as address:
            yield _installed(settings, address)


def _installed(settings: Settings, embedded_address: str | None) -> Installation:
    urls = logins.addresses(settings, embedded_address)
    strategies = registry.load(urls.tenant_login)
    if settings.strategy not in strategies:
        raise OperatorError(f"ISOLA_STRATEGY: expected one of {', '.join(sorted(strategies))}")
    if urls.tenant_login == urls.control_login:
        raise OperatorError("ISOLA_TENANT_URL and ISOLA_CONTROL_URL name the same login: expected one for each")
    return Installation(settings, urls, strategies)
