"""Who is calling: from the Authorization header to the one Principal that everything behind it is decided by."""

from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from app.control.directory import Directory
from app.control.tenants import Status, Tenant
from app.database import Database
from app.domain import users
from app.errors import Forbidden, Unauthenticated
from app.identity.claims import Claims
from app.identity.permissions import ROLES, Permission, Role
from app.identity.tokens import TokenVerifier, bearer

REMEMBERED_USERS = 100_000


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of a tenant, and what they may do there."""

    tenant: Tenant
    user_id: UUID
    role: Role

    @property
    def permissions(self) -> frozenset[Permission]:
        return ROLES[self.role]


class Authenticator:
    """Turns credentials into principals."""

    def __init__(self, verifier: TokenVerifier, directory: Directory, database: Database) -> None:
        self._verifier = verifier
        self._directory = directory
        self._database = database
        self._users: OrderedDict[tuple[UUID, str], UUID] = OrderedDict()

    async def principal(self, authorization: str | None) -> Principal:
        """Who the token in an Authorization header says is calling; a user seen for the first time is made.

        Raises Unauthenticated, Forbidden for a tenant that is suspended or deleted, Conflict for a new user whose
        e-mail address is another's, and Unavailable.
        """
        token = bearer(authorization)
        claims = self._verifier.cached(token) or await self._verifier.verify(token)
        tenant = await self._directory.find(claims.tenant)
        if tenant is None:
            raise Unauthenticated("the token names a tenant that is not known here")
        if tenant.status is not Status.ACTIVE:
            raise Forbidden(f"the tenant is {tenant.status}")
        return Principal(tenant, await self._user(tenant, claims), claims.role)

    async def _user(self, tenant: Tenant, claims: Claims) -> UUID:
        known = (tenant.id, claims.subject)
        if known in self._users:
            self._users.move_to_end(known)
            return self._users[known]
        async with self._database.transaction(tenant) as work:
            user = await users.ensure(work, subject=claims.subject, name=claims.name, email=claims.email)
        self._users[known] = user
        if len(self._users) > REMEMBERED_USERS:
            self._users.popitem(last=False)
        return user
