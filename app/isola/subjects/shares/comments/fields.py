from typing import Any

import strawberry
from sqlalchemy import Column, DateTime as Timestamp, Text, Uuid

from isola.api.access import PUBLIC, mutation, requires
from isola.api.fields import many, mapped, one, part, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import DateTime
from isola.api.tenants import Tenant
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters
from isola.subjects.permissions import Permission
from isola.subjects.shares import comments
from isola.subjects.users import User

PREFIX, SHARE_PREFIX = "cmt", "shr"
TEXT = f"1 to {comments.MAX_TEXT} characters."


def _comments(share: str) -> Function:
    """The comments on the share whose id is in a column."""
    columns = (
        Column("id", Uuid, nullable=False),
        Column("share_id", Uuid, nullable=False),
        Column("tenant_slug", Text, nullable=False),
        Column("tenant_name", Text, nullable=False),
        Column("author_id", Uuid),
        Column("text", Text, nullable=False),
        Column("created_at", Timestamp(timezone=True), nullable=False),
    )
    return Function("isola.share_comments", columns, arguments=(share,))


@mapped(_comments("id"))
@strawberry.type(
    description="What a user of the owner, or of the partner, says about what is shared.",
    directives=[requires(Permission.SHARE_READ)],
)
class ShareComment:
    id: strawberry.ID = typed_id(PREFIX)
    share_id: strawberry.ID = typed_id(SHARE_PREFIX, "share_id", description="The id of the share.")
    text: str = strawberry.field(description="The comment.")
    tenant: Tenant = part(slug="tenant_slug", name="tenant_name", description="The tenant whose user wrote it.")
    author: User | None = one(
        "author_id", description="The user who wrote it; null if it is one of the other tenant, or if no user did."
    )
    created_at: DateTime


def comments_field() -> Any:
    """The field with the comments on the share whose id the row has."""
    return many(source=_comments("id"), description="What users of the two tenants say about it, oldest first.")


@strawberry.input
class CommentOnShareInput:
    share_id: strawberry.ID
    text: str = strawberry.field(description=TEXT)


@mapped(Parameters({"share_id": Uuid(), "comment_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class CommentOnSharePayload:
    comment: ShareComment = one("comment_id", source=_comments("share_id"))


@strawberry.input
class DeleteShareCommentInput:
    comment_id: strawberry.ID


@mapped(Parameters({"comment_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DeleteShareCommentPayload:
    deleted_id: strawberry.ID = typed_id(PREFIX, "comment_id")


@strawberry.type
class ShareCommentMutations:
    @mutation(
        requires(Permission.SHARE_WRITE),
        "Comment on a share with the access COMMENT: one that the tenant receives, or one of its own objects.",
    )
    async def comment_on_share(self, info: Info, input: CommentOnShareInput) -> CommentOnSharePayload:
        share = decode(input.share_id, SHARE_PREFIX, "shareId")
        async with info.context.transaction() as work:
            made = await comments.add(work, info.context.actor, share, input.text)
            return await payload(CommentOnSharePayload, info, work, share_id=share, comment_id=made)

    @mutation(
        requires(Permission.SHARE_WRITE),
        "Delete a comment on a share: one's own, or with share:manage any on the tenant's own shares.",
    )
    async def delete_share_comment(self, info: Info, input: DeleteShareCommentInput) -> DeleteShareCommentPayload:
        comment = decode(input.comment_id, PREFIX, "commentId")
        async with info.context.transaction() as work:
            await comments.delete(work, info.context.actor, comment)
            return await payload(DeleteShareCommentPayload, info, work, comment_id=comment)
