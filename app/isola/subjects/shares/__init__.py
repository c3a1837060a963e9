"""Shares with partners and with children.

They are stored outside of the tenants' tables, and accessed only by database functions.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    BindParameter,
    Boolean,
    Column,
    DateTime,
    Function,
    MetaData,
    Table,
    Text,
    Uuid,
    func,
    literal,
    select,
)

from isola.errors import BadUserInput, Conflict, NotFound
from isola.subjects import document, operations
from isola.subjects.actor import Actor
from isola.subjects.declaration import Registry
from isola.subjects.permissions import Permission
from isola.subjects.work import Work

own_shares = Table(
    "own_shares",
    MetaData(schema="isola"),
    Column("id", Uuid, nullable=False),
    Column("subject", Text, nullable=False),
    Column("row_id", Uuid, nullable=False),
    Column("grantee_slug", Text),
    Column("granted_by", Uuid),
    Column("granted_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True)),
    Column("note", Text),
    Column("fields", ARRAY(Text), nullable=False),
    Column("to_children", Boolean, nullable=False),
    Column("rule_id", Uuid),
    Column("access", Text, nullable=False),
)
"""The live shares of the tenant's own rows that the proved user may read: a view outside of the homes."""

MAX_NOTE = 500
"""The most characters of a note."""


class ShareAccess(StrEnum):
    """What the users of a partner may do with what is shared.

    READ: they read it.
    COMMENT: they read it, and add comments, which both sides read.
    """

    READ = "read"
    COMMENT = "comment"


class Choice(TypedDict, total=False):
    """What a share is to grant. If omitted: everything that its subject shares, to be read, for the usual term."""

    fields: Sequence[str] | None
    """Columns."""
    expires_at: datetime | None
    """None: until it is revoked."""
    note: str | None
    access: ShareAccess


async def grant(
    work: Work,
    actor: Actor,
    subject: str,
    row_id: UUID,
    grantee: str,
    *,
    term: timedelta | None = None,
    **choice: Unpack[Choice],
) -> UUID:
    """Let a partner, named by its slug, read columns of a row of a subject.

    Without ``expires_at``, the share ends after the ``term``; without a term, when it is revoked. A row that is shared
    with the partner already is refused: ``change`` changes what it grants. The error for a slug of no partner does not
    reveal whether it is a tenant's. Raises NotFound, Forbidden, Conflict, and BadUserInput naming the invalid field.
    """
    actor.require(Permission.SHARE_WRITE)
    check(choice)
    await _hold(work, actor, subject, row_id)
    access = choice.get("access", ShareAccess.READ)
    call = func.isola.share(subject, row_id, grantee, *_chosen(choice, term), access)
    share, refused = await _made(work, call, subject)
    match refused:
        case "grantee":
            raise BadUserInput("grantee: expected the slug of a partner", "grantee")
        case "access":
            raise refuse_access()
        case "again":
            raise Conflict("grantee: it is shared with this partner already; changeShare changes that share", "grantee")
    return share


async def grant_to_children(
    work: Work,
    actor: Actor,
    subject: str,
    row_id: UUID,
    *,
    term: timedelta | None = None,
    **choice: Unpack[Choice],
) -> UUID:
    """Let all children of the tenant read columns of a row of a subject, also those that it has later.

    As ``grant``, for users who may also manage shares and see the tenants below. Raises the same errors.
    """
    actor.require(Permission.SHARE_WRITE)
    _require_for_children(actor)
    check(choice)
    if choice.get("access", ShareAccess.READ) is not ShareAccess.READ:
        raise refuse_access()
    await _hold(work, actor, subject, row_id)
    call = func.isola.share_with_children(subject, row_id, *_chosen(choice, term))
    share, refused = await _made(work, call, subject)
    match refused:
        case "children":
            raise BadUserInput("toChildren: expected a tenant that has children", "toChildren")
        case "again":
            raise Conflict("toChildren: it is shared with all children already; changeShare changes it", "toChildren")
    return share


async def change(work: Work, actor: Actor, share_id: UUID, **choice: Unpack[Choice]) -> None:
    """Change what a share grants, until when, and its note; what is omitted stays.

    One with all children is changed by users who may make it.

    Raises NotFound, Forbidden, BadUserInput naming the invalid field, and Conflict for a share that a rule made.
    """
    actor.require(Permission.SHARE_WRITE)
    check(choice)
    found = await _own(work, share_id)
    if not found or found[0]["subject"] not in Registry.by_name:
        raise NotFound("there is no such share")
    subject = found[0]["subject"]
    if found[0]["to_children"]:
        _require_for_children(actor)
    await _hold(work, actor, subject, found[0]["row_id"])
    call = func.isola.change_share(
        share_id,
        columns_of(choice),
        _moment(choice.get("expires_at")),
        "expires_at" not in choice,
        choice.get("note"),
        "note" not in choice,
        access_of(choice),
    )
    [row] = await work.rows(select(call.table_valued("changed", "refused")))
    if row["refused"] is not None:
        raise refuse_access() if row["refused"] == "access" else refuse_fields(subject)
    if row["changed"] is None:
        raise NotFound("there is no such share")


def check(choice: Choice) -> None:
    """Raise BadUserInput, naming the invalid field."""
    if "fields" in choice and not choice["fields"]:
        raise BadUserInput("fields: expected at least one", "fields")
    expires_at, note = choice.get("expires_at"), choice.get("note")
    if expires_at is not None and expires_at <= datetime.now(UTC):
        raise BadUserInput("expiresAt: expected a future time", "expiresAt")
    if choice.get("access", ShareAccess.READ) is None:
        raise BadUserInput("access: expected READ or COMMENT", "access")
    if note is None:
        return
    if not 1 <= len(note) <= MAX_NOTE:
        raise BadUserInput(f"note: expected 1 to {MAX_NOTE} characters, not {len(note)}", "note")
    document.check("note", note)


def _require_for_children(actor: Actor) -> None:
    """Raise Forbidden unless the actor may decide what all children read."""
    actor.require(Permission.SHARE_MANAGE)
    actor.require(Permission.FAMILY_READ)


async def _made(work: Work, call: Function[Any], subject: str) -> tuple[UUID, str | None]:
    """The share that a function makes, and why it refuses. Raises BadUserInput if it is for the fields."""
    [row] = await work.rows(select(call.table_valued("share", "refused")))
    if row["refused"] == "fields":
        raise refuse_fields(subject)
    return row["share"], row["refused"]


def _chosen(choice: Choice, term: timedelta | None) -> tuple[BindParameter[Any], BindParameter[Any], str | None]:
    """The columns, the end and the note of a new share."""
    until = choice.get("expires_at", datetime.now(UTC) + term if term is not None else None)
    return columns_of(choice), _moment(until), choice.get("note")


def columns_of(choice: Choice) -> BindParameter[Any]:
    """The chosen columns, as a parameter of a call."""
    return literal(choice.get("fields"), ARRAY(Text))


def _moment(until: datetime | None) -> BindParameter[Any]:
    return literal(until, DateTime(timezone=True))


def refuse_fields(subject: str) -> BadUserInput:
    """The error for columns that cannot be shared."""
    shared = ", ".join(name.upper() for name in Registry.by_name[subject].shared)
    return BadUserInput(f"fields: expected some of {shared}", "fields")


def access_of(choice: Choice) -> BindParameter[Any]:
    """The chosen access, as a parameter of a call: NULL if it stays as it is."""
    return literal(choice.get("access"), Text())


def refuse_access() -> BadUserInput:
    """The error for readers who cannot comment."""
    return BadUserInput("access: expected READ: neither children nor partners elsewhere can comment", "access")


async def revoke(work: Work, actor: Actor, share_id: UUID) -> None:
    """End a share; it ends with the partner's next statement.

    Raises NotFound, Forbidden, and Conflict for a share that a rule made.
    """
    actor.require(Permission.SHARE_WRITE)
    for own in await _own(work, share_id):
        if own["subject"] in Registry.by_name:
            # First, as whoever writes the row then waits for its copies.
            await _hold(work, actor, own["subject"], own["row_id"])
    ended = func.isola.revoke_share(share_id).table_valued("subject", "row_id")
    [row] = await work.rows(select(ended))
    if row["subject"] not in Registry.by_name:
        raise NotFound("there is no such share")
    # Also of a share that has expired, which is in no list. A refusal undoes the revocation with the transaction.
    await _hold(work, actor, row["subject"], row["row_id"])


async def _own(work: Work, share_id: UUID) -> Sequence[Mapping[str, Any]]:
    """The subject and the row of a share, if there is one. Raises Conflict for a share that a rule made."""
    own = own_shares.c
    found = await work.rows(select(own.subject, own.row_id, own.rule_id, own.to_children).where(own.id == share_id))
    if found and found[0]["rule_id"] is not None:
        raise Conflict("shareId: a rule made this share: expected changeShareRule or endShareRule", "shareId")
    return found


async def _hold(work: Work, actor: Actor, subject: str, row_id: UUID) -> None:
    """Lock a row that the actor may change, until the end of the transaction. Raises NotFound and Forbidden."""
    await operations.changeable(work, actor, Registry.by_name[subject], row_id, whole=False)
