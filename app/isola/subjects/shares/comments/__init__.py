"""Comments on shares: users of the owner and of its partner write and read them, as long as the share has not ended.

They are stored outside of the tenants' tables, and accessed only by functions of the database: see
migrations/control/0001_share_comments.sql.
"""

from uuid import UUID

from sqlalchemy import func, select

from isola.errors import BadUserInput, Conflict, Forbidden, NotFound
from isola.subjects import document
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.shares import own_shares
from isola.subjects.work import Work

MAX_TEXT = 2000
"""The most characters of a comment."""
MOST = 1000
"""The most comments of each of the two tenants on one share: as in the function ``isola.comment_on_share()``."""


async def add(work: Work, actor: Actor, share_id: UUID, text: str) -> UUID:
    """Comment on a share that the tenant receives, or on one of a row of its own that the actor may read.

    Raises Forbidden, NotFound, Conflict, and BadUserInput for the text.
    """
    actor.require(Permission.SHARE_WRITE)
    if not 1 <= len(text) <= MAX_TEXT:
        raise BadUserInput(f"text: expected 1 to {MAX_TEXT} characters, not {len(text)}", "text")
    document.check("text", text)
    call = func.isola.comment_on_share(share_id, text).table_valued("comment", "refused")
    [row] = await work.rows(select(call))
    match row["refused"]:
        case "share":
            if await work.rows(select(own_shares.c.id).where(own_shares.c.id == share_id)):
                raise Conflict("shareId: the partner reads the object by another share: comment on that", "shareId")
            raise NotFound("there is no such share")
        case "access":
            raise Forbidden("this share allows no comments: its access is READ")
        case "many":
            raise Conflict(f"shareId: it has {MOST} comments of this tenant: delete some first", "shareId")
    comment: UUID = row["comment"]
    return comment


async def delete(work: Work, actor: Actor, comment_id: UUID) -> None:
    """Delete a comment: one of the actor's own, or any on the tenant's shares if the actor may manage these.

    Raises Forbidden and NotFound.
    """
    actor.require(Permission.SHARE_WRITE)
    match await work.scalar(select(func.isola.delete_share_comment(comment_id))):
        case "comment":
            raise NotFound("there is no such comment")
        case "author":
            raise Forbidden("only its author, and users of the owner with share:manage, may delete this comment")
