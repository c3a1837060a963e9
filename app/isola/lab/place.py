"""A database of the lab with the product in it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import make_url

from isola.database.transactions import Database
from isola.server.installation import Installation
from isola_strategies.base import Strategy


@dataclass(frozen=True, slots=True)
class Place:
    """Migrated to the newest revision, with its own logins, so that other databases do not affect its cost."""

    name: str
    installation: Installation

    @property
    def address(self) -> str:
        """The owner's address, for asyncpg and libpq."""
        return str(self.installation.addresses.owner)

    @property
    def strategies(self) -> Mapping[str, Strategy]:
        return self.installation.strategies

    def elsewhere(self, name: str) -> "Place":
        """The same logins at a copy of this database."""
        where = self.installation.addresses
        addresses = replace(
            where, owner=_at(self.address, name), tenant=_at(where.tenant, name), control=_at(where.control, name)
        )
        return Place(name, replace(self.installation, addresses=addresses))

    async def owner(self, connections: int = 1) -> Database:
        """The owner's connections: ``async with await place.owner() as owner``."""
        return await self.installation.owner(connections)

    async def tenants(self) -> Database:
        """Connections for tenant traffic: ``async with await place.tenants() as tenants``."""
        return await self.installation.tenants()


def _at(address: str, database: str) -> str:
    return make_url(address).set(database=database).render_as_string(hide_password=False)
