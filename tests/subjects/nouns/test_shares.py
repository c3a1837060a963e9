"""Who may share rows, and which data the grantee sees."""

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound
from isola.platform import provisioning
from isola.platform.tenants import Tenant
from isola.subjects import resources, shares, users
from isola.subjects.actor import Actor
from isola.subjects.permissions import Permission, Role, of_role
from isola.testing.isolation.sharing.reading import row_of
from tests.subjects.nouns.conftest import People, state, without


@pytest.fixture
async def one(database: Database, a: Tenant, people: People) -> UUID:
    """A resource of Ada."""
    async with database.transaction(a) as work:
        return await resources.create(work, people.ada, name="one", kind="report", data={"a": 1}, size_bytes=7)


async def received(database: Database, tenant: Tenant) -> list[UUID]:
    async with database.transaction(tenant) as work:
        return [UUID(str(share)) for share in await work.texts("SELECT id FROM isola.shares_received()")]


async def shared(database: Database, tenant: Tenant, share: UUID) -> Sequence[str]:
    async with database.transaction(tenant) as work:
        return await work.texts(f"SELECT to_jsonb(s)::text FROM {row_of()}", share)


async def test_a_partner_reads_shared_rows_only(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        await resources.create(work, people.ada, name="kept")
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    assert await received(database, b) == [share]
    (row,) = await shared(database, b, share)
    assert '"name": "one"' in row
    assert '"owner_id"' not in row
    async with database.transaction(b) as work:
        assert await work.texts("SELECT name FROM resources") == []
        with pytest.raises(NotFound):
            await resources.held(work, Actor(people.ada.user_id, of_role(Role.ADMIN)), one)


async def test_owner_and_admin_share_and_nobody_else(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    before = await state(database, a)
    refused = {
        people.bob: "only the owner",
        people.viewer: "share:write",
        without(people.ada, Permission.SHARE_WRITE): "share:write",
        without(people.ada, Permission.RESOURCE_WRITE): "resource:write",
        without(people.admin, Permission.RESOURCE_MANAGE): "only the owner",
    }
    for actor, reason in refused.items():
        async with database.transaction(a) as work:
            with pytest.raises(Forbidden, match=reason):
                await shares.grant(work, actor, "resource", one, b.slug)
    assert await state(database, a) == before
    assert await received(database, b) == []
    for actor in (people.ada, people.admin):
        async with database.transaction(a, about=actor.reader) as work:
            share = await shares.grant(work, actor, "resource", one, b.slug)
            assert (
                await work.value(
                    "SELECT granted_by FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", one
                )
                == actor.user_id
            )
            await shares.revoke(work, actor, share)


async def test_owner_and_admin_revoke_and_nobody_else(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    before = await state(database, a)
    for actor, reason in {people.bob: "only the owner", people.viewer: "share:write"}.items():
        with pytest.raises(Forbidden, match=reason):
            async with database.transaction(a) as work:
                await shares.revoke(work, actor, share)
    # The grantee cannot revoke it either; the error is that of a nonexistent share.
    for tenant, missing in ((b, share), (a, uuid4())):
        async with database.transaction(tenant) as work:
            with pytest.raises(NotFound, match="there is no such share"):
                await shares.revoke(work, people.admin, missing)
    assert await state(database, a) == before
    assert await received(database, b) == [share]

    async with database.transaction(a) as work:
        await shares.revoke(work, people.admin, share)
    assert await received(database, b) == []
    assert await shared(database, b, share) == []
    async with database.transaction(a) as work:
        with pytest.raises(NotFound):
            await shares.revoke(work, people.admin, share)


async def test_a_revocation_is_felt_by_the_next_statement(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    async with database.transaction(b) as reading:
        assert await reading.value(f"SELECT name FROM {row_of()}", share) == "one"
        async with database.transaction(a) as work:
            await shares.revoke(work, people.ada, share)
        assert await reading.value(f"SELECT name FROM {row_of()}", share) is None


async def test_a_share_ends_when_it_expires(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=2)
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug, expires_at=soon)
    async with database.transaction(b) as reading:
        assert await reading.value("SELECT expires_at FROM isola.shares_received()") == soon
        assert await reading.value(f"SELECT name FROM {row_of()}", share) == "one"
        await asyncio.sleep((soon - datetime.now(UTC)).total_seconds() + 0.02)
        assert await reading.value(f"SELECT name FROM {row_of()}", share) is None
        assert await reading.texts("SELECT id FROM isola.shares_received()") == []
    assert (await state(database, a))["shares"] == []


OWN = """
SELECT (to_jsonb(s) - '{granted_at,granted_by,row_id,subject,grantee_slug}'::text[])::text FROM isola.own_shares s
"""


async def own(database: Database, tenant: Tenant) -> list[Any]:
    """The tenant's shares of its own rows, with what they grant."""
    async with database.transaction(tenant) as work:
        return [json.loads(each) for each in await work.texts(OWN)]


async def test_what_is_shared_already_is_refused_and_changed_by_name(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    async with database.transaction(a) as work:
        share = await shares.grant(
            work, people.ada, "resource", one, b.slug, fields=["name"], expires_at=soon, note="soon"
        )
    granted = await own(database, a)
    for more in ({}, {"fields": ["name", "data"]}, {"expires_at": None}):
        with pytest.raises(Conflict, match="changeShare") as caught:
            async with database.transaction(a) as work:
                await shares.grant(work, people.admin, "resource", one, b.slug, **more)
        assert caught.value.field == "grantee"
    assert await own(database, a) == granted

    expected = granted[0]
    changes: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"note": None}, {"note": None}),
        ({"fields": ["data", "kind"]}, {"fields": ["kind", "data"]}),
        ({"expires_at": None}, {"expires_at": None}),
        ({"note": "for good"}, {"note": "for good"}),
        ({}, {}),
    ]
    for given, changed in changes:
        async with database.transaction(a) as work:
            await shares.change(work, people.ada, share, **given)
        expected |= changed
        assert await own(database, a) == [expected]
    (row,) = await shared(database, b, share)
    assert json.loads(row)["granted_fields"] == ["kind", "data"]
    assert json.loads(row) | {"kind": "report", "data": {"a": 1}, "name": None, "size_bytes": None} == json.loads(row)


async def test_changes_are_for_those_who_may_share(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    before = await state(database, a)
    for actor, reason in {people.bob: "only the owner", people.viewer: "share:write"}.items():
        with pytest.raises(Forbidden, match=reason):
            async with database.transaction(a) as work:
                await shares.change(work, actor, share, note="mine")
    for tenant, missing in ((b, share), (a, uuid4())):
        async with database.transaction(tenant) as work:
            with pytest.raises(NotFound, match="there is no such share"):
                await shares.change(work, people.admin, missing, note="mine")
    assert await state(database, a) == before
    async with database.transaction(a) as work:
        await shares.revoke(work, people.ada, share)
        with pytest.raises(NotFound, match="there is no such share"):
            await shares.change(work, people.ada, share, note="late")


async def test_a_share_without_an_end_has_the_usual_term(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    later = datetime.now(UTC) + timedelta(days=9)
    for given, usual in (({}, True), ({"expires_at": None}, False), ({"expires_at": later}, False)):
        began = datetime.now(UTC)
        async with database.transaction(a) as work:
            share = await shares.grant(
                work,
                people.ada,
                "resource",
                one,
                b.slug,
                term=timedelta(days=3),
                **given,
            )
            until = await work.value("SELECT expires_at FROM isola.own_shares WHERE id = $1", share)
            await shares.revoke(work, people.ada, share)
        if usual:
            assert timedelta(days=3) <= until - began < timedelta(days=3, minutes=1)
        else:
            assert until == given["expires_at"]


async def test_an_invalid_choice_is_refused_by_name(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    refused: list[tuple[dict[str, Any], str, str]] = [
        ({"fields": []}, "fields", "expected at least one"),
        ({"fields": None}, "fields", "expected at least one"),
        ({"fields": ["owner_id"]}, "fields", "expected some of NAME, KIND, DATA, SIZE_BYTES"),
        ({"fields": ["name", "nothing"]}, "fields", "expected some of NAME"),
        ({"expires_at": past}, "expiresAt", "expected a future time"),
        ({"note": ""}, "note", "expected 1 to 500 characters, not 0"),
        ({"note": "n" * 501}, "note", "expected 1 to 500 characters, not 501"),
        ({"note": "\ud800"}, "note", "note"),
    ]
    for choice, field, reason in refused:
        with pytest.raises(BadUserInput, match=reason) as caught:
            async with database.transaction(a) as work:
                await shares.grant(work, people.ada, "resource", one, b.slug, **choice)
        assert caught.value.field == field
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug, note="n" * 500)
    before = await state(database, a)
    for choice, field, reason in refused:
        with pytest.raises(BadUserInput, match=reason) as caught:
            async with database.transaction(a) as work:
                await shares.change(work, people.ada, share, **choice)
        assert caught.value.field == field
    assert await state(database, a) == before


async def test_a_share_that_was_revoked_can_be_granted_anew(
    database: Database, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        gone = await shares.grant(work, people.ada, "resource", one, b.slug)
        await shares.revoke(work, people.ada, gone)
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    assert share != gone
    assert await received(database, b) == [share]
    assert await shared(database, b, gone) == []


async def test_invalid_shares_are_refused(database: Database, a: Tenant, b: Tenant, people: People, one: UUID) -> None:
    async with database.transaction(b) as work:
        stranger = Actor(await users.ensure(work, subject="eve", name=None, email=None), of_role(Role.ADMIN))
        theirs = await resources.create(work, stranger, name="theirs")
    before = await state(database, a), await state(database, b)
    past = datetime.now(UTC) - timedelta(seconds=1)
    partner = "grantee: expected the slug of a partner"
    cases: list[tuple[UUID, str, datetime | None, type[Exception], str]] = [
        (one, "No-body", None, BadUserInput, partner),
        (one, "' OR true --", None, BadUserInput, partner),
        (one, "\u0430cme", None, BadUserInput, partner),
        (one, "a" * 64, None, BadUserInput, partner),
        (one, "", None, BadUserInput, partner),
        (one, a.slug, None, BadUserInput, partner),
        (one, b.slug, past, BadUserInput, "expiresAt: expected a future time"),
        (theirs, b.slug, None, NotFound, "there is no such resource"),
        (uuid4(), b.slug, None, NotFound, "there is no such resource"),
    ]
    for resource, grantee, until, kind, reason in cases:
        async with database.transaction(a) as work:
            with pytest.raises(kind, match=reason):
                await shares.grant(work, people.admin, "resource", resource, grantee, expires_at=until)
    assert (await state(database, a), await state(database, b)) == before
    assert await received(database, b) == []


async def test_a_partner_cannot_share_on(database: Database, a: Tenant, b: Tenant, people: People, one: UUID) -> None:
    async with database.transaction(a) as work:
        await shares.grant(work, people.ada, "resource", one, b.slug)
    before = await state(database, a)
    async with database.transaction(b) as work:
        stranger = Actor(await users.ensure(work, subject="eve", name=None, email=None), of_role(Role.ADMIN))
        with pytest.raises(NotFound, match="there is no such resource"):
            await shares.grant(work, stranger, "resource", one, a.slug)
        again = "SELECT share FROM isola.share('resource', $1, $2, NULL, NULL, NULL)"
        assert await work.value(again, one, a.slug) is None
    assert await state(database, a) == before


async def test_nobody_receives_from_a_suspended_tenant_and_a_suspended_one_receives_nothing(
    database: Database, control: Any, a: Tenant, b: Tenant, people: People, one: UUID
) -> None:
    async with database.transaction(a) as work:
        share = await shares.grant(work, people.ada, "resource", one, b.slug)
    await provisioning.suspend(control, a.slug)
    assert await received(database, b) == []
    assert await shared(database, b, share) == []
    await provisioning.resume(control, a.slug)
    assert await received(database, b) == [share]
