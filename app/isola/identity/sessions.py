"""Sessions of people: sign-in, refresh and sign-out. Sign-in and refresh issue a short-lived access token.

A refresh token is ``isr_``, 256 random bits and a seal (MAC) that only servers of this installation can compute: an
invented one is refused without a look-up.
"""

import hmac
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import TypeAlias
from uuid import uuid4

from isola.database.transactions import Database
from isola.errors import (
    BadUserInput,
    Forbidden,
    NotFound,
    RateLimited,
    Refusal,
    TenantSuspended,
    Unauthenticated,
)
from isola.identity.cookies import Cookies
from isola.identity.invitations import Invitations
from isola.identity.openid import Code, Identity, Provider
from isola.identity.passwords import Passwords, Person
from isola.identity.seal import MAX_LENGTH, Seal
from isola.identity.signing import Signer
from isola.identity.throttle import Throttle
from isola.identity.visitors import Visitor
from isola.platform import sessions
from isola.platform.clients import MAX_ADDRESS
from isola.platform.directory import Directory
from isola.platform.domains import Domains
from isola.platform.sessions import Lifetimes, Refreshed
from isola.platform.sign_in_log import Reason, SignInLog
from isola.platform.tenants import Status, Tenant
from isola.settings import Settings
from isola.subjects import invitations, roles
from isola.subjects.permissions import Role
from isola.subjects.roles import Standing
from isola.subjects.work import Work


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it holds credentials
class Issued:
    """The tokens issued to a client. The access token expires first, and is renewed with the refresh token.

    ``refresh_token`` is None if it is in the cookie.
    """

    access_token: str
    access_token_expires_at: datetime
    refresh_token: str | None
    session_expires_at: datetime


@dataclass(frozen=True, slots=True, repr=False)  # without repr: it holds a credential
class Password:
    """The login and the password of a person."""

    login: str
    password: str


Proof: TypeAlias = Password | Code
"""Who a person is."""
Admit: TypeAlias = Callable[[Work], Awaitable[Standing]]


class Sessions:
    """Begins, refreshes and ends sessions. ``secret`` is the same on all servers of an installation."""

    def __init__(
        self,
        settings: Settings,
        *,
        secret: bytes,
        control: Database,
        tenants: Database,
        directory: Directory,
        domains: Domains,
        log: SignInLog,
        invitations: Invitations,
        signer: Signer | None,
        passwords: Passwords | None,
        providers: Mapping[str, Provider],
    ) -> None:
        """Without a ``signer`` there are no sessions; without ``passwords``, no sign-in with a password."""
        self._seal = Seal("isr_", secret, b"isola refresh tokens")
        self._key = hmac.digest(secret, b"isola next refresh tokens", "sha256")
        self._control = control
        self._tenants = tenants
        self._directory = directory
        self._domains = domains
        self._log = log
        self._invitations = invitations
        self._signer = signer
        self._passwords = passwords
        self._providers = providers
        self._cookies = Cookies.from_settings(settings)
        self._token_ttl = timedelta(seconds=settings.session_token_ttl)
        self._lifetimes = Lifetimes(
            session=timedelta(seconds=settings.session_lifetime),
            idle=timedelta(seconds=settings.session_idle),
            reuse=timedelta(seconds=settings.session_reuse_interval),
        )
        self._addresses = Throttle(burst=50, interval=1)
        self._accounts = Throttle(burst=5, interval=10)
        self._tokens = Throttle(burst=20, interval=10)

    async def sign_in(self, visitor: Visitor, tenant: str | None, login: str, password: str) -> Issued:
        """Begin a session with a password.

        Raises Unauthenticated, with the same timing and message whichever part is wrong; RateLimited after too many
        attempts from an address or on an account; Forbidden where passwords are not accepted.
        """
        signer = self._required()
        if self._passwords is None:
            raise _no_passwords()
        visitor.require_own_page()
        self._addresses.take(visitor.network)
        visitor = await visitor.named(self._domains)
        name = visitor.tenant(tenant)
        found = await self._directory.find(name) if len(name) <= MAX_LENGTH else None
        person = await self._person(self._passwords, found, name, login, password)
        if found is None or not visitor.means(found, tenant):
            raise self._refused(found, Reason.OTHER_TENANT, _wrong())
        identity = Identity(login, person.name, person.email)
        return await self._begin(signer, found, visitor, identity, partial(_admit, identity, person.role))

    async def _person(
        self, passwords: Passwords, tenant: Tenant | None, name: str, login: str, password: str
    ) -> Person:
        """The person with this password; ``name`` is the one that the request gives the tenant."""
        if max(map(len, (name, login, password))) > MAX_LENGTH:
            raise _wrong()
        # All spellings of a tenant share one limit; so do all unknown names.
        account = sha256(f"{tenant.id if tenant else None} {login}".encode(errors="surrogatepass")).digest()
        with self._refusals_counted(tenant, RateLimited, Reason.ATTEMPTS):
            self._accounts.take(account)
        person = await passwords.verify(tenant.slug if tenant else name, login, password)
        if person is None or tenant is None:
            raise self._refused(tenant, Reason.PASSWORD, _wrong())
        self._accounts.forgive(account)
        return person

    async def sign_in_with_code(
        self,
        visitor: Visitor,
        tenant: str | None,
        code: Code,
    ) -> Issued:
        """Begin a session with a code from an OpenID Connect provider. See ``Provider.identify``.

        Raises NotFound for a provider that is not configured, Forbidden for a tenant that it does not vouch for, and
        what ``Provider.identify`` raises.
        """
        signer = self._required()
        visitor.require_own_page()
        self._addresses.take(visitor.network)
        visitor = await visitor.named(self._domains)
        chosen = self._providers.get(code.provider)
        if chosen is None:
            raise NotFound("there is no such provider")
        vouched = chosen.settings.tenants
        name = next(iter(vouched)) if len(vouched) == 1 and not (tenant or visitor.names) else visitor.tenant(tenant)
        found = await self._directory.find(name)
        if found is None or not chosen.vouches_for(found) or not visitor.means(found, tenant):
            raise self._refused(found, Reason.OTHER_TENANT, _not_vouched())
        with self._refusals_counted(found, Unauthenticated, Reason.CODE):
            identity = await chosen.identify(code)
        return await self._begin(signer, found, visitor, identity, partial(_admit, identity, chosen.settings.role))

    async def accept_invitation(self, visitor: Visitor, text: str, proof: Proof) -> Issued:
        """Make a person with the token of an invitation a user of its tenant, and begin a session.

        Raises Unauthenticated for a token that is not valid, always the same; what ``sign_in`` and
        ``sign_in_with_code`` raise for the ``proof`` of who the person is; and what ``invitations.accept`` raises.
        """
        signer = self._required()
        visitor.require_own_page()
        self._addresses.take(visitor.network)
        invitation, token = await self._invitations.find(text)
        if invitation is None or token is None:
            raise invitations.invalid()
        self._tokens.take(invitation.digest)
        visitor = await visitor.named(self._domains)
        tenant = await self._directory.find(str(invitation.tenant_id))
        if tenant is None or not visitor.means(tenant, None):
            raise self._refused(tenant, Reason.OTHER_TENANT, invitations.invalid())
        identity = await self._proved(tenant, proof)
        admit = partial(
            invitations.accept,
            invitation=invitation.id,
            digest=invitation.digest,
            subject=identity.subject,
            name=identity.name,
            email=invitation.email,
        )
        with self._refusals_counted(tenant, Unauthenticated, Reason.INVITATION):
            return await self._begin(signer, tenant, visitor, identity, admit)

    async def _proved(self, tenant: Tenant, proof: Proof) -> Identity:
        if isinstance(proof, Password):
            if self._passwords is None:
                raise _no_passwords()
            person = await self._person(self._passwords, tenant, tenant.slug, proof.login, proof.password)
            return Identity(proof.login, person.name, None)
        chosen = self._providers.get(proof.provider)
        if chosen is None or not chosen.vouches_for(tenant):
            raise self._refused(tenant, Reason.OTHER_TENANT, _not_vouched())
        with self._refusals_counted(tenant, Unauthenticated, Reason.CODE):
            return await chosen.identify(proof)

    @contextmanager
    def _refusals_counted(self, tenant: Tenant | None, kind: type[Refusal], reason: Reason) -> Iterator[None]:
        """Count refusals of a kind for the tenant's log."""
        try:
            yield
        except kind as refusal:
            self._refused(tenant, reason, refusal)
            raise

    def _refused(self, tenant: Tenant | None, reason: Reason, refusal: Refusal) -> Refusal:
        """Count the refusal for the tenant's log, if there is a tenant, and return it."""
        if tenant is not None:
            self._log.refuse(tenant.id, reason)
        return refusal

    async def refresh(self, visitor: Visitor, text: str | None) -> Issued:
        """Continue a session: consume the refresh token, and issue another. ``text`` is None if it is in the cookie.

        Raises Unauthenticated for an invalid token. If it was used before, the session ends; only within the reuse
        interval the next token is issued again. Raises TenantSuspended and TenantDeleted, which do not consume it;
        Forbidden for a cookie that this site's pages did not send, or whose tenant has none; and BadUserInput.
        """
        signer = self._required()
        token = self._seal.open(_sent(visitor, text))
        if token is None:
            self._addresses.take(visitor.network)
            raise self._spent(visitor)
        # A refused token stays refused, and retries must not load the database.
        self._tokens.take(sha256(token.encode()).digest())
        async with self._control.unbound() as transaction:
            refreshed = await sessions.refresh(transaction, signer.name, token, self._lifetimes, self._key)
        if refreshed is None:
            self._log.wake()
            raise self._spent(visitor)
        if visitor.jar is not None:
            tenant = await self._directory.find(str(refreshed.session.tenant_id))
            if tenant is None or not self._cookies.allowed(tenant):
                visitor.jar.clear()
                await self._end(signer, token)
                raise _no_cookie()
        return self._issued(signer, refreshed, visitor)

    def _spent(self, visitor: Visitor) -> Unauthenticated:
        """The refusal of a refresh token, counted for the tenant that the request names, if any. Clears the cookie."""
        if visitor.jar is not None:
            visitor.jar.clear()
        name = next(iter(visitor.names), visitor.domain)
        if name is not None:
            self._log.refuse(name, Reason.REFRESH_TOKEN)
        return Unauthenticated("the refresh token is invalid or no longer valid")

    async def sign_out(self, visitor: Visitor, text: str | None) -> None:
        """End the session of a refresh token, with all its access tokens. An unknown token is ignored.

        ``text`` is None if it is in the cookie, which is cleared.
        """
        signer = self._required()
        token = self._seal.open(_sent(visitor, text))
        if token is not None:
            self._tokens.take(sha256(token.encode()).digest())
            await self._end(signer, token)
        if visitor.jar is not None:
            visitor.jar.clear()

    async def _end(self, signer: Signer, token: str) -> None:
        async with self._control.unbound() as transaction:
            await sessions.end(transaction, signer.name, token)
        self._log.wake()

    @property
    def issuer(self) -> str:
        """The issuer of the sessions' access tokens. Raises Forbidden if there are no sessions."""
        return self._required().name

    def ended(self) -> None:
        """Copy the end of a session to its tenant's log at once."""
        self._log.wake()

    def _required(self) -> Signer:
        if self._signer is None:
            raise Forbidden("sign-in is off: tokens come from another issuer")
        return self._signer

    async def _begin(self, signer: Signer, tenant: Tenant, visitor: Visitor, person: Identity, admit: Admit) -> Issued:
        """Begin a session of a person who ``admit`` makes a user of the tenant."""
        if tenant.status is Status.SUSPENDED:
            raise self._refused(tenant, Reason.SUSPENDED_TENANT, TenantSuspended("the tenant is suspended"))
        if tenant.status is not Status.ACTIVE:
            raise _wrong()
        if visitor.jar is not None and not self._cookies.allowed(tenant):
            raise _no_cookie()
        tenant.refuse_moving()
        async with self._control.unbound() as transaction:
            prepared = await sessions.prepare(
                transaction,
                tenant.id,
                person.subject,
                self._lifetimes,
                visitor.user_agent,
                visitor.address[:MAX_ADDRESS] or None,
            )
        async with self._tenants.transaction(tenant, about={"request": visitor.request_id}) as work:
            standing = await admit(work)
            if standing.disabled:
                raise self._refused(tenant, Reason.DISABLED_USER, Forbidden("the user is disabled"))
            await sessions.begin(work, prepared.session.id, standing.user_id)
        return self._issued(signer, prepared, visitor)

    def _issued(self, signer: Signer, refreshed: Refreshed, visitor: Visitor) -> Issued:
        session = refreshed.session
        expires_at = min(session.now + self._token_ttl, session.expires_at)
        access_token = signer.access_token(
            tenant=session.tenant_id,
            subject=session.subject,
            session=session.id,
            token=uuid4(),
            issued_at=session.now,
            expires_at=expires_at,
        )
        refresh_token: str | None = self._seal.close(refreshed.refresh_token)
        if visitor.jar is not None and refresh_token is not None:
            visitor.jar.keep(refresh_token, min(self._lifetimes.idle, session.expires_at - session.now))
            refresh_token = None
        return Issued(access_token, expires_at, refresh_token, session.expires_at)


def _sent(visitor: Visitor, text: str | None) -> str:
    """The refresh token of a request, which is in the cookie or in the input."""
    if visitor.jar is None:
        if text is None:
            raise BadUserInput(
                "refreshToken: expected, because the request does not ask for the cookie", "refreshToken"
            )
        return text
    if text is not None:
        raise BadUserInput("refreshToken: expected none, because the request asks for the cookie", "refreshToken")
    visitor.jar.require_own_page()
    return visitor.jar.token


async def _admit(person: Identity, role: Role, work: Work) -> Standing:
    return await roles.admit(work, subject=person.subject, name=person.name, email=person.email, role=role)


def _no_passwords() -> Forbidden:
    return Forbidden("passwords are not accepted here")


def _not_vouched() -> Forbidden:
    return Forbidden("this provider is not configured for the tenant")


def _no_cookie() -> Forbidden:
    return Forbidden("sessions of this tenant are not kept in cookies")


def _wrong() -> Unauthenticated:
    return Unauthenticated("the tenant, the login or the password is wrong")
