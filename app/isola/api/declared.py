"""The GraphQL types of declared subjects, with their filters, orderings, queries and mutations.

The types are made as if each were written by hand with isola.api.fields, and are attributes of
isola.api.subject_types, where Strawberry finds them by name. A subject's class stands for its type wherever
hand-written types have it as annotation.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from keyword import iskeyword
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import strawberry
from sqlalchemy import ARRAY, Uuid
from strawberry.types import get_object_definition
from strawberry.utils.str_converters import to_camel_case

from isola.api import scalars, subject_types
from isola.api.access import PUBLIC, Requires, mutation
from isola.api.connections import Connection, Node
from isola.api.fields import FIELD, by_id, compared_id, expression, many, mapped, one, typed_id
from isola.api.request import Info, given, payload
from isola.api.scalars import (
    BigIntFilter,
    BooleanFilter,
    DateFilter,
    DateTimeFilter,
    DecimalFilter,
    FloatFilter,
    IDFilter,
    IntFilter,
    OrderDirection,
    StringFilter,
    UUIDFilter,
)
from isola.errors import BadUserInput, NotFound
from isola.query.identifiers import decode
from isola.query.mapping import Comparison, Parameters, Value
from isola.subjects import operations
from isola.subjects.actions import Action, actions_of
from isola.subjects.declaration import Column, Computed, Declaration, Member, Reference, Relation
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns, pairs_table
from isola.subjects.types import JSON, Annotation, BigInt, read

ID = strawberry.ID
TYPES: Mapping[object, Any] = {
    str: str,
    int: int,
    float: float,
    bool: bool,
    BigInt: scalars.BigInt,
    Decimal: scalars.Decimal,
    date: scalars.Date,
    datetime: scalars.DateTime,
    UUID: scalars.UUID,
    JSON: scalars.JSON,
}
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
        StringFilter,
        UUIDFilter,
    )
}
MARK = "__strawberry_definition__"

EXTENSIONS: dict[type[Subject], list[type]] = {}

Extension = TypeVar("Extension", bound=type)


def extend(subject: type[Subject]) -> Callable[[Extension], Extension]:
    """Add the fields of a class, as isola.api.fields makes them, to the GraphQL type of a subject."""

    def declare(extension: Extension) -> Extension:
        EXTENSIONS.setdefault(subject, []).append(extension)
        return extension

    return declare


class Fields(NamedTuple):
    """What a subject adds to the types at the root."""

    queries: type
    mutations: type | None


def declare(subjects: Sequence[type[Subject]]) -> Sequence[Fields]:
    """Make the types of subjects. Raises DeclarationError for one that does not fit."""
    # Types refer to each other, so all of them are there before the schema reads what they refer to.
    for subject in subjects:
        _declare_filter(subject.declaration)
        _declare_order(subject.declaration)
    for subject in subjects:
        _declare_type(subject)
    return [_fields(subject) for subject in subjects]


def _camel(name: str) -> str:
    return to_camel_case(name)


def _class(name: str, fields: Mapping[str, tuple[Any, Any]], bases: tuple[type, ...] = ()) -> type:
    """A class with annotations and values, as one that is written in isola.api.subject_types."""
    body = {
        "__module__": subject_types.__name__,
        "__annotations__": {key: annotation for key, (annotation, _) in fields.items()},
    }
    made = type(name, bases, {**body, **{key: value for key, (_, value) in fields.items() if value is not ...}})
    setattr(subject_types, name, made)
    return made


def _input(name: str, fields: Mapping[str, tuple[Any, Any]], description: str | None = None) -> type:
    made: type = strawberry.input(_class(name, fields), description=description)
    return made


def _described(subject: type[Subject]) -> str | None:
    return inspect.cleandoc(subject.__doc__) if subject.__doc__ else None


def _connection(subject: type[Subject]) -> Any:
    return Connection[subject]  # type: ignore[valid-type]  # known at run time


def _python(name: str) -> str:
    """A name that can be an attribute."""
    return f"{name}_" if iskeyword(name) else name


def _value_type(annotation: Annotation) -> Any:
    """The Python annotation of a value, as Strawberry reads it."""
    single = _enum(annotation.enum) if annotation.enum else TYPES[annotation.type]
    return list[single] if annotation.listed else single  # type: ignore[valid-type]  # known at run time


def _enum(enum: type[StrEnum]) -> type[StrEnum]:
    if not hasattr(enum, MARK):
        # One without a docstring of its own would have that of StrEnum.
        written = vars(enum).get("__doc__")
        strawberry.enum(enum, description=inspect.cleandoc(written) if written else None)
    return enum


def _declare_type(subject: type[Subject]) -> None:
    declaration = subject.declaration
    fields: dict[str, tuple[Any, Any]] = {"id": (ID, typed_id(declaration.prefix))}
    for member in declaration.members.values():
        key = _python(member.name)
        described = member.declared.description
        match member.declared:
            case Column() if not member.is_private:
                optional = (
                    _value_type(member.annotation) | None
                    if member.annotation.optional
                    else _value_type(member.annotation)
                )
                mapping = {FIELD: Value(member.column)}
                fields[key] = (
                    optional,
                    strawberry.field(name=_camel(member.name), description=described, metadata=mapping),
                )
            case Computed(of=of):
                value = _value_type(member.annotation)
                fields[key] = (
                    value | None if member.annotation.optional else value,
                    expression(of, described),
                )
            case Reference():
                hidden = member.target.visible is not None
                annotation: Any = member.target
                if member.annotation.optional or hidden:
                    annotation = annotation | None
                fields[key] = (annotation, one(member.column, description=described))
            case Relation():
                fields[key] = (_connection(member.target), _many(declaration, member))
    fields |= dict.fromkeys(declaration.times, (scalars.DateTime, ...))
    for extension in EXTENSIONS.get(subject, ()):
        fields |= {key: (each, getattr(extension, key, ...)) for key, each in extension.__annotations__.items()}
    name = subject.__name__
    access = Requires(permission=declaration.permissions["read"])
    made = strawberry.type(_class(name, fields, (Node,)), description=_described(subject), directives=[access])
    # What Strawberry knows a type by.
    definition = get_object_definition(made, strict=True)
    definition.origin = subject
    setattr(subject, MARK, definition)
    mapped(declaration.table, prefix=declaration.prefix, order=tuple(declaration.order))(subject)


def _many(declaration: Declaration, member: Member) -> Any:
    other, declared = member.target.declaration, member.declared
    if not isinstance(declared, Relation):
        raise TypeError(f"{member.name} is no relation to many")
    options: dict[str, Any] = {
        "filter": getattr(subject_types, f"{member.target.__name__}Filter"),
        "order": getattr(subject_types, f"{member.target.__name__}Order"),
        "description": declared.description,
    }
    back = other.members.get(declared.by or "")
    if back is None:
        table, (near, far) = pairs_table(declaration, member), pair_columns(declaration, member)
        return many(through=(table, near, far), **options)
    if isinstance(back.declared, Relation):
        table, (near, far) = pairs_table(other, back), pair_columns(other, back)
        return many(through=(table, far, near), **options)
    return many(back.column, **options)


def _declare_filter(declaration: Declaration) -> None:
    name = f"{declaration.subject.__name__}Filter"
    fields: dict[str, tuple[Any, Any]] = {"id": (IDFilter | None, compared_id(declaration.prefix))}
    for member in declaration.columns:
        kind = member.annotation.kind
        if isinstance(member.declared, Reference):
            fields[member.column] = (IDFilter | None, compared_id(member.target.declaration.prefix))
        elif kind and kind.filter and not member.is_private:
            filter_ = _enum_filter(member.annotation.enum) if member.annotation.enum else FILTERS[kind.filter]
            compared = {FIELD: Comparison(member.column)}
            field = strawberry.field(name=_camel(member.name), default=strawberry.UNSET, metadata=compared)
            fields[_python(member.name)] = (filter_ | None, field)
    fields |= dict.fromkeys(declaration.times, (DateTimeFilter | None, strawberry.UNSET))
    fields |= {
        "and_": (f"list[{name}] | None", strawberry.field(name="and", default=strawberry.UNSET)),
        "or_": (f"list[{name}] | None", strawberry.field(name="or", default=strawberry.UNSET)),
        "not_": (f"{name} | None", strawberry.field(name="not", default=strawberry.UNSET)),
    }
    _input(name, fields, "All conditions given have to hold; null is refused.")


def _enum_filter(enum: type[StrEnum]) -> Any:
    name = f"{enum.__name__}Filter"
    if not hasattr(subject_types, name):
        _enum(enum)
        fields: dict[str, tuple[Any, Any]] = {
            "eq": (enum | None, strawberry.UNSET),
            "in_": (list[enum] | None, strawberry.field(name="in", default=strawberry.UNSET)),  # type: ignore[valid-type]
            "is_null": (bool | None, strawberry.UNSET),
        }
        _input(name, fields)
    return getattr(subject_types, name)


def _declare_order(declaration: Declaration) -> None:
    name = declaration.subject.__name__
    field = Enum(f"{name}OrderField", {column.upper(): column for column in declaration.ordered_by})  # type: ignore[misc]
    setattr(subject_types, f"{name}OrderField", strawberry.enum(field))
    _input(
        f"{name}Order",
        {
            "field": (getattr(subject_types, f"{name}OrderField"), ...),
            "direction": (OrderDirection, OrderDirection.ASC),
        },
    )


def _fields(subject: type[Subject]) -> Fields:
    declaration = subject.declaration
    name = subject.__name__
    access = Requires(permission=declaration.permissions["read"])
    filter_, order = getattr(subject_types, f"{name}Filter"), getattr(subject_types, f"{name}Order")
    listed = many(filter=filter_, order=order, description=_listed(declaration), access=access)
    found = by_id("Null when there is none with this id, or it cannot be seen.", access=access)
    queries = strawberry.type(
        _class(
            f"{name}Queries",
            {declaration.name: (subject | None, found), declaration.listed_as: (_connection(subject) | None, listed)},
        )
    )
    made: dict[str, Any] = {}
    for what, make in (("create", _create), ("update", _update), ("delete", _delete)):
        if what in declaration.mutations:
            made |= make(declaration)
    for pairs in declaration.pairs:
        made |= _pair(declaration, pairs)
    for action, changes in actions_of(subject):
        made |= _action(declaration, action, changes=changes)
    mutations = (
        strawberry.type(type(f"{name}Mutations", (), {"__module__": subject_types.__name__, **made})) if made else None
    )
    return Fields(queries, mutations)


def _listed(declaration: Declaration) -> str:
    column, descends = declaration.order[0]
    if column == "created_at":
        return f"By default {'newest' if descends else 'oldest'} first."
    by = "the order of creation" if column == "id" else f"the order of {_camel(column)}"
    return f"By default in {by}{', descending' if descends else ''}."


def _settable(declaration: Declaration, *, update: bool) -> dict[str, tuple[Any, Any]]:
    """The fields of an input by which clients set columns."""
    fields: dict[str, tuple[Any, Any]] = {}
    for member in declaration.columns:
        if member.is_settable:
            annotation = ID if isinstance(member.declared, Reference) else _value_type(member.annotation)
            optional = update or member.has_default
            field = strawberry.field(
                name=_camel(member.column),
                description=member.declared.description,
                **({"default": strawberry.UNSET} if optional else {}),
            )
            fields[_python(member.column)] = (annotation | None if optional else annotation, field)
    return fields


def _values(declaration: Declaration, input_: object) -> dict[str, Any]:
    """What a client gave, by column."""
    values = {}
    for key, value in given(input_).items():
        column = key.removesuffix("_")
        member = declaration.by_column(column)
        if member is not None:
            values[column] = _decoded(member, value)
    return values


def _decoded(member: Member, value: Any) -> Any:
    if isinstance(member.declared, Reference) and value is not None:
        return decode(value, member.target.declaration.prefix, _camel(member.column))
    return value


def _mutation(
    name: str,
    resolve: Callable[..., Any],
    input_: type,
    returned: type,
    permission: str,
    description: str | None = None,
) -> dict[str, Any]:
    async def resolver(self: object, info: Info, input: Any) -> Any:  # noqa: ARG001  Strawberry gives the root
        async with info.context.transaction() as work:
            handed = await resolve(work, info.context.actor, input)
            return await payload(returned, info, work, **handed)

    resolver.__name__ = name
    resolver.__annotations__ = {"info": Info, "input": input_, "return": returned}
    return {name: mutation(Requires(permission=permission), description)(resolver)}


def _payload(name: str, parameters: Mapping[str, Any], fields: Mapping[str, tuple[Any, Any]]) -> type:
    made: type = strawberry.type(_class(name, fields), directives=[PUBLIC])
    return mapped(Parameters(dict(parameters)))(made)


def _create(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    name, write = subject.__name__, declaration.permissions["write"]
    input_ = _input(f"Create{name}Input", _settable(declaration, update=False))
    # Who owns a row may be taken to see it, when it is made.
    made = subject if declaration.owner else _perhaps(subject)
    returned = _payload(f"Create{name}Payload", {key: Uuid()}, {declaration.name: (made, one(key))})

    async def create(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        return {key: await operations.create(work, actor, subject, _values(declaration, given))}

    async def create_all(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        batch = [_values(declaration, each) for each in given.items]
        return {"ids": await operations.create_all(work, actor, subject, batch)}

    many_ = _input(f"Create{_many_name(declaration)}Input", {"items": (list[input_], ...)})  # type: ignore[valid-type]
    returned_many = _ids_payload(f"Create{_many_name(declaration)}Payload", declaration, "created_ids")
    return {
        **_mutation(f"create_{declaration.name}", create, input_, returned, write),
        **_mutation(
            f"create_{declaration.plural}",
            create_all,
            many_,
            returned_many,
            write,
            f"Up to {operations.MOST}: all of them or none.",
        ),
    }


def _update(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    name, write = subject.__name__, declaration.permissions["write"]
    fields = {"id": (ID, ...), **_settable(declaration, update=True)}
    input_ = _input(f"Update{name}Input", fields, "What is left out keeps its value.")
    returned = _payload(f"Update{name}Payload", {key: Uuid()}, {declaration.name: (_perhaps(subject), one(key))})

    async def change(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        row = decode(given.id, declaration.prefix, "id")
        await operations.update(work, actor, subject, row, _values(declaration, given))
        return {key: row}

    async def change_all(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        batch = [(decode(each.id, declaration.prefix, "id"), _values(declaration, each)) for each in given.items]
        await operations.update_all(work, actor, subject, batch)
        return {"ids": [row for row, _ in batch]}

    many_ = _input(f"Update{_many_name(declaration)}Input", {"items": (list[input_], ...)})  # type: ignore[valid-type]
    returned_many = _ids_payload(f"Update{_many_name(declaration)}Payload", declaration, "updated_ids")
    return {
        **_mutation(f"update_{declaration.name}", change, input_, returned, write),
        **_mutation(
            f"update_{declaration.plural}",
            change_all,
            many_,
            returned_many,
            write,
            f"Up to {operations.MOST}: all of them or none.",
        ),
    }


def _delete(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    name, write = subject.__name__, declaration.permissions["write"]
    input_ = _input(f"Delete{name}Input", {"id": (ID, ...)})
    returned = _payload(f"Delete{name}Payload", {key: Uuid()}, {"deleted_id": (ID, typed_id(declaration.prefix, key))})

    async def remove(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        row = decode(given.id, declaration.prefix, "id")
        await operations.remove(work, actor, subject, row)
        return {key: row}

    async def remove_all(work: Any, actor: Any, given: Any) -> dict[str, Any]:
        rows = [decode(each, declaration.prefix, "ids") for each in given.ids]
        await operations.remove_all(work, actor, subject, rows)
        return {"ids": rows}

    many_ = _input(f"Delete{_many_name(declaration)}Input", {"ids": (list[ID], ...)})
    returned_many = _ids_payload(f"Delete{_many_name(declaration)}Payload", declaration, "deleted_ids")
    return {
        **_mutation(f"delete_{declaration.name}", remove, input_, returned, write),
        **_mutation(
            f"delete_{declaration.plural}",
            remove_all,
            many_,
            returned_many,
            write,
            f"Up to {operations.MOST}: all of them or none.",
        ),
    }


def _perhaps(subject: type[Subject]) -> Any:
    """The type of a row in a payload: null where a rule keeps it from the caller, as it is by then."""
    return subject if subject.visible is None else subject | None


def _many_name(declaration: Declaration) -> str:
    camel = _camel(declaration.plural)
    return camel[0].upper() + camel[1:]


def _ids_payload(name: str, declaration: Declaration, field: str) -> type:
    return _payload(name, {"ids": ARRAY(Uuid)}, {field: (list[ID], typed_id(declaration.prefix, "ids"))})


def _pair(declaration: Declaration, member: Member) -> dict[str, Any]:
    """The mutations that add a row to a relation that is many-to-many, and take one away."""
    subject, other = declaration.subject, member.target.declaration
    near, far = pair_columns(declaration, member)
    relation = _camel(f"{declaration.name}_{member.name}")
    named = relation[0].upper() + relation[1:]
    write = declaration.permissions["write"]
    made: dict[str, Any] = {}
    for verb, change in (("add", operations.pair), ("remove", operations.unpair)):
        input_ = _input(f"{verb.title()}{named}Input", {near: (ID, ...), far: (ID, ...)})
        returned = _payload(
            f"{verb.title()}{named}Payload", {near: Uuid()}, {declaration.name: (_perhaps(subject), one(near))}
        )

        async def resolve(work: Any, actor: Any, given: Any, change: Any = change) -> dict[str, Any]:
            key = decode(getattr(given, near), declaration.prefix, _camel(near))
            with_ = decode(getattr(given, far), other.prefix, _camel(far))
            await change(work, actor, subject, member, key, with_)
            return {near: key}

        made |= _mutation(f"{verb}_{declaration.name}_{member.name}", resolve, input_, returned, write)
    return made


def _action(declaration: Declaration, action: Action, *, changes: bool) -> dict[str, Any]:
    """The mutation that calls a method of the subject's own."""
    subject, key = declaration.subject, f"{declaration.name}_id"
    verb = _camel(action.name)
    named = f"{verb[0].upper()}{verb[1:]}{subject.__name__}"
    fields: dict[str, tuple[Any, Any]] = {"id": (ID, ...)}
    arguments = {name: read(action.hints.get(name)) for name in action.arguments}
    for name, annotation in arguments.items():
        type_ = _value_type(annotation) if annotation.kind else ID
        default = action.arguments[name].default is not action.arguments[name].empty
        optional = annotation.optional or default
        argument = _argument(name, annotation)
        field = strawberry.field(name=_camel(argument), **({"default": strawberry.UNSET} if optional else {}))
        fields[_python(argument)] = (type_ | None if optional else type_, field)
    input_ = _input(f"{named}Input", fields)
    parameters, selected = {key: Uuid()}, {declaration.name: (_perhaps(subject), one(key))}
    made = action.returns
    if made is not None and made is not subject:
        parameters[f"{made.declaration.name}_id"] = Uuid()
        selected[made.declaration.name] = (_perhaps(made), one(f"{made.declaration.name}_id"))
    returned = _payload(f"{named}Payload", parameters, selected)

    async def resolve(work: Any, actor: Any, sent: Any) -> dict[str, Any]:
        row = decode(sent.id, declaration.prefix, "id")
        actor.require(action.permission)
        if changes:
            found = await operations.changeable(work, actor, subject, row)
        else:
            found = await subject.lock(work, actor, row)
        values = given(sent)
        del values["id"]
        passed = {}
        for name, annotation in arguments.items():
            argument = _argument(name, annotation)
            if (key_ := _python(argument)) in values:
                passed[name] = await _argument_value(work, actor, annotation, values[key_], _camel(argument))
        result = await action.method(found, work, actor, **passed)
        # What is made of the same subject stands where the row would.
        return {key: row} if made is None else {key: row, f"{made.declaration.name}_id": result.id}

    return _mutation(
        f"{action.name}_{declaration.name}", resolve, input_, returned, action.permission, action.description
    )


def _argument(name: str, annotation: Annotation) -> str:
    plain = name.removesuffix("_")
    return plain if annotation.kind else f"{plain}_id"


async def _argument_value(work: Any, actor: Any, annotation: Annotation, value: Any, field: str) -> Any:
    if value is None and not annotation.optional:
        raise BadUserInput(f"{field}: expected anything but null; left out, it gets the default", field)
    if annotation.kind or value is None:
        return value
    target: type[Subject] = annotation.type
    try:
        return await target.get(work, actor, decode(value, target.declaration.prefix, field))
    except NotFound as error:
        raise NotFound(error.message, field) from None
