"""Who is calling: from a request to the one Principal that everything behind it is decided by."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import Any, NoReturn
from uuid import UUID, uuid5

from isola.errors import Forbidden, TenantDeleted, TenantRequired, TenantSuspended, Unauthenticated
from isola.identity.api_keys import KeyVerifier, UnknownKey
from isola.identity.claims import Claims, Expired
from isola.identity.descendants import Descendants
from isola.identity.members import Members
from isola.identity.memberships import Memberships
from isola.identity.resolution import Asked, Resolution, means, unknown_host
from isola.identity.revocations import Revocations
from isola.identity.sessions import Visitor
from isola.identity.tokens import TokenVerifier
from isola.platform.api_keys import ApiKey
from isola.platform.directory import Directory
from isola.platform.domains import Domains
from isola.platform.sign_in_log import Reason, Refuse
from isola.platform.tenants import Status, Tenant
from isola.subjects.permissions import Permission, of_role
from isola.subjects.roles import Standing


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of a tenant, and what they may do there. A machine has permissions only: neither roles nor a subject.

    ``on_behalf_of`` names who is behind it for the log of what was done, where that is somebody else. With a ``grant``
    it is one of the platform's staff, by whose leave they only read, and each transaction is noted in that log.
    """

    tenant: Tenant
    user_id: UUID
    roles: tuple[str, ...]
    permissions: frozenset[str]
    subject: str | None = None
    on_behalf_of: str | None = None
    grant: UUID | None = None


class Authenticator:
    """Turns requests into principals. ``default`` is the tenant, by slug or id, of requests that name none."""

    def __init__(
        self,
        resolution: Resolution,
        tokens: TokenVerifier,
        keys: KeyVerifier,
        directory: Directory,
        domains: Domains,
        memberships: Memberships,
        members: Members,
        revocations: Revocations,
        descendants: Descendants,
        refuse: Refuse,
        *,
        default: str | None = None,
    ) -> None:
        self._resolution = resolution
        self._tokens = tokens
        self._keys = keys
        self._directory = directory
        self._domains = domains
        self.members = members
        self._default = default
        self._memberships = memberships
        self._revocations = revocations
        self._descendants = descendants
        self._refuse = refuse

    async def principal(self, scope: Mapping[str, Any]) -> Principal:
        """Who is calling, and for which tenant, by an ASGI scope; a user seen for the first time is made.

        Raises Unauthenticated without a good credential, and for one of a tenant that there never was; Forbidden,
        always the same, where the request names a tenant that the credential is not for; TenantSuspended and
        TenantDeleted for the credential's own; TenantRequired where nothing names one; BadUserInput for a source that
        is malformed; and Unavailable.
        """
        asked = self._resolution.read(scope)
        if asked.other_key is not None:
            await self._refuse_two(asked, asked.other_key)
        if asked.token is None:
            return await self._machine(asked, asked.api_key or "")
        claims = self._tokens.cached(asked.token) or await self._verified(asked, asked.token)
        if claims.tenant is None:
            tenant = await self._meant(asked, claims)
        else:
            known = await self._directory.find(claims.tenant)
            if known is None:
                raise Unauthenticated("the token names a tenant that is not known here")
            tenant = known
            self._refuse_issued_before(claims, tenant)
            if (asked.names or asked.domain is not None) and not await self._agrees(asked, tenant):
                return await self._from_above(asked, tenant, partial(self._person_above, claims, tenant))
        if not _speaks_for(claims, tenant):
            self._refuse(tenant.id, Reason.OTHER_TENANT)
            raise _not_for_it()
        await self._refuse_unusable(claims, tenant)
        return self._person(tenant, claims, await self.members.come_in(tenant, claims))

    def address(self, scope: Mapping[str, Any]) -> str:
        """The address of the client; where a trusted proxy stands before it, as the proxy says."""
        return self._resolution.address(scope)

    def visitor(self, scope: Mapping[str, Any], request_id: str) -> Visitor:
        """One who has no credential yet. Raises BadUserInput for a source of tenants that is malformed."""
        asked = self._resolution.read(scope, credential=False)
        names = asked.names
        if not names and asked.domain is None and self._default is not None:
            names = (self._default,)
        return Visitor(self.address(scope), names, asked.domain, request_id)

    async def _verified(self, asked: Asked, token: str) -> Claims:
        try:
            return await self._tokens.verify(token)
        except Unauthenticated as refusal:
            reason = Reason.EXPIRED_TOKEN if isinstance(refusal, Expired) else Reason.TOKEN
            self._refuse_meant(asked, reason, self._tokens.tenant_claimed(token))
            raise

    async def _verified_key(self, asked: Asked, text: str) -> ApiKey:
        try:
            return await self._keys.verify(text)
        except UnknownKey:
            self._refuse_meant(asked, Reason.KEY)
            raise

    def _refuse_meant(self, asked: Asked, reason: Reason, claimed: str | None = None) -> None:
        """Count that a request was refused, for the tenant that it means by all that it says."""
        name = next(filter(None, (*asked.names[:1], asked.domain, claimed, self._default)), None)
        if name is not None:
            self._refuse(name, reason)

    def _other_tenant(self, asked: Asked, own: Tenant | None = None) -> Forbidden:
        """The refusal of a credential that is good, but for another tenant: its own, where it has one.

        It is counted for both, for its own whether there is the other or not.
        """
        if own is not None:
            self._refuse(own.id, Reason.OTHER_TENANT)
        named = next((name for name in asked.names if own is None or not means(name, own)), asked.domain)
        if named is not None:
            self._refuse(named, Reason.OTHER_TENANT)
        return _not_for_it()

    async def _refuse_two(self, asked: Asked, other_key: str) -> NoReturn:
        """Refuse a request with two credentials: if both are good, as one whose sources disagree."""
        if asked.token is not None:
            await self._verified(asked, asked.token)
        else:
            await self._verified_key(asked, asked.api_key or "")
        await self._verified_key(asked, other_key)
        raise self._other_tenant(asked)

    async def _machine(self, asked: Asked, text: str) -> Principal:
        key = await self._verified_key(asked, text)
        tenant = await self._directory.find(key.tenant)
        if tenant is None:
            raise Unauthenticated("the API key is of a tenant that is not known here")
        if not await self._agrees(asked, tenant):
            return await self._from_above(asked, tenant, partial(self._as_machine, key, tenant))
        return await self._as_machine(key, tenant)

    async def _as_machine(self, key: ApiKey, tenant: Tenant) -> Principal:
        _require_active(tenant)
        machine = await self.members.user(tenant, key.user_id)
        maker = await self.members.user(tenant, key.created_by)
        if machine is None or machine.disabled or maker is None or maker.disabled:
            raise self._disabled(tenant)
        # Whoever made the key may have lost permissions since.
        permitted = key.permissions & maker.permissions
        return Principal(tenant, key.user_id, (), permitted, on_behalf_of=f"usr_{key.created_by}")

    async def _refuse_unusable(self, claims: Claims, tenant: Tenant) -> None:
        _require_active(tenant)
        try:
            await self._revocations.refuse_revoked(claims, tenant.id)
        except Unauthenticated:
            self._refuse(tenant.id, Reason.REVOKED_TOKEN)
            raise

    async def _person_above(self, claims: Claims, tenant: Tenant) -> Principal:
        """Who a token means in its own tenant, where the request names another. Nobody is made for that."""
        if claims.role is not None and Permission.DESCENDANT_ENTER not in of_role(claims.role):
            raise _not_for_it()
        if not _speaks_for(claims, tenant):
            raise _not_for_it()
        await self._refuse_unusable(claims, tenant)
        standing = await self.members.known(tenant, claims.subject)
        if standing is None:
            raise _not_for_it()
        return self._person(tenant, claims, standing)

    async def _from_above(self, asked: Asked, above: Tenant, caller: Callable[[], Awaitable[Principal]]) -> Principal:
        """Who acts in a tenant below their own: the user that stands there for them, with the permissions they have.

        Whatever stands against it, the answer is that of sources that disagree. Only who may enter what is below has
        the named tenant looked up, and then as one that is below: whether there is another of that name makes no
        difference.
        """
        try:
            principal = await caller()
        except (Forbidden, Unauthenticated):
            raise self._other_tenant(asked, above) from None
        if Permission.DESCENDANT_ENTER not in principal.permissions:
            raise self._other_tenant(asked, above)
        name = asked.names[0] if asked.names else str(await self._named_by(str(asked.domain)))
        tenant = await self._descendants.tenant(above.id, name)
        if tenant is None or not await self._agrees(asked, tenant):
            raise self._other_tenant(asked, above)
        _require_active(tenant)
        # What is below is to know that it was somebody from above, and the same one as before; not from where.
        guest = await self.members.guest(tenant, f"parent:{uuid5(above.id, str(principal.user_id))}", "parent")
        if guest.disabled:
            raise self._disabled(tenant)
        behalf = f"parent:usr_{principal.user_id}"
        return Principal(tenant, guest.user_id, (), principal.permissions, on_behalf_of=behalf)

    async def _agrees(self, asked: Asked, tenant: Tenant) -> bool:
        """Whether everything that a request says means this tenant.

        Other tenants are not looked up: whether there is such a one changes neither the answer nor its time.
        """
        return all(means(name, tenant) for name in asked.names) and (
            asked.domain is None or await self._named_by(asked.domain) == tenant.id
        )

    async def _meant(self, asked: Asked, claims: Claims) -> Tenant:
        """The tenant that a request names where its token does not. The user has to be a member there."""
        if asked.names:
            name = asked.names[0]
        elif asked.domain is not None:
            name = str(await self._named_by(asked.domain))
        elif self._default is not None:
            name = self._default
        else:
            raise TenantRequired("the token names no tenant, and nor does the request")
        # The directory is not asked: to somebody else, a tenant that there is and one that there is not are alike.
        tenant = await self._memberships.tenant(claims.subject, name)
        if tenant is None or not await self._agrees(asked, tenant):
            raise self._other_tenant(asked)
        return tenant

    async def _named_by(self, domain: str) -> UUID:
        tenant = await self._domains.tenant(domain)
        if tenant is None:
            raise unknown_host()
        return tenant

    def _refuse_issued_before(self, claims: Claims, tenant: Tenant) -> None:
        """Refuse a token that names a tenant by its slug and was issued before it: that may mean a former tenant's.

        Where there was a former one, the token has to say when it was issued, and that by the letter: no leeway.
        """
        if claims.tenant != tenant.slug:
            return  # an id is never another tenant's
        created_at = tenant.created_at.timestamp()
        if not tenant.slug_reused:
            # Not every issuer says when; and what says it rounds down to seconds.
            created_at = floor(created_at - claims.leeway)
            if claims.issued_at == 0:
                return
        if claims.issued_at < created_at:
            self._refuse(tenant.id, Reason.FORMER_TENANT)
            raise Unauthenticated("the token was issued before the tenant existed: get a new one")

    def _person(self, tenant: Tenant, claims: Claims, standing: Standing) -> Principal:
        if standing.disabled:
            raise self._disabled(tenant)
        # What is stored counts. A token can say less, and never more.
        permitted = standing.permissions if claims.role is None else standing.permissions & of_role(claims.role)
        return Principal(tenant, standing.user_id, standing.roles, permitted, claims.subject)

    def _disabled(self, tenant: Tenant) -> Forbidden:
        self._refuse(tenant.id, Reason.DISABLED_USER)
        return Forbidden("the user is disabled")


def _speaks_for(claims: Claims, tenant: Tenant) -> bool:
    """Whether the issuer of a token may speak for the tenant that it names."""
    return claims.tenants is None or any(means(name, tenant) for name in claims.tenants)


def _not_for_it() -> Forbidden:
    return Forbidden("the credential is not for the tenant that the request names")


def _require_active(tenant: Tenant) -> None:
    match tenant.status:
        case Status.SUSPENDED:
            raise TenantSuspended("the tenant is suspended")
        case Status.DELETED:
            raise TenantDeleted("the tenant is deleted")
    tenant.refuse_moving()
