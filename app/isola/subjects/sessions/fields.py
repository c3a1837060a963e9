"""Signing in and out. ``SignInMutations`` are public: they authenticate by another kind of credential."""

import strawberry
from sqlalchemy import Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.fields import mapped, one
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.errors import Forbidden
from isola.identity.sessions import Issued, Sessions, Visitor
from isola.query.identifiers import decode
from isola.query.mapping import Parameters
from isola.subjects import sessions
from isola.subjects.permissions import Permission
from isola.subjects.users import User

OPEN = frozenset({"signIn", "signInWithCode", "refreshSession", "signOut"})
"""The fields of SignInMutations, by their names in the schema."""


@strawberry.type(directives=[PUBLIC], description="The tokens of a session. Both are credentials.")
class Session:
    access_token: str = strawberry.field(description="For the header Authorization: Bearer <token>.")
    access_token_expires_at: DateTime = strawberry.field(description="Refresh the session before this time.")
    refresh_token: str = strawberry.field(
        description="Valid for one refreshSession, which returns the next one. A second use ends the session."
    )
    expires_at: DateTime = strawberry.field(description="When the session ends and can no longer be refreshed.")


@strawberry.type(directives=[PUBLIC])
class SignInPayload:
    session: Session


@strawberry.input
class SignInInput:
    login: str
    password: str
    tenant: str | None = strawberry.field(
        default=None, description="The tenant's slug or id; not needed if the request names the tenant otherwise."
    )


@strawberry.input
class SignInWithCodeInput:
    provider: str = strawberry.field(description="The name of an OpenID Connect provider in the configuration.")
    code: str = strawberry.field(description="The authorization code from the provider's redirect.")
    code_verifier: str = strawberry.field(description="The PKCE verifier of the challenge (S256) sent to the provider.")
    redirect_uri: str = strawberry.field(description="The redirect URI that was sent to the provider.")
    nonce: str = strawberry.field(description="The redirect URI that was sent to the provider.")
    tenant: str | None = strawberry.field(
        default=None, description="The tenant's slug or id; not needed if the request names the tenant otherwise."
    )


@strawberry.type(directives=[PUBLIC])
class SignInWithCodePayload:
    session: Session


@strawberry.input
class RefreshSessionInput:
    refresh_token: str


@strawberry.type(directives=[PUBLIC])
class RefreshSessionPayload:
    session: Session


@strawberry.input
class SignOutInput:
    refresh_token: str


@strawberry.type(directives=[PUBLIC])
class SignOutPayload:
    signed_out: bool = strawberry.field(description="The result is the same whether or not there was a session.")


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
            provider=input.provider,
            code=input.code,
            code_verifier=input.code_verifier,
            redirect_uri=input.redirect_uri,
            nonce=input.nonce,
        )
        return SignInWithCodePayload(session=_session_of(issued))

    @mutation(PUBLIC, description="Exchange a refresh token for new tokens. A refresh token can be used once.")
    async def refresh_session(self, info: Info, input: RefreshSessionInput) -> RefreshSessionPayload:
        issued = await _sessions(info).refresh(_visitor(info), input.refresh_token)
        return RefreshSessionPayload(session=_session_of(issued))

    @mutation(PUBLIC, description="End the session of a refresh token, with all its access tokens.")
    async def sign_out(self, info: Info, input: SignOutInput) -> SignOutPayload:
        await _sessions(info).sign_out(input.refresh_token)
        return SignOutPayload(signed_out=True)


def _session_of(issued: Issued) -> Session:
    return Session(
        access_token=issued.access_token,
        access_token_expires_at=DateTime(issued.access_token_expires_at),
        refresh_token=issued.refresh_token,
        expires_at=DateTime(issued.session_expires_at),
    )


def _sessions(info: Info) -> Sessions:
    if info.context.services.sessions is None:
        raise Forbidden("sign-in is off")
    return info.context.services.sessions


def _visitor(info: Info) -> Visitor:
    visitor = info.context.visitor()
    if visitor is None:
        raise Forbidden("sign-in is off")
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


@strawberry.type
class SessionMutations:
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
