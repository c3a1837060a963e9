"""Who may write spans, and who may see them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from isola.database.transactions import Database, Transaction
from isola.errors import BadUserInput, Forbidden, NotFound
from isola.platform.tenants import Tenant
from isola.subjects import operations, organizations, resources
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.spans import Span, SpanType, Visibility, spans as table
from isola.testing.oracles.canary import content
from tests.subjects.nouns.conftest import People, state, without


async def seen(database: Database, tenant: Tenant, viewer: Actor) -> Sequence[str]:
    async with database.transaction(tenant, read_only=True, about=viewer.reader) as work:
        rows = await work.rows(select(table.c.title).order_by(table.c.title))
        return [row["title"] for row in rows]


async def organization(work: Transaction, people: People, name: str, *members: Actor) -> UUID:
    made = await organizations.create(work, people.admin, name=name)
    for member in members:
        await organizations.add_member(work, people.admin, made, member.user_id)
    return made


async def write(work: Transaction, actor: Actor, **values: Any) -> UUID:
    return await operations.create(work, actor, Span, values)


async def test_each_visibility_admits_its_readers_only(database: Database, a: Tenant, people: People) -> None:
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
    assert await seen(database, a, ada) == ["blue", "private", "private in red", *everybodys, "red"]
    assert await seen(database, a, bob) == [*everybodys, "red"]
    assert await seen(database, a, viewer) == ["blue", *everybodys]
    # The permission to manage resources does not include reading private spans.
    assert await seen(database, a, admin) == everybodys


async def test_leaving_an_organization_ends_its_sight_but_not_of_ones_own(
    database: Database, a: Tenant, people: People
) -> None:
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", people.ada, people.bob)
        for author in (people.ada, people.bob):
            title = "of bob" if author is people.bob else "of ada"
            await write(work, author, title=title, visibility=Visibility.ORGANIZATION, organization=red)
    assert await seen(database, a, people.bob) == ["of ada", "of bob"]
    async with database.transaction(a) as work:
        await organizations.remove_member(work, people.admin, red, people.bob.user_id)
    assert await seen(database, a, people.bob) == ["of bob"]
    assert await seen(database, a, people.ada) == ["of ada", "of bob"]


async def test_nobody_sees_the_public_spans_of_another_tenant(
    database: Database, a: Tenant, b: Tenant, people: People
) -> None:
    async with database.transaction(a) as work:
        await write(work, people.ada, title="public", visibility=Visibility.PUBLIC)
    assert await seen(database, b, people.ada) == []


async def test_a_span_is_stored_with_the_given_values(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", people.ada)
        resource = await resources.create(work, people.bob, name="of bob")
        span = await write(
            work,
            people.ada,
            title="t",
            payload=[1, {"a": None}],
            metadata={"b": 1},
            node="urn:device:17",
            delta_s=-0.5,
            visibility=Visibility.ORGANIZATION,
            resource=resource,
            organization=red,
        )
    async with database.transaction(a, about=people.ada.reader) as work:
        (row,) = await work.rows(select(table))
    assert {**row, "created_at": None, "updated_at": None} == {
        "id": span, "type": "user", "author_id": people.ada.user_id, "title": "t", "payload": [1, {"a": None}],
        "metadata": {"b": 1}, "resource_id": resource, "organization_id": red, "visibility": "organization",
        "node": "urn:device:17", "delta_s": -0.5, "replay_from_id": None, "verification": "pending",
        "signing_key_id": None, "signature": None, "created_at": None, "updated_at": None,
    }  # fmt: skip


async def test_invalid_spans_are_refused(database: Database, a: Tenant, b: Tenant, people: People) -> None:
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
        (
            people.ada,
            {"payload": {"a": "\ud800"}},
            BadUserInput,
            "payload: expected a value that JSON in UTF-8 can represent",
        ),
        (people.ada, {"payload": None}, BadUserInput, "payload: expected a value other than null"),
        (
            people.ada,
            {"payload": float("nan")},
            BadUserInput,
            "payload: expected a value that JSON in UTF-8 can represent",
        ),
        (people.ada, {"visibility": Visibility.ORGANIZATION}, BadUserInput, "organizationId: expected"),
        (people.ada, {"resource": uuid4()}, NotFound, missing),
        (people.ada, {"organization": red}, Forbidden, outsider),
        (people.admin, {"organization_id": red, "visibility": Visibility.PRIVATE}, Forbidden, outsider),
        # An organization of another tenant is rejected like a nonexistent one.
        (people.bob, {"organization": theirs}, Forbidden, outsider),
        (people.bob, {"organization": uuid4()}, Forbidden, outsider),
        (people.ada, {"type": SpanType.GHOST, "author": people.ada.user_id}, BadUserInput, "authorId: expected none"),
        (people.ada, {"author": people.bob.user_id}, Forbidden, "authorId: expected the caller's own id"),
        (people.ada, {"type": SpanType.SYSTEM, "author": uuid4()}, Forbidden, "authorId: expected the caller's own id"),
        (people.ada, {"delta_s": float("inf")}, BadUserInput, "deltaS: expected a finite number"),
        (people.ada, {"delta_s": float("nan")}, BadUserInput, "deltaS: expected a finite number"),
        (people.ada, {"node": "device 17"}, BadUserInput, "node: expected a URI with a scheme"),
        (people.ada, {"metadata": {"a": "b" * 2**16}}, BadUserInput, "metadata: expected at most 65536 bytes of JSON"),
    ):
        async with database.transaction(a) as work:
            with pytest.raises(kind, match=reason):
                await write(work, actor, **{**good, **values})
    assert await state(database, a) == before


async def test_the_database_enforces_the_rules_as_well(database: Database, a: Tenant, people: People) -> None:
    before = await state(database, a)
    for columns, values in (
        ("title", "''"),
        ("title, visibility", "'t', 'secret'"),
        ("title, visibility", "'t', 'organization'"),
        ("title, type", "'t', 'ghost'"),
        ("title, type", "'t', 'other'"),
        ("title, delta_s", "'t', 'infinity'"),
        ("title, verification", "'t', 'unknown'"),
        ("title, signature", "'t', 'of no key'"),
        ("title, metadata", "'t', to_jsonb(repeat('m', 65536))"),
    ):
        with pytest.raises(BadUserInput, match="spans: the value violates the rule"):
            async with database.transaction(a) as work:
                statement = f"INSERT INTO spans (author_id, {columns}) VALUES ($1, {values})"
                await work.value(statement, people.ada.user_id)
    assert await state(database, a) == before


async def test_the_type_determines_the_author(database: Database, a: Tenant, people: People) -> None:
    ada = people.ada
    async with database.transaction(a) as work:
        for type_ in SpanType:
            await write(work, ada, title=type_.name, type=type_, visibility=Visibility.PUBLIC)
        for type_ in (SpanType.SYSTEM, SpanType.ORGANIZATION, SpanType.USER):
            await write(work, ada, title=f"{type_.name} of ada", type=type_, author=ada.user_id)
    rows = (await content(database, a))["spans"]
    assert {row["title"]: row["author_id"] and str(row["author_id"]) for row in rows} == {
        "USER": str(ada.user_id), "SYSTEM": None, "ORGANIZATION": None, "GHOST": None,
        "SYSTEM of ada": str(ada.user_id), "ORGANIZATION of ada": str(ada.user_id), "USER of ada": str(ada.user_id),
    }  # fmt: skip


async def test_spans_without_an_author_are_visible_with_a_permission(
    database: Database, a: Tenant, people: People
) -> None:
    ada, bob, admin = people.ada, people.bob, people.admin
    assert admin.permissions - ada.permissions >= {Permission.GHOST_READ}
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", ada, bob)
        for type_ in (SpanType.GHOST, SpanType.SYSTEM):
            for visibility in Visibility:
                within = red if visibility is Visibility.ORGANIZATION else None
                title = f"{type_.value} {visibility.value}"
                await write(work, ada, title=title, type=type_, visibility=visibility, organization=within)
    ghosts = ["ghost organization", "ghost private", "ghost public"]
    systems = ["system organization", "system private", "system public"]
    for member in (ada, bob):
        assert await seen(database, a, member) == ["system organization", "system public"]
    assert await seen(database, a, people.viewer) == ["system public"]
    assert await seen(database, a, admin) == [*ghosts, *systems]
    assert await seen(database, a, without(admin, Permission.GHOST_READ)) == ["system public"]


async def test_authors_and_managers_change_and_delete_visible_spans(
    database: Database, a: Tenant, people: People
) -> None:
    ada, bob, admin = people.ada, people.bob, people.admin
    async with database.transaction(a) as work:
        red = await organization(work, people, "red", ada)
        public = await write(work, ada, title="public", visibility=Visibility.PUBLIC)
        private = await write(work, ada, title="private")
        system = await write(work, ada, title="system", type=SpanType.SYSTEM, visibility=Visibility.PUBLIC)
        ghost = await write(work, ada, title="ghost", type=SpanType.GHOST)
    before = await state(database, a)
    refused: Sequence[tuple[Actor, UUID, dict[str, Any], type[Exception]]] = (
        (bob, public, {"title": "x"}, Forbidden),
        (bob, private, {"title": "x"}, NotFound),
        (admin, private, {"title": "x"}, NotFound),
        (ada, system, {"title": "x"}, Forbidden),
        (ada, ghost, {"title": "x"}, NotFound),
        (people.viewer, public, {"title": "x"}, Forbidden),
        (ada, public, {"visibility": Visibility.ORGANIZATION}, BadUserInput),
        (admin, public, {"visibility": Visibility.ORGANIZATION, "organization": red}, Forbidden),
        (ada, public, {"metadata": ["m" * 2**16]}, BadUserInput),
    )
    for actor, key, changes, kind in refused:
        with pytest.raises(kind):
            async with database.transaction(a, about=actor.reader) as work:
                await operations.update(work, actor, Span, key, changes)
        if "title" in changes:
            with pytest.raises(kind):
                async with database.transaction(a, about=actor.reader) as work:
                    await operations.remove(work, actor, Span, key)
    assert await state(database, a) == before
    changes = {"title": "new", "visibility": Visibility.ORGANIZATION, "organization": red, "metadata": {"a": 1}}
    for actor, key, values in (
        (ada, public, changes),
        (admin, system, {"title": "managed"}),
        (admin, ghost, {"title": "managed"}),
    ):
        async with database.transaction(a, about=actor.reader) as work:
            await operations.update(work, actor, Span, key, values)
    rows = (await content(database, a))["spans"]
    assert [(row["title"], row["visibility"]) for row in rows] == [
        ("new", "organization"), ("private", "private"), ("managed", "public"), ("managed", "private"),
    ]  # fmt: skip
    for actor, key in ((ada, public), (ada, private), (admin, system), (admin, ghost)):
        async with database.transaction(a, about=actor.reader) as work:
            await operations.remove(work, actor, Span, key)
    assert (await content(database, a))["spans"] == []
