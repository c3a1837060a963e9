"""The values of a tenant's settings that are in force, and the mutations that change them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import strawberry
from sqlalchemy import ColumnElement, Uuid
from strawberry.utils.str_converters import to_camel_case

from isola.api.access import Requires, of_feature
from isola.api.declared.making import ID, made_class, made_input, made_payload, python_name, value_type
from isola.api.declared.mutations import made_mutation, settable, values_sent
from isola.api.fields import FIELD, mapped, one, part
from isola.query.identifiers import decode
from isola.query.mapping import Parameters, Row, Value
from isola.subjects import sentences, settings
from isola.subjects.actor import Actor
from isola.subjects.declaration import Declaration, Member
from isola.subjects.sentences import words
from isola.subjects.settings import EXPECTED_NUMBER, in_force
from isola.subjects.work import Work


def in_force_of(declaration: Declaration) -> tuple[Any, Any]:
    """The field at the root of queries with the values in force: its type, and its declaration."""
    access = Requires(permission=declaration.permissions["read"])
    fields = {python_name(each.name): _field(declaration, each) for each in settings.values_of(declaration)}
    made = strawberry.type(
        made_class(f"Current{declaration.subject.__name__}", fields),
        description=f"The {words(declaration.name)} in force: the defaults, until somebody changes them.",
        directives=[access, *of_feature(declaration.feature)],
    )
    mapped(Parameters({}))(made)
    return made | None, part(access, description=f"The {words(declaration.name)} in force.")


def _field(declaration: Declaration, member: Member) -> tuple[Any, Any]:
    value = value_type(member.annotation)
    read = strawberry.field(
        name=to_camel_case(member.name),
        description=sentences.of_member(member),
        metadata={FIELD: Value(partial(_read, declaration, member))},
    )
    return (value | None if member.annotation.optional else value), read


def _read(declaration: Declaration, member: Member, _: Row) -> ColumnElement[Any]:
    return in_force(declaration.subject.table, member.column)


def changes_of_settings(declaration: Declaration) -> dict[str, Any]:
    """The mutations that change settings, and that restore those of a version."""
    subject, key = declaration.subject, f"{declaration.name}_id"

    async def change(work: Work, actor: Actor, sent: Any) -> Mapping[str, Any]:
        values = values_sent(declaration, sent)
        return {key: (await settings.change(work, actor, subject, values, expected=_expected(sent))).id}

    async def restore(work: Work, actor: Actor, sent: Any) -> Mapping[str, Any]:
        version = await subject.get(work, decode(sent.id, declaration.prefix, "id"))
        return {key: (await settings.restore(work, actor, version, expected=_expected(sent))).id}

    named = words(declaration.name)
    described = "The number of the version that the client has read; 0 for none. If it is another by now: CONFLICT."
    expected = {EXPECTED_NUMBER: (int | None, strawberry.field(default=strawberry.UNSET, description=described))}
    made: dict[str, Any] = {}
    for verb, fields, resolve, description in (
        ("change", settable(declaration, update=True), change, f"Change the {named}: all that the input has."),
        ("restore", {"id": (ID, ...)}, restore, f"Change the {named} back to those of a version."),
    ):
        titled = f"{verb.title()}{subject.__name__}"
        input_ = made_input(f"{titled}Input", {**fields, **expected}, "An omitted field keeps its value.")
        returned = made_payload(f"{titled}Payload", {key: Uuid()}, {declaration.name: (subject, one(key))})
        write = declaration.permissions["write"]
        made |= made_mutation(
            f"{verb}_{declaration.name}", resolve, input_, returned, write, description, feature=declaration.feature
        )
    return made


def _expected(sent: object) -> int | None:
    number = getattr(sent, EXPECTED_NUMBER, None)
    return number if isinstance(number, int) else None
