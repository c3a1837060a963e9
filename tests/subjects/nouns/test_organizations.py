"""Organizations inside a tenant, and who may create them and add members."""

from uuid import uuid4

import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound
from isola.platform.tenants import Tenant
from isola.subjects import organizations
from tests.subjects.nouns.conftest import People, state


async def test_a_user_may_be_a_member_of_any_number(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        made = [await organizations.create(work, people.admin, name=name) for name in ("red", "blue")]
        for organization in made:
            await organizations.add_member(work, people.admin, organization, people.ada.user_id)
        await organizations.add_member(work, people.admin, made[0], people.bob.user_id)
        await organizations.remove_member(work, people.admin, made[0], people.ada.user_id)
        members = await work.texts(
            "SELECT o.name || ' ' || subject FROM memberships m JOIN organizations o ON o.id = organization_id"
            " JOIN users u ON u.id = user_id ORDER BY 1"
        )
    assert members == ["blue ada", "red bob"]


async def test_managing_organizations_requires_the_permission(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        red = await organizations.create(work, people.admin, name="red")
        await organizations.add_member(work, people.admin, red, people.ada.user_id)
    before = await state(database, a)
    for actor in (people.ada, people.viewer):
        async with database.transaction(a) as work:
            with pytest.raises(Forbidden, match="organization:manage"):
                await organizations.create(work, actor, name="blue")
            with pytest.raises(Forbidden, match="organization:manage"):
                await organizations.add_member(work, actor, red, people.bob.user_id)
            with pytest.raises(Forbidden, match="organization:manage"):
                await organizations.remove_member(work, actor, red, people.ada.user_id)
    assert await state(database, a) == before


async def test_a_forbidden_caller_does_not_learn_what_exists(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        with pytest.raises(Forbidden):
            await organizations.add_member(work, people.ada, uuid4(), uuid4())


async def test_names_are_unique(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        await organizations.create(work, people.admin, name="red")
    before = await state(database, a)
    with pytest.raises(Conflict, match="organizations: there is one with the same name already"):
        async with database.transaction(a) as work:
            await organizations.create(work, people.admin, name="red")
    assert await state(database, a) == before


async def test_a_name_of_few_characters_whose_form_to_compare_is_long_is_refused(
    database: Database, a: Tenant, people: People
) -> None:
    """One character that stands for 18. The refusal says what of it is too long."""
    async with database.transaction(a) as work:
        await organizations.create(work, people.admin, name="\ufdfa" * 33)
        with pytest.raises(BadUserInput, match="name: expected at most 600 characters where compound ones are taken"):
            await organizations.create(work, people.admin, name="\ufdfa" * 34)


async def test_another_tenant_may_have_the_same_name(database: Database, a: Tenant, b: Tenant, people: People) -> None:
    for tenant in (a, b):
        async with database.transaction(tenant) as work:
            await organizations.create(work, people.admin, name="red")
    assert len((await state(database, b))["organizations"]) == 1


async def test_an_invalid_name_is_refused(database: Database, a: Tenant, people: People) -> None:
    before = await state(database, a)
    for name in ("", "n" * 201, "a\x00b", "a\ud800b"):
        with pytest.raises(BadUserInput):
            async with database.transaction(a) as work:
                await organizations.create(work, people.admin, name=name)
    assert await state(database, a) == before


async def test_missing_rows_are_not_found(database: Database, a: Tenant, b: Tenant, people: People) -> None:
    async with database.transaction(b) as work:
        theirs = await organizations.create(work, people.admin, name="theirs")
    async with database.transaction(a) as work:
        red = await organizations.create(work, people.admin, name="red")
    before = await state(database, a), await state(database, b)
    async with database.transaction(a) as work:
        for missing in (uuid4(), theirs):
            with pytest.raises(NotFound, match="there is no such organization"):
                await organizations.add_member(work, people.admin, missing, people.ada.user_id)
        with pytest.raises(NotFound, match="there is no such user"):
            await organizations.add_member(work, people.admin, red, uuid4())
        with pytest.raises(NotFound, match="there is no such member"):
            await organizations.remove_member(work, people.admin, red, people.ada.user_id)
    assert (await state(database, a), await state(database, b)) == before


async def test_a_member_is_added_once(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        red = await organizations.create(work, people.admin, name="red")
        await organizations.add_member(work, people.admin, red, people.ada.user_id)
    before = await state(database, a)
    with pytest.raises(Conflict, match="memberships"):
        async with database.transaction(a) as work:
            await organizations.add_member(work, people.admin, red, people.ada.user_id)
    assert await state(database, a) == before
