"""The owner of a share and its partner comment on it and read that until it ends, and nobody else does."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, update

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, Forbidden, NotFound
from isola.platform import provisioning
from isola.platform.sign_in_log import SignInLog
from isola.subjects import shares
from isola.subjects.actor import Actor
from isola.subjects.shares import ShareAccess, comments, rules
from isola.subjects.spans import Span, Visibility
from isola.subjects.users import users
from isola.testing.consent import end_partnerships, make_partners
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import PERMISSIONS, actor
from isola.testing.isolation.sharing.test_rules import EVERY, ONE_PARTNER, make, manages, new, write
from isola.testing.oracles.canary import Canary, log

READ = "SELECT text, tenant_slug, author_id FROM isola.share_comments($1) ORDER BY id"
FULL = """
INSERT INTO control.share_comments (share_id, owner_id, grantee_id, by_owner, text)
SELECT share_id, owner_id, grantee_id, by_owner, 'x' FROM control.share_comments, generate_series(2, $2::int)
WHERE share_id = $1 AND by_owner
"""


def user(canary: Canary) -> Mapping[str, str]:
    """What a transaction of the tenant's user proves, who manages nothing."""
    return {"user": str(canary.rows["users"]["id"])}


@pytest.fixture
async def share(database: Database, sharer: Canary, partner: Canary) -> UUID:
    """The owner's resource, shared with the partner, who may comment on it."""
    async with database.transaction(sharer.tenant, about=user(sharer)) as work:
        row, to = sharer.rows["resources"]["id"], partner.tenant.slug
        return await shares.grant(work, actor(sharer), "resource", row, to, access=ShareAccess.COMMENT)


async def say(database: Database, canary: Canary, share: UUID, text: str) -> UUID:
    async with database.transaction(canary.tenant, about=user(canary)) as work:
        return await comments.add(work, actor(canary), share, text)


async def delete(database: Database, canary: Canary, comment: UUID, about: Mapping[str, str] | None = None) -> None:
    """Delete a comment, by default as the tenant's user."""
    async with database.transaction(canary.tenant, about=about or user(canary)) as work:
        await comments.delete(work, actor(canary), comment)


async def heard(database: Database, canary: Canary, share: UUID) -> Sequence[tuple[Any, ...]]:
    async with database.transaction(canary.tenant, about=user(canary)) as work:
        return [tuple(row) for row in await work._connection.fetch(READ, share)]


async def change(database: Database, sharer: Canary, share: UUID, **choice: Any) -> None:
    async with database.transaction(sharer.tenant, about=user(sharer)) as work:
        await shares.change(work, actor(sharer), share, **choice)


async def test_both_sides_comment_and_read_and_nobody_else_does(
    database: Database, control: Database, sharer: Canary, partner: Canary, stranger: Canary, share: UUID
) -> None:
    asked = await say(database, partner, share, "secret question")
    await say(database, sharer, share, "secret answer")
    question, answer = ("secret question", partner.tenant.slug), ("secret answer", sharer.tenant.slug)
    # Each learns of its own user alone.
    assert await heard(database, partner, share) == [(*question, partner.rows["users"]["id"]), (*answer, None)]
    assert await heard(database, sharer, share) == [(*question, None), (*answer, sharer.rows["users"]["id"])]
    # The stranger is a partner of both.
    assert await heard(database, stranger, share) == []
    with pytest.raises(NotFound):
        await say(database, stranger, share, "x")
    with pytest.raises(NotFound):
        await delete(database, stranger, asked, stranger.about)
    async with SignInLog(control, database):
        pass
    for canary, other in ((sharer, partner), (partner, sharer)):
        written = [each for each in await log(database, canary.tenant) if each["action"] == "share_comment:create"]
        assert {each["new"]["tenant"] for each in written} == {sharer.tenant.slug, partner.tenant.slug}
        assert all(each["object"].startswith(f"shr_{share}/cmt_") for each in written)
        assert "secret" not in str(written)
        assert str(other.rows["users"]["id"]) not in str(written)
        own = [each["new"]["tenant"] for each in written if each["actor"] is not None]
        assert own in ([], [canary.tenant.slug])
    assert not [each for each in await log(database, stranger.tenant) if each["action"].startswith("share_comment")]


@ONE_PARTNER
async def test_a_share_to_read_takes_no_comments_and_nothing_but_its_access_changes_that(
    database: Database, sharer: Canary, partner: Canary, share: UUID
) -> None:
    await say(database, partner, share, "before")
    await change(database, sharer, share, access=ShareAccess.READ)
    await change(database, sharer, share, note="the same", fields=["name"], expires_at=None)
    for canary in (partner, sharer):
        with pytest.raises(Forbidden, match="its access is READ"):
            await say(database, canary, share, "x")
        assert [text for text, *_ in await heard(database, canary, share)] == ["before"]
    await change(database, sharer, share, access=ShareAccess.COMMENT)
    await say(database, partner, share, "after")
    for text in ("", "x" * 2001, "\0"):
        with pytest.raises(BadUserInput) as caught:
            await say(database, partner, share, text)
        assert caught.value.field == "text"
    async with database.transaction(partner.tenant, about=user(partner)) as work:
        for unfit in ("", "x" * 2001, None):
            # No error: it would quote a row with the id of the other tenant.
            refused = "SELECT refused FROM isola.comment_on_share($1, $2)"
            assert await work.texts(refused, share, unfit) == ["text"]


@ONE_PARTNER
@pytest.mark.parametrize("end", ["revoked", "expired", "partnership", "suspended"])
async def test_after_the_end_of_the_share_the_partner_neither_reads_nor_writes(
    end: str, database: Database, control: Database, owner: Database, sharer: Canary, partner: Canary, share: UUID
) -> None:
    said = await say(database, partner, share, "x")
    match end:
        case "revoked":
            async with database.transaction(sharer.tenant, about=user(sharer)) as work:
                await shares.revoke(work, actor(sharer), share)
        case "expired":
            async with owner.unbound() as work:
                await work.script("UPDATE control.shares SET expires_at = now()")
        case "partnership":
            await end_partnerships(owner, sharer.tenant.id)
            await make_partners(owner)
        case "suspended":
            await provisioning.suspend(control, sharer.tenant.slug)
    assert await heard(database, partner, share) == []
    with pytest.raises(NotFound):
        await say(database, partner, share, "x")
    with pytest.raises(NotFound):
        await delete(database, partner, said)
    if end != "suspended":
        assert await heard(database, sharer, share) == []


@ONE_PARTNER
async def test_while_whoever_shared_is_disabled_the_partner_neither_reads_nor_writes(
    database: Database, sharer: Canary, partner: Canary, share: UUID
) -> None:
    said = await say(database, partner, share, "x")
    disable = update(users).where(users.c.id == sharer.rows["users"]["id"])
    await write(database, sharer, disable.values(disabled_at=func.now()))
    assert await heard(database, partner, share) == []
    with pytest.raises(NotFound):
        await say(database, partner, share, "y")
    with pytest.raises(NotFound):
        await delete(database, partner, said)
    await write(database, sharer, disable.values(disabled_at=None))
    assert [text for text, *_ in await heard(database, partner, share)] == ["x"]


@ONE_PARTNER
async def test_comments_are_deleted_by_their_authors_and_the_managers_of_the_owner(
    database: Database, control: Database, sharer: Canary, partner: Canary, share: UUID
) -> None:
    theirs, ours = [await say(database, canary, share, "x") for canary in (partner, sharer)]
    colleague = {**partner.about, "user": str(uuid4())}
    for canary, comment, about in (
        (partner, ours, partner.about),
        (partner, theirs, colleague),
        (sharer, theirs, user(sharer)),
        (sharer, ours, {"user": str(uuid4())}),
    ):
        with pytest.raises(Forbidden):
            await delete(database, canary, comment, about)
    await delete(database, sharer, theirs, {**sharer.about, "user": str(uuid4())})
    with pytest.raises(NotFound):
        await delete(database, partner, theirs)
    await delete(database, sharer, ours)
    await delete(database, partner, await say(database, partner, share, "y"))
    assert await heard(database, sharer, share) == []
    async with SignInLog(control, database):
        pass
    deleted = [each for each in await log(database, partner.tenant) if each["action"] == "share_comment:delete"]
    assert sorted(each["old"]["tenant"] for each in deleted) == sorted(
        [partner.tenant.slug, partner.tenant.slug, sharer.tenant.slug]
    )


@ONE_PARTNER
async def test_each_side_has_a_limited_number_of_comments(
    database: Database, owner: Database, sharer: Canary, partner: Canary, share: UUID
) -> None:
    first = await say(database, sharer, share, "first")
    async with owner.unbound() as work:
        await work.value(FULL, share, comments.MOST)
    with pytest.raises(Conflict, match="1000 comments"):
        await say(database, sharer, share, "x")
    await say(database, partner, share, "x")
    await delete(database, sharer, first)
    await say(database, sharer, share, "x")


@ONE_PARTNER
@pytest.mark.usefixtures("spans_are_shared")
async def test_users_who_may_not_read_the_row_do_not_reach_its_comments(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant, about=user(sharer)) as work:
        span = await Span.create(work, actor(sharer), title="private", payload={}, visibility=Visibility.PRIVATE)
        private = await work.value(
            "SELECT share FROM isola.share('span', $1, $2, NULL, NULL, NULL, 'comment')", span.id, partner.tenant.slug
        )
    said = await say(database, sharer, private, "private")
    async with database.transaction(sharer.tenant, about={"user": str(uuid4())}) as work:
        assert await work.texts(READ, private) == []
        other = Actor(uuid4(), PERMISSIONS)
        with pytest.raises(NotFound):
            await comments.add(work, other, private, "x")
        with pytest.raises(NotFound):
            await comments.delete(work, other, said)
    assert [text for text, *_ in await heard(database, partner, private)] == ["private"]


@ONE_PARTNER
async def test_rules_give_the_right_to_comment_to_all_their_shares(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    rule = await make(database, sharer, partner.tenant.slug, EVERY)
    async with database.transaction(partner.tenant) as work:
        [share] = [UUID(each) for each in await work.texts("SELECT id::text FROM isola.shares_received()")]
    with pytest.raises(Forbidden):
        await say(database, partner, share, "x")
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await rules.change(work, manages(sharer), rule, access=ShareAccess.COMMENT)
        await rules.change(work, manages(sharer), rule, note="kept")
    await say(database, partner, share, "x")
    # So it has those that the rule makes later.
    await write(database, sharer, new(sharer, "later"))
    async with database.transaction(partner.tenant) as work:
        assert await work.texts("SELECT access FROM isola.shares_received()") == ["comment", "comment"]
    async with database.transaction(sharer.tenant, about=user(sharer)) as work:
        await shares.grant(work, actor(sharer), "resource", sharer.rows["resources"]["id"], partner.tenant.slug)
    with pytest.raises(Conflict, match="another share"):
        await say(database, sharer, share, "x")


@ONE_PARTNER
async def test_the_end_of_either_tenant_is_the_end_of_their_comments(
    database: Database, owner: Database, copy: Copy, sharer: Canary, partner: Canary, stranger: Canary, share: UUID
) -> None:
    await say(database, partner, share, "stays")
    async with database.transaction(sharer.tenant, about=user(sharer)) as work:
        row, to = sharer.rows["resources"]["id"], stranger.tenant.slug
        other = await shares.grant(work, actor(sharer), "resource", row, to, access=ShareAccess.COMMENT)
    for canary in (sharer, stranger):
        await say(database, canary, other, "goes")
    await provisioning.drop(owner, copy.strategies, stranger.tenant.slug, notice=0)
    async with owner.unbound() as work:
        assert await work.texts("SELECT text FROM control.share_comments") == ["stays"]
