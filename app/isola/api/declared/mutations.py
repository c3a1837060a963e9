"""The mutations of a subject: those derived from its declaration, and its actions."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from functools import partial
from types import MappingProxyType
from typing import Any

import strawberry
from sqlalchemy import ARRAY, Boolean, Uuid
from strawberry.utils.str_converters import to_camel_case

from isola.api import subject_types
from isola.api.access import Requires, mutation
from isola.api.declared.making import ID, list_of, made_input, made_payload, perhaps, python_name, value_type
from isola.api.enums import described_enum
from isola.api.fields import expression, one, typed_id
from isola.api.request import Info, fields_of, payload
from isola.api.scalars import DateTime
from isola.errors import BadUserInput, Conflict, NotFound
from isola.query.identifiers import decode
from isola.subjects import operations, sentences, upserts
from isola.subjects.actions import Action, actions_of
from isola.subjects.actor import Actor
from isola.subjects.checks import KEY, VERSION
from isola.subjects.declaration import Declaration, Member, Reference
from isola.subjects.sentences import words
from isola.subjects.subject import Subject
from isola.subjects.table import pair_columns
from isola.subjects.types import Annotation, read
from isola.subjects.work import Work

Fields = Mapping[str, Any]
Resolve = Callable[[Work, Actor, Any], Awaitable[Mapping[str, Any]]]
"""Executes a mutation; returns the parameters that the payload's type is mapped to."""

Locate = Callable[[Work, Actor, Any, str], Awaitable[int | None]]
"""Finds the item of a bulk mutation that violated a unique constraint, given its columns."""


def mutations_of(declaration: Declaration) -> dict[str, Any]:
    """The mutations of a subject, by their names in Python."""
    made: dict[str, Any] = {}
    for action_name, make in (("create", _create), ("update", _update), ("upsert", _upsert), ("delete", _delete)):
        if action_name in declaration.mutations:
            made |= make(declaration)
    for pairs in declaration.pairs:
        made |= _pair(declaration, pairs)
    for action, changes in actions_of(declaration.subject):
        made |= _action(declaration, action, changes=changes)
    return made


def _create(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    input_ = made_input(f"Create{subject.__name__}Input", settable(declaration, update=False))
    # If all rows have owners, the caller owns the new row and so can see it.
    made = subject if declaration.owner and not declaration.owner.annotation.optional else perhaps(subject)
    returned = made_payload(f"Create{subject.__name__}Payload", {key: Uuid()}, {declaration.name: (made, one(key))})

    async def create(work: Work, actor: Actor, sent: Any) -> Fields:
        return {key: await operations.create(work, actor, subject, values_sent(declaration, sent))}

    async def create_all(work: Work, actor: Actor, sent: Any) -> Fields:
        batch = operations.each(sent.items, partial(values_sent, declaration))
        return {"ids": await operations.create_all(work, actor, subject, batch)}

    async def locate(work: Work, actor: Actor, sent: Any, rule: str) -> int | None:
        batch = [values_sent(declaration, each) for each in sent.items]
        return await operations.conflicting(work, actor, subject, batch, rule)

    return {
        **made_mutation(
            f"create_{declaration.name}",
            create,
            input_,
            returned,
            declaration.permissions["write"],
            f"Create one {words(declaration.name)}.",
            feature=declaration.feature,
        ),
        **_bulk(declaration, "create", {"items": list_of(input_)}, create_all, locate),
    }


def _update(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    fields = {"id": (ID, ...), **_expectation(declaration), **settable(declaration, update=True)}
    input_ = made_input(f"Update{subject.__name__}Input", fields, "An omitted field keeps its value.")
    selected = {declaration.name: (perhaps(subject), one(key))}
    returned = made_payload(f"Update{subject.__name__}Payload", {key: Uuid()}, selected)

    async def update(work: Work, actor: Actor, sent: Any) -> Fields:
        row = decode(sent.id, declaration.prefix, "id")
        await operations.update(work, actor, subject, row, values_sent(declaration, sent), _expected(sent))
        return {key: row}

    async def update_all(work: Work, actor: Actor, sent: Any) -> Fields:
        batch = operations.each(
            sent.items, lambda one: (decode(one.id, declaration.prefix, "id"), values_sent(declaration, one))
        )
        await operations.update_all(work, actor, subject, batch, [_expected(each) for each in sent.items])
        return {"ids": [row for row, _ in batch]}

    return {
        **made_mutation(
            f"update_{declaration.name}",
            update,
            input_,
            returned,
            declaration.permissions["write"],
            f"Change one {words(declaration.name)}.",
            feature=declaration.feature,
        ),
        **_bulk(declaration, "update", {"items": list_of(input_)}, update_all),
    }


def _upsert(declaration: Declaration) -> dict[str, Any]:
    keys = declaration.upserted_by
    if not keys:
        return {}
    subject, made = declaration.subject, f"{declaration.name}_id"
    fields: dict[str, tuple[Any, Any]] = {}
    if len(keys) > 1:
        described = "The unique key that finds the object. Each of its fields needs a value."
        fields[KEY] = (_keys_of(declaration), strawberry.field(description=described))
    fields |= {**_expectation(declaration, " Also if there is no such object."), **settable(declaration, update=False)}
    input_ = made_input(
        f"Upsert{subject.__name__}Input",
        fields,
        "An omitted field keeps its value, or gets the default in a new object.",
    )
    selected = {
        declaration.name: (perhaps(subject), one(made)),
        "created": (bool, expression(lambda row: row["created"], "Whether it was created. Otherwise, it was changed.")),
    }
    parameters = {made: Uuid(), "created": Boolean()}
    returned = made_payload(f"Upsert{subject.__name__}Payload", parameters, selected)

    def item(sent: Any) -> upserts.Item:
        key = getattr(sent, KEY).value if len(keys) > 1 else keys[0]
        return upserts.Item(key, values_sent(declaration, sent), _expected(sent))

    async def upsert(work: Work, actor: Actor, sent: Any) -> Fields:
        row, created = await upserts.upsert(work, actor, subject, item(sent))
        return {made: row, "created": created}

    async def upsert_all(work: Work, actor: Actor, sent: Any) -> Fields:
        rows = await upserts.upsert_all(work, actor, subject, operations.each(sent.items, item))
        return {"ids": [row for row, _ in rows], "created": [row for row, created in rows if created]}

    by = "the same key" if len(keys) > 1 else f"the same {_joined(keys[0])}"
    created = typed_id(declaration.prefix, "created", description="The ids of those that did not exist before.")
    return {
        **made_mutation(
            f"upsert_{declaration.name}",
            upsert,
            input_,
            returned,
            declaration.permissions["write"],
            f"Change the {words(declaration.name)} with {by}, or create one.",
            feature=declaration.feature,
        ),
        **_bulk(
            declaration,
            "upsert",
            {"items": list_of(input_)},
            upsert_all,
            more={"created": ("created_ids", created)},
            described=" Each item is of another object.",
        ),
    }


def _keys_of(declaration: Declaration) -> Any:
    """The enum of the keys by which a subject is upserted."""
    subject, keys = declaration.subject, declaration.upserted_by
    named = {"_and_".join(key).upper(): key for key in keys}
    lines = [f"{name}: The {'unique combination of ' * (len(key) > 1)}{_joined(key)}." for name, key in named.items()]
    made = Enum(f"{subject.__name__}UniqueKey", named, module=subject_types.__name__)  # type: ignore[misc]  # made at run time
    made.__doc__ = "\n".join([f"What is unique in {words(declaration.plural)}.", "", *lines])
    setattr(subject_types, made.__name__, made)
    return described_enum(made)


def _joined(key: Sequence[str]) -> str:
    return " and ".join(to_camel_case(name) for name in key)


def _delete(declaration: Declaration) -> dict[str, Any]:
    subject, key = declaration.subject, f"{declaration.name}_id"
    input_ = made_input(f"Delete{subject.__name__}Input", {"id": (ID, ...), **_expectation(declaration)})
    selected = {"deleted_id": (ID, typed_id(declaration.prefix, key))}
    returned = made_payload(f"Delete{subject.__name__}Payload", {key: Uuid()}, selected)

    async def remove(work: Work, actor: Actor, sent: Any) -> Fields:
        row = decode(sent.id, declaration.prefix, "id")
        await operations.remove(work, actor, subject, row, _expected(sent))
        return {key: row}

    async def remove_all(work: Work, actor: Actor, sent: Any) -> Fields:
        rows = operations.each(sent.ids, lambda one: decode(one, declaration.prefix, "ids"))
        await operations.remove_all(work, actor, subject, rows)
        return {"ids": rows}

    return {
        **made_mutation(
            f"delete_{declaration.name}",
            remove,
            input_,
            returned,
            declaration.permissions["write"],
            f"Delete one {words(declaration.name)}.",
            feature=declaration.feature,
        ),
        **_bulk(declaration, "delete", {"ids": list_of(ID)}, remove_all),
    }


def _bulk(
    declaration: Declaration,
    verb: str,
    taken: Mapping[str, Any],
    resolve: Resolve,
    locate: Locate | None = None,
    *,
    more: Mapping[str, tuple[str, Any]] = MappingProxyType({}),
    described: str = "",
) -> dict[str, Any]:
    """The bulk mutation for a verb: changes many rows at once; ``taken`` are the fields of its input.

    ``more`` are further fields of its payload with ids, by their parameters; ``described`` is said of it as well.
    """
    named = f"{verb.title()}{_titled(declaration.plural)}"
    input_ = made_input(f"{named}Input", {name: (annotation, ...) for name, annotation in taken.items()})
    selected = {f"{verb.removesuffix('e')}ed_ids": (list_of(ID), typed_id(declaration.prefix, "ids"))}
    selected |= {field: (list_of(ID), declared) for field, declared in more.values()}
    returned = made_payload(f"{named}Payload", dict.fromkeys(("ids", *more), ARRAY(Uuid)), selected)
    write = declaration.permissions["write"]
    description = f"Up to {operations.MOST}: all of them or none.{described}"
    [items] = taken

    named = f"{verb}_{declaration.plural}"
    feature = declaration.feature
    return made_mutation(named, resolve, input_, returned, write, description, items, locate, feature=feature)


def _titled(name: str) -> str:
    """A name in the form of a type's name: in camel case with a capital."""
    camel = to_camel_case(name)
    return camel[0].upper() + camel[1:]


def settable(declaration: Declaration, *, update: bool) -> dict[str, tuple[Any, Any]]:
    """The input fields that set columns."""
    fields: dict[str, tuple[Any, Any]] = {}
    for member in declaration.columns:
        if member.is_settable and not (update and member.is_fixed):
            annotation = ID if isinstance(member.declared, Reference) else value_type(member.annotation)
            optional = update or member.has_default
            field = strawberry.field(
                name=to_camel_case(member.column),
                description=member.declared.description,
                **({"default": strawberry.UNSET} if optional else {}),
            )
            fields[python_name(member.column)] = (annotation | None if optional else annotation, field)
    return fields


def _expectation(declaration: Declaration, more: str = "") -> dict[str, tuple[Any, Any]]:
    """The input field with the version that a client expects, of subjects that have one."""
    if "updated_at" not in declaration.times:
        return {}
    field = strawberry.field(
        default=strawberry.UNSET,
        description=f"The updatedAt that the client has read. If it is another one by now: CONFLICT, no change.{more}",
    )
    return {VERSION: (DateTime | None, field)}


def _expected(sent: object) -> datetime | None:
    moment = getattr(sent, VERSION, None)
    return moment if isinstance(moment, datetime) else None


def values_sent(declaration: Declaration, input_: object) -> dict[str, Any]:
    """The values that a client gave, by column."""
    values = {}
    for key, value in fields_of(input_).items():
        column = key.removesuffix("_")
        member = declaration.by_column(column)
        if member is not None:
            values[column] = _decoded(member, value)
    return values


def _decoded(member: Member, value: Any) -> Any:
    if isinstance(member.declared, Reference) and value is not None:
        return decode(value, member.target.declaration.prefix, to_camel_case(member.column))
    return value


def made_mutation(
    name: str,
    resolve: Callable[..., Any],
    input_: type,
    returned: type,
    permission: str,
    description: str | None = None,
    items: str | None = None,
    locate: Locate | None = None,
    deprecated: str | None = None,
    feature: str | None = None,
) -> dict[str, Any]:
    """A mutation. A refusal names the place of the item in ``items``, the input of a bulk mutation."""

    async def resolver(self: object, info: Info, input: Any) -> Any:  # noqa: ARG001  Strawberry passes the root
        with operations.items_of(items):
            try:
                async with info.context.transaction() as work:
                    handed = await resolve(work, info.context.actor, input)
                    return await payload(returned, info, work, **handed)
            except Conflict as conflict:
                if locate is not None and conflict.index is None and conflict.rule is not None:
                    async with info.context.context.transaction(read_only=True) as reading:
                        conflict.index = await locate(reading, info.context.actor, input, conflict.rule)
                raise

    resolver.__name__ = name
    resolver.__annotations__ = {"info": Info, "input": input_, "return": returned}
    return {
        name: mutation(Requires(permission=permission), description, deprecated=deprecated, feature=feature)(resolver)
    }


def _pair(declaration: Declaration, member: Member) -> dict[str, Any]:
    """The mutations that add a row to a many-to-many relation, and remove one."""
    subject, other = declaration.subject, member.target.declaration
    near, far = pair_columns(declaration, member)
    named = _titled(f"{declaration.name}_{member.name}")
    write = declaration.permissions["write"]
    made: dict[str, Any] = {}
    for verb, change in (("add", operations.pair), ("remove", operations.unpair)):
        input_ = made_input(f"{verb.title()}{named}Input", {near: (ID, ...), far: (ID, ...)})
        returned = made_payload(
            f"{verb.title()}{named}Payload", {near: Uuid()}, {declaration.name: (perhaps(subject), one(near))}
        )

        async def resolve(work: Any, actor: Any, given: Any, change: Any = change) -> dict[str, Any]:
            key = decode(getattr(given, near), declaration.prefix, to_camel_case(near))
            with_ = decode(getattr(given, far), other.prefix, to_camel_case(far))
            await change(work, actor, subject, member, key, with_)
            return {near: key}

        relation = f"the {words(member.name)} of one {words(declaration.name)}"
        said = f"Add to {relation}." if verb == "add" else f"Remove from {relation}."
        made |= made_mutation(
            f"{verb}_{declaration.name}_{member.name}",
            resolve,
            input_,
            returned,
            write,
            said,
            feature=declaration.feature or other.feature,
        )
    return made


def _action(declaration: Declaration, action: Action, *, changes: bool) -> dict[str, Any]:
    """The mutation that calls an action of the subject."""
    subject, key = declaration.subject, f"{declaration.name}_id"
    named = f"{_titled(action.name)}{subject.__name__}"
    fields: dict[str, tuple[Any, Any]] = {"id": (ID, ...)}
    arguments = {name: read(action.hints.get(name)) for name in action.arguments}
    for name, annotation in arguments.items():
        type_ = value_type(annotation) if annotation.kind else ID
        default = action.arguments[name].default is not action.arguments[name].empty
        optional = annotation.optional or default
        argument = _argument(name, annotation)
        described = sentences.of_argument(argument, annotation)
        field = strawberry.field(
            name=to_camel_case(argument), description=described, **({"default": strawberry.UNSET} if optional else {})
        )
        fields[python_name(argument)] = (type_ | None if optional else type_, field)
    input_ = made_input(f"{named}Input", fields)
    parameters, selected = {key: Uuid()}, {declaration.name: (perhaps(subject), one(key))}
    made = action.returns
    if made is not None and made is not subject:
        parameters[f"{made.declaration.name}_id"] = Uuid()
        selected[made.declaration.name] = (perhaps(made), one(f"{made.declaration.name}_id"))
    returned = made_payload(f"{named}Payload", parameters, selected)

    async def resolve(work: Any, actor: Any, sent: Any) -> dict[str, Any]:
        row = decode(sent.id, declaration.prefix, "id")
        actor.require(action.permission)
        if changes:
            found = await operations.changeable(work, actor, subject, row)
        else:
            found = await subject.lock(work, row)
        values = fields_of(sent)
        del values["id"]
        passed = {}
        for name, annotation in arguments.items():
            argument = _argument(name, annotation)
            if (key_ := python_name(argument)) in values:
                passed[name] = await _argument_value(work, annotation, values[key_], to_camel_case(argument))
        result = await action.method(found, work, actor, **passed)
        # A returned row of the same subject replaces the row that the action was called on.
        return {key: row} if made is None else {key: row, f"{made.declaration.name}_id": result.id}

    described = action.description or f"{words(action.name).capitalize()} one {words(declaration.name)}."
    named = f"{action.name}_{declaration.name}"
    return made_mutation(
        named,
        resolve,
        input_,
        returned,
        action.permission,
        described,
        deprecated=action.deprecated,
        feature=declaration.feature,
    )


def _argument(name: str, annotation: Annotation) -> str:
    plain = name.removesuffix("_")
    return plain if annotation.kind else f"{plain}_id"


async def _argument_value(work: Any, annotation: Annotation, value: Any, field: str) -> Any:
    if value is None and not annotation.optional:
        raise BadUserInput(f"{field}: expected a value other than null; omitted, it gets the default", field)
    if annotation.kind or value is None:
        return value
    target: type[Subject] = annotation.type
    try:
        return await target.get(work, decode(value, target.declaration.prefix, field))
    except NotFound as error:
        raise NotFound(error.message, field) from None
