"""Ends users' sessions: single ones, or all, and then all credentials issued so far are refused from then on."""

from uuid import UUID

from sqlalchemy import Text, Uuid, bindparam, func, select

from isola.errors import NotFound
from isola.subjects import roles
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.users import users
from isola.subjects.work import Work

_SUBJECT = select(users.c.subject).where(users.c.id == bindparam("key", type_=Uuid()))
_SIGN_OUT = select(func.isola.sign_out(bindparam("key", type_=Uuid()), bindparam("subject", type_=Text())))
_END = select(
    func.isola.end_own_sessions(
        bindparam("session", type_=Uuid()), bindparam("kept", type_=Uuid()), bindparam("issuer", type_=Text())
    )
)


async def end(work: Work, session: UUID, issuer: str) -> None:
    """End a session of the user that the transaction has proved; its access tokens are of this issuer.

    Raises NotFound, also for sessions of others and for those that have ended.
    """
    if not await work.scalar(_END, {"session": session, "kept": None, "issuer": issuer}):
        raise NotFound("there is no such session")


async def end_others(work: Work, kept: UUID | None, issuer: str) -> int:
    """End all sessions of the proved user but one, and return their number."""
    ended: int = await work.scalar(_END, {"session": None, "kept": kept, "issuer": issuer})
    return ended


async def revoke(work: Work, actor: Actor, user_id: UUID) -> None:
    """End all sessions of a user, and refuse all tokens of theirs that were issued until now, whoever issued them.

    All users may end their own. Raises Forbidden, also if the user has more permissions than the actor, and NotFound.
    """
    if user_id != actor.user_id:
        actor.require(Permission.USER_MANAGE)
    standing = await roles.standing_of(work, user_id)
    if standing is None:
        raise NotFound("there is no such user")
    if user_id != actor.user_id:
        actor.may_all(standing.permissions).enforce()
    await sign_out(work, user_id)


async def sign_out(work: Work, user_id: UUID) -> None:
    """The same for operators, without an actor."""
    await work.scalar(_SIGN_OUT, {"key": user_id, "subject": await work.scalar(_SUBJECT, {"key": user_id})})
