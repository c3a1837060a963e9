"""The timeline: entries of events, with their author and visibility."""

from enum import StrEnum
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, and_, exists, or_, select

from isola.errors import BadUserInput, Forbidden
from isola.subjects import JSON, Subject, caller, column, reference
from isola.subjects.actor import Actor
from isola.subjects.metadata import Row
from isola.subjects.organizations import Organization, memberships
from isola.subjects.resources import Resource
from isola.subjects.users import User
from isola.subjects.work import Work


class Visibility(StrEnum):
    """Who sees a span: its author, an organization, or everybody here."""

    PRIVATE = "private"
    ORGANIZATION = "organization"
    PUBLIC = "public"


class Span(
    Subject, name="span", prefix="spn", mutations=frozenset({"create"}), order=("-created_at",), listed_as="timeline"
):
    """An entry of the timeline."""

    author: User = reference(default=caller, on_delete="cascade")
    title: str = column(max_length=200, min_length=1, index=True)
    payload: JSON = column(default=dict)
    resource: Resource | None = reference(on_delete="set null")
    organization: Organization | None = reference(on_delete="cascade")
    visibility: Visibility = column(default=Visibility.PRIVATE)

    checks = {"organization_visible_to": "visibility <> 'organization' OR organization_id IS NOT NULL"}  # noqa: RUF012

    @staticmethod
    def visible(span: Row, viewer: BindParameter[UUID]) -> ColumnElement[bool]:
        """A user's own spans, those of their organizations, and the public ones."""
        membership = memberships.alias()
        member = exists().where(membership.c.organization_id == span["organization_id"], membership.c.user_id == viewer)
        return or_(
            span["visibility"] == Visibility.PUBLIC,
            span["author_id"] == viewer,
            and_(span["visibility"] == Visibility.ORGANIZATION, member),
        )

    async def before_create(self, work: Work, actor: Actor) -> None:
        """Only members of an organization can write entries that are visible to it."""
        if self.organization is None:
            if self.visibility is Visibility.ORGANIZATION:
                message = "organizationId: expected, since the visibility is ORGANIZATION"
                raise BadUserInput(message, "organizationId")
            return
        member = select(memberships.c.user_id).where(
            memberships.c.organization_id == self.organization.id, memberships.c.user_id == actor.user_id
        )
        if await work.scalar(member) is None:
            message = "only members of an organization may write spans for it"
            raise Forbidden(message)


spans = Span.table
