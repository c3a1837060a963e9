"""Who may create, change and delete resources, and their valid values."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import select

from isola.database.transactions import Database
from isola.errors import BadUserInput, Forbidden, NotFound
from isola.platform.tenants import Tenant
from isola.subjects import document, resources, shares
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission
from isola.subjects.resources import resources as table
from isola.testing.isolation.sharing.reading import row_of
from tests.subjects.nouns.conftest import People, state, without


async def made(database: Database, tenant: Tenant, actor: Actor, name: str = "one") -> UUID:
    async with database.transaction(tenant) as work:
        return await resources.create(work, actor, name=name)


async def test_omitted_values_get_their_defaults(database: Database, a: Tenant, people: People) -> None:
    resource = await made(database, a, people.ada)
    async with database.transaction(a) as work:
        (row,) = await work.rows(select(table).where(table.c.id == resource))
    assert (row["owner_id"], row["name"], row["kind"], row["data"], row["size_bytes"]) == (
        people.ada.user_id,
        "one",
        None,
        {},
        0,
    )
    assert row["created_at"] == row["updated_at"]
    assert resource.version == 7


VALUES: list[Any] = [
    False, 0, -0.5, 2**63, 10**99, Decimal("12345678901234567.89"), Decimal("1.10"), Decimal("1e-90"),
    "", "\\u0000", "\\", '\\"', "\u2028 \U0001f600 'quoted\"", [], {},
    {"": {"a.b": [1, [2, {"c": None}]]}}, "%s %(x)s :x $1", [[] for _ in range(10_000)],
]  # fmt: skip


async def test_any_json_is_stored_unchanged(database: Database, a: Tenant, people: People) -> None:
    deepest: Any = 1
    for _ in range(document.MAX_DEPTH):
        deepest = [deepest]
    async with database.transaction(a) as work:
        for data in (*VALUES, deepest):
            resource = await resources.create(work, people.ada, name="one", data=data)
            assert await work.scalar(select(table.c.data).where(table.c.id == resource)) == data


async def test_an_update_changes_only_the_named_fields(database: Database, a: Tenant, people: People) -> None:
    async with database.transaction(a) as work:
        one = await resources.create(work, people.ada, name="one", kind="report", data={"a": 1}, size_bytes=7)
        other = await resources.create(work, people.ada, name="other")
    async with database.transaction(a) as work:
        (before,) = await work.rows(select(table).where(table.c.id == one))
        (neighbour,) = await work.rows(select(table).where(table.c.id == other))
        await resources.update(work, people.ada, one, kind=None, data=[2])
        (after,) = await work.rows(select(table).where(table.c.id == one))
        assert after["updated_at"] > before["updated_at"]
        assert {**after, "updated_at": None} == {**before, "kind": None, "data": [2], "updated_at": None}
        assert await work.rows(select(table).where(table.c.id == other)) == [neighbour]


async def test_creating_resources_requires_the_permission(database: Database, a: Tenant, people: People) -> None:
    before = await state(database, a)
    async with database.transaction(a) as work:
        with pytest.raises(Forbidden, match="resource:write"):
            await resources.create(work, people.viewer, name="one")
    assert await state(database, a) == before


async def test_owner_and_admin_change_and_delete_and_nobody_else(database: Database, a: Tenant, people: People) -> None:
    resource = await made(database, a, people.ada)
    before = await state(database, a)
    refused = {
        people.bob: "only the owner",
        people.viewer: "resource:write",
        without(people.ada, Permission.RESOURCE_WRITE): "resource:write",
        without(people.admin, Permission.RESOURCE_MANAGE): "only the owner",
        without(people.admin, Permission.RESOURCE_WRITE): "resource:write",
    }
    for actor, reason in refused.items():
        async with database.transaction(a) as work:
            with pytest.raises(Forbidden, match=reason):
                await resources.update(work, actor, resource, name="taken")
            with pytest.raises(Forbidden, match=reason):
                await resources.delete(work, actor, resource)
    assert await state(database, a) == before

    for actor in (people.ada, people.admin):
        async with database.transaction(a) as work:
            await resources.update(work, actor, resource, name="changed")
            assert await work.scalar(select(table.c.owner_id)) == people.ada.user_id
            await resources.delete(work, actor, resource)
            assert await work.rows(select(table)) == []
        resource = await made(database, a, people.ada)


async def test_another_tenants_rows_are_not_found_like_missing_ones(
    database: Database, a: Tenant, b: Tenant, people: People
) -> None:
    async with database.transaction(b) as work:
        stranger = await work.value("INSERT INTO users (subject, name) VALUES ('eve', 'Eve') RETURNING id")
    theirs = await made(database, b, Actor(stranger, people.admin.permissions))
    before = await state(database, a), await state(database, b)
    told = set()
    for missing in (theirs, uuid4()):
        for actor in (people.admin, people.viewer):
            async with database.transaction(a) as work:
                with pytest.raises(NotFound) as refused:
                    await resources.update(work, actor, missing, name="taken")
                told.add(refused.value.message)
                with pytest.raises(NotFound) as refused:
                    await resources.delete(work, actor, missing)
                told.add(refused.value.message)
    assert told == {"there is no such resource"}
    assert (await state(database, a), await state(database, b)) == before


async def test_deleting_a_resource_ends_its_shares_and_clears_references(
    database: Database, a: Tenant, b: Tenant, people: People
) -> None:
    one, other = await made(database, a, people.ada), await made(database, a, people.ada, "other")
    async with database.transaction(a) as work:
        for resource in (one, other):
            await shares.grant(work, people.ada, "resource", resource, b.slug)
            await work.value(
                "INSERT INTO spans (author_id, title, resource_id) VALUES ($1, 's', $2)", people.bob.user_id, resource
            )
        await resources.delete(work, people.ada, one)
    async with database.transaction(a, about=people.bob.reader) as work:
        assert await work.texts("SELECT resource_id FROM spans ORDER BY created_at, resource_id") == [other, None]
    async with database.transaction(b) as work:
        (share,) = await work.texts("SELECT id FROM isola.shares_received()")
        assert await work.value(f"SELECT name FROM {row_of()}", share) == "other"


def nested(depth: int) -> Any:
    value: Any = {}
    for number in range(depth - 1):
        value = {"a": value} if number % 2 else [value]
    return value


CANNOT_BE: dict[str, tuple[dict[str, Any], str]] = {
    "empty name": ({"name": ""}, "name: expected 1 to 200 characters"),
    "long name": ({"name": "n" * 201}, "name: expected 1 to 200 characters"),
    "NUL in the name": ({"name": "a\x00b"}, "name: expected no NUL character"),
    "half a character in the name": ({"name": "a\ud800"}, "name: expected a value that JSON in UTF-8 can represent"),
    "NUL in the kind": ({"kind": "\x00"}, "kind: expected no NUL character"),
    "half a character in the kind": ({"kind": "\udfff"}, "kind: expected a value that JSON in UTF-8 can represent"),
    "negative size": ({"size_bytes": -1}, "sizeBytes: expected 0 to 9007199254740991"),
    "great size": ({"size_bytes": 2**53}, "sizeBytes: expected 0 to 9007199254740991"),
    "greater than any column": ({"size_bytes": 2**64}, "sizeBytes: expected 0 to 9007199254740991"),
    "NUL deep in the data": ({"data": {"a": [{"b": "x\x00"}]}}, "data: expected no NUL character"),
    "NUL in a key": ({"data": {"\x00": 1}}, "data: expected no NUL character"),
    "NUL behind a backslash": ({"data": "\\\x00"}, "data: expected no NUL character"),
    "half a character in the data": ({"data": ["\udc00"]}, "data: expected a value that JSON in UTF-8 can represent"),
    "null as data": ({"data": None}, "data: expected a value other than null"),
    "no number": ({"data": float("nan")}, "data: expected a value that JSON in UTF-8 can represent"),
    "no end": ({"data": [float("-inf")]}, "data: expected a value that JSON in UTF-8 can represent"),
    "too deep": ({"data": nested(101)}, "data: expected at most 100 levels of nesting"),
    "far too deep": ({"data": nested(100_000)}, "data: expected at most 100 levels of nesting"),
}


async def test_invalid_values_are_refused_naming_the_field(database: Database, a: Tenant, people: People) -> None:
    resource = await made(database, a, people.ada)
    before = await state(database, a)
    async with database.transaction(a) as work:
        for values, reason in CANNOT_BE.values():
            with pytest.raises(BadUserInput) as refused:
                await resources.create(work, people.ada, **{"name": "two", **values})
            assert refused.value.message.startswith(reason)
            with pytest.raises(BadUserInput) as refused:
                await resources.update(work, people.ada, resource, **values)
            assert refused.value.message.startswith(reason)
    assert await state(database, a) == before


async def test_the_longest_and_greatest_that_can_be(database: Database, a: Tenant, people: People) -> None:
    name = "\U0001f600" * 200
    async with database.transaction(a) as work:
        await resources.create(work, people.ada, name=name, size_bytes=2**53 - 1, data=nested(100))
        (row,) = await work.rows(select(table.c.name, table.c.size_bytes, table.c.data))
    assert dict(row) == {"name": name, "size_bytes": 2**53 - 1, "data": nested(100)}
