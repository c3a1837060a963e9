"""Settings of a tenant: one set of values for each subject with ``settings``. See docs/settings.md.

Each row is a version of all values, and the one with the highest number is in force. A change adds a version, so the
rows are the history as well.
"""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, func, select

from isola.errors import BadUserInput, Conflict
from isola.subjects.actor import Actor
from isola.subjects.declaration import UNSET, Column, Declaration, DeclarationError, Member, caller, column, reference
from isola.subjects.values import by_column
from isola.subjects.work import Work

if TYPE_CHECKING:
    from isola.subjects.subject import Subject

NUMBER, PREVIOUS, CHANGED_BY = "number", "previous", "changed_by"
EXPECTED_NUMBER = "expected_number"
"""The input field with the number of the version that a client has read."""
ANNOUNCED = "settings"
"""The kind of change that servers receive when settings change: see docs/changes.md."""

AnySettings = TypeVar("AnySettings", bound="Subject")


def add_attributes(subject: "type[Subject]") -> None:
    """Add what every version of settings has, before the subject is declared."""
    added: Mapping[str, tuple[Any, Any]] = {
        NUMBER: (int, column(minimum=1, unique=True, read_only=True, description="The number of the version, from 1.")),
        CHANGED_BY: ("User", reference(default=caller, description="The user who made this version.")),
        PREVIOUS: (
            f"{subject.__name__} | None",
            reference(read_only=True, on_delete="set null", description="The version before this one."),
        ),
    }
    for name in added.keys() & vars(subject).keys():
        where = f"{subject.__module__}.{subject.__qualname__}.{name}"
        raise DeclarationError(f"{where}: every version of settings has this attribute: expected another name")
    subject.__annotations__ = {
        **inspect.get_annotations(subject),
        **{name: annotation for name, (annotation, _) in added.items()},
    }
    for name, (_, declared) in added.items():
        setattr(subject, name, declared)


def values_of(declaration: Declaration) -> list[Member]:
    """The settings themselves, without what every version has."""
    return [each for each in declaration.columns if each.is_settable]


def in_force(table: Table, name: str) -> ColumnElement[Any]:
    """The value of a setting in force, in SQL: the default if there is no version."""
    versions = table.alias(f"{table.name}_in_force")
    newest = select(versions.c[name]).order_by(versions.c[NUMBER].desc()).limit(1)
    value = newest.correlate_except(versions).scalar_subquery()
    default: Any = table.c[name].server_default
    return value if default is None else func.coalesce(value, default.arg, type_=table.c[name].type)


def defaults(subject: "type[Subject]") -> Mapping[str, Any]:
    """The values without any change, by attribute."""
    return {each.attribute: _default(each) for each in values_of(subject.declaration)}


async def read(work: Work, subject: "type[Subject]") -> Mapping[str, Any]:
    """The values in force, by attribute."""
    newest = await _newest(work, subject)
    return defaults(subject) if newest is None else _values(newest)


async def change(
    work: Work,
    actor: Actor,
    subject: type[AnySettings],
    changes: Mapping[str, Any],
    *,
    expected: int | None = None,
) -> AnySettings:
    """Change some values, by attribute or column, and return the version in force.

    ``expected`` is the number of the version that the caller has read, 0 for none. Raises Forbidden, BadUserInput
    naming the field, and Conflict if somebody else has changed the settings since then or changes them at the moment.
    """
    declaration = subject.declaration
    actor.require(declaration.permissions["write"])
    if not changes:
        raise BadUserInput("input: expected a value of a setting")
    newest = await _newest(work, subject)
    number = 0 if newest is None else int(getattr(newest, NUMBER))
    if expected is not None and expected != number:
        raise Conflict("expectedNumber: the settings have been changed since then", "expectedNumber")
    before = {} if newest is None else by_column(declaration, _values(newest))
    after = {**before, **by_column(declaration, changes)}
    if newest is not None and after == before:
        return newest
    try:
        made = await subject.create(work, actor, **after, **{NUMBER: number + 1, PREVIOUS: newest})
    except Conflict as conflict:
        if conflict.rule is None:
            raise
        raise Conflict("the settings are being changed by somebody else: read them again") from conflict
    await work.scalar(select(func.isola.announce(ANNOUNCED, declaration.name)))
    return made


async def restore(work: Work, actor: Actor, version: AnySettings, *, expected: int | None = None) -> AnySettings:
    """Change all values back to those of a version. Raises as ``change``."""
    return await change(work, actor, type(version), _values(version), expected=expected)


async def _newest(work: Work, subject: type[AnySettings]) -> AnySettings | None:
    rows = await work.rows(_of_newest(subject.table))
    return subject(**rows[0]) if rows else None


@cache
def _of_newest(table: Table) -> Select[Any]:
    return select(table).order_by(table.c[NUMBER].desc()).limit(1)


def _values(version: "Subject") -> dict[str, Any]:
    return {each.attribute: getattr(version, each.attribute) for each in values_of(version.declaration)}


def _default(member: Member) -> Any:
    declared = member.declared
    return declared.initial if isinstance(declared, Column) and declared.default is not UNSET else None
