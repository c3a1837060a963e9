from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass

from app.database import Database, Transaction
from app.domain.actor import Actor
from app.identity.authentication import Principal


@dataclass(frozen=True, slots=True)
class Context:
    """One request: who asks, and the way into their tenant."""

    principal: Principal
    database: Database

    @property
    def actor(self) -> Actor:
        return Actor(self.principal.user_id, self.principal.permissions)

    def transaction(self, *, read_only: bool = False) -> AbstractAsyncContextManager[Transaction]:
        """A transaction inside the tenant of the request; see ``Database.transaction``."""
        return self.database.transaction(self.principal.tenant, read_only=read_only)
