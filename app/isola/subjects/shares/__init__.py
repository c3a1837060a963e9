"""Shares with partners. They are stored outside of the tenants' tables, and accessed only by database functions."""

from datetime import UTC, datetime
from typing import TypedDict, Unpack
from uuid import UUID

from sqlalchemy import DateTime, func, literal, select

from isola.errors import BadUserInput, NotFound
from isola.subjects import operations
from isola.subjects.actor import Actor
from isola.subjects.declaration import Registry
from isola.subjects.permissions import Permission
from isola.subjects.work import Work


class Term(TypedDict, total=False):
    """The term of a share; None: until it is revoked. If omitted, an existing share keeps its term."""

    expires_at: datetime | None


async def grant(work: Work, actor: Actor, subject: str, row_id: UUID, grantee: str, **term: Unpack[Term]) -> UUID:
    """Let a partner, named by its slug, read a row of a subject; sharing it again renews the share.

    The result does not reveal whether a tenant with that slug exists. Raises NotFound, Forbidden, and BadUserInput
    naming the invalid field.
    """
    actor.require(Permission.SHARE_WRITE)
    expires_at = term.get("expires_at")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadUserInput("expiresAt: expected a future time", "expiresAt")
    await _hold(work, actor, subject, row_id)
    until = literal(expires_at, DateTime(timezone=True))
    call = func.isola.share(subject, row_id, grantee, until, "expires_at" not in term)
    [row] = await work.rows(select(call.table_valued("share", "expired")))
    if row["expired"]:
        raise BadUserInput("expiresAt: expected, because the share has expired; null for no expiry", "expiresAt")
    share: UUID | None = row["share"]
    if share is None:
        raise BadUserInput("grantee: expected the slug of another tenant", "grantee")
    return share


async def revoke(work: Work, actor: Actor, share_id: UUID) -> None:
    """End a share; it ends with the partner's next statement. Raises NotFound and Forbidden."""
    actor.require(Permission.SHARE_WRITE)
    ended = func.isola.revoke_share(share_id).table_valued("subject", "row_id")
    [row] = await work.rows(select(ended))
    if row["subject"] not in Registry.by_name:
        raise NotFound("there is no such share")
    # Only now is it known what was shared; a refusal undoes the revocation with the transaction.
    await _hold(work, actor, row["subject"], row["row_id"])


async def _hold(work: Work, actor: Actor, subject: str, row_id: UUID) -> None:
    """Lock a row that the actor may change, until the end of the transaction. Raises NotFound and Forbidden."""
    await operations.changeable(work, actor, Registry.by_name[subject], row_id, whole=False)


async def answer(work: Work, actor: Actor, share_id: UUID, *, accepted: bool) -> None:
    """Accept or decline all current and future shares from the owner of a share with the actor's tenant.

    Raises Forbidden and NotFound.
    """
    actor.require(Permission.SHARE_MANAGE)
    if not await work.scalar(select(func.isola.answer_share(share_id, accepted))):
        raise NotFound("there is no such share")
