"""The rows that other tenants shared: of each subject a type with what it declares as shared, a filter, and an order.

Every value is nullable, and a field says which of them are granted: so no field fails because it was not granted, and
a null has its reason. A filter compares a value that is not granted as null.
"""

from collections.abc import Collection, Mapping, Sequence
from enum import Enum
from typing import Any

import strawberry
from sqlalchemy import ARRAY, Column as SqlColumn, DateTime, Float, Numeric, Text, Uuid
from sqlalchemy.types import TypeEngine
from strawberry.utils.str_converters import to_camel_case

from isola.api import scalars
from isola.api.access import PUBLIC, of_feature, requires
from isola.api.connections import Connection
from isola.api.declared.making import list_of, made_class, made_input, python_name, value_type
from isola.api.declared.types import column_filter, compared
from isola.api.enums import MARK, described_enum
from isola.api.fields import FIELD, mapped, part, typed_id
from isola.api.scalars import DateTimeFilter, IDFilter, NullsOrder, OrderDirection, StringFilter
from isola.api.tenants import Tenant
from isola.query.mapping import Comparison, Function, Value
from isola.subjects import sentences
from isola.subjects.declaration import Declaration, Member
from isola.subjects.permissions import Permission
from isola.subjects.sentences import words
from isola.subjects.shares import ShareAccess
from isola.subjects.shares.comments.fields import ShareComment, comments_field
from isola.subjects.subject import Subject

PREFIX = "shr"
"""Of the ids of shares."""
shares_received = Function(
    "isola.shares_received",
    (
        SqlColumn("id", Uuid, nullable=False),
        SqlColumn("owner_slug", Text),
        SqlColumn("owner_name", Text),
        SqlColumn("granted_at", DateTime(timezone=True), nullable=False),
        SqlColumn("expires_at", DateTime(timezone=True)),
        SqlColumn("note", Text),
        SqlColumn("access", Text, nullable=False),
    ),
    one="isola.share_received",
    page="isola.page_of_shares_received",
)
# What shared rows have of their shares, by the names of received shares. No column of a subject has a colon.
_FACTS: Mapping[str, SqlColumn[Any]] = {
    each.name: SqlColumn(each.name if each.name == "id" else f"share:{each.name}", each.type, nullable=each.nullable)
    for each in shares_received.columns
}
_BY_OWNER, _BY_START, _BY_END = (_FACTS[each].name for each in ("owner_slug", "granted_at", "expires_at"))
_GRANTED = "granted_fields"
TAKEN = frozenset({"id", "share", _GRANTED})
"""The fields that shared rows have besides those of their subject."""
# What filters and orders have besides the columns of their subject, with its columns.
_COMPARED: Mapping[str, str] = {"shared_at": _BY_START, "shared_by": _BY_OWNER, "shared_until": _BY_END}
_ENUMS: dict[str, type[Enum]] = {}
described_enum(ShareAccess)
_SAID = "The fields that the owner granted. All others are null."
_NOT_GRANTED = "Null if it is not granted."
_SHARE = "The share that grants it: whose it is, since when, and until when."
ACCESS = "Whether the caller's tenant may comment on it."
OWNER = "The partner that shared it. Null if no partner did: then it comes with the tenant's account."


@mapped(shares_received, order=(("granted_at", True), ("id", True)))
@strawberry.type(description="The share that grants something of another tenant.", directives=[PUBLIC])
class GrantingShare:
    owner: Tenant | None = part(slug="owner_slug", name="owner_name", unless_null="owner_slug", description=OWNER)
    note: str | None = strawberry.field(description="What the owner says about it.")
    access: ShareAccess = strawberry.field(description=ACCESS)
    comments: Connection[ShareComment] = comments_field()
    granted_at: scalars.DateTime
    expires_at: scalars.DateTime | None


def shared_rows(subject: type[Subject], *arguments: str) -> Function:
    """The rows that partners share: all, or that of the share whose id is the argument."""
    declaration = subject.declaration
    table = subject.table
    shared = [SqlColumn(name, _returned(table.c[name].type)) for name in declaration.shared]
    granted: SqlColumn[Any] = SqlColumn(_GRANTED, ARRAY(Text), nullable=False)
    columns = (*shared, granted, *_FACTS.values())
    copies = None if arguments else declaration.received
    return Function(
        "isola.shared_rows",
        columns,
        arguments,
        subject=declaration.name,
        typed=True,
        copies=copies,
        uncopied="isola.receives_of_parent" if copies else None,
        share="id",
    )


def _returned(type_: TypeEngine[Any]) -> TypeEngine[Any]:
    """The type as the function returns it: without the number of digits, which a null of it does not have."""
    if isinstance(type_, ARRAY):
        return ARRAY(_returned(type_.item_type))
    return Numeric() if isinstance(type_, Numeric) and not isinstance(type_, Float) else type_


def shared_field(subject: type[Subject]) -> type[Enum]:
    """The enum of the fields of a subject that can be shared; the values are columns."""
    declaration = subject.declaration
    described = f"A field of {_a(declaration)} that can be shared."
    return _enum(f"{subject.__name__}SharedField", declaration.shared, described, "The field {}.")


def granted_field(subjects: Sequence[type[Subject]]) -> type[Enum]:
    """The enum of the fields of all these subjects that can be shared."""
    columns = dict.fromkeys(name for subject in subjects for name in subject.declaration.shared)
    return _enum("GrantedField", list(columns), "A field of an object that can be shared.", "The field {}.")


def shareable(subjects: Sequence[type[Subject]]) -> type[Enum]:
    """The enum of the subjects themselves; the values are their names."""
    names = [subject.declaration.name for subject in subjects]
    return _enum("ShareableType", names, "A type whose objects can be shared.", "Objects of the type {}.")


def declare_shared(subject: type[Subject]) -> type:
    """Make the type of the shared rows of a subject: ``SharedAgent`` for an ``Agent``."""
    declaration = subject.declaration
    facts: Any = {own: column.name for own, column in _FACTS.items()}
    fields = {
        "id": (strawberry.ID, typed_id(PREFIX, description="The id of the share.")),
        "share": (GrantingShare, part(description=_SHARE, **facts)),
        _GRANTED: (list_of(shared_field(subject)), strawberry.field(description=_SAID)),
    }
    for column in declaration.shared:
        member = declaration.by_column(column)
        if member is None:
            annotation, said, deprecated = scalars.DateTime, _of_time(column), None
        else:
            annotation, said = value_type(member.annotation), sentences.of_member(member)
            deprecated = member.declared.deprecated
        name = _name(column, member)
        fields[python_name(name)] = (
            annotation | None,
            strawberry.field(
                name=to_camel_case(name),
                description=f"{said} {_NOT_GRANTED}",
                deprecation_reason=deprecated,
                metadata={FIELD: Value(column)},
            ),
        )
    described = f"What another tenant granted of {_a(declaration)}. It has no id but that of its share."
    made = strawberry.type(
        made_class(f"Shared{subject.__name__}", fields),
        description=described,
        directives=[requires(Permission.SHARE_READ), *of_feature(declaration.feature)],
    )
    return mapped(shared_rows(subject), order=((_BY_START, True), ("id", True)))(made)


def declare_shared_filter(subject: type[Subject]) -> type:
    """Make the filter of the shared rows of a subject: by what can be shared, and by their shares."""
    declaration = subject.declaration
    name = f"Shared{subject.__name__}Filter"
    fields: dict[str, tuple[Any, Any]] = {
        "id": (IDFilter | None, compared("id", Comparison("id", PREFIX, indexed=True))),
        "shared_by": (
            StringFilter | None,
            compared("shared_by", Comparison(_BY_OWNER), "The slug of the owner, if a partner shared it."),
        ),
        "shared_at": (DateTimeFilter | None, compared("shared_at", Comparison(_BY_START), "When it was shared.")),
        "shared_until": (DateTimeFilter | None, compared("shared_until", Comparison(_BY_END), "When the share ends.")),
    }
    for column in declaration.shared:
        member = declaration.by_column(column)
        if member is None:
            fields[column] = (DateTimeFilter | None, compared(column, Comparison(column)))
        elif (filtered := column_filter(member, name=_apart(member.name, _COMPARED))) is not None:
            fields[python_name(_apart(member.name, _COMPARED))] = filtered
    fields |= {
        "and_": (f"list[{name}] | None", strawberry.field(name="and", default=strawberry.UNSET)),
        "or_": (f"list[{name}] | None", strawberry.field(name="or", default=strawberry.UNSET)),
        "not_": (f"{name} | None", strawberry.field(name="not", default=strawberry.UNSET)),
    }
    return made_input(
        name,
        fields,
        "What is not granted is compared as null. Conditions are combined with AND; null is refused.",
    )


def declare_shared_order(subject: type[Subject]) -> type:
    """Make the order of the shared rows of a subject."""
    declaration, name = subject.declaration, f"Shared{subject.__name__}"
    columns = [column for column in declaration.ordered_by if column in declaration.shared]
    members = {name.upper(): column for name, column in _COMPARED.items()}
    members |= {_apart(column, _COMPARED).upper(): column for column in columns}
    order_field: Any = Enum(f"{name}OrderField", members)  # type: ignore[misc]  # its members are known at run time
    made: Any = strawberry.enum(order_field)
    described = ("By the time when it was shared.", "By the slug of the owner.", "By the end of the share.")
    for value, said in zip(getattr(made, MARK).values, described, strict=False):
        value.description = said
    fields = {
        "field": (made, ...),
        "direction": (OrderDirection, OrderDirection.ASC),
        "nulls": (NullsOrder | None, strawberry.UNSET),
    }
    return made_input(f"{name}Order", fields)


def _name(column: str, member: Member | None) -> str:
    """The field of a shared column. Shares have fields of these names themselves."""
    return _apart(column if member is None else member.name, TAKEN)


def _apart(name: str, taken: Collection[str]) -> str:
    """A name that is not taken: declarations with another of this name are refused."""
    return f"{name}_value" if name in taken else name


def _a(declaration: Declaration) -> str:
    said = words(declaration.name)
    return f"{'an' if said[0] in 'aeiou' else 'a'} {said}"


def _of_time(column: str) -> str:
    return f"When it was {'created' if column == 'created_at' else 'last changed'}."


def _enum(name: str, values: Sequence[str], description: str, of_value: str) -> type[Enum]:
    if name not in _ENUMS:
        made: Any = Enum(name, {value.upper(): value for value in values})  # type: ignore[misc]  # its members are known at run time
        definition = getattr(strawberry.enum(made, description=description), MARK)
        for value in definition.values:
            value.description = of_value.format(to_camel_case(value.value))
        _ENUMS[name] = made
    return _ENUMS[name]
