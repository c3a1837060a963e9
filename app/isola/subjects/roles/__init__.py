"""Roles, their assignment to users, and the rules of assignment.

A role is a name for permissions. The permissions of built-in roles are defined in the code; they have rows so that they
can be assigned like any other role. An actor cannot grant, revoke or change permissions that they do not have, nor
change the roles of a user who has more permissions. The last owner cannot be removed.
"""

from collections.abc import Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Select,
    Table,
    Text,
    Uuid,
    bindparam,
    delete as delete_from,
    func,
    insert,
    select,
    update as update_of,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from isola.errors import BadUserInput, Conflict, Forbidden, NotFound
from isola.subjects import Subject, column, names, users as people
from isola.subjects.actor import Actor
from isola.subjects.metadata import Audited, metadata, moment
from isola.subjects.permissions import Permission, Role as BuiltIn, all_permissions, of_role
from isola.subjects.users import users
from isola.subjects.work import Work

MAX_NAME = 100


class Role(Subject, name="role", prefix="rol", mutations=frozenset()):
    """A named set of permissions that users can be granted."""

    name: str = column(max_length=MAX_NAME, min_length=1, index=True)
    # The form in which names are compared: see isola.subjects.names.
    name_key: str = column(
        max_length=names.KEY_GROWTH * MAX_NAME, min_length=1, unique="name", private=True, logged=False
    )
    # Empty for a built-in role, whose permissions are in isola.subjects.permissions.
    permissions: list[str] = column(default=list, private=True, logged=True)


roles = Role.table

user_roles = Table(
    "user_roles",
    metadata,
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    Column("role_id", Uuid, ForeignKey("roles.id", ondelete="CASCADE"), primary_key=True),
    moment("given_at"),
    Index(None, "role_id", "user_id"),
    info={"audited": Audited("user_role", {"user_id": "usr_", "role_id": "/rol_"})},
)


@dataclass(frozen=True, slots=True)
class Standing:
    """A user with the names of their roles, sorted, and all permissions of these."""

    user_id: UUID
    subject: str
    roles: tuple[str, ...]
    permissions: frozenset[str]
    disabled: bool


_STANDING = (
    select(users.c.id, users.c.subject, users.c.disabled_at, roles.c.name, roles.c.permissions)
    .select_from(users)
    .outerjoin(user_roles, user_roles.c.user_id == users.c.id)
    .outerjoin(roles, roles.c.id == user_roles.c.role_id)
    .order_by(roles.c.name)
)
BY_SUBJECT = _STANDING.where(users.c.subject == bindparam("subject"), users.c.seen_at.is_not(None))
BY_KEY = _STANDING.where(users.c.id == bindparam("key", type_=Uuid()))
# Compatible with the locks of foreign keys: a user whose transaction with a ticket stays open, after it added rows that
# refer to the user, could not be disabled otherwise.
HELD_USER = select(users.c.subject).where(users.c.id == bindparam("key", type_=Uuid())).with_for_update(key_share=True)
HELD_ROLE = (
    select(roles.c.name, roles.c.permissions).where(roles.c.id == bindparam("key", type_=Uuid())).with_for_update()
)
# The removal of an owner locks this row, so that two owners cannot remove each other concurrently.
HELD_OWNERSHIP = select(roles.c.id).where(roles.c.name == BuiltIn.OWNER.value).with_for_update()
# Active owners: people of the tenant's own who have signed in and are not disabled. Two are enough to decide.
OWNERS = (
    select(user_roles.c.user_id)
    .join(roles, roles.c.id == user_roles.c.role_id)
    .join(users, users.c.id == user_roles.c.user_id)
    .where(roles.c.name == BuiltIn.OWNER.value, users.c.kind == people.UserKind.PERSON.value)
    .where(users.c.seen_at.is_not(None), users.c.disabled_at.is_(None))
    .limit(2)
)
ANNOUNCED = select(func.isola.announce(bindparam("kind", type_=Text()), bindparam("key", type_=Text())))


_BUILT_IN = [{"name": each.value, "name_key": names.key(each)} for each in BuiltIn]


def permissions_of(name: str, stored: Sequence[str]) -> frozenset[str]:
    """The permissions of a role. Unknown permission names are ignored."""
    return of_role(name) if name in set(BuiltIn) else all_permissions() & set(stored)


async def standing(work: Work, *, subject: str) -> Standing | None:
    """The standing of a user; None for a user who has never signed in. See ``admit``."""
    return await _standing(work, BY_SUBJECT, {"subject": subject})


async def standing_of(work: Work, user_id: UUID) -> Standing | None:
    """The standing of a user; None if there is no such user."""
    return await _standing(work, BY_KEY, {"key": user_id})


async def admit(work: Work, *, subject: str, name: str | None, email: str | None, role: BuiltIn | None) -> Standing:
    """The standing of a person who signs in; an unknown person becomes a new user.

    A person who signs in for the first time, and has no role yet, gets ``role``.
    """
    user = await people.ensure(work, subject=subject, name=name, email=email)
    if await people.record_visit(work, user):
        await work.scalar(select(func.isola.remember_member(subject)))
        await work.execute(upsert(roles).values(_BUILT_IN).on_conflict_do_nothing())
        if role is not None and not (await _held(work, user)).roles:
            given = select(users.c.id, roles.c.id).where(users.c.id == user, roles.c.name == role.value)
            await work.execute(insert(user_roles).from_select(["user_id", "role_id"], given))
    return await _held(work, user)


async def admit_guest(work: Work, *, subject: str, name: str) -> Standing:
    """The standing of a guest from outside of the tenant; a new user without roles if there is none yet."""
    return await _held(work, await people.ensure(work, subject=subject, name=name, email=None))


async def create(work: Work, actor: Actor, *, name: str, permissions: AbstractSet[str]) -> UUID:
    """Make a role. Raises Forbidden, BadUserInput naming the invalid field, and Conflict for a name in use."""
    actor.require(Permission.ROLE_MANAGE)
    _check(permissions)
    actor.may_all(permissions).enforce()
    values = {**_named(name), "permissions": sorted(permissions)}
    role: UUID = await work.scalar(insert(roles).values(values).returning(roles.c.id))
    return role


async def update(
    work: Work, actor: Actor, role_id: UUID, *, name: str | None = None, permissions: AbstractSet[str] | None = None
) -> None:
    """Change a role for all users who have it. Raises as ``create``, and NotFound."""
    actor.require(Permission.ROLE_MANAGE)
    _check(permissions)
    named = {} if name is None else _named(name)
    gives = await _own(work, actor, role_id)
    gives = gives if permissions is None else permissions
    actor.may_all(gives).enforce()
    values = {**named, "permissions": sorted(gives)}
    await work.execute(update_of(roles).where(roles.c.id == role_id).values(values))
    await work.scalar(ANNOUNCED, {"kind": "role", "key": str(role_id)})


async def delete(work: Work, actor: Actor, role_id: UUID) -> None:
    """Delete a role, and revoke it from all users. Raises Forbidden and NotFound."""
    actor.require(Permission.ROLE_MANAGE)
    await _own(work, actor, role_id)
    await work.execute(delete_from(roles).where(roles.c.id == role_id))
    await work.scalar(ANNOUNCED, {"kind": "role", "key": str(role_id)})


async def assign(work: Work, actor: Actor, user_id: UUID, role_id: UUID) -> None:
    """Assign a role to a user. Raises Forbidden, NotFound for either, and Conflict if they have it already."""
    subject = await _manageable(work, actor, user_id)
    _, gives = await _role(work, role_id)
    actor.may_all(gives).enforce()
    given = upsert(user_roles).values(user_id=user_id, role_id=role_id).on_conflict_do_nothing()
    if not await work.execute(given):
        raise Conflict("the user has this role already", "roleId")
    await _announce(work, user_id, subject)


async def give_to(work: Work, actor: Actor, user_id: UUID | None, role_id: UUID) -> bool:
    """Give a role to a user who is invited, or only check that the actor may; False if there is no such role.

    Raises Forbidden for a role with permissions that the actor does not have.
    """
    try:
        _, gives = await _role(work, role_id)
    except NotFound:
        return False
    actor.may_all(gives).enforce()
    if user_id is not None:
        await work.execute(upsert(user_roles).values(user_id=user_id, role_id=role_id).on_conflict_do_nothing())
    return True


async def unassign(work: Work, actor: Actor, user_id: UUID, role_id: UUID) -> None:
    """Undo ``assign``. Raises Forbidden, NotFound, and Conflict for the last owner."""
    subject = await _manageable(work, actor, user_id)
    name, _ = await _role(work, role_id)
    if name == BuiltIn.OWNER:
        await _keep_an_owner(work, user_id)
    taken = delete_from(user_roles).where(user_roles.c.user_id == user_id, user_roles.c.role_id == role_id)
    if not await work.execute(taken):
        raise NotFound("the user has no such role")
    await _announce(work, user_id, subject)


async def disable(work: Work, actor: Actor, user_id: UUID) -> None:
    """Refuse all requests of a user from now on. Raises Forbidden, NotFound, and Conflict for the last owner."""
    subject = await _manageable(work, actor, user_id)
    if user_id == actor.user_id:
        raise Forbidden("users cannot disable themselves")
    if BuiltIn.OWNER in (await _held(work, user_id)).roles:
        await _keep_an_owner(work, user_id)
    off = update_of(users).where(users.c.id == user_id, users.c.disabled_at.is_(None)).values(disabled_at=func.now())
    await work.execute(off)
    await _announce(work, user_id, subject)


async def enable(work: Work, actor: Actor, user_id: UUID) -> None:
    """Undo ``disable``. Raises Forbidden and NotFound."""
    subject = await _manageable(work, actor, user_id)
    on = update_of(users).where(users.c.id == user_id, users.c.disabled_at.is_not(None)).values(disabled_at=None)
    await work.execute(on)
    await _announce(work, user_id, subject)


async def _standing(work: Work, statement: Select[Any], values: Mapping[str, Any]) -> Standing | None:
    rows = await work.rows(statement, values)
    if not rows:
        return None
    given = {row["name"]: permissions_of(row["name"], row["permissions"]) for row in rows if row["name"] is not None}
    permitted: frozenset[str] = frozenset().union(*given.values())
    return Standing(rows[0]["id"], rows[0]["subject"], tuple(given), permitted, rows[0]["disabled_at"] is not None)


async def _held(work: Work, user_id: UUID) -> Standing:
    found = await standing_of(work, user_id)
    if found is None:
        raise NotFound("there is no such user", "userId")
    return found


async def _manageable(work: Work, actor: Actor, user_id: UUID) -> str:
    """The subject of a user whose standing the actor may change, locked until the end of the transaction."""
    actor.require(Permission.USER_MANAGE)
    subject: str | None = await work.scalar(HELD_USER, {"key": user_id})
    if subject is None:
        raise NotFound("there is no such user", "userId")
    actor.may_all((await _held(work, user_id)).permissions).enforce()
    return subject


async def _role(work: Work, role_id: UUID) -> tuple[str, frozenset[str]]:
    rows = await work.rows(HELD_ROLE, {"key": role_id})
    if not rows:
        raise NotFound("there is no such role", "roleId")
    return rows[0]["name"], permissions_of(rows[0]["name"], rows[0]["permissions"])


async def _own(work: Work, actor: Actor, role_id: UUID) -> AbstractSet[str]:
    """The permissions of a custom role, all of which the actor must have."""
    name, gives = await _role(work, role_id)
    if name in set(BuiltIn):
        raise Forbidden("a built-in role cannot be changed")
    actor.may_all(gives).enforce()
    return gives


async def _keep_an_owner(work: Work, leaving: UUID) -> None:
    await work.scalar(HELD_OWNERSHIP)
    if [row["user_id"] for row in await work.rows(OWNERS)] == [leaving]:
        raise Conflict("the last owner cannot be removed")


async def _announce(work: Work, user_id: UUID, subject: str) -> None:
    for key in (str(user_id), subject):
        await work.scalar(ANNOUNCED, {"kind": "user", "key": key})


def _named(name: str) -> Mapping[str, str]:
    """The columns of a role's name. Raises BadUserInput."""
    name = names.checked("name", name, MAX_NAME)
    if names.looks_like(name, BuiltIn):
        raise BadUserInput("name: expected one that cannot be mistaken for that of a built-in role", "name")
    return {"name": name, "name_key": names.key(name)}


def _check(permissions: AbstractSet[str] | None) -> None:
    unknown = (permissions or frozenset()) - all_permissions()
    if unknown:
        raise BadUserInput(f"permissions: expected any of {', '.join(sorted(all_permissions()))}", "permissions")
