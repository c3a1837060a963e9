"""The timeline: entries of events, with their author and visibility. See docs/timeline.md."""

from collections.abc import Callable
from enum import StrEnum
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, exists, literal_column, or_, select

from isola.errors import BadUserInput, Conflict, Forbidden
from isola.subjects import JSON, Many, Subject, action, column, count, many, reference, uris, values
from isola.subjects.actor import Actor
from isola.subjects.metadata import Row
from isola.subjects.organizations import Organization, memberships
from isola.subjects.permissions import Permission
from isola.subjects.resources import Resource
from isola.subjects.signing_keys import SigningKey, public_key
from isola.subjects.spans.signatures import Verification, is_signed, refuse_inexpressible, state_of
from isola.subjects.users import User
from isola.subjects.visibility import OF_NOBODY
from isola.subjects.work import Work

MAX_METADATA = 64 * 1024
MAX_CHAIN = 100
"""The most spans of a chain of replays."""
CHANGEABLE = frozenset({"title", "payload", "metadata", "resource", "organization", "visibility"})
"""What clients change. All of it is signed."""
ALL_SPANS = f"{OF_NOBODY}all_spans"
"""What a transaction proves, instead of a permission, to verify all spans: their signers may not see them any more."""
SIGNATURE_CHARACTERS = 88
"""The characters of 64 bytes in base64."""


class SpanType(StrEnum):
    """What an entry is of.

    USER: of a user, who is its author.
    SYSTEM: of a system; it can have an author.
    ORGANIZATION: of an organization; it can have an author.
    GHOST: of nobody: it has no author.
    """

    USER = "user"
    SYSTEM = "system"
    ORGANIZATION = "organization"
    GHOST = "ghost"


class Visibility(StrEnum):
    """Who sees a span.

    PRIVATE: only its author.
    ORGANIZATION: its author and the members of its organization.
    PUBLIC: all users of the tenant.
    """

    PRIVATE = "private"
    ORGANIZATION = "organization"
    PUBLIC = "public"


class Span(
    Subject,
    name="span",
    prefix="spn",
    order=("-created_at",),
    kept="created_at",
    listed_as="timeline",
):
    """An entry of the timeline."""

    type: SpanType = column(default=SpanType.USER, fixed=True, index=True, grouped=True)
    author: User | None = reference(
        owner=True,
        fixed=True,
        grouped=True,
        on_delete="cascade",
        description="Of a user's span the caller, of others nobody unless the caller's id is given.",
    )
    title: str = column(max_length=200, min_length=1, index=True)
    payload: JSON = column(default=dict)
    metadata: JSON = column(default=dict, max_bytes=MAX_METADATA, description="At most 64 KiB.")
    resource: Resource | None = reference(on_delete="set null", grouped=True, description="What it is about.")
    organization: Organization | None = reference(
        on_delete="cascade", grouped=True, description="The organization that it is of, or that sees it."
    )
    visibility: Visibility = column(default=Visibility.PRIVATE, index=True, grouped=True)
    node: str | None = column(
        max_length=uris.MAX_URI, fixed=True, description="The URI of the process or device that wrote it."
    )
    delta_s: float | None = column(fixed=True, description="A finite number that the writer gives a meaning.")
    replay_from: "Span | None" = reference(
        read_only=True, on_delete="set null", grouped=True, logged=False, description="The span that this one replays."
    )
    replays: Many["Span"] = many("replay_from", description="The replays of it that the caller may read.")
    replay_count: int = count("replays", description="The number of replays of it that the caller may read.")
    verification: Verification = column(default=Verification.PENDING, read_only=True)
    signing_key: SigningKey | None = reference(read_only=True)
    signature: str | None = column(
        read_only=True, max_length=SIGNATURE_CHARACTERS, description="The signature of its canonical JSON, in base64."
    )

    checks = {  # noqa: RUF012
        "organization_visible_to": "visibility <> 'organization' OR organization_id IS NOT NULL",
        "author_of_type": "CASE type WHEN 'user' THEN author_id IS NOT NULL WHEN 'ghost' THEN author_id IS NULL "
        "ELSE true END",
        "signed": "(signature IS NULL) = (signing_key_id IS NULL)",
    }

    @staticmethod
    def visible(
        span: Row, viewer: ColumnElement[UUID], may: Callable[[str], ColumnElement[bool]]
    ) -> ColumnElement[bool]:
        """A user's own spans, those of their organizations, and the public ones; ghosts with a permission only.

        That permission shows all spans without an author: nobody else could see those that are private. What verifies
        signatures finds all spans.
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
            may(ALL_SPANS),
        )

    async def before_create(self, work: Work, actor: Actor) -> None:
        """The author is the caller or nobody; and only members of an organization write what it sees."""
        if self.type is SpanType.USER and self.author is None:
            self.author = User(id=actor.user_id)
        if self.author is not None:
            if self.type is SpanType.GHOST:
                raise BadUserInput("authorId: expected none, because the type is GHOST", "authorId")
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
        if self.signature is not None and "signature" not in changes and changes.keys() & CHANGEABLE:
            # It is signed again, or it fails when it is verified.
            changes["verification"] = Verification.PENDING

    @action(permission="span:write")
    async def replay(self, work: Work, actor: Actor) -> "Span":
        """Make a span of the caller's that repeats this one and refers to it, seen by whom this one is seen.

        The replay of a span that has no author is private. What descends from a replay of one's own is not replayed.
        """
        await _check_chain(work, actor, self)
        of_nobody = self.author is None
        return await Span.create(
            work,
            actor,
            title=self.title,
            payload=self.payload,
            metadata=self.metadata,
            resource=self.resource,
            organization=None if of_nobody else self.organization,
            visibility=Visibility.PRIVATE if of_nobody else self.visibility,
            delta_s=self.delta_s,
            replay_from=self,
        )

    @action(permission="span:write", changes=True)
    async def sign(self, work: Work, actor: Actor, *, key: SigningKey, signature: str) -> None:
        """Store the signature of a span, made over its canonicalJson with a key of the caller's."""
        if self.author is not None and self.author.id != actor.user_id:
            raise Forbidden("only its author may sign a span")
        if key.owner.id != actor.user_id:
            raise Forbidden("keyId: expected a key of the caller's own", "keyId")
        if key.revoked_at is not None:
            raise Conflict("keyId: expected a key that is not revoked", "keyId")
        row = values.stored_row(self)
        refuse_inexpressible(row)
        if not is_signed(row, signature, public_key(key.public_key)):
            message = "signature: expected one by this key over the span's canonicalJson, 64 bytes in base64"
            raise BadUserInput(message, "signature")
        await self.update(work, actor, signing_key=key, signature=signature, verification=Verification.VERIFIED)

    @action(permission="span:read")
    async def verify(self, work: Work, actor: Actor) -> None:
        """Verify the signature of a span as it is now: VERIFIED, or FAILED. Without a signature it is PENDING."""
        key = None if self.signing_key is None else await SigningKey.get(work, self.signing_key.id)
        state = state_of(values.stored_row(self), None if key is None else values.stored_row(key))
        if state is not self.verification:
            await self.update(work, actor, verification=state)


async def _check_audience(work: Work, actor: Actor, visibility: Visibility, organization: Organization | None) -> None:
    if organization is None:
        if visibility is Visibility.ORGANIZATION:
            message = "organizationId: expected, because the visibility is ORGANIZATION"
            raise BadUserInput(message, "organizationId")
        return
    member = select(memberships.c.user_id).where(
        memberships.c.organization_id == organization.id, memberships.c.user_id == actor.user_id
    )
    if await work.scalar(member) is None:
        message = "only members of an organization may write spans for it"
        raise Forbidden(message)


spans = Span.table


@cache
def _chain() -> Select[Any]:
    """The spans that a span descends from, as far as the user sees them, the span itself at place 0."""
    named = ("id", "replay_from_id", "author_id")
    start = select(*(spans.c[name] for name in named), literal_column("0").label("place"))
    chain = start.where(spans.c.id == values.KEY).cte("chain", recursive=True)
    above = spans.alias("above")
    further = select(*(above.c[name] for name in named), chain.c.place + literal_column("1"))
    further = further.where(
        above.c.id == chain.c.replay_from_id,
        chain.c.place < literal_column(str(MAX_CHAIN)),
    )
    chain = chain.union_all(further)
    return select(chain)


async def _check_chain(work: Work, actor: Actor, span: Span) -> None:
    """Raise Conflict for a descendant of a replay of the actor's, and at the end of a long chain."""
    chain = await work.rows(_chain(), {"row__id": span.id})
    if len(chain) >= MAX_CHAIN:
        raise Conflict(f"a chain of replays has at most {MAX_CHAIN} spans")
    above = [row for row in chain if row["place"] > 0]
    if any(row["author_id"] == actor.user_id and row["replay_from_id"] is not None for row in above):
        raise Conflict("a descendant of one's own replay cannot be replayed")
