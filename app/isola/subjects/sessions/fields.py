"""Signing in and out.

``SignInQueries`` and ``SignInMutations`` are public: they need no credential, or authenticate by one of another kind.
"""

import time
from typing import Annotated, Any, cast

import strawberry
from graphql import OperationType
from sqlalchemy import Column, DateTime as Timestamp, Integer, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.fields import computed, mapped, one, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.errors import BadUserInput, Forbidden
from isola.identity.authentication import Principal
from isola.identity.openid import Code
from isola.identity.sessions import Issued, Password, Proof, Sessions
from isola.identity.visitors import Visitor
from isola.platform.tenants import Tenant
from isola.query.documents import Public
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects import sessions
from isola.subjects.branding.fields import SignInBranding
from isola.subjects.permissions import Permission
from isola.subjects.users import User

OPEN: Public = {
    OperationType.QUERY: frozenset({"signInChoices"}),
    OperationType.MUTATION: frozenset({"signIn", "signInWithCode", "acceptInvitation", "refreshSession", "signOut"}),
}
"""The fields of SignInQueries and SignInMutations, by their names in the schema."""


PREFIX = "ses"

own_sessions = Function(
    "isola.own_sessions",
    (
        Column("id", Uuid, nullable=False),
        Column("started_at", Timestamp(timezone=True), nullable=False),
        Column("refreshed_at", Timestamp(timezone=True)),
        Column("expires_at", Timestamp(timezone=True), nullable=False),
        Column("user_agent", Text),
    ),
)


def _is_current(row: strawberry.Parent[dict[str, Any]], info: Info) -> bool:
    return bool(row["id"] == cast("Principal", info.context.context.principal).session)


@mapped(own_sessions, order=(("id", True),))
@strawberry.type(directives=[PUBLIC], description="A session of the caller that can still be refreshed.")
class OwnSession:
    id: strawberry.ID = typed_id(PREFIX, description="For endSession.")
    started_at: DateTime = strawberry.field(description="When the caller signed in.")
    refreshed_at: DateTime | None = strawberry.field(description="When it was last refreshed; null if never.")
    expires_at: DateTime = strawberry.field(description="When it ends unless it is refreshed.")
    user_agent: str | None = strawberry.field(description="What the client that signed in called itself.")
    current: bool = computed("id", description="Whether the credential of this request belongs to it.")(_is_current)


@strawberry.type(directives=[PUBLIC], description="The tokens of a session. Both are credentials.")
class Session:
    access_token: str = strawberry.field(description="For the header Authorization: Bearer <token>.")
    access_token_expires_at: DateTime = strawberry.field(description="Refresh the session before this time.")
    refresh_token: str | None = strawberry.field(
        description="Valid for one refreshSession, which returns the next one. A second use ends the session; only for"
        " a few seconds after the first, it gets the same next one. Null if it is in the cookie."
    )
    expires_at: DateTime = strawberry.field(description="When the session ends and can no longer be refreshed.")


@strawberry.type(directives=[PUBLIC])
class SignInPayload:
    session: Session


@strawberry.input
class SignInInput:
    login: str = strawberry.field(description="The login in the server's file of passwords.")
    password: str = strawberry.field(description="The password.")
    tenant: str | None = strawberry.field(
        default=None, description="The tenant's slug or id; not needed if the request names the tenant otherwise."
    )


@strawberry.input
class SignInWithCodeInput:
    provider: str = strawberry.field(description="The name of an OpenID Connect provider in the configuration.")
    code: str = strawberry.field(description="The authorization code from the provider's redirect.")
    code_verifier: str = strawberry.field(description="The PKCE verifier of the challenge (S256) sent to the provider.")
    redirect_uri: str = strawberry.field(description="The redirect URI that was sent to the provider.")
    nonce: str = strawberry.field(description="The nonce that was sent to the provider.")
    tenant: str | None = strawberry.field(
        default=None, description="The tenant's slug or id; not needed if the request names the tenant otherwise."
    )


@strawberry.type(directives=[PUBLIC])
class SignInWithCodePayload:
    session: Session


@strawberry.input(description="A login and a password, or all of a provider's code flow.")
class AcceptInvitationInput:
    token: str = strawberry.field(description="The token in the link of the invitation.")
    login: str | None = strawberry.field(default=None, description="The login in the server's file of passwords.")
    password: str | None = strawberry.field(default=None, description="The password.")
    provider: str | None = strawberry.field(default=None, description="As in signInWithCode.")
    code: str | None = strawberry.field(default=None, description="As in signInWithCode.")
    code_verifier: str | None = strawberry.field(default=None, description="As in signInWithCode.")
    redirect_uri: str | None = strawberry.field(default=None, description="As in signInWithCode.")
    nonce: str | None = strawberry.field(default=None, description="As in signInWithCode.")


@strawberry.type(directives=[PUBLIC])
class AcceptInvitationPayload:
    session: Session


@strawberry.input
class RefreshSessionInput:
    refresh_token: str | None = strawberry.field(
        default=None, description="The latest refresh token of the session; none if it is in the cookie."
    )


@strawberry.type(directives=[PUBLIC])
class RefreshSessionPayload:
    session: Session


@strawberry.input
class SignOutInput:
    refresh_token: str | None = strawberry.field(
        default=None, description="The latest refresh token of the session; none if it is in the cookie."
    )


@strawberry.type(directives=[PUBLIC])
class SignOutPayload:
    signed_out: bool = strawberry.field(description="The result is the same whether or not there was a session.")


@strawberry.type(directives=[PUBLIC], description="An OpenID Connect provider, for signInWithCode.")
class SignInProvider:
    name: str = strawberry.field(description="For signInWithCode.")
    issuer: str = strawberry.field(description="Its address. Its discovery document says where to redirect users to.")
    client_id: str = strawberry.field(description="The client id of this server there.")


async def _branding(info: Info, root: strawberry.Parent["SignInChoices"]) -> SignInBranding:
    if info.context.services.brandings is None:
        raise Forbidden("sign-in is off")
    return SignInBranding(**await info.context.services.brandings.of(root.tenant, root.asked_at))


@strawberry.type(directives=[PUBLIC], description="What a tenant accepts for signing in, and how it presents itself.")
class SignInChoices:
    tenant: strawberry.Private[Tenant | None]
    asked_at: strawberry.Private[float]
    passwords: bool = strawberry.field(description="Whether this server accepts passwords; for development only.")
    providers: list[SignInProvider] = strawberry.field(
        description="The providers that sign in users of the tenant, by name."
    )
    branding: SignInBranding = strawberry.field(
        resolver=_branding,
        description="The branding of the tenant. A name of no tenant has the same as a tenant without branding.",
    )


async def _choices(
    info: Info,
    tenant: Annotated[
        str | None,
        strawberry.argument(
            description="The tenant's slug or id; not needed if the request names the tenant otherwise."
        ),
    ] = None,
) -> SignInChoices | None:
    if info.context.services.choices is None:
        raise Forbidden("sign-in is off")
    asked_at = time.monotonic()
    found = await info.context.services.choices.find(_visitor(info), tenant)
    providers = [
        SignInProvider(name=each.name, issuer=each.issuer, client_id=each.client_id) for each in found.providers
    ]
    return SignInChoices(tenant=found.tenant, asked_at=asked_at, passwords=found.passwords, providers=providers)


@strawberry.type
class SignInQueries:
    sign_in_choices: SignInChoices | None = strawberry.field(
        resolver=_choices,
        directives=[PUBLIC],
        description="What a tenant accepts for signing in, for a sign-in page. A name of no tenant has the same answer"
        " as a tenant without a provider.",
    )


@strawberry.type
class SignInMutations:
    @mutation(PUBLIC, description="Begin a session with a password. For development only.")
    async def sign_in(self, info: Info, input: SignInInput) -> SignInPayload:
        issued = await _sessions(info).sign_in(_visitor(info), input.tenant, input.login, input.password)
        return SignInPayload(session=_session_of(issued))

    @mutation(PUBLIC, description="Begin a session with an authorization code of an OpenID Connect provider.")
    async def sign_in_with_code(self, info: Info, input: SignInWithCodeInput) -> SignInWithCodePayload:
        issued = await _sessions(info).sign_in_with_code(
            _visitor(info),
            input.tenant,
            Code(input.provider, input.code, input.code_verifier, input.redirect_uri, input.nonce),
        )
        return SignInWithCodePayload(session=_session_of(issued))

    @mutation(
        PUBLIC,
        description="Become a user of the tenant of an invitation, with a password or a provider's code, and begin a"
        " session.",
    )
    async def accept_invitation(self, info: Info, input: AcceptInvitationInput) -> AcceptInvitationPayload:
        issued = await _sessions(info).accept_invitation(_visitor(info), input.token, _proof(input))
        return AcceptInvitationPayload(session=_session_of(issued))

    @mutation(PUBLIC, description="Exchange a refresh token for new tokens. A refresh token can be used once.")
    async def refresh_session(self, info: Info, input: RefreshSessionInput) -> RefreshSessionPayload:
        issued = await _sessions(info).refresh(_visitor(info), input.refresh_token)
        return RefreshSessionPayload(session=_session_of(issued))

    @mutation(PUBLIC, description="End the session of a refresh token, with all its access tokens.")
    async def sign_out(self, info: Info, input: SignOutInput) -> SignOutPayload:
        await _sessions(info).sign_out(_visitor(info), input.refresh_token)
        return SignOutPayload(signed_out=True)


def _session_of(issued: Issued) -> Session:
    return Session(
        access_token=issued.access_token,
        access_token_expires_at=DateTime(issued.access_token_expires_at),
        refresh_token=issued.refresh_token,
        expires_at=DateTime(issued.session_expires_at),
    )


def _proof(input: AcceptInvitationInput) -> Proof:
    code = (input.provider, input.code, input.code_verifier, input.redirect_uri, input.nonce)
    given = tuple(each for each in code if each is not None)
    if input.login is not None and input.password is not None and not given:
        return Password(input.login, input.password)
    if input.login is None and input.password is None and len(given) == len(code):
        return Code(*given)
    raise BadUserInput("expected a login and a password, or all of a provider's code flow", "input")


def _sessions(info: Info) -> Sessions:
    if info.context.services.sessions is None:
        raise Forbidden("sign-in is off")
    return info.context.services.sessions


def _visitor(info: Info) -> Visitor:
    visitor = info.context.visitor()
    if visitor is None:
        raise Forbidden("this field is not answered in a stream: expected a request to /graphql without one")
    return visitor


@mapped(Parameters({"user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class SignOutEverywherePayload:
    user: User = one("user_id")


@strawberry.input
class RevokeSessionsInput:
    user_id: strawberry.ID


@mapped(Parameters({"user_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeSessionsPayload:
    user: User = one("user_id")


@strawberry.input
class EndSessionInput:
    session_id: strawberry.ID = strawberry.field(description="The session to end. It can be the current one.")


@mapped(Parameters({"session_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class EndSessionPayload:
    ended_id: strawberry.ID = typed_id(PREFIX, "session_id", description="The session that has ended.")


@mapped(Parameters({"ended": Integer()}))
@strawberry.type(directives=[PUBLIC])
class EndOtherSessionsPayload:
    ended: int = strawberry.field(description="How many sessions have ended.")


@strawberry.type
class SessionMutations:
    @mutation(PUBLIC, description="End a session of the caller in this tenant, with all its access tokens.")
    async def end_session(self, info: Info, input: EndSessionInput) -> EndSessionPayload:
        session = decode(input.session_id, PREFIX, "sessionId")
        issuer = _sessions(info).issuer
        async with info.context.transaction() as work:
            await sessions.end(work, session, issuer)
            selected = await payload(EndSessionPayload, info, work, session_id=session)
        _sessions(info).ended()
        return selected

    @mutation(
        PUBLIC,
        description="End all sessions of the caller in this tenant except the current one, with their access tokens."
        " If the credential is not of a session, all of them.",
    )
    async def end_other_sessions(self, info: Info) -> EndOtherSessionsPayload:
        issuer = _sessions(info).issuer
        current = cast("Principal", info.context.context.principal).session
        async with info.context.transaction() as work:
            ended = await sessions.end_others(work, current, issuer)
            selected = await payload(EndOtherSessionsPayload, info, work, ended=ended)
        _sessions(info).ended()
        return selected

    @mutation(
        PUBLIC,
        description="End all sessions of the caller in this tenant, and revoke all tokens that were issued until now.",
    )
    async def sign_out_everywhere(self, info: Info) -> SignOutEverywherePayload:
        user = info.context.actor.user_id
        async with info.context.transaction() as work:
            await sessions.revoke(work, info.context.actor, user)
            return await payload(SignOutEverywherePayload, info, work, user_id=user)

    @mutation(
        requires(Permission.USER_MANAGE),
        description="End all sessions of another user, and revoke all tokens that were issued until now.",
    )
    async def revoke_sessions(self, info: Info, input: RevokeSessionsInput) -> RevokeSessionsPayload:
        user = decode(input.user_id, User.declaration.prefix, "userId")
        async with info.context.transaction() as work:
            await sessions.revoke(work, info.context.actor, user)
            return await payload(RevokeSessionsPayload, info, work, user_id=user)
