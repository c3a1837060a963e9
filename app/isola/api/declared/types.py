"""The GraphQL type of a subject, with its filter and its ordering."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from enum import Enum, StrEnum
from typing import Any, TypeVar, get_args

import strawberry
from sqlalchemy import ColumnElement, func, select
from strawberry.types import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from isola.api import scalars, subject_types
from isola.api.access import Requires, of_feature
from isola.api.connections import Node
from isola.api.declared.making import (
    ID,
    connection_of,
    list_of,
    made_class,
    made_input,
    python_name,
    value_type,
)
from isola.api.declared.visible import visible_reference
from isola.api.enums import MARK, described_enum
from isola.api.fields import FIELD, expression, many, mapped, one, typed_id
from isola.api.scalars import (
    BigIntFilter,
    BooleanFilter,
    DateFilter,
    DateTimeFilter,
    DecimalFilter,
    FloatFilter,
    IDFilter,
    InsensitiveStringFilter,
    IntFilter,
    JSONFilter,
    NullsOrder,
    OrderDirection,
    SearchFilter,
    StringFilter,
    UUIDFilter,
)
from isola.query.mapping import Comparison, Join, Many, Related, Row, Searched, Value
from isola.subjects import sentences
from isola.subjects.declaration import Column, Computed, Count, Declaration, Member, Reference, Relation
from isola.subjects.search import Words, words_of
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.types import JSON

FILTERS: Mapping[str, type] = {
    each.__name__: each
    for each in (
        BigIntFilter,
        BooleanFilter,
        DateFilter,
        DateTimeFilter,
        DecimalFilter,
        FloatFilter,
        IntFilter,
        JSONFilter,
        StringFilter,
        UUIDFilter,
    )
}

EXTENSIONS: dict[type[Subject], list[type]] = {}

Extension = TypeVar("Extension", bound=type)


def extend(subject: type[Subject]) -> Callable[[Extension], Extension]:
    """Add the fields of a class, made with isola.api.fields, to the GraphQL type of a subject."""

    def declare(extension: Extension) -> Extension:
        EXTENSIONS.setdefault(subject, []).append(extension)
        return extension

    return declare


def _described(subject: type[Subject]) -> str | None:
    return inspect.cleandoc(subject.__doc__) if subject.__doc__ else None


def declare_type(subject: type[Subject]) -> None:
    declaration = subject.declaration
    fields: dict[str, tuple[Any, Any]] = {"id": (ID, typed_id(declaration.prefix))}
    for member in declaration.members.values():
        key = python_name(member.name)
        described = member.declared.description
        match member.declared:
            case Column() if not member.is_private:
                optional = (
                    value_type(member.annotation) | None
                    if member.annotation.optional
                    else value_type(member.annotation)
                )
                mapping = {FIELD: Value(member.column)}
                fields[key] = (
                    optional,
                    strawberry.field(name=to_camel_case(member.name), description=described, metadata=mapping),
                )
            case Computed(of=of):
                value = value_type(member.annotation)
                fields[key] = (
                    value | None if member.annotation.optional else value,
                    expression(of, described),
                )
            case Count():
                fields[key] = (int, expression(counted(member), described))
            case Reference():
                hidden = member.target.visible is not None
                annotation: Any = member.target
                if member.annotation.optional or hidden:
                    annotation = annotation | None
                fields[key] = (annotation, one(member.column, description=described))
            case Relation():
                fields[key] = (connection_of(member.target), _many(declaration, member))
    fields |= dict.fromkeys(declaration.times, (scalars.DateTime, ...))
    for extension in EXTENSIONS.get(subject, ()):
        fields |= {key: (each, getattr(extension, key, ...)) for key, each in extension.__annotations__.items()}
    name = subject.__name__
    access = Requires(permission=declaration.permissions["read"])
    made = strawberry.type(
        made_class(name, fields, (Node,)),
        description=_described(subject),
        directives=[access, *of_feature(declaration.feature)],
    )
    # Strawberry identifies a type by its definition.
    definition = get_object_definition(made, strict=True)
    definition.origin = subject
    setattr(subject, MARK, definition)
    mapped(declaration.subject.table, prefix=declaration.prefix, order=tuple(declaration.order))(subject)


def counted(member: Member) -> Callable[[Row], ColumnElement[int]]:
    """The number of the rows of a relation that the caller may see, in SQL of the row's columns."""
    relation = member.declaration.members[member.declared.of]  # type: ignore[attr-defined]  # it is a Count
    other = relation.target.declaration
    by = other.members[relation.declared.by].column  # type: ignore[attr-defined]  # it is a Relation

    def count(row: Row) -> ColumnElement[int]:
        # Named, since a statement numbers its own scans as SQLAlchemy would number this one.
        rows = other.subject.table.alias(f"counted_{other.plural}")
        found = select(func.count()).select_from(rows).where(rows.c[by] == row["id"])
        return found.correlate_except(rows).scalar_subquery()

    return count


def _many(declaration: Declaration, member: Member) -> Any:
    return many(
        _join(declaration, member),
        filter=getattr(subject_types, f"{member.target.__name__}Filter"),
        order=getattr(subject_types, f"{member.target.__name__}Order"),
        description=member.declared.description,
    )


def _join(declaration: Declaration, member: Member) -> Join:
    """How the rows of a to-many relation are found."""
    other, declared = member.target.declaration, member.declared
    if not isinstance(declared, Relation):
        raise TypeError(f"{member.name} is not a to-many relation")
    back = other.members.get(declared.by or "")
    if back is None:
        near, far = pair_columns(declaration, member)
        return Join("id", "id", pairs_table(declaration, member), near, far)
    if isinstance(back.declared, Relation):
        far, near = pair_columns(other, back)
        return Join("id", "id", pairs_table(other, back), near, far)
    return Join("id", back.column)


def declare_filter(declaration: Declaration) -> None:
    name = f"{declaration.subject.__name__}Filter"
    served = set(declaration.ordered_by)
    fields: dict[str, tuple[Any, Any]] = {
        "id": (IDFilter | None, compared("id", Comparison("id", declaration.prefix, indexed=True)))
    }
    for member in declaration.members.values():
        match member.declared:
            case Reference():
                other = member.target.declaration.prefix
                comparison = Comparison(member.column, other, indexed=True, visible=visible_reference(member))
                fields[member.column] = (IDFilter | None, compared(member.column, comparison))
                fields[python_name(member.name)] = _related(member.name, member.target, Join(member.column), many=False)
            case Relation():
                fields[python_name(member.name)] = _related(
                    member.name, member.target, _join(declaration, member), many=True
                )
            case Count():
                comparison = Comparison(member.name, of=counted(member))
                fields[python_name(member.name)] = (IntFilter | None, compared(member.name, comparison))
            case Column():
                filtered = column_filter(member, folded=member.folded, indexed=member.column in served)
                if filtered is not None:
                    fields[python_name(member.name)] = filtered
    if (words := words_of(declaration.subject.table)) is not None:
        fields["search"] = _searched(declaration, words)
    for related, target, join in _extended(declaration.subject):
        fields[python_name(related)] = _related(related, target, join, many=True)
    for time in declaration.times:
        fields[time] = (DateTimeFilter | None, compared(time, Comparison(time, indexed=time in served)))
    fields |= {
        "and_": (f"list[{name}] | None", strawberry.field(name="and", default=strawberry.UNSET)),
        "or_": (f"list[{name}] | None", strawberry.field(name="or", default=strawberry.UNSET)),
        "not_": (f"{name} | None", strawberry.field(name="not", default=strawberry.UNSET)),
    }
    made_input(name, fields, "Conditions are combined with AND; null is refused.")
    subject = declaration.subject.__name__
    made_input(
        _of_several(declaration.subject),
        {
            "some": (f"{name} | None", strawberry.UNSET),
            "none": (f"{name} | None", strawberry.UNSET),
        },
        f"Compares related objects of type {subject}. Conditions are combined with AND; null is refused.",
    )


def column_filter(
    member: Member, *, name: str | None = None, folded: str | None = None, indexed: bool = False
) -> tuple[Any, Any] | None:
    """A filter's field for a column: its type and its declaration. None for one that is not compared.

    ``name`` is another name of the field, ``folded`` the column that has its texts folded.
    """
    kind = member.annotation.kind
    if not isinstance(member.declared, Column) or not kind or not kind.filter or member.is_private:
        return None
    filter_ = _enum_filter(member.annotation.enum) if member.annotation.enum else FILTERS[kind.filter]
    filter_ = InsensitiveStringFilter if folded else filter_
    document = member.annotation.type == JSON
    comparison = Comparison(member.column, folded=folded, indexed=indexed, document=document)
    return filter_ | None, compared(name or member.name, comparison)


def compared(name: str, comparison: Comparison, description: str | None = None) -> Any:
    """The declaration of a filter's field."""
    return strawberry.field(
        name=to_camel_case(name), default=strawberry.UNSET, description=description, metadata={FIELD: comparison}
    )


def _searched(declaration: Declaration, words: Words) -> tuple[Any, Any]:
    """A filter's field for the words of the searched texts."""
    names = [to_camel_case(each.name) for each in declaration.columns if each.column in words.columns]
    made = strawberry.field(
        default=strawberry.UNSET,
        description=f"Searches {' and '.join(names)}.",
        metadata={FIELD: Searched(words.table, words.key, words.configuration)},
    )
    return SearchFilter | None, made


def _related(name: str, target: type[Subject], join: Join, *, many: bool) -> tuple[Any, Any]:
    """A filter's field for the rows of a relation. A filter reveals values, so it needs the permission to read them."""
    type_ = target.__name__
    related = Related(join, type_, f"{type_}Filter", many)
    needs = filter(None, (target.declaration.permissions["read"], target.declaration.feature))
    described = f"A condition on {sentences.words(name)}. {sentences.of_needs(needs)}"
    made = strawberry.field(
        name=to_camel_case(name), default=strawberry.UNSET, description=described, metadata={FIELD: related}
    )
    return f"{_of_several(target) if many else related.filter} | None", made


def _extended(subject: type[Subject]) -> Iterator[tuple[str, type[Subject], Join]]:
    """The to-many relations among the fields that extensions add: each with its name, its target and its join."""
    for extension in EXTENSIONS.get(subject, ()):
        for name, annotation in extension.__annotations__.items():
            mapping = getattr(getattr(extension, name, None), "metadata", {}).get(FIELD)
            if isinstance(mapping, Many) and mapping.join and not mapping.source and not mapping.when:
                [target] = get_args(annotation)
                yield name, target, mapping.join


def _of_several(subject: type[Subject]) -> str:
    """The name of the input that compares several related rows."""
    return f"{subject.__name__}RelationFilter"


def _enum_filter(enum: type[StrEnum]) -> Any:
    name = f"{enum.__name__}Filter"
    if not hasattr(subject_types, name):
        described_enum(enum)
        fields: dict[str, tuple[Any, Any]] = {
            "eq": (enum | None, strawberry.UNSET),
            "in_": (list_of(enum) | None, strawberry.field(name="in", default=strawberry.UNSET)),
            "is_null": (bool | None, strawberry.UNSET),
        }
        made_input(name, fields)
    return getattr(subject_types, name)


def declare_order(declaration: Declaration) -> None:
    name = declaration.subject.__name__
    field = Enum(f"{name}OrderField", {column.upper(): column for column in declaration.ordered_by})  # type: ignore[misc]  # its members are known at run time
    setattr(subject_types, f"{name}OrderField", strawberry.enum(field))
    fields = {
        "field": (getattr(subject_types, f"{name}OrderField"), ...),
        "direction": (OrderDirection, OrderDirection.ASC),
        "nulls": (NullsOrder | None, strawberry.UNSET),
    }
    languages = [f"{each.column.upper()}: {', '.join(each.sorted)}" for each in declaration.columns if each.sorted]
    if languages:
        described = (
            f"The language by whose rules texts are ordered. By default, the database's. {'; '.join(languages)}."
        )
        fields["language"] = (str | None, strawberry.field(default=strawberry.UNSET, description=described))
    made_input(f"{name}Order", fields)
