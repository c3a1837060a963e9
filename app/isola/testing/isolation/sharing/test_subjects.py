"""The tables' declarations decide what can be shared: the functions contain no names of subjects."""

from uuid import UUID

import pytest
from sqlalchemy import insert, update

from isola.database.transactions import Database
from isola.subjects.spans import Span, Visibility, spans
from isola.subjects.users import users
from isola.testing.isolation.sharing.conftest import Grant, actor
from isola.testing.isolation.sharing.reading import received, shared
from isola.testing.oracles.canary import INSUFFICIENT_PRIVILEGE, Canary, tried

SHARE = "SELECT share FROM isola.share($1, $2, $3, $4, NULL, false)"
SHARED_SPAN = "SELECT * FROM isola.shared_row('span', $1) AS s (id uuid, title text)"


@pytest.fixture
async def spans_are_shared(owner: Database) -> None:
    """Make spans sharable: as if their table declared two shared columns, and the database were migrated."""
    async with owner.unbound() as work:
        await work.script(
            "INSERT INTO control.subjects (name, relation, shared) VALUES ('span', 'spans', '{id,title}')"
        )
        for home in await work.texts("SELECT DISTINCT home FROM control.tenants WHERE home IS NOT NULL"):
            await work.script(f"GRANT SELECT (id, title) ON {home}.spans TO isola_sharing")


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
    user = sharer.rows["users"]["id"]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        share = await work.value(SHARE, "span", span, partner.tenant.slug, user)
        assert await work.texts("SELECT id::text FROM isola.shares_of('span', $1)", span) == [str(share)]
        assert await work.texts("SELECT id::text FROM isola.shares_of('resource', $1)", span) == []
    async with database.transaction(partner.tenant) as work:
        assert {row["id"] for row in await received(work)} == {share, other}
        [row] = await work._connection.fetch(SHARED_SPAN, share)
        assert dict(row) == {"id": span, "title": "private"}
        # Read as another subject, it is not found; nor is a share of another subject found as a span.
        assert await shared(work, share) == []
        assert await tried(work, SHARED_SPAN, other) == []
    async with database.transaction(sharer.tenant) as work:
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
    user = sharer.rows["users"]["id"]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        share = await work.value(SHARE, "span", span, partner.tenant.slug, user)
    async with database.transaction(partner.tenant) as work:
        for columns in (
            "id uuid",
            "id uuid, title text, payload jsonb",
            "id uuid, payload jsonb",
            "title text, id uuid",
        ):
            sql = f"SELECT * FROM isola.shared_row('span', $1) AS s ({columns})"
            assert await tried(work, sql, share) == "42804"
        [row] = await work._connection.fetch(SHARED_SPAN, share)
        assert row["id"] == span
    async with owner.unbound() as work:
        await work.script("UPDATE control.subjects SET shared = '{id,payload}' WHERE name = 'span'")
    async with database.transaction(partner.tenant) as work:
        sql = "SELECT * FROM isola.shared_row('span', $1) AS s (id uuid, payload jsonb)"
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
            made: UUID | None = await work.value(SHARE, "span", span, partner.tenant.slug, another)
            return made

    assert await make(Visibility.PRIVATE) is None
    share = await make(Visibility.PUBLIC)
    for read in (1, 0):
        async with database.transaction(partner.tenant, about=partner.about) as work:
            assert len(await tried(work, SHARED_SPAN, share)) == read
            # Its own user is proved again.
            assert await work.value("SELECT isola.current_user_id()") == partner.rows["users"]["id"]
        assert await make(Visibility.PRIVATE) is None


async def test_undeclared_tables_cannot_be_shared(database: Database, sharer: Canary, partner: Canary) -> None:
    own = sharer.rows["spans"]["id"], partner.tenant.slug, sharer.rows["users"]["id"]
    async with database.transaction(sharer.tenant) as work:
        for subject in ("span", "spans", "resources", "tenants", "' OR true --", "", None):
            assert await work.value(SHARE, subject, *own) is None
    async with database.transaction(partner.tenant) as work:
        assert await received(work) == []
