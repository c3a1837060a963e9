"""What is shared with partners. The database keeps shares out of everybody's own tables and reads them by functions."""

from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import DateTime, func, literal, select

from app.domain import resources
from app.domain.actor import Actor
from app.domain.work import Work
from app.errors import BadUserInput, NotFound


async def grant(work: Work, actor: Actor, resource_id: UUID, grantee: str, expires_at: datetime | None = None) -> UUID:
    """Let a partner, named by its slug, read a resource; sharing it again renews the share.

    Raises NotFound, Forbidden, and BadUserInput naming the field that cannot be.
    """
    actor.require("share:write")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadUserInput("expiresAt: expected a time to come")
    await resources.held(work, actor, resource_id)
    until = literal(expires_at, DateTime(timezone=True))
    share: UUID | None = await work.scalar(
        select(func.isola.share_resource(resource_id, grantee, actor.user_id, until))
    )
    if share is None:
        raise BadUserInput("grantee: expected the slug of a partner")
    return share


async def revoke(work: Work, actor: Actor, share_id: UUID) -> None:
    """End a share, for the next statement of the partner already. Raises NotFound and Forbidden."""
    actor.require("share:write")
    resource_id: UUID | None = await work.scalar(select(func.isola.revoke_share(share_id)))
    if resource_id is None:
        raise NotFound("there is no such share")
    # Only now is it known what was shared; a refusal undoes the revocation with the transaction.
    await resources.held(work, actor, resource_id)
