"""Authentication: from a request to the one Principal that all later decisions use."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import floor
from typing import Any, NoReturn
from uuid import UUID, uuid5

from isola.errors import BadUserInput, Forbidden, TenantRequired, TokenExpired, Unauthenticated
from isola.identity import federation
from isola.identity.api_keys import KeyVerifier, UnknownKey
from isola.identity.claims import Claims, Expired
from isola.identity.descendants import Descendants
from isola.identity.federation import FederationVerifier
from isola.identity.members import Members
from isola.identity.memberships import Memberships
from isola.identity.resolution import PATH, ParsedRequest, Resolution, identifier_of, identifies, unknown_host
from isola.identity.revocations import Revocations
from isola.identity.tokens import TokenVerifier, type_of
from isola.identity.visitors import Visitor
from isola.platform import clients
from isola.platform.api_keys import ApiKey
from isola.platform.clients import MAX_ADDRESS, MAX_USER_AGENT, Client
from isola.platform.directory import Directory
from isola.platform.domains import Domains
from isola.platform.families import Families
from isola.platform.sign_in_log import Reason, Refuse
from isola.platform.tenants import Tenant
from isola.subjects.permissions import Permission, of_role
from isola.subjects.roles import Standing


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of a tenant, with their permissions. A machine has only permissions: no roles and no subject.

    ``on_behalf_of`` names the person behind the user for the audit log, if that is somebody else. A principal with a
    ``grant`` is platform staff with temporary read access: read-only, and each transaction is recorded in that log.
    ``session`` is the session here that the credential belongs to, if any.
    """

    tenant: Tenant
    user_id: UUID
    roles: tuple[str, ...]
    permissions: frozenset[str]
    subject: str | None = None
    on_behalf_of: str | None = None
    grant: UUID | None = None
    session: UUID | None = None
    remote: bool = False
    """Whether it is a partner on another installation, with a credential for one read."""
    features: frozenset[str] = frozenset()
    """Those of the tenant, when it was authenticated."""


class Authenticator:
    """Authenticates requests. ``default`` is the tenant, by slug or id, of requests that name none.

    ``session_issuer`` is this server as the issuer of tokens.
    """

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
        session_issuer: str | None = None,
        families: Families | None = None,
        partners: FederationVerifier | None = None,
    ) -> None:
        self._resolution = resolution
        self._tokens = tokens
        self._keys = keys
        self._directory = directory
        self._domains = domains
        self.members = members
        self.families = families
        self._partners = partners
        self._default = default
        self._session_issuer = session_issuer
        self._memberships = memberships
        self._revocations = revocations
        self._descendants = descendants
        self._refuse = refuse

    async def principal(self, scope: Mapping[str, Any]) -> Principal:
        """The caller and their tenant, from an ASGI scope; a user is created on their first request.

        Raises Unauthenticated without a valid credential, and for one of a tenant that never existed; TokenExpired if
        nothing but the time is wrong; Forbidden, always the same, where the request names a tenant that the credential
        is not valid for; TenantSuspended and TenantDeleted for the credential's own; TenantRequired where no tenant is
        named; BadUserInput for a malformed source; and Unavailable.
        """
        clients.enter(partial(self._client, scope))
        parsed = self._resolution.read(scope)
        if parsed.other_key is not None:
            await self._refuse_two(parsed, parsed.other_key)
        if parsed.token is None:
            return await self._machine(parsed, parsed.api_key or "")
        claims = self._tokens.cached(parsed.token)
        if claims is None:
            if self._partners is not None and type_of(parsed.token) == federation.TYPE:
                return await self._remote(self._partners, parsed, parsed.token, scope)
            claims = await self._verified(parsed, parsed.token)
        if claims.tenant is None:
            tenant = await self._requested_tenant(parsed, claims)
        else:
            found_tenant = await self._directory.find(claims.tenant)
            if found_tenant is None:
                raise Unauthenticated("the token names a tenant that is not known here")
            tenant = found_tenant
            self._refuse_issued_before(claims, tenant)
            if (parsed.names or parsed.domain is not None) and not await self._agrees(parsed, tenant):
                return await self._from_above(parsed, tenant, partial(self._person_above, claims, tenant))
        if not _speaks_for(claims, tenant):
            self._refuse(tenant.id, Reason.OTHER_TENANT)
            raise _not_for_it()
        await self._refuse_unusable(claims, tenant)
        return self._person(tenant, claims, await self.members.admit(tenant, claims))

    def address(self, scope: Mapping[str, Any]) -> str:
        """The client's address; behind a trusted proxy, the one that the proxy reports."""
        return self._resolution.address(scope)

    def visitor(self, scope: Mapping[str, Any], request_id: str) -> Visitor:
        """A client without a credential. Raises BadUserInput for a malformed source of tenant names."""
        clients.enter(partial(self._client, scope))
        parsed = self._resolution.read(scope, credential=False)
        names = parsed.names
        if not names and parsed.domain is None and self._default is not None:
            names = (self._default,)
        return Visitor(self.address(scope), names, parsed.domain, request_id, _user_agent(scope))

    def _client(self, scope: Mapping[str, Any]) -> Client:
        return Client(self.address(scope)[:MAX_ADDRESS], _user_agent(scope) or "")

    async def _verified(self, parsed: ParsedRequest, token: str) -> Claims:
        try:
            return await self._tokens.verify(token)
        except Expired as expired:
            self._count_refusal(parsed, Reason.EXPIRED_TOKEN, self._tokens.tenant_claimed(token))
            with suppress(BadUserInput):  # of an unknown host
                if await self._would_be_valid(parsed, expired.claims):
                    raise TokenExpired("the token has expired") from None
            raise
        except Unauthenticated:
            self._count_refusal(parsed, Reason.TOKEN, self._tokens.tenant_claimed(token))
            raise

    async def _would_be_valid(self, parsed: ParsedRequest, claims: Claims) -> bool:
        """Whether an expired token is for the tenant that the request names. Makes no users, and counts no refusals.

        Raises Unavailable.
        """
        if claims.tenant is not None:
            tenant = await self._directory.find(claims.tenant)
        else:
            name = await self._name_in(parsed)
            tenant = None if name is None else await self._memberships.tenant(claims.subject, name)
        if tenant is None or not _speaks_for(claims, tenant) or _names_former(claims, tenant):
            return False
        if await self._agrees(parsed, tenant):
            return True
        standing = None if claims.tenant is None else await self.members.lookup(tenant, claims.subject)
        if standing is None or standing.disabled or Permission.DESCENDANT_ENTER not in _permitted(claims, standing):
            return False
        return await self._below(parsed, tenant) is not None

    async def _verified_key(self, parsed: ParsedRequest, text: str) -> ApiKey:
        try:
            return await self._keys.verify(text)
        except UnknownKey:
            self._count_refusal(parsed, Reason.KEY)
            raise

    def _count_refusal(self, parsed: ParsedRequest, reason: Reason, claimed: str | None = None) -> None:
        """Count a refusal for the tenant that the request names in any way."""
        name = next(filter(None, (*parsed.names[:1], parsed.domain, claimed, self._default)), None)
        if name is not None:
            self._refuse(name, reason)

    def _other_tenant(self, parsed: ParsedRequest, own: Tenant | None = None) -> Forbidden:
        """The refusal of a valid credential for another tenant than its own, ``own`` if it has one.

        It is counted for both tenants; for its own whether the other exists or not.
        """
        if own is not None:
            self._refuse(own.id, Reason.OTHER_TENANT)
        named = next((name for name in parsed.names if own is None or not identifies(name, own)), parsed.domain)
        if named is not None:
            self._refuse(named, Reason.OTHER_TENANT)
        return _not_for_it()

    async def _refuse_two(self, parsed: ParsedRequest, other_key: str) -> NoReturn:
        """Refuse a request with two credentials: if both are valid, as one whose sources disagree."""
        if parsed.token is not None:
            await self._verified(parsed, parsed.token)
        else:
            await self._verified_key(parsed, parsed.api_key or "")
        await self._verified_key(parsed, other_key)
        raise self._other_tenant(parsed)

    async def _machine(self, parsed: ParsedRequest, text: str) -> Principal:
        key = await self._verified_key(parsed, text)
        tenant = await self._directory.find(key.tenant)
        if tenant is None:
            raise Unauthenticated("the API key is of a tenant that is not known here")
        if not await self._agrees(parsed, tenant):
            return await self._from_above(parsed, tenant, partial(self._as_machine, key, tenant))
        return await self._as_machine(key, tenant)

    async def _remote(
        self, verifier: FederationVerifier, parsed: ParsedRequest, token: str, scope: Mapping[str, Any]
    ) -> Principal:
        """A partner on another installation, who reads what was shared. The token counts as used, whatever follows."""
        if scope["type"] != "http" or scope["path"] != PATH:
            raise Unauthenticated("such a token is only accepted for a query over HTTP")
        partner = await verifier.verify(token)
        tenant = await self._directory.find_remote(partner.tenant_id)
        if tenant is None:
            raise Unauthenticated("the token is of a partner that is not known here")
        if not await self._agrees(parsed, tenant):
            raise self._other_tenant(parsed, tenant)
        tenant.require_active()
        guest = await self.members.admit_guest(tenant, "partner", "partner")
        features = tenant.entitlements.now()
        return Principal(tenant, guest.user_id, (), frozenset({Permission.SHARE_READ}), remote=True, features=features)

    async def _as_machine(self, key: ApiKey, tenant: Tenant) -> Principal:
        tenant.require_active()
        machine = await self.members.user(tenant, key.user_id)
        maker = await self.members.user(tenant, key.created_by)
        if machine is None or machine.disabled or maker is None or maker.disabled:
            raise self._disabled(tenant)
        # The creator of the key may have lost permissions since.
        permitted = key.permissions & maker.permissions
        behalf, features = f"usr_{key.created_by}", tenant.entitlements.now()
        return Principal(tenant, key.user_id, (), permitted, on_behalf_of=behalf, features=features)

    async def _refuse_unusable(self, claims: Claims, tenant: Tenant) -> None:
        tenant.require_active()
        try:
            await self._revocations.refuse_revoked(claims, tenant.id)
        except Unauthenticated:
            self._refuse(tenant.id, Reason.REVOKED_TOKEN)
            raise

    async def _person_above(self, claims: Claims, tenant: Tenant) -> Principal:
        """The person with a token of its own tenant, when the request names another. Does not create users."""
        if claims.role is not None and Permission.DESCENDANT_ENTER not in of_role(claims.role):
            raise _not_for_it()
        if not _speaks_for(claims, tenant):
            raise _not_for_it()
        await self._refuse_unusable(claims, tenant)
        standing = await self.members.lookup(tenant, claims.subject)
        if standing is None:
            raise _not_for_it()
        return self._person(tenant, claims, standing)

    async def _from_above(
        self, parsed: ParsedRequest, above: Tenant, caller: Callable[[], Awaitable[Principal]]
    ) -> Principal:
        """The principal of a caller in a tenant below their own: a guest user there, with the caller's permissions.

        Every refusal is the same as for sources that disagree. The named tenant is looked up only for a caller with the
        permission to enter descendants, and only among those: whether another tenant has that name makes no difference.
        """
        try:
            principal = await caller()
        except (Forbidden, Unauthenticated):
            raise self._other_tenant(parsed, above) from None
        if Permission.DESCENDANT_ENTER not in principal.permissions:
            raise self._other_tenant(parsed, above)
        tenant = await self._below(parsed, above)
        if tenant is None:
            raise self._other_tenant(parsed, above)
        tenant.require_active()
        # The tenant below may know that the caller is from above, and recognise them, but not from which tenant.
        guest = await self.members.admit_guest(tenant, f"parent:{uuid5(above.id, str(principal.user_id))}", "parent")
        if guest.disabled:
            raise self._disabled(tenant)
        behalf = f"parent:usr_{principal.user_id}"
        features = tenant.entitlements.now()
        return Principal(tenant, guest.user_id, (), principal.permissions, on_behalf_of=behalf, features=features)

    async def _below(self, parsed: ParsedRequest, above: Tenant) -> Tenant | None:
        """The tenant that a request names, if it is below another."""
        name = await self._name_in(parsed)
        tenant = None if name is None else await self._descendants.tenant(above.id, name)
        return tenant if tenant is not None and await self._agrees(parsed, tenant) else None

    async def _agrees(self, parsed: ParsedRequest, tenant: Tenant) -> bool:
        """Whether everything in a request names this tenant.

        Other tenants are not looked up: whether they exist affects neither the answer nor its timing.
        """
        return all(identifies(name, tenant) for name in parsed.names) and (
            parsed.domain is None or await self._named_by(parsed.domain) == tenant.id
        )

    async def _name_in(self, parsed: ParsedRequest) -> str | None:
        """The name of a tenant in a request, or the default."""
        if parsed.names:
            return parsed.names[0]
        return self._default if parsed.domain is None else str(await self._named_by(parsed.domain))

    async def _requested_tenant(self, parsed: ParsedRequest, claims: Claims) -> Tenant:
        """The tenant that a request names if its token does not. The user must be a member there."""
        name = await self._name_in(parsed)
        if name is None:
            raise TenantRequired("neither the token nor the request names a tenant")
        # The directory is not queried: for non-members, existing and missing tenants must look alike.
        tenant = await self._memberships.tenant(claims.subject, name)
        if tenant is None or not await self._agrees(parsed, tenant):
            raise self._other_tenant(parsed)
        return tenant

    async def _named_by(self, domain: str) -> UUID:
        tenant = await self._domains.tenant(domain)
        if tenant is None:
            raise unknown_host()
        return tenant

    def _refuse_issued_before(self, claims: Claims, tenant: Tenant) -> None:
        if _names_former(claims, tenant):
            self._refuse(tenant.id, Reason.FORMER_TENANT)
            raise Unauthenticated("the token was issued before the tenant existed: get a new one")

    def _person(self, tenant: Tenant, claims: Claims, standing: Standing) -> Principal:
        if standing.disabled:
            raise self._disabled(tenant)
        permitted, session = _permitted(claims, standing), None
        if claims.session_id is not None and claims.issuer == self._session_issuer:
            session = identifier_of(claims.session_id)
        features = tenant.entitlements.now()
        return Principal(
            tenant, standing.user_id, standing.roles, permitted, claims.subject, session=session, features=features
        )

    def _disabled(self, tenant: Tenant) -> Forbidden:
        self._refuse(tenant.id, Reason.DISABLED_USER)
        return Forbidden("the user is disabled")


def _speaks_for(claims: Claims, tenant: Tenant) -> bool:
    """Whether a token's issuer may vouch for its users in this tenant."""
    return claims.tenants is None or any(identifies(name, tenant) for name in claims.tenants)


def _names_former(claims: Claims, tenant: Tenant) -> bool:
    """Whether a token names a tenant by slug and is older than it: the slug may mean a former tenant.

    If there was a former tenant, the token must have an issue time, which is compared exactly: no leeway.
    """
    if claims.tenant != tenant.slug:
        return False  # an id is never reused
    created_at = tenant.created_at.timestamp()
    if not tenant.slug_reused:
        # Not every issuer sends the time; and some round it down to seconds.
        created_at = floor(created_at - claims.leeway)
        if claims.issued_at == 0:
            return False
    return claims.issued_at < created_at


def _permitted(claims: Claims, standing: Standing) -> frozenset[str]:
    """Stored permissions apply. A token can reduce them, never extend them."""
    return standing.permissions if claims.role is None else standing.permissions & of_role(claims.role)


def _user_agent(scope: Mapping[str, Any]) -> str | None:
    """What the client calls itself, as far as it can be stored and shown."""
    sent = next((value for name, value in scope["headers"] if name == b"user-agent"), b"")
    return "".join(filter(str.isprintable, sent.decode("latin-1")))[:MAX_USER_AGENT].strip() or None


def _not_for_it() -> Forbidden:
    return Forbidden("the credential is not for the tenant that the request names")
