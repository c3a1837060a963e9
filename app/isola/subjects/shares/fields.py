from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from typing import Any, TypeVar
from uuid import UUID

import strawberry
from sqlalchemy import (
    Column,
    ColumnElement,
    Text,
    Uuid,
    and_,
    case,
    literal_column,
    or_,
    true,
)
from strawberry.utils.str_converters import to_camel_case

from isola.api.access import PUBLIC, mutation, requires
from isola.api.connections import Connection, Node
from isola.api.declared import extend
from isola.api.declared.granting import (
    SHARED,
    Fields,
    GrantedField,
    Grantee,
    ShareableType,
    changing,
    choice,
    granting,
)
from isola.api.declared.making import connection_of, list_of, made_input
from isola.api.declared.shared import (
    ACCESS,
    OWNER,
    PREFIX,
    declare_shared,
    declare_shared_filter,
    declare_shared_order,
    shared_rows,
    shares_received,
)
from isola.api.declared.types import compared
from isola.api.fields import FIELD, many, mapped, one, part, typed_id
from isola.api.request import Info, payload
from isola.api.scalars import (
    BooleanFilter,
    DateTime,
    DateTimeFilter,
    IDFilter,
    NullsOrder,
    OrderDirection,
    StringFilter,
)
from isola.api.tenants import Tenant
from isola.errors import BadUserInput
from isola.query.caller import may, user_id
from isola.query.identifiers import decode
from isola.query.mapping import Comparison, Join, Parameters, Row, View
from isola.subjects import shares
from isola.subjects.declaration import Declaration
from isola.subjects.permissions import Permission
from isola.subjects.sentences import words
from isola.subjects.shares import ShareAccess
from isola.subjects.shares.comments.fields import ShareComment, comments_field
from isola.subjects.shares.rules.fields import PREFIX as RULE_PREFIX, ShareRule
from isola.subjects.subject import Subject
from isola.subjects.users import User

T = TypeVar("T")

SHARED_WITH = "The slug of a partner. Required unless it is shared with all children."
TO_CHILDREN = (
    "Instead of a grantee: let all tenants directly below the caller's read it, also later ones. This needs the "
    "permissions share:manage and family:read as well."
)
SHARED_TYPES: Mapping[str, type] = {subject.declaration.name: declare_shared(subject) for subject in SHARED}
"""The types of shared rows, by the names of their subjects."""
TAKEN = frozenset(
    {"id", "owner", "grantee", "to_children", "fields", "note", "rule", "granted_by", "granted_at", "expires_at"}
    | {"access", "comments"}
)
"""The fields that shares have themselves."""


def own_shares(of: str | None = None, *, every: bool = True) -> View:
    """The live shares of the tenant's own rows: those of a subject, and all or those that the caller granted."""

    def when(share: Row) -> ColumnElement[bool]:
        mine = or_(may(Permission.SHARE_MANAGE), share["granted_by"] == user_id())
        conditions = [] if every else [mine]
        return and_(
            true(), *conditions, *([] if of is None else [share["subject"] == literal_column(f"'{of}'", Text())])
        )

    columns = tuple(Column(each.name, each.type, nullable=each.nullable) for each in shares.own_shares.columns)
    return View(str(shares.own_shares), columns, when)


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
        _shared_as(of): (
            subject | None,
            one("row_id", description=f"The shared {words(of.name)}; null if it is another object."),
        ),
    }


def received_fields(subject: type[Subject]) -> Fields:
    """The field of a received share with the shared row of a subject: null in shares of other subjects."""
    of = subject.declaration
    described = f"What was granted of the {words(of.name)}; null if another object is shared, or if it cannot be read."
    return {
        _shared_as(of): (declare_shared(subject) | None, one(source=shared_rows(subject, "id"), description=described))
    }


def receiving(subjects: Sequence[type[Subject]]) -> Callable[[type[T]], type[T]]:
    """Add the lists of what partners share of subjects to a class, before Strawberry makes a type of it."""

    def add(cls: type[T]) -> type[T]:
        for subject in subjects:
            listed = many(
                source=shared_rows(subject),
                filter=declare_shared_filter(subject),
                order=declare_shared_order(subject),
                description=f"What others share of their {words(subject.declaration.plural)}, newest shares first by "
                "default.",
                access=requires(Permission.SHARE_READ),
            )
            name = f"shared_{subject.declaration.plural}"
            cls.__annotations__[name] = connection_of(SHARED_TYPES[subject.declaration.name]) | None
            setattr(cls, name, listed)
        return cls

    return add


def _shared_as(of: Declaration) -> str:
    """The field of a share with the shared row of a subject."""
    return f"{of.name}_object" if of.name in TAKEN else of.name


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
                **granting(subject),
                "grantee": (str | None, strawberry.field(default=None, description=SHARED_WITH)),
                "to_children": (bool, strawberry.field(default=False, description=TO_CHILDREN)),
            },
        )
    )
    share = {"share": (Share, one("share_id"))}
    payload_class = mapped(Parameters({"share_id": Uuid(), key: Uuid()}))(_class(f"Share{name}Payload", share))
    payload_type = strawberry.type(payload_class, directives=[PUBLIC])

    async def resolver(self: object, info: Info, input: Any) -> Any:  # noqa: ARG001  passed by GraphQL
        values = choice(input)
        row = decode(values.pop(key), of.prefix, to_camel_case(key))
        grantee = _grantee(values.pop("grantee"), to_children=values.pop("to_children"))
        actor, term = info.context.actor, info.context.services.share_term
        async with info.context.transaction() as work:
            if grantee is None:
                made = await shares.grant_to_children(work, actor, of.name, row, term=term, **values)
            else:
                made = await shares.grant(work, actor, of.name, row, grantee, term=term, **values)
            return await payload(payload_type, info, work, share_id=made, **{key: row})

    resolver.__name__ = f"share_{of.name}"
    resolver.__annotations__ = {"info": Info, "input": input_type, "return": payload_type}
    described = f"Let a partner tenant, or all children of the tenant, read one {words(of.name)}."
    return mutation(requires(Permission.SHARE_WRITE), described, feature=of.feature)(resolver)


def add_shares(subject: type[Subject]) -> None:
    """Add the list of a row's shares to the type of a subject, visible to users who may end them."""
    of = subject.declaration

    def may_read_shares(row: Row) -> ColumnElement[bool]:
        manages = may(of.permissions["manage"])
        return manages if of.owner is None else or_(row[of.owner.column] == user_id(), manages)

    listed = many(
        Join("id", "row_id"),
        source=own_shares(of.name),
        when=may_read_shares,
        filter=ShareFilter,
        order=ShareOrder,
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


def _grantee(slug: str | None, *, to_children: bool) -> str | None:
    """The slug of a partner, or None for all children. Raises BadUserInput unless it is one of the two."""
    if slug is None and not to_children:
        raise BadUserInput("grantee: expected the slug of a partner, or toChildren", "grantee")
    if slug is not None and to_children:
        raise BadUserInput("toChildren: expected either a grantee or toChildren", "toChildren")
    return slug


def _class(name: str, fields: Fields) -> type[Any]:
    annotations = {each: type_ for each, (type_, _) in fields.items()}
    declared = {each: field for each, (_, field) in fields.items()}
    return type(name, (), {"__annotations__": annotations, "__module__": __name__, **declared})


@mapped(own_shares())
@strawberry.type(
    description="The right of a partner, or of all children, to read an object of the caller's tenant: the field that "
    "is not null.",
    directives=[requires(Permission.SHARE_READ)],
)
@having(*map(share_fields, SHARED))
class Share:
    id: strawberry.ID = typed_id(PREFIX)
    grantee: Grantee | None = part(
        slug="grantee_slug",
        unless_null="grantee_slug",
        description="The partner that may read it; null if all children may.",
    )
    to_children: bool = strawberry.field(description="Whether all tenants directly below the caller's may read it.")
    fields: list[GrantedField] = strawberry.field(  # type: ignore[valid-type]  # known at run time
        description="What the grantee may read of it."
    )
    access: ShareAccess = strawberry.field(description="What the grantee may do.")
    comments: Connection[ShareComment] = comments_field()
    note: str | None = strawberry.field(description="The owner's note to the grantee.")
    granted_by: User | None = one("granted_by", description="The user who shared it; null if no user did.")
    rule: ShareRule | None = one(
        "rule_id", description="The rule that made it; null if there is none, or if the caller may not list it."
    )
    granted_at: DateTime
    expires_at: DateTime | None


def _compared(filter_: Any, column: str, prefix: str | None = None) -> tuple[Any, Any]:
    comparison = Comparison(column, prefix, indexed=True)
    return filter_ | None, strawberry.field(default=strawberry.UNSET, metadata={FIELD: comparison})


ShareableTypeFilter = made_input(
    "ShareableTypeFilter",
    {
        "eq": (ShareableType | None, strawberry.UNSET),
        "in_": (list_of(ShareableType) | None, strawberry.field(name="in", default=strawberry.UNSET)),
    },
    "Compares types whose objects can be shared. Conditions are combined with AND; null is refused.",
)
ShareFilter = made_input(
    "ShareFilter",
    {
        "id": _compared(IDFilter, "id", PREFIX),
        "type": _compared(ShareableTypeFilter, "subject"),
        **{f"{each.declaration.name}_id": _compared(IDFilter, "row_id", each.declaration.prefix) for each in SHARED},
        "grantee": _compared(StringFilter, "grantee_slug"),
        "to_children": (BooleanFilter | None, compared("to_children", Comparison("to_children"))),
        "granted_by_id": _compared(IDFilter, "granted_by", User.declaration.prefix),
        "rule_id": _compared(IDFilter, "rule_id", RULE_PREFIX),
        "granted_at": _compared(DateTimeFilter, "granted_at"),
        "expires_at": _compared(DateTimeFilter, "expires_at"),
        "and_": ("list[ShareFilter] | None", strawberry.field(name="and", default=strawberry.UNSET)),
        "or_": ("list[ShareFilter] | None", strawberry.field(name="or", default=strawberry.UNSET)),
        "not_": ("ShareFilter | None", strawberry.field(name="not", default=strawberry.UNSET)),
    },
    "Compares shares. Conditions are combined with AND; null is refused.",
)


@strawberry.enum
class ShareOrderField(Enum):
    GRANTED_AT = "granted_at"
    EXPIRES_AT = "expires_at"


@strawberry.input
class ShareOrder:
    field: ShareOrderField
    direction: OrderDirection = OrderDirection.ASC
    nulls: NullsOrder | None = strawberry.UNSET


@mapped(shares_received, prefix=PREFIX, order=(("granted_at", True), ("id", True)))
@strawberry.type(
    description="What another tenant shared of an object with the caller's tenant: the field that is not null.",
    directives=[requires(Permission.SHARE_READ)],
)
@having(*map(received_fields, SHARED))
class ReceivedShare(Node):
    id: strawberry.ID = typed_id(PREFIX)
    owner: Tenant | None = part(slug="owner_slug", name="owner_name", unless_null="owner_slug", description=OWNER)
    note: str | None = strawberry.field(description="What the owner says about it.")
    access: ShareAccess = strawberry.field(description=ACCESS)
    comments: Connection[ShareComment] = comments_field()
    granted_at: DateTime
    expires_at: DateTime | None


@strawberry.type
@receiving(SHARED)
class ShareQueries:
    my_shares: Connection[Share] | None = many(
        source=own_shares(every=False),
        filter=ShareFilter,
        order=ShareOrder,
        description="The shares of the tenant's own objects, oldest first by default: with share:manage all of objects "
        "that the caller may read, otherwise those that the caller granted.",
        access=requires(Permission.SHARE_READ),
    )
    shared_with_me: Connection[ReceivedShare] | None = many(
        backward=False,
        description="What is shared with the tenant, newest first.",
        access=requires(Permission.SHARE_READ),
    )


ChangeShareInput = made_input("ChangeShareInput", {"share_id": (strawberry.ID, ...), **changing()})


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class ChangeSharePayload:
    share: Share = one("share_id")


@strawberry.input
class RevokeShareInput:
    share_id: strawberry.ID


@mapped(Parameters({"share_id": Uuid()}))
@strawberry.type(directives=[PUBLIC])
class RevokeSharePayload:
    revoked_id: strawberry.ID = typed_id(PREFIX, "share_id")


@strawberry.type
@sharing(SHARED)
class ShareMutations:
    @mutation(
        requires(Permission.SHARE_WRITE),
        "Change what a share grants, when it ends, or its note. What is omitted stays as it is.",
    )
    async def change_share(self, info: Info, input: ChangeShareInput) -> ChangeSharePayload:  # type: ignore[valid-type]  # made at run time
        values = choice(input)
        share = decode(values.pop("share_id"), PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.change(work, info.context.actor, share, **values)
            return await payload(ChangeSharePayload, info, work, share_id=share)

    @mutation(requires(Permission.SHARE_WRITE), "End one share.")
    async def revoke_share(self, info: Info, input: RevokeShareInput) -> RevokeSharePayload:
        share = decode(input.share_id, PREFIX, "shareId")
        async with info.context.transaction() as work:
            await shares.revoke(work, info.context.actor, share)
            return await payload(RevokeSharePayload, info, work, share_id=share)


for _each in SHARED:
    add_shares(_each)
