"""Who may write spans, and who may see them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Uuid, bindparam, select

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Forbidden, NotFound
from isola.platform.tenants import Tenant
from isola.subjects import operations, organizations, resources
from isola.subjects.actor import Actor
from isola.subjects.spans import Span, Visibility, spans as table
from tests.subjects.nouns.conftest import People, state


async def seen(work: Transaction, viewer: Actor) -> Sequence[str]:
    who = bindparam("viewer", viewer.user_id, Uuid)
    rows = await work.rows(select(table.c.title).where(Span.visible(table.c, who)).order_by(table.c.title))
    return [row["title"] for row in rows]


async def organization(work: Transaction, people: People, name: str, *members: Actor) -> UUID:
    made = await organizations.create(work, people.admin, name=name)
    for member in members:
        await organizations.add_member(work, people.admin, made, member.user_id)
    return made


async def write(work: Transaction, actor: Actor, **values: Any) -> UUID:
    return await operations.create(work, actor, Span, values)


async def test_each_visibility_is_seen_by_whom_it_names(database: Database, a: Tenant, people: People) -> None:
    ada, bob, admin, viewer = people.ada, people.bob, people.admin, people.viewer
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", ada, bob)
        blue = await organization(work, people, "blue", ada, viewer)
        for title, visibility, within in (
            ("private", Visibility.PRIVATE, None),
            ("private in red", Visibility.PRIVATE, red),
            ("red", Visibility.ORGANIZATION, red),
            ("blue", Visibility.ORGANIZATION, blue),
            ("public", Visibility.PUBLIC, None),
            ("public in red", Visibility.PUBLIC, red),
        ):
            await write(work, ada, title=title, visibility=visibility, organization=within)
        everybodys = ["public", "public in red"]
        assert await seen(work, ada) == ["blue", "private", "private in red", *everybodys, "red"]
        assert await seen(work, bob) == [*everybodys, "red"]
        assert await seen(work, viewer) == ["blue", *everybodys]
        # The permission to manage resources does not include reading private spans.
        assert await seen(work, admin) == everybodys


async def test_leaving_an_organization_ends_its_sight_but_not_of_ones_own(
    database: Database, a: Tenant, people: People
) -> None:
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", people.ada, people.bob)
        for author in (people.ada, people.bob):
            title = "of bob" if author is people.bob else "of ada"
            await write(work, author, title=title, visibility=Visibility.ORGANIZATION, organization=red)
        assert await seen(work, people.bob) == ["of ada", "of bob"]
        await organizations.remove_member(work, people.admin, red, people.bob.user_id)
        assert await seen(work, people.bob) == ["of bob"]
        assert await seen(work, people.ada) == ["of ada", "of bob"]


async def test_nobody_sees_the_public_spans_of_another_tenant(
    database: Database, a: Tenant, b: Tenant, people: People
) -> None:
    async with database.transaction(a) as work:
        await write(work, people.ada, title="public", visibility=Visibility.PUBLIC)
    async with database.transaction(b) as work:
        assert await seen(work, people.ada) == []


async def test_a_span_is_written_as_it_was_said(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", people.ada)
        resource = await resources.create(work, people.bob, name="of bob")
        span = await write(
            work,
            people.ada,
            title="t",
            payload=[1, {"a": None}],
            visibility=Visibility.ORGANIZATION,
            resource=resource,
            organization=red,
        )
        (row,) = await work.rows(select(table))
    assert {**row, "created_at": None} == {
        "id": span, "author_id": people.ada.user_id, "title": "t", "payload": [1, {"a": None}],
        "resource_id": resource, "organization_id": red, "visibility": "organization", "created_at": None,
    }  # fmt: skip


async def test_what_cannot_be_written_is_refused(database: Database, a: Tenant, b: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", people.bob)
    async with database.transaction(b) as work:
        theirs = await organization(work, people, "theirs")
    before = await state(database, a)
    good: dict[str, Any] = {"title": "t", "payload": {}, "visibility": Visibility.PUBLIC}
    missing = "there is no such resource"
    outsider = "only members of an organization may write spans for it"
    for actor, values, kind, reason in (
        (people.viewer, {}, Forbidden, "span:write"),
        (people.ada, {"title": ""}, BadUserInput, "title: expected 1 to 200 characters, not 0"),
        (people.ada, {"title": "t" * 201}, BadUserInput, "title: expected 1 to 200 characters, not 201"),
        (people.ada, {"title": "a\x00b"}, BadUserInput, "title: expected no NUL character"),
        (people.ada, {"payload": {"a": "\ud800"}}, BadUserInput, "payload: expected what JSON in UTF-8 can say"),
        (people.ada, {"payload": None}, BadUserInput, "payload: expected anything but null"),
        (people.ada, {"payload": float("nan")}, BadUserInput, "payload: expected what JSON in UTF-8 can say"),
        (people.ada, {"visibility": Visibility.ORGANIZATION}, BadUserInput, "organizationId: expected"),
        (people.ada, {"resource": uuid4()}, NotFound, missing),
        (people.ada, {"organization": red}, Forbidden, outsider),
        (people.admin, {"organization_id": red, "visibility": Visibility.PRIVATE}, Forbidden, outsider),
        # An organization of another tenant is rejected like a nonexistent one.
        (people.bob, {"organization": theirs}, Forbidden, outsider),
        (people.bob, {"organization": uuid4()}, Forbidden, outsider),
    ):
        async with database.transaction(a) as work:
            with pytest.raises(kind, match=reason):
                await write(work, actor, **{**good, **values})
    assert await state(database, a) == before


async def test_the_database_keeps_the_rules_as_well(database: Database, a: Tenant, people: People) -> None:
    before = await state(database, a)
    for columns, values in (
        ("title", "''"),
        ("title, visibility", "'t', 'secret'"),
        ("title, visibility", "'t', 'organization'"),
    ):
        with pytest.raises(BadUserInput, match="spans: the value breaks the rule"):
            async with database.transaction(a) as work:
                statement = f"INSERT INTO spans (author_id, {columns}) VALUES ($1, {values})"
                await work.value(statement, people.ada.user_id)
    assert await state(database, a) == before
