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


@strawberry.type(directives=[PUBLIC], description="What a client goes on with. Both tokens are credentials.")
class Session:
    access_token: str = strawberry.field(description="For the header Authorization: Bearer <token>.")
    access_token_expires_at: DateTime = strawberry.field(description="The session is to be refreshed before that.")
    refresh_token: str = strawberry.field(
        description="Good for one refreshSession, which gives the next. Used a second time, it ends the session."
    )
    expires_at: DateTime = strawberry.field(description="From then on the session cannot be refreshed any more.")


@strawberry.type(directives=[PUBLIC])
class SignInPayload:
    session: Session


@strawberry.input
class SignInInput:
    login: str
    password: str
    tenant: str | None = strawberry.field(
        default=None, description="Its slug or id; not needed where the request names the tenant otherwise."
    )


@strawberry.input
class SignInWithCodeInput:
    provider: str = strawberry.field(description="The name that an OpenID Connect provider has in the configuration.")
    code: str = strawberry.field(description="What the provider sent the person back with.")
    code_verifier: str = strawberry.field(description="Of which the provider was told the challenge (PKCE, S256).")
    redirect_uri: str = strawberry.field(description="The one that the provider was told.")
    nonce: str = strawberry.field(description="The one that the provider was told.")
    tenant: str | None = strawberry.field(
        default=None, description="Its slug or id; not needed where the request names the tenant otherwise."
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
    signed_out: bool = strawberry.field(description="Where there was a session, there is none any more.")


@strawberry.type
class SignInMutations:
    @mutation(PUBLIC, description="Begin a session with a password. For development only.")
    async def sign_in(self, info: Info, input: SignInInput) -> SignInPayload:
        issued = await _sessions(info).sign_in(_visitor(info), input.tenant, input.login, input.password)
        return SignInPayload(session=_session_of(issued))

    @mutation(PUBLIC, description="Begin a session with what an OpenID Connect provider gave.")
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

    @mutation(PUBLIC, description="Go on with a session: new tokens for the refresh token, which is used up.")
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
        raise Forbidden("nobody can sign in here")
    return info.context.services.sessions


def _visitor(info: Info) -> Visitor:
    visitor = info.context.visitor()
    if visitor is None:
        raise Forbidden("nobody can sign in here")
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
        description="End all sessions of the caller in this tenant, and refuse all tokens that were issued until now.",
    )
    async def sign_out_everywhere(self, info: Info) -> SignOutEverywherePayload:
        user = info.context.actor.user_id
        async with info.context.transaction() as work:
            await sessions.revoke(work, info.context.actor, user)
            return await payload(SignOutEverywherePayload, info, work, user_id=user)

    @mutation(requires(Permission.USER_MANAGE), description="The same for another user.")
    async def revoke_sessions(self, info: Info, input: RevokeSessionsInput) -> RevokeSessionsPayload:
        user = decode(input.user_id, User.declaration.prefix, "userId")
        async with info.context.transaction() as work:
            await sessions.revoke(work, info.context.actor, user)
            return await payload(RevokeSessionsPayload, info, work, user_id=user)
