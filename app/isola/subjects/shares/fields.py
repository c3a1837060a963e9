from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar
from uuid import UUID

import strawberry
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime as Timestamp,
    Text,
    Uuid,
    case,
    literal_column,
    or_,
)
from strawberry.utils.str_converters import to_camel_case

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.declared import extend
from isola.api.fields import many, mapped, one, part, typed_id
from isola.api.request import Info, fields_of, payload
from isola.api.scalars import DateTime
from isola.api.tenants import Tenant
from isola.installed import SUBJECTS
from isola.query.caller import may, user_id
from isola.query.identifiers import decode
from isola.query.mapping import Function, Parameters, Row
from isola.subjects import shares
from isola.subjects.permissions import Permission
from isola.subjects.sentences import words
from isola.subjects.subject import Subject
from isola.subjects.users import User

PREFIX = "shr"
T = TypeVar("T")


SHARED_WITH = "The slug of the recipient. The answer is the same if no tenant has it."
TERM = "Null: no expiry. Omitted: an existing share keeps its expiry, a new one has none."

Fields: TypeAlias = Mapping[str, tuple[Any, Any]]
"""The types and declarations of fields, by their names."""


def shares_of(subject: str, key: str) -> Function:
    """The live shares of one of the tenant's own rows, by the column that holds its key."""
    return Function(
        "isola.shares_of",
        (
            Column("id", Uuid, nullable=False),
            Column("subject", Text, nullable=False),
            Column("row_id", Uuid, nullable=False),
            Column("grantee_slug", Text, nullable=False),
            Column("granted_by", Uuid),
            Column("granted_at", Timestamp(timezone=True), nullable=False),
            Column("expires_at", Timestamp(timezone=True)),
        ),
        (key,),
        subject=subject,
    )


def share_fields(subject: type[Subject]) -> Fields:
    """The field of a share with the shared row of a subject: null in shares of other subjects."""
    of = subject.declaration

    def key(share: Row) -> ColumnElement[UUID]:
        return case((share["subject"] == literal_column(f"'{of.name}'"), share["row_id"]))

    return {
        f"{of.name}_id": (
            strawberry.ID | None,
            typed_id(
                of.prefix, key, description=f"The id of the shared {words(of.name)}; null if it is another object."
            ),
        ),
        of.name: (
            subject | None,
            one("row_id", description=f"The shared {words(of.name)}; null if it is another object."),
        ),
    }


def received_fields(subject: type[Subject]) -> Fields:
    """The field of a received share with the shared row of a subject: null in shares of other subjects."""
    of = subject.declaration
    columns = tuple(
        Column(column.name, column.type, nullable=column.nullable)
        for column in (of.subject.table.c[name] for name in of.shared)
    )
    shared = one(
        source=Function("isola.shared_row", columns, ("id",), subject=of.name, typed=True),
        plain=f"relations of a shared {of.name} is not shared",
        description="Only its values; fields of related objects are refused.",
    )
    return {of.name: (subject | None, shared)}


def having(*fields: Fields) -> Callable[[type[T]], type[T]]:
    """Add fields to a class, after its first field, before Strawberry makes a type of it."""

    def add(cls: type[T]) -> type[T]:
        (first, first_type), *others = cls.__annotations__.items()
        added = {name: each for one_subject in fields for name, each in one_subject.items()}
        cls.__annotations__ = {first: first_type, **{name: type_ for name, (type_, _) in added.items()}, **dict(others)}
        for name, (_, field) in added.items():
            setattr(cls, name, field)
        return cls

    return add


def share_mutation(subject: type[Subject]) -> Any:
    """The mutation that shares a row of a subject: ``share_agent`` for an ``agent``."""
    of, name = subject.declaration, subject.__name__
    key = f"{of.name}_id"
    input_type = strawberry.input(
        _class(
            f"Share{name}Input",
            {
                key: (strawberry.ID, strawberry.field()),
                "grantee": (str, strawberry.field(description=SHARED_WITH)),
                "expires_at": (DateTime | None, strawberry.field(default=strawberry.UNSET, description=TERM)),
            },
        )
    )
    share = {"share": (Share, one("share_id", source=shares_of(of.name, key)))}
    payload_class = mapped(Parameters({"share_id": Uuid(), key: Uuid()}))(_class(f"Share{name}Payload", share))
    payload_type = strawberry.type(payload_class, directives=[PUBLIC])

    async def resolver(self: object, info: Info, input: Any) -> Any:  # noqa: ARG001  passed by GraphQL
        values = fields_of(input)
        row = decode(values.pop(key), of.prefix, to_camel_case(key))
        async with info.context.transaction() as work:
            made = await shares.grant(work, info.context.actor, of.name, row, **values)
            return await payload(payload_type, info, work, share_id=made, **{key: row})

    resolver.__name__ = f"share_{of.name}"
    resolver.__annotations__ = {"info": Info, "input": input_type, "return": payload_type}
    return mutation(requires(Permission.SHARE_WRITE), f"Let a partner tenant read one {words(of.name)}.")(resolver)


def add_shares(subject: type[Subject]) -> None:
    """Add the list of a row's shares to the type of a subject, visible to users who may end them."""
    of = subject.declaration

    def may_read_shares(row: Row) -> ColumnElement[bool]:
        manages = may(of.permissions["manage"])
        return manages if of.owner is None else or_(row[of.owner.column] == user_id(), manages)

    listed = many(
        source=shares_of(of.name, "id"),
        when=may_read_shares,
        description="The shares of it; empty unless the caller owns it or may manage all of its kind.",
    )
    extend(subject)(_class(f"{subject.__name__}Shares", {"shares": (Connection[Share], listed)}))


def sharing(subjects: Sequence[type[Subject]]) -> Callable[[type[T]], type[T]]:
    """Add the mutations that share rows of subjects to a class, before Strawberry makes a type of it."""

    def add(cls: type[T]) -> type[T]:
        for subject in subjects:
            setattr(cls, f"share_{subject.declaration.name}", share_mutation(subject))
        return cls

    return add


def _class(name: str, fields: Fields) -> type[Any]:
    annotations = {each: type_ for each, (type_, _) in fields.items()}
    declared = {each: field for each, (_, field) in fields.items()}
    return type(name, (), {"__annotations__": annotations, "__module__": __name__, **declared})


SHARED = [subject for subject in SUBJECTS if subject.shared]
"""The subjects whose rows can be shared."""


shares_received = Function(
    "isola.shares_received",
    (
        Column("id", Uuid, nullable=False),
        Column("owner_slug", Text, nullable=False),
        Column("owner_name", Text, nullable=False),
        Column("granted_at", Timestamp(timezone=True), nullable=False),
        Column("expires_at", Timestamp(timezone=True)),
    ),
    one="isola.share_received",
    page="isola.page_of_shares_received",
)

share_offers = Function(
    "isola.share_offers",
    (
        Column("id", Uuid, nullable=False),
        Column("owner_slug", Text, nullable=False),
        Column("owner_name", Text, nullable=False),
        Column("offered_at", Timestamp(timezone=True), nullable=False),
        Column("accepted", Boolean),
    ),
)


@mapped(Parameters({"slug": Text()}))
@strawberry.type(
    description="The recipient of a share. The answer does not reveal whether the tenant exists.", directives=[PUBLIC]
)
class Grantee:
    slug: str = strawberry.field(description="The slug, as given when it was shared.")


# Each field with shares passes the subject to the function: only the columns matter here.
@mapped(shares_of("", "id"))
@strawberry.type(
    description="A partner's right to read an object of the caller's tenant: the field that is not null.",
    directives=[requires(Permission.SHARE_READ)],
)
@having(*map(share_fields, SHARED))
class Share:
    id: strawberry.ID = typed_id(PREFIX)
    grantee: Grantee = part(slug="grantee_slug", description="The tenant that may read it.")
    granted_by: User | None = one("granted_by", description="The user who shared it.")
    granted_at: DateTime
    expires_at: DateTime | None


@mapped(shares_received, prefix=PREFIX, order=(("granted_at", True), ("id", True)))
@strawberry.type(
    description="An object of another tenant that the caller's tenant may read: the field that is not null.",
    directives=[requires(Permission.SHARE_READ)],
)
@having(*map(received_fields, SHARED))
class SharedResource(Node):
    id: strawberry.ID = typed_id(PREFIX)
    owner: Tenant = part(slug="owner_slug", name="owner_name", description="The tenant that shared it.")
    granted_at: DateTime
    expires_at: DateTime | None


@mapped(share_offers, order=(("offered_at", False), ("id", False)))
@strawberry.type(
    description="A tenant that shares something with the caller's tenant, and the answer to that.",
    directives=[requires(Permission.SHARE_READ)],
)
class ShareOffer:
    id: strawberry.ID = typed_id(PREFIX)
    owner: Tenant = part(slug="owner_slug", name="owner_name", description="The tenant that offers to share.")
    offered_at: DateTime
    accepted: bool | None = strawberry.field(description="Null until it is accepted or declined.")


@strawberry.type
class ShareQueries:
    shared_with_me: Connection[SharedResource] | None = many(
        backward=False,
        description="Accepted shares from other tenants, newest first.",
        access=requires(Permission.SHARE_READ),
    )
    share_offers: Connection[ShareOffer] | None = many(
        source=share_offers,
        description="The tenants that share something with the caller's tenant.",
        access=requires(Permission.SHARE_READ),
    )


@strawberry.input
class RevokeShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeSharePayload:
    revoked_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.input
class AcceptShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class AcceptSharePayload:
    accepted_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.input
class DeclineShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class DeclineSharePayload:
    declined_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.type
@sharing(SHARED)
class ShareMutations:
    @mutation(requires(Permission.SHARE_WRITE), "End one share.")
    async def revoke_share(self, info: Info, input: RevokeShareInput) -> RevokeSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.revoke(work, info.context.actor, share)
            return await payload(RevokeSharePayload, info, work, share_id=share)

    @mutation(
        requires(Permission.SHARE_MANAGE),
        "Accept all current and future shares of the share's owner: sharedWithMe then includes them.",
    )
    async def accept_share(self, info: Info, input: AcceptShareInput) -> AcceptSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.answer(work, info.context.actor, share, accepted=True)
            return await payload(AcceptSharePayload, info, work, share_id=share)

    @mutation(
        requires(Permission.SHARE_MANAGE),
        "Decline all current and future shares of the share's owner: sharedWithMe then excludes them.",
    )
    async def decline_share(self, info: Info, input: DeclineShareInput) -> DeclineSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.answer(work, info.context.actor, share, accepted=False)
            return await payload(DeclineSharePayload, info, work, share_id=share)


for _each in SHARED:
    add_shares(_each)
