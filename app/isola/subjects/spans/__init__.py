"""The timeline: entries of events, with their author and visibility. See docs/timeline.md."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, ColumnElement, and_, exists, or_, select

from isola.errors import BadUserInput, Forbidden
from isola.subjects import JSON, Many, Subject, column, count, many, reference, uris
from isola.subjects.actor import Actor
from isola.subjects.metadata import Row
from isola.subjects.organizations import Organization, memberships
from isola.subjects.permissions import Permission
from isola.subjects.resources import Resource
from isola.subjects.signing_keys import SigningKey
from isola.subjects.users import User
from isola.subjects.work import Work

MAX_METADATA = 64 * 1024
SIGNATURE_CHARACTERS = 88
"""The characters of 64 bytes in base64."""


class SpanType(StrEnum):
    """What an entry is of. A user's has an author, a ghost has none, and the others can have one."""

    USER = "user"
    SYSTEM = "system"
    ORGANIZATION = "organization"
    GHOST = "ghost"


class Visibility(StrEnum):
    """Who sees a span: its author, an organization, or everybody here."""

    PRIVATE = "private"
    ORGANIZATION = "organization"
    PUBLIC = "public"


class Verification(StrEnum):
    """Whether a span's signature is good. A span that is pending has none, or it was not verified since a change."""

    PENDING = "pending"
    VERIFIED = "verified"
    FAILED = "failed"


class Span(
    Subject,
    name="span",
    prefix="spn",
    order=("-created_at",),
    listed_as="timeline",
):
    """An entry of the timeline."""

    type: SpanType = column(default=SpanType.USER, fixed=True)
    author: User | None = reference(
        owner=True,
        fixed=True,
        on_delete="cascade",
        description="Of a user's span the caller, of others nobody unless the caller's id is given.",
    )
    title: str = column(max_length=200, min_length=1, index=True)
    payload: JSON = column(default=dict)
    metadata: JSON = column(default=dict, max_bytes=MAX_METADATA, description="At most 64 KiB.")
    resource: Resource | None = reference(on_delete="set null")
    organization: Organization | None = reference(on_delete="cascade")
    visibility: Visibility = column(default=Visibility.PRIVATE)
    node: str | None = column(
        max_length=uris.MAX_URI, fixed=True, description="The URI of the process or device that wrote it."
    )
    delta_s: float | None = column(fixed=True)
    replay_from: "Span | None" = reference(
        read_only=True, on_delete="set null", description="The span that this one replays."
    )
    replays: Many["Span"] = many("replay_from", description="The replays of it that the caller may see.")
    replay_count: int = count("replays", description="How many replays of it there are that the caller may see.")
    verification: Verification = column(default=Verification.PENDING, read_only=True)
    signing_key: SigningKey | None = reference(read_only=True)
    signature: str | None = column(
        read_only=True, max_length=SIGNATURE_CHARACTERS, description="In base64, of its canonical JSON."
    )

    checks = {  # noqa: RUF012
        "organization_visible_to": "visibility <> 'organization' OR organization_id IS NOT NULL",
        "author_of_type": "CASE type WHEN 'user' THEN author_id IS NOT NULL WHEN 'ghost' THEN author_id IS NULL "
        "ELSE true END",
        "signed": "(signature IS NULL) = (signing_key_id IS NULL)",
    }

    @staticmethod
    def visible(
        span: Row, viewer: BindParameter[UUID], may: Callable[[str], ColumnElement[bool]]
    ) -> ColumnElement[bool]:
        """A user's own spans, those of their organizations, and the public ones; ghosts with a permission only.

        That permission shows all spans without an author: nobody else could see those that are private.
        """
        membership = memberships.alias()
        member = exists().where(membership.c.organization_id == span["organization_id"], membership.c.user_id == viewer)
        return or_(
            and_(
                span["type"] != SpanType.GHOST,
                or_(
                    span["visibility"] == Visibility.PUBLIC,
                    span["author_id"] == viewer,
                    and_(span["visibility"] == Visibility.ORGANIZATION, member),
                ),
            ),
            and_(span["author_id"].is_(None), may(Permission.GHOST_READ)),
        )

    async def before_create(self, work: Work, actor: Actor) -> None:
        """The author is the caller or nobody; and only members of an organization write what it sees."""
        if self.type is SpanType.USER and self.author is None:
            self.author = User(id=actor.user_id)
        if self.author is not None:
            if self.type is SpanType.GHOST:
                raise BadUserInput("authorId: expected none, since the type is GHOST", "authorId")
            if self.author.id != actor.user_id:
                raise Forbidden("authorId: expected the caller's own id, or none", "authorId")
        uris.check("node", self.node)
        await _check_audience(work, actor, self.visibility, self.organization)

    async def before_update(self, work: Work, actor: Actor, changes: dict[str, Any]) -> None:
        """Whoever changes who sees a span has to be a member of the organization that sees it then."""
        if changes.keys() & {"visibility", "organization"}:
            visibility = changes.get("visibility", self.visibility)
            organization = changes.get("organization", self.organization)
            await _check_audience(work, actor, visibility, organization)


async def _check_audience(work: Work, actor: Actor, visibility: Visibility, organization: Organization | None) -> None:
    if organization is None:
        if visibility is Visibility.ORGANIZATION:
            message = "organizationId: expected, since the visibility is ORGANIZATION"
            raise BadUserInput(message, "organizationId")
        return
    member = select(memberships.c.user_id).where(
        memberships.c.organization_id == organization.id, memberships.c.user_id == actor.user_id
    )
    if await work.scalar(member) is None:
        message = "only members of an organization may write spans for it"
        raise Forbidden(message)


spans = Span.table
