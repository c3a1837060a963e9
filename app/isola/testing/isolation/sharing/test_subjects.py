"""The tables' declarations decide what can be shared: the functions contain no names of subjects."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from isola.database.transactions import Database
from isola.subjects.spans import Span, Visibility, spans
from isola.subjects.users import users
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import OF_SHARE, SHARED_RESOURCE, received, shared
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, tried

SHARE = "SELECT share FROM isola.share($1, $2, $3, NULL, NULL, NULL)"
SHARED_SPAN = f"SELECT title, granted_fields FROM isola.shared_rows('span', $1) AS s (title text, {OF_SHARE})"


@pytest.fixture
async def span(database: Database, sharer: Canary) -> UUID:
    """A private span of the sharer's user."""
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        made = await Span.create(work, actor(sharer), title="private", payload={}, visibility=Visibility.PRIVATE)
    return made.id


@pytest.mark.usefixtures("spans_are_shared")
async def test_rows_of_another_subject_are_shared_and_read_in_the_same_way(
    database: Database, sharer: Canary, partner: Canary, grant: Grant, span: UUID
) -> None:
    other = await grant()
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        share = await work.value(SHARE, "span", span, partner.tenant.slug)
        assert await work.texts(
            "SELECT id::text FROM isola.own_shares WHERE subject = 'span' AND row_id = $1", span
        ) == [str(share)]
        assert (
            await work.texts("SELECT id::text FROM isola.own_shares WHERE subject = 'resource' AND row_id = $1", span)
            == []
        )
    async with database.transaction(partner.tenant) as work:
        assert {row["id"] for row in await received(work)} == {share, other}
        [row] = await work._connection.fetch(SHARED_SPAN, share)
        assert dict(row) == {"title": "private", "granted_fields": ["title"]}
        # Read as another subject, it is not found; nor is a share of another subject found as a span.
        assert await shared(work, share) == []
        assert await tried(work, SHARED_SPAN, other) == []
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        [ended] = await work._connection.fetch("SELECT * FROM isola.revoke_share($1)", share)
        assert tuple(ended) == ("span", span)
    async with database.transaction(partner.tenant) as work:
        assert await tried(work, SHARED_SPAN, share) == []
        assert {row["id"] for row in await received(work)} == {other}


@pytest.mark.usefixtures("spans_are_shared")
async def test_no_column_is_read_that_is_not_declared(
    database: Database, owner: Database, sharer: Canary, partner: Canary, span: UUID
) -> None:
    """With any types in the call, and even if the registry has more columns than the role may read."""
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        share = await work.value(SHARE, "span", span, partner.tenant.slug)
    async with database.transaction(partner.tenant) as work:
        for columns in (
            "title text",
            f"title text, payload jsonb, {OF_SHARE}",
            f"payload jsonb, {OF_SHARE}",
            f"{OF_SHARE}, title text",
        ):
            sql = f"SELECT * FROM isola.shared_rows('span', $1) AS s ({columns})"
            assert await tried(work, sql, share) == "42804"
        [row] = await work._connection.fetch(SHARED_SPAN, share)
        assert row["title"] == "private"
    async with owner.unbound() as work:
        await work.script("UPDATE control.subjects SET shared = '{title,payload}' WHERE name = 'span'")
    async with database.transaction(partner.tenant) as work:
        sql = f"SELECT * FROM isola.shared_rows('span', $1) AS s (title text, payload jsonb, {OF_SHARE})"
        assert await tried(work, sql, share) == INSUFFICIENT_PRIVILEGE
        assert await work.value("SELECT isola.current_tenant_id()") == partner.tenant.id


@pytest.mark.usefixtures("spans_are_shared")
async def test_a_partner_reads_a_row_as_long_as_the_user_who_shared_it_may(
    database: Database, sharer: Canary, partner: Canary, span: UUID
) -> None:
    async with database.transaction(sharer.tenant) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))

    async def make(visibility: Visibility) -> UUID | None:
        """Change the span as its author; share it as another user."""
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            change = update(spans).where(spans.c.id == span).values(visibility=visibility)
            assert await work.execute(change) == 1
        async with database.transaction(sharer.tenant, about={"user": str(another)}) as work:
            made: UUID | None = await work.value(SHARE, "span", span, partner.tenant.slug)
            return made

    assert await make(Visibility.PRIVATE) is None
    share = await make(Visibility.PUBLIC)
    for read in (1, 0):
        async with database.transaction(partner.tenant, about=partner.about) as work:
            assert len(await tried(work, SHARED_SPAN, share)) == read
            # Its own user is proved again.
            assert await work.value("SELECT isola.current_user_id()") == partner.rows["users"]["id"]
        assert await make(Visibility.PRIVATE) is None


GRANTED_BY = "SELECT granted_by FROM isola.own_shares WHERE subject = 'span' AND row_id = $1"


@pytest.mark.usefixtures("spans_are_shared")
async def test_the_database_fills_in_who_shared_and_nobody_shares_what_all_users_may_read(
    database: Database, sharer: Canary, partner: Canary, span: UUID
) -> None:
    private, public = (update(spans).values(visibility=each) for each in (Visibility.PRIVATE, Visibility.PUBLIC))
    async with database.transaction(sharer.tenant) as work:
        assert await work.value(SHARE, "span", span, partner.tenant.slug) is None
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await work.execute(public)
        # A setting is no proof.
        await work.script(f"SET LOCAL isola.sharer TO '{partner.rows['users']['id']}'")
        first = await work.value(SHARE, "span", span, partner.tenant.slug)
        assert await work.value(GRANTED_BY, span) == sharer.rows["users"]["id"]
    async with database.transaction(sharer.tenant) as work:
        assert await work.value("SELECT subject FROM isola.revoke_share($1)", first) == "span"
        share = await work.value(SHARE, "span", span, partner.tenant.slug)
        assert await work.value(GRANTED_BY, span) is None
    for change, read in ((public, 1), (private, 0)):
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            await work.execute(change)
        async with database.transaction(partner.tenant, about=partner.about) as work:
            assert len(await tried(work, SHARED_SPAN, share)) == read


@pytest.mark.usefixtures("spans_are_shared")
async def test_shares_of_a_row_are_listed_and_revoked_by_those_who_may_read_it(
    database: Database, sharer: Canary, partner: Canary, span: UUID
) -> None:
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        share = await work.value(SHARE, "span", span, partner.tenant.slug)
    async with database.transaction(sharer.tenant) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))
    for about in ({}, {"user": str(another)}):
        async with database.transaction(sharer.tenant, about=about) as work:
            assert (
                await work.texts("SELECT id::text FROM isola.own_shares WHERE subject = 'span' AND row_id = $1", span)
                == []
            )
            [ended] = await work._connection.fetch("SELECT * FROM isola.revoke_share($1)", share)
            assert tuple(ended) == (None, None)
    async with database.transaction(partner.tenant) as work:
        assert len(await tried(work, SHARED_SPAN, share)) == 1


async def test_the_shares_of_a_disabled_user_end_until_another_user_shares_anew(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    resource = sharer.rows["resources"]["id"]

    async def share(about: Mapping[str, str]) -> UUID | None:
        async with database.transaction(sharer.tenant, about=about) as work:
            shared: UUID | None = await work.value(SHARE, "resource", resource, partner.tenant.slug)
            return shared

    async def disable(moment: datetime | None) -> None:
        async with database.transaction(sharer.tenant) as work:
            await work.execute(update(users).where(users.c.id == user).values(disabled_at=moment))

    async def count() -> int:
        async with database.transaction(partner.tenant) as work:
            return len(await work._connection.fetch(SHARED_RESOURCE, made))

    user, made = sharer.rows["users"]["id"], await share(sharer.about)
    async with database.transaction(sharer.tenant) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))
    assert await count() == 1
    await disable(datetime.now(UTC))
    assert await count() == 0
    await disable(None)
    assert await count() == 1
    await disable(datetime.now(UTC))
    assert await share({"user": str(another)}) is None
    async with database.transaction(sharer.tenant) as work:
        await work.value("SELECT isola.revoke_share($1)", made)
    made = await share({"user": str(another)})
    assert await count() == 1


async def test_undeclared_tables_cannot_be_shared(database: Database, sharer: Canary, partner: Canary) -> None:
    own = sharer.rows["spans"]["id"], partner.tenant.slug
    async with database.transaction(sharer.tenant) as work:
        for subject in ("span", "spans", "resources", "tenants", "' OR true --", "", None):
            assert await work.value(SHARE, subject, *own) is None
    async with database.transaction(partner.tenant) as work:
        assert await received(work) == []
