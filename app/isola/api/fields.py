"""Declares where the values of a type's fields are read: isola.query.mapping's declarations as Strawberry fields.

A field without a declaration reads the column of the same name; a field with a resolver is resolved by it.
"""

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import strawberry
from sqlalchemy import ColumnElement, Table
from strawberry.annotation import StrawberryAnnotation
from strawberry.types.arguments import StrawberryArgument

from isola.api.access import Public, Requires, of_feature
from isola.api.enums import described_enum
from isola.query.arguments import Scope
from isola.query.mapping import Field, Function, Join, Lookup, Many, Needs, One, Order, Part, Row, Source, Value, View

FIELD, TYPE = "mapping", "__mapping__"
Access: TypeAlias = Requires | Public | None
"""A field's own access rule: see isola.api.access. If None, only the rule of its type applies.

``feature``, beside it, is the feature that a field requires of the tenant's plan.
"""

T = TypeVar("T", bound=type)


def mapped(source: Source, *, prefix: str | None = None, order: Order = (("id", False),)) -> Callable[[T], T]:
    """Declare where a type's rows are read. ``order`` is the default order of its connections."""

    def declare(type_: T) -> T:
        setattr(type_, TYPE, (source, prefix, order))
        return type_

    return declare


def typed_id(
    prefix: str, of: str | Callable[[Row], ColumnElement[Any]] = "id", *, description: str | None = None
) -> Any:
    return _field(Value(of, prefix), description)


def expression(
    of: Callable[[Row], ColumnElement[Any]],
    description: str | None = None,
    *,
    access: Access = None,
    feature: str | None = None,
) -> Any:
    """A value that is computed in SQL from the row's columns."""
    return _field(Value(of), description, access, feature)


def computed(
    *columns: str, description: str | None = None, access: Access = None, feature: str | None = None
) -> Callable[[Callable[..., Any]], Any]:
    """A field that Python computes from columns of the row, which are read even if the client did not select them.

    The resolver finds them by name in its ``strawberry.Parent[dict[str, Any]]``. Operations that select such a field
    run through graphql-core as a whole; if SQL can compute it, ``expression`` is several times faster.
    """

    def declare(resolver: Callable[..., Any]) -> Any:
        directives = [*([access] if access else []), *of_feature(feature)]
        return strawberry.field(
            resolver=resolver, description=description, metadata={FIELD: Needs(columns)}, directives=directives
        )

    return declare


def part(
    access: Access = None, /, *, description: str | None = None, unless_null: str | None = None, **columns: str
) -> Any:
    """An object stored in the same row; maps its columns to those of the row.

    With ``unless_null``, a column of the row, it is null where that is.
    """
    return _field(Part(columns, unless_null), description, access)


def one(
    column: str | None = None,
    *,
    source: Function | View | None = None,
    description: str | None = None,
    access: Access = None,
    feature: str | None = None,
) -> Any:
    """The row that a column refers to, or the one that a function returns."""
    return _field(One(Join(column) if column else None, source), description, access, feature)


def many(
    join: Join | None = None,
    *,
    through: tuple[Table, str, str] | None = None,
    source: Function | View | None = None,
    when: Callable[[Row], ColumnElement[bool]] | None = None,
    filter: type | None = None,
    order: type | None = None,
    backward: bool = True,
    scoped: bool = False,
    description: str | None = None,
    access: Access = None,
    feature: str | None = None,
) -> Any:
    """A connection to the rows that are joined with this one, to those paired with it by ``through``, or to all.

    If it is ``scoped``, clients can ask for the rows of descendants.
    ``through`` is a table, its column that references this row, and its column that references the other row.
    """
    if through:
        join = Join("id", "id", *through)
    field = _field(Many(join, source, when), description, access, feature)
    field.arguments = [
        argument("first", int | None, "Items from the start (0 to 100); 20 if neither first nor last is given."),
        argument("after", str | None, "Return only items after this cursor."),
    ]
    if backward:
        field.arguments += [
            argument("last", int | None, "Items from the end (0 to 100); not allowed together with first."),
            argument("before", str | None, "Return only items before this cursor."),
        ]
    if scoped:
        described = "Whose items are listed; by default those of the tenant of the request."
        field.arguments.append(argument("scope", described_enum(Scope) | None, described))
    if filter:
        field.arguments.append(argument("filter", filter | None, None))
    if order:
        field.arguments.append(argument("order_by", list[order] | None, None))  # type: ignore[valid-type]  # known at run time
    return field


def by_id(description: str | None = None, *, access: Access = None, feature: str | None = None) -> Any:
    """The object with a given id; null if it does not exist, has another type, or is not visible."""
    field = _field(Lookup(), description, access, feature)
    field.arguments = [argument("id", strawberry.ID, None)]
    return field


def by_ids(description: str | None = None, *, access: Access = None, feature: str | None = None) -> Any:
    """The objects with the given ids, in the same order; null for each id that ``by_id`` would not find."""
    field = _field(Lookup(), description, access, feature)
    field.arguments = [argument("ids", list[strawberry.ID], None)]
    return field


def compared_id(prefix: str) -> Any:
    """A filter field that compares ids of another type."""
    return strawberry.field(default=strawberry.UNSET, metadata={FIELD: prefix})


def _field(mapping: Field, description: str | None = None, access: Access = None, feature: str | None = None) -> Any:
    directives = [*([access] if access else []), *of_feature(feature)]
    return strawberry.field(description=description, metadata={FIELD: mapping}, directives=directives)


def argument(name: str, type_: Any, description: str | None) -> StrawberryArgument:
    default = strawberry.UNSET
    return StrawberryArgument(name, None, StrawberryAnnotation(type_), description=description, default=default)
