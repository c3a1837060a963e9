from uuid import UUID

from sqlalchemy import (
    Column,
    ForeignKey,
    Index,
    Table,
    Uuid,
    delete,
    insert,
    select,
)

from isola.errors import NotFound
from isola.subjects import Subject, column, names
from isola.subjects.actor import Actor
from isola.subjects.metadata import Audited, metadata, moment
from isola.subjects.users import users
from isola.subjects.work import Work

MAX_NAME = 200


class Organization(Subject, name="organization", prefix="org", mutations=frozenset()):
    """A group of users inside a tenant."""

    name: str = column(max_length=MAX_NAME, min_length=1, index=True, insensitive=True)
    # The form in which names are compared: see isola.subjects.names.
    name_key: str = column(
        max_length=names.KEY_GROWTH * MAX_NAME, min_length=1, unique="name", private=True, logged=False
    )


organizations = Organization.table

memberships = Table(
    "memberships",
    metadata,
    Column("organization_id", Uuid, ForeignKey("organizations.id", ondelete="CASCADE"), primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True),
    moment("joined_at"),
    Index(None, "user_id", "organization_id"),
    info={"audited": Audited("membership", {"organization_id": "org_", "user_id": "/usr_"})},
)


async def create(work: Work, actor: Actor, *, name: str) -> UUID:
    """Make an organization. Raises Forbidden, BadUserInput, and Conflict if the name is in use."""
    actor.require("organization:manage")
    name = names.checked("name", name, MAX_NAME)
    new = insert(organizations).values(name=name, name_key=names.key(name)).returning(organizations.c.id)
    organization: UUID = await work.scalar(new)
    return organization


async def exists(work: Work, organization_id: UUID) -> bool:
    """Whether there is an organization."""
    return await work.scalar(select(organizations.c.id).where(organizations.c.id == organization_id)) is not None


async def add_member(work: Work, actor: Actor, organization_id: UUID, user_id: UUID) -> None:
    """Make a user a member. Raises Forbidden, NotFound for either, and Conflict if they are already a member."""
    actor.require("organization:manage")
    for table, key in ((organizations, organization_id), (users, user_id)):
        if await work.scalar(select(table.c.id).where(table.c.id == key)) is None:
            noun = table.name.removesuffix("s")
            raise NotFound(f"there is no such {noun}", f"{noun}Id")
    await work.execute(insert(memberships).values(organization_id=organization_id, user_id=user_id))


async def remove_member(work: Work, actor: Actor, organization_id: UUID, user_id: UUID) -> None:
    """Undo ``add_member``. Raises Forbidden, and NotFound if the user is not a member."""
    actor.require("organization:manage")
    membership = delete(memberships).where(
        memberships.c.organization_id == organization_id, memberships.c.user_id == user_id
    )
    if not await work.execute(membership):
        raise NotFound("there is no such member")
