from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BindParameter,
    CheckConstraint,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Table,
    Text,
    Uuid,
    and_,
    exists,
    insert,
    or_,
    select,
    text,
)

from isola.domain import document
from isola.domain.actor import Actor
from isola.domain.metadata import Audited, Row, identifier, indexed_text, json_document, metadata, moment
from isola.domain.organizations import memberships
from isola.domain.resources import resources
from isola.domain.work import Work
from isola.errors import BadUserInput, Forbidden, NotFound


class Visibility(StrEnum):
    PRIVATE = "private"
    ORGANIZATION = "organization"
    PUBLIC = "public"


MAX_TITLE = 200

spans = Table(
    "spans",
    metadata,
    identifier(),
    Column("author_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    indexed_text("title", MAX_TITLE, least=1),
    json_document("payload", "'{}'"),
    Column("resource_id", Uuid, ForeignKey("resources.id", ondelete="SET NULL")),
    Column("organization_id", Uuid, ForeignKey("organizations.id", ondelete="CASCADE")),
    Column("visibility", Text, nullable=False, server_default=text("'private'")),
    moment("created_at"),
    CheckConstraint("visibility IN ('private', 'organization', 'public')", name="visibility"),
    CheckConstraint("visibility <> 'organization' OR organization_id IS NOT NULL", name="organization_visible_to"),
    Index(None, "resource_id", "created_at", "id"),
    Index(None, "created_at", "id"),
    Index(None, "author_id"),
    Index(None, "organization_id"),
    info={"audited": Audited("span", {"id": "spn_"})},
)


def visible(span: Row, viewer: BindParameter[UUID]) -> ColumnElement[bool]:
    """Which spans a user may see: their own, those of their organizations, and the public ones."""
    membership = memberships.alias()
    member = exists().where(
        membership.c.organization_id == span["organization_id"],
        membership.c.user_id == viewer,
    )
    return or_(
        span["visibility"] == Visibility.PUBLIC,
        span["author_id"] == viewer,
        and_(span["visibility"] == Visibility.ORGANIZATION, member),
    )


# Every statement that reads the table carries the rule: see isola.domain.metadata.
spans.info["visible"] = visible

NEW = insert(spans).returning(spans.c.id)


async def create(
    work: Work,
    actor: Actor,
    *,
    title: str,
    payload: Any,
    visibility: Visibility,
    resource_id: UUID | None = None,
    organization_id: UUID | None = None,
) -> UUID:
    """Write a span. One that an organization is to see can be written by its members only.

    Raises Forbidden, NotFound for the resource, and BadUserInput naming the field that cannot be.
    """
    actor.require("span:write")
    if not 1 <= len(title) <= MAX_TITLE:
        raise BadUserInput(f"title: expected 1 to {MAX_TITLE} characters, not {len(title)}", "title")
    if payload is None:
        raise BadUserInput("payload: expected something other than null", "payload")
    document.check("title", title)
    document.check("payload", payload)
    if visibility is Visibility.ORGANIZATION and organization_id is None:
        raise BadUserInput("organizationId: expected, since the visibility is ORGANIZATION", "organizationId")
    if (
        resource_id is not None
        and await work.scalar(select(resources.c.id).where(resources.c.id == resource_id)) is None
    ):
        raise NotFound("there is no such resource", "resourceId")
    if organization_id is not None:
        member = select(memberships.c.user_id).where(
            memberships.c.organization_id == organization_id, memberships.c.user_id == actor.user_id
        )
        if await work.scalar(member) is None:
            message = "only members of an organization may write spans for it"
            raise Forbidden(message)
    values = {
        "author_id": actor.user_id,
        "title": title,
        "payload": payload,
        "visibility": visibility.value,
        "resource_id": resource_id,
        "organization_id": organization_id,
    }
    span: UUID = await work.scalar(NEW, values)
    return span
