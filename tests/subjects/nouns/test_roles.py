"""Users cannot grant or revoke permissions that they lack, and the last owner cannot be removed."""

from collections.abc import Awaitable, Callable
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound, Refusal
from isola.platform.tenants import Tenant
from isola.subjects import roles, users
from isola.subjects.actor import Actor, Allowed, Denied
from isola.subjects.permissions import Permission, Role, of_role
from isola.subjects.work import Work
from tests.subjects.nouns.conftest import state

READS = frozenset({Permission.RESOURCE_READ, Permission.SPAN_READ})


class Place:
    """A tenant with an owner, an admin, an editor and a viewer."""

    def __init__(self, database: Database, tenant: Tenant) -> None:
        self.database = database
        self.tenant = tenant
        self.actors: dict[str, Actor] = {}
        self.roles: dict[str, UUID] = {}

    async def run(self, what: Callable[[Work], Awaitable[UUID | None]]) -> UUID | None:
        async with self.database.transaction(self.tenant) as work:
            return await what(work)

    async def refused(self, error: type[Refusal], what: Callable[[Work], Awaitable[UUID | None]]) -> str:
        """Check that a refusal changes nothing, and return its message."""
        before = await state(self.database, self.tenant)
        with pytest.raises(error) as caught:
            await self.run(what)
        assert await state(self.database, self.tenant) == before
        return caught.value.message

    async def permissions(self, name: str) -> frozenset[str]:
        async with self.database.transaction(self.tenant) as work:
            standing = await roles.standing(work, subject=name)
        assert standing
        return standing.permissions


@pytest.fixture
async def place(database: Database, a: Tenant) -> Place:
    made = Place(database, a)
    async with database.transaction(a) as work:
        for role in Role:
            standing = await roles.admit(work, subject=role.value, name=None, email=None, role=role)
            made.actors[role] = Actor(standing.user_id, standing.permissions)
        rows = await work.rows(select(roles.roles.c.name, roles.roles.c.id))
        made.roles = {row["name"]: row["id"] for row in rows}
    return made


def test_a_refused_check_gives_the_reason() -> None:
    actor = Actor(uuid4(), {"resource:read"})
    assert isinstance(actor.may("resource:read"), Allowed)
    assert actor.may("resource:write") == Denied("this needs the permission resource:write")
    assert actor.may_all({"resource:read", "span:read"}) == Denied("this needs the permission span:read as well")


async def test_a_first_sign_in_assigns_a_role_and_later_ones_use_the_stored_roles(
    database: Database, a: Tenant
) -> None:
    async with database.transaction(a) as work:
        assert await roles.standing(work, subject="ada") is None
        first = await roles.admit(work, subject="ada", name="Ada", email=None, role=Role.EDITOR)
        again = await roles.admit(work, subject="ada", name="Ada", email=None, role=Role.OWNER)
    assert (first.roles, first.permissions) == (("editor",), of_role(Role.EDITOR))
    assert again == first


async def test_a_user_without_a_role_has_no_permissions(database: Database, a: Tenant) -> None:
    async with database.transaction(a) as work:
        standing = await roles.admit(work, subject="ada", name=None, email=None, role=None)
    assert (standing.roles, standing.permissions, standing.disabled) == ((), frozenset(), False)


async def test_a_role_is_created_granted_changed_revoked_and_deleted(place: Place) -> None:
    admin, viewer = place.actors["admin"], place.actors["viewer"].user_id
    key = await place.run(lambda work: roles.create(work, admin, name="reader", permissions=READS))
    assert key
    mia = Actor(viewer, of_role(Role.VIEWER))
    await place.run(lambda work: roles.unassign(work, admin, mia.user_id, place.roles["viewer"]))
    await place.run(lambda work: roles.assign(work, admin, mia.user_id, key))
    assert await place.permissions("viewer") == READS
    await place.run(lambda work: roles.update(work, admin, key, permissions=READS | {Permission.SPAN_WRITE}))
    assert await place.permissions("viewer") == READS | {Permission.SPAN_WRITE}
    await place.run(lambda work: roles.delete(work, admin, key))
    assert await place.permissions("viewer") == frozenset()


async def test_nobody_makes_or_widens_a_role_beyond_their_own(place: Place) -> None:
    admin = place.actors["admin"]
    manager = Actor(admin.user_id, READS | {Permission.ROLE_MANAGE})
    wide = READS | {Permission.SPAN_WRITE}
    told = await place.refused(Forbidden, lambda work: roles.create(work, manager, name="x", permissions=wide))
    assert told == "this needs the permission span:write as well"
    narrow = await place.run(lambda work: roles.create(work, manager, name="narrow", permissions=READS))
    broad = await place.run(lambda work: roles.create(work, admin, name="broad", permissions=wide))
    assert narrow
    assert broad
    await place.refused(Forbidden, lambda work: roles.update(work, manager, narrow, permissions=wide))
    # Nor may a role with more permissions be changed or deleted.
    await place.refused(Forbidden, lambda work: roles.update(work, manager, broad, permissions=READS))
    await place.refused(Forbidden, lambda work: roles.delete(work, manager, broad))


async def test_an_admin_makes_no_owner_and_unmakes_none(place: Place) -> None:
    admin, owner, editor = (place.actors[name] for name in ("admin", "owner", "editor"))
    for refused in (
        lambda work: roles.assign(work, admin, editor.user_id, place.roles["owner"]),
        lambda work: roles.assign(work, admin, admin.user_id, place.roles["owner"]),
        lambda work: roles.unassign(work, admin, owner.user_id, place.roles["owner"]),
        lambda work: roles.assign(work, admin, owner.user_id, place.roles["viewer"]),
        lambda work: roles.disable(work, admin, owner.user_id),
        lambda work: roles.enable(work, admin, owner.user_id),
    ):
        assert await place.refused(Forbidden, refused) == "this needs the permission descendant:enter as well"


@pytest.mark.parametrize("name", ["editor", "viewer"])
async def test_changing_roles_and_users_requires_the_permissions(place: Place, name: str) -> None:
    actor, viewer, role = place.actors[name], place.actors["viewer"].user_id, place.roles["viewer"]
    for refused in (
        lambda work: roles.create(work, actor, name="x", permissions=frozenset()),
        lambda work: roles.update(work, actor, role, name="x"),
        lambda work: roles.delete(work, actor, role),
        lambda work: roles.assign(work, actor, viewer, role),
        lambda work: roles.unassign(work, actor, viewer, role),
        lambda work: roles.disable(work, actor, viewer),
        lambda work: roles.enable(work, actor, viewer),
    ):
        await place.refused(Forbidden, refused)


async def test_the_last_owner_cannot_be_removed(place: Place) -> None:
    owner, admin = place.actors["owner"], place.actors["admin"]
    taken = lambda work: roles.unassign(work, owner, owner.user_id, place.roles["owner"])  # noqa: E731  said twice
    assert await place.refused(Conflict, taken) == "the last owner cannot be removed"
    await place.run(lambda work: roles.assign(work, owner, admin.user_id, place.roles["owner"]))
    await place.run(lambda work: roles.disable(work, owner, admin.user_id))
    # A disabled owner does not count.
    await place.refused(Conflict, taken)
    await place.run(lambda work: roles.enable(work, owner, admin.user_id))
    await place.run(taken)
    second = Actor(admin.user_id, of_role(Role.OWNER))
    await place.refused(Forbidden, lambda work: roles.disable(work, second, admin.user_id))


@pytest.mark.parametrize("subject", ["key:0123456789ab", "parent:0b6ab8f0", "staff:eve", "never-came-in"])
async def test_users_that_cannot_sign_in_do_not_count_as_owners(place: Place, subject: str) -> None:
    owner = place.actors["owner"]
    other = await place.run(lambda work: users.ensure(work, subject=subject, name=None, email=None))
    assert isinstance(other, UUID)
    await place.run(lambda work: roles.assign(work, owner, other, place.roles["owner"]))
    await place.refused(Conflict, lambda work: roles.unassign(work, owner, owner.user_id, place.roles["owner"]))
    # Removing the role of such a user removes no effective owner.
    await place.run(lambda work: roles.unassign(work, owner, other, place.roles["owner"]))


async def test_a_user_is_disabled_and_enabled(place: Place, database: Database) -> None:
    admin, editor = place.actors["admin"], place.actors["editor"].user_id
    for change, disabled in ((roles.disable, True), (roles.disable, True), (roles.enable, False)):
        await place.run(partial(change, actor=admin, user_id=editor))
        async with database.transaction(place.tenant) as work:
            standing = await roles.standing(work, subject="editor")
        assert standing
        assert standing.disabled is disabled


async def test_built_in_roles_cannot_be_changed(place: Place) -> None:
    owner = place.actors["owner"]
    for role in place.roles.values():
        await place.refused(Forbidden, partial(roles.update, actor=owner, role_id=role, name="x"))
        await place.refused(Forbidden, partial(roles.delete, actor=owner, role_id=role))


LOOK_ALIKES = [
    "owner", "Owner", "OWNER", " owner ", "\u043ewner", "own\u0435r", "0wner", "\uff4f\uff57\uff4e\uff45\uff52",
    "\U0001d428\U0001d430\U0001d427\U0001d41e\U0001d42b", "\ua4f3\ua4ea\ua4e0\ua4f0\ua4e3", "\u014dwner", "o.w.n.e.r",
    "own er", "\u24deWNER", "\u03bfwner", "adm1n", "ADM\u0130N", "\u0430dmin", "\u0391DMIN", "adrnin", "v\u0131ewer",
    "vievver", "\u0435ditor", "edit0r",
]  # fmt: skip
UNSEEN = [
    "x\n", "a\x00b", "a\tb", "own\u200ber", "a\u200db", "a\u202eb", "a\u2066b", "a\u00adb", "\ufeffa", "a\u034fb",
    "\u3164", "\u2800", "a\U000e0101b", "a\ud800b", "a\u2028b", "\ue000",
]  # fmt: skip


@pytest.mark.parametrize("name", ["", " ", "x" * 101, *LOOK_ALIKES, *UNSEEN])
async def test_an_invalid_name_is_refused(place: Place, name: str) -> None:
    owner = place.actors["owner"]
    reader = await place.run(lambda work: roles.create(work, owner, name="reader", permissions=READS))
    assert reader
    for refused in (
        lambda work: roles.create(work, owner, name=name, permissions=READS),
        lambda work: roles.update(work, owner, reader, name=name),
    ):
        told = await place.refused(BadUserInput, refused)
        assert told.startswith("name: expected ")
        assert not name.strip() or name not in told


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("M\u00fcller", "Mu\u0308ller"),
        ("Stra\u00dfe", "STRASSE"),
        ("Team  A", "team\u00a0a"),
        ("\ufb01nance", "Finance"),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
        ("reader", "\uff32eader"),
    ],
)
async def test_names_that_people_take_for_one_are_one(place: Place, name: str, again: str) -> None:
    owner = place.actors["owner"]
    first = await place.run(lambda work: roles.create(work, owner, name=name, permissions=READS))
    other = await place.run(lambda work: roles.create(work, owner, name="other", permissions=READS))
    assert first
    assert other
    for refused in (
        lambda work: roles.create(work, owner, name=again, permissions=READS),
        lambda work: roles.update(work, owner, other, name=again),
    ):
        assert await place.refused(Conflict, refused) == "roles: there is one with the same name already"
    await place.run(lambda work: roles.update(work, owner, first, name=again))


async def test_names_are_stored_in_one_normal_form(place: Place) -> None:
    owner = place.actors["owner"]
    await place.run(
        lambda work: roles.create(work, owner, name="  Mu\u0308ller \u3000 & S\u00f6hne ", permissions=READS)
    )
    async with place.database.transaction(place.tenant) as work:
        found = await work.rows(select(roles.roles.c.name).where(roles.roles.c.name_key.like("m%")))
    assert [row["name"] for row in found] == ["M\u00fcller & S\u00f6hne"]


async def test_missing_rows_are_refused(place: Place) -> None:
    owner, viewer = place.actors["owner"], place.actors["viewer"].user_id
    unknown = frozenset({"resource:fly"})
    await place.refused(BadUserInput, lambda work: roles.create(work, owner, name="x", permissions=unknown))
    for missing in (
        lambda work: roles.update(work, owner, uuid4(), name="x"),
        lambda work: roles.delete(work, owner, uuid4()),
        lambda work: roles.assign(work, owner, uuid4(), place.roles["viewer"]),
        lambda work: roles.assign(work, owner, viewer, uuid4()),
        lambda work: roles.unassign(work, owner, viewer, place.roles["editor"]),
        lambda work: roles.disable(work, owner, uuid4()),
    ):
        await place.refused(NotFound, missing)
    await place.refused(Conflict, lambda work: roles.assign(work, owner, viewer, place.roles["viewer"]))
