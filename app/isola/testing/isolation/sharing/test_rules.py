"""A rule shares the rows that match it, as they are at the time, whoever writes them, and no others."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import delete, insert, select, update

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict
from isola.platform import provisioning
from isola.platform.sign_in_log import SignInLog
from isola.subjects import resources, shares
from isola.subjects.actor import Actor
from isola.subjects.resources import resources as table
from isola.subjects.shares import rules
from isola.subjects.spans import Span, Visibility, spans
from isola.subjects.users import users
from isola.testing.fixtures import Copy
from isola.testing.isolation.sharing.conftest import (
    PAIRS,
    PERMISSIONS,
    Grant,
    actor,
    block,
    end_partnership,
    partner_up,
)
from isola.testing.isolation.sharing.reading import OF_SHARE, all_shared, received
from isola.testing.oracles.canary import Canary, Row, log
from isola.testing.waiting import until_someone_waits

WANTED: list[Any] = ["test", "kind", "eq", "text", "wanted"]
LARGE: list[Any] = ["and", [WANTED, ["test", "size_bytes", "gte", "number", "50"]]]
EVERY: list[Any] = ["test", "id", "isNotNull", None, None]
# What does not depend on the partner's placement is tried with one for each of the owner's.
ONE_PARTNER = pytest.mark.parametrize(
    "placements", {owner: (owner, partner) for owner, partner in PAIRS}.values(), ids="-to-".join
)

Rule = Callable[..., Awaitable[UUID]]


def manages(canary: Canary) -> Actor:
    """The tenant's user, as one who may share all rows."""
    return Actor(canary.rows["users"]["id"], PERMISSIONS | {"resource:manage", "span:manage"})


async def make(database: Database, sharer: Canary, to: str, condition: Sequence[Any] = WANTED, **more: Any) -> UUID:
    columns = sorted({"kind", "size_bytes"} & set(str(condition).replace("'", " ").split())) or ["id"]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        given = {"filter": {"of": "a client"}, "condition": condition, "compared": columns, **more}
        return await rules.make(work, manages(sharer), "resource", to, **given)


async def smuggle(database: Database, sharer: Canary, to: str, condition: str) -> None:
    """Make a rule by SQL alone, as no server does."""
    sql = "SELECT made FROM isola.make_share_rule('resource', $1, NULL, NULL, NULL, 'read', '{}', $2, '{kind}', 100)"
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        assert await work._connection.fetchval(sql, to, condition) is not None


@pytest.fixture
def rule(database: Database, sharer: Canary, partner: Canary) -> Rule:
    """Shares the owner's resources of a kind with the partner."""

    async def made(condition: Sequence[Any] = WANTED, **more: Any) -> UUID:
        return await make(database, sharer, partner.tenant.slug, condition, **more)

    return made


async def write(database: Database, canary: Canary, *statements: Any) -> None:
    """Run statements on the rows of a tenant, each as it is."""
    async with database.transaction(canary.tenant, about=canary.about) as work:
        for statement in statements:
            await work.execute(statement)


def new(canary: Canary, *names: str, kind: str | None = "wanted", size: int = 0) -> Any:
    owner = canary.rows["users"]["id"]
    return insert(table).values(
        [{"owner_id": owner, "name": each, "kind": kind, "size_bytes": size, "data": {}} for each in names]
    )


async def names(database: Database, partner: Canary) -> list[str]:
    """The names of the resources that a partner reads. They are those of the shares in its list."""
    async with database.transaction(partner.tenant) as work:
        rows = await all_shared(work)
        assert {row["share_id"] for row in rows} == {row["id"] for row in await received(work)}
        return sorted(row["name"] for row in rows)


async def test_rows_are_shared_as_long_as_they_match_whoever_writes_them(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, rule: Rule
) -> None:
    await write(
        database, sharer, new(sharer, "a", "b"), new(sharer, "other", kind="other"), new(sharer, "n", kind=None)
    )
    made = await rule()
    assert await names(database, partner) == ["a", "b"]
    # By SQL of any kind, and nobody else's rows.
    await write(database, sharer, new(sharer, "c"), update(table).where(table.c.name == "a").values(kind=None))
    await write(database, stranger, new(stranger, "theirs"))
    assert await names(database, partner) == ["b", "c"]
    await write(
        database,
        sharer,
        update(table).where(table.c.name.in_(["a", "other"])).values(kind="wanted"),
        delete(table).where(table.c.name == "b"),
    )
    assert await names(database, partner) == ["a", "c", "other"]
    # What is rolled back is not shared.
    with pytest.raises(Conflict):
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            await work.execute(new(sharer, "undone"))
            raise Conflict("the end")
    assert await names(database, partner) == ["a", "c", "other"]
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await rules.end(work, manages(sharer), made)
    assert await names(database, partner) == []
    await write(database, sharer, new(sharer, "late"))
    assert await names(database, partner) == []


async def test_after_random_writes_the_partner_reads_what_a_recount_finds(
    database: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    random = Random(7)  # noqa: S311  a test's choices
    await write(database, sharer, new(sharer, *map(str, range(6)), size=60))
    await rule(LARGE, fields=["name"])
    await rule(["or", [["test", "name", "startsWith", "text", "1"], ["not", ["test", "kind", "eq", "text", "x"]]]])
    for number in range(100, 125):
        kind, size = random.choice(["wanted", "x", None]), random.choice([0, 49, 50, 99])
        some = table.c.name.in_(random.sample(list(map(str, [*range(6), *range(100, number)])), 3))
        await write(
            database,
            sharer,
            random.choice(
                [
                    new(sharer, str(number), kind=kind, size=size),
                    update(table).where(some).values(kind=kind),
                    update(table).where(some).values(size_bytes=size, name=table.c.name),
                    delete(table).where(some, table.c.kind == "x"),
                ]
            ),
        )
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        rows = await work.rows(select(table.c.name, table.c.kind, table.c.size_bytes))
    large = {row["name"] for row in rows if row["kind"] == "wanted" and row["size_bytes"] >= 50}
    others = {row["name"] for row in rows if row["name"].startswith("1") or row["kind"] != "x"}
    assert 0 < len(large) < len(others) < len(rows) + 1
    assert await names(database, partner) == sorted(large | others)
    # Each once, by the older of the rules.
    async with database.transaction(partner.tenant) as work:
        granted = {row["name"]: len(row["granted_fields"]) for row in await all_shared(work)}
    assert {name for name, fields in granted.items() if fields == 1} == large


@ONE_PARTNER
async def test_a_share_of_the_row_itself_counts_before_a_rule_and_neither_ends_the_other(
    database: Database, sharer: Canary, partner: Canary, rule: Rule, grant: Grant
) -> None:
    await write(database, sharer, update(table).values(kind="wanted"))
    made = await rule(fields=["kind"])
    by_rule = await _shares(database, partner)
    single = await grant()
    assert await _shares(database, partner) == {single: 6}
    async with database.transaction(sharer.tenant) as work:
        await shares.change(work, actor(sharer), single, fields=["name", "data"])
        await rules.change(work, manages(sharer), made, note="by rule")
    assert await _shares(database, partner) == {single: 2}
    [share] = by_rule
    with pytest.raises(Conflict, match="endShareRule"):
        async with database.transaction(sharer.tenant) as work:
            await shares.revoke(work, actor(sharer), share)
    with pytest.raises(Conflict, match="changeShareRule"):
        async with database.transaction(sharer.tenant) as work:
            await shares.change(work, actor(sharer), share, note="x")
    async with database.transaction(sharer.tenant) as work:
        await shares.revoke(work, actor(sharer), single)
    assert await _shares(database, partner) == by_rule == {share: 1}
    single = await grant()
    async with database.transaction(sharer.tenant) as work:
        await rules.end(work, manages(sharer), made)
    assert await _shares(database, partner) == {single: 6}


async def _shares(database: Database, partner: Canary) -> dict[UUID, int]:
    """What a partner receives: shares, and how many fields each grants."""
    async with database.transaction(partner.tenant) as work:
        return {row["share_id"]: len(row["granted_fields"]) for row in await all_shared(work)}


@ONE_PARTNER
async def test_no_row_is_written_beside_a_rule_that_is_being_made_or_ended(
    database: Database, owner: Database, copy: Copy, sharer: Canary, partner: Canary
) -> None:
    """Whoever makes or ends a rule waits for transactions that have written rows: nobody else knows of these."""
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=4) as wide:

        async def beside(change: Awaitable[Any], name: str) -> Any:
            """Make a change while a transaction that has written a row has not committed."""
            async with wide.transaction(sharer.tenant, about=sharer.about) as work:
                await work.execute(new(sharer, name))
                task = asyncio.ensure_future(change)
                await until_someone_waits(owner)
            return await task

        async def end() -> None:
            async with wide.transaction(sharer.tenant, about=sharer.about) as work:
                await rules.end(work, manages(sharer), made)

        made = await beside(make(wide, sharer, partner.tenant.slug), "before")
        assert await names(database, partner) == ["before"]
        await beside(end(), "after")
    assert await names(database, partner) == []


@ONE_PARTNER
async def test_a_row_that_waits_for_the_first_rule_is_compared_with_it(
    database: Database, owner: Database, copy: Copy, sharer: Canary, partner: Canary
) -> None:
    await write(database, sharer, new(sharer, "leaves"), new(sharer, "comes", kind="other"))
    changes = [
        update(table).where(table.c.name == "leaves").values(kind="other"),
        update(table).where(table.c.name == "comes").values(kind="wanted"),
    ]
    async with await Database.open(copy.where.tenant, copy.strategies, copy.binding_key, size=4) as wide:
        async with wide.transaction(sharer.tenant, about=sharer.about) as work:
            given: dict[str, Any] = {"filter": {"of": "a client"}, "condition": WANTED, "compared": ["kind"]}
            await rules.make(work, manages(sharer), "resource", partner.tenant.slug, **given)
            tasks = [asyncio.ensure_future(write(wide, sharer, change)) for change in changes]
            await until_someone_waits(owner)
        await asyncio.gather(*tasks)
    assert await names(database, partner) == ["comes"]


@ONE_PARTNER
async def test_a_condition_that_cannot_be_evaluated_shares_nothing_and_stops_no_write(
    database: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    for condition in (
        '["test", "kind", "gt", "number", "1"]',
        '["test", "size_bytes", "eq", "number", "many"]',
        '["test", "kind", "in", "text", "wanted"]',
        '["and", "all"]',
        '["otherwise"]',
        '["not", ' * 4000 + json.dumps(WANTED) + "]" * 4000,
    ):
        await smuggle(database, sharer, partner.tenant.slug, condition)
    await write(database, sharer, new(sharer, "a"), update(table).where(table.c.name == "a").values(size_bytes=1))
    assert await names(database, partner) == []
    await rule()
    await write(database, sharer, new(sharer, "b"))
    assert await names(database, partner) == ["a", "b"]


@ONE_PARTNER
async def test_rules_end_with_the_partnership_and_wait_while_a_tenant_is_suspended(
    database: Database, control: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    await rule()
    await provisioning.suspend(control, partner.tenant.slug)
    await write(database, sharer, new(sharer, "meanwhile"))
    await provisioning.resume(control, partner.tenant.slug)
    assert await names(database, partner) == ["meanwhile"]
    async with database.transaction(sharer.tenant) as work:
        [partnership] = await work._connection.fetch(
            "SELECT id FROM isola.partnerships() WHERE slug = $1", partner.tenant.slug
        )
    await end_partnership(database, sharer, partnership["id"])
    assert await names(database, partner) == []
    await partner_up(database, sharer, partner)
    await write(database, sharer, new(sharer, "later"))
    assert await names(database, partner) == []
    async with database.transaction(sharer.tenant) as work:
        assert await work.texts("SELECT id::text FROM isola.share_rules()") == []
    await block(database, partner, sharer)
    for slug in (partner.tenant.slug, sharer.tenant.slug, "no-such-tenant"):
        with pytest.raises(BadUserInput, match="expected the slug of a partner"):
            await make(database, sharer, slug)


@ONE_PARTNER
async def test_a_rule_ends_at_its_time_and_shares_nothing_afterwards(
    database: Database, owner: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    await write(database, sharer, new(sharer, "a"))
    made = await rule(expires_at=datetime.now(UTC) + timedelta(hours=1))
    assert await names(database, partner) == ["a"]
    async with owner.unbound() as work:
        for relation in ("shares", "share_rules"):
            await work.script(f"UPDATE control.{relation} SET expires_at = now() - interval '1 second'")
    await write(database, sharer, new(sharer, "b"))
    assert await names(database, partner) == []
    async with database.transaction(sharer.tenant) as work:
        assert await work.value("SELECT isola.end_share_rule($1)", made) is None


@ONE_PARTNER
async def test_both_logs_have_one_entry_for_all_rows_of_a_statement(
    database: Database, control: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    await write(database, sharer, new(sharer, *map(str, range(30))))
    made = await rule(note="for you", fields=["name", "kind"])
    await write(database, sharer, update(table).where(table.c.name < "2").values(kind="secret value"))
    async with database.transaction(sharer.tenant, about=sharer.about) as work:
        await rules.change(work, manages(sharer), made, fields=["name"])
        await rules.end(work, manages(sharer), made)
    ours = [each for each in await log(database, sharer.tenant) if each["object"] == f"srl_{made}"]
    assert [each["action"] for each in ours] == [
        f"share_rule:{each}" for each in ("create", "update", "update", "delete")
    ]
    known = {"subject": "resource", "columns": ["kind"], "grantee_slug": partner.tenant.slug, "shared": 30}
    assert ours[0]["new"].items() >= known.items()
    assert ours[1]["new"] == {"shared": 0, "ended": 12}
    assert (ours[2]["old"], ours[2]["new"]) == ({"fields": ["name", "kind"]}, {"fields": ["name"]})
    assert ours[3]["old"]["shared"] == 18
    assert {each["actor"] for each in ours} == {None}
    assert not any("of a client" in str(each) or "wanted" in str(each) for each in ours)
    assert not any(each["action"].startswith("share:") for each in await log(database, sharer.tenant))
    async with SignInLog(control, database):
        pass
    theirs = [each for each in await log(database, partner.tenant) if each["object"] == "shared:resource"]
    assert [(each["action"], (each["new"] or each["old"])["count"]) for each in theirs] == [
        ("received_share:create", 30),
        ("received_share:delete", 12),
        ("received_share:update", 18),
        ("received_share:delete", 18),
    ]
    assert {(each["new"] or each["old"])["owner"] for each in theirs} == {sharer.tenant.slug}
    assert not sharer.traced_in(theirs)


@ONE_PARTNER
@pytest.mark.usefixtures("spans_are_shared")
async def test_a_rule_shares_no_rows_that_the_user_who_made_it_may_not_read(
    database: Database, sharer: Canary, partner: Canary
) -> None:
    async with database.transaction(sharer.tenant) as work:
        another = await work.scalar(insert(users).values(subject="another", name="another").returning(users.c.id))
    seen_by = {"user": str(another)}

    async def titles() -> list[str]:
        async with database.transaction(partner.tenant) as work:
            found = f"SELECT title FROM isola.shared_rows('span') AS s (title text, {OF_SHARE}) ORDER BY title"
            assert len(await received(work)) == len(await work.texts(found))
            return list(await work.texts(found))

    async def span(title: str, visibility: Visibility) -> None:
        async with database.transaction(sharer.tenant, about=sharer.about) as work:
            await Span.create(work, actor(sharer), title=title, payload={}, visibility=visibility)

    await write(database, sharer, delete(spans))
    await span("private", Visibility.PRIVATE)
    await span("public", Visibility.PUBLIC)
    async with database.transaction(sharer.tenant, about=seen_by) as work:
        user = Actor(another, manages(sharer).permissions | {"span:manage"})
        await rules.make(
            work, user, "span", partner.tenant.slug, filter={}, condition=EVERY, compared=["id"], fields=["title"]
        )
    assert await titles() == ["public"]
    # The author of the spans writes them, in transactions that may read all of them.
    await span("private too", Visibility.PRIVATE)
    await span("public too", Visibility.PUBLIC)
    assert await titles() == ["public", "public too"]
    await write(database, sharer, update(spans).where(spans.c.title == "public").values(visibility=Visibility.PRIVATE))
    assert await titles() == ["public too"]
    await write(database, sharer, update(spans).where(spans.c.title == "private").values(visibility=Visibility.PUBLIC))
    assert await titles() == ["private", "public too"]


@ONE_PARTNER
async def test_what_would_share_too_much_shares_nothing(
    database: Database, sharer: Canary, partner: Canary, rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MOST", 2)
    await write(database, sharer, new(sharer, "a", "b", "c"))
    with pytest.raises(BadUserInput, match="at most 2 objects") as caught:
        await rule()
    assert caught.value.field == "filter"
    assert await names(database, partner) == []
    await write(database, sharer, new(sharer, "d"))
    assert await names(database, partner) == []
    await write(database, sharer, delete(table).where(table.c.name > "b"))
    monkeypatch.setattr(rules, "MOST_RULES", 1)
    await rule()
    assert await names(database, partner) == ["a", "b"]
    with pytest.raises(BadUserInput, match="at most 1 rules"):
        await rule()


@ONE_PARTNER
async def test_a_deleted_row_ends_what_rules_share_of_it(
    database: Database, sharer: Canary, partner: Canary, rule: Rule
) -> None:
    await rule(EVERY)
    assert len(await names(database, partner)) == 1
    async with database.transaction(sharer.tenant) as work:
        await resources.delete(work, actor(sharer), sharer.rows["resources"]["id"])
    async with database.transaction(partner.tenant) as work:
        assert await received(work) == []


@ONE_PARTNER
async def test_no_tenant_reaches_another_ones_rule_by_its_id(
    database: Database, sharer: Canary, partner: Canary, stranger: Canary, rule: Rule
) -> None:
    await write(database, sharer, new(sharer, "a"))
    made = await rule()
    row: Row = stranger.rows["resources"]
    for other in (partner, stranger):
        async with database.transaction(other.tenant, about=other.about) as work:
            assert await work.value("SELECT isola.end_share_rule($1)", made) is None
            changed = "SELECT changed FROM isola.change_share_rule($1, NULL, NULL, false, 'x', false)"
            assert await work.value(changed, made) is None
            assert await work.value("SELECT isola.share_by_rule($1, ARRAY[$2::uuid])", made, row["id"]) is None
            assert await work.value("SELECT isola.share_rule_count($1)", made) == 0
            assert await work.texts("SELECT id::text FROM isola.share_rules()") == []
    assert await names(database, partner) == ["a"]
