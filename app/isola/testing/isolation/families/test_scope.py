"""Reads with the scope DESCENDANTS: the rows of active descendants, whole, and nothing of anybody else."""

import asyncio
import time
from typing import Any

import pytest

from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import families, hierarchy, moves, provisioning
from isola.query.mapping import Many
from isola.subjects.permissions import Role
from isola.testing.isolation.families.conftest import BELOW, FAMILIES, LISTED, Household, Listed, ids_of, seen_by_all
from isola.testing.patience import PATIENCE
from isola.testing.served import Client

NAMES = """
query ($first: Int, $after: String) {
  users(scope: DESCENDANTS, first: $first, after: $after) {
    edges { tenant { slug } node { id } }
    totalCount
    pageInfo { endCursor hasNextPage }
  }
}
"""


async def read(client: Client, listed: Listed, **variables: Any) -> Any:
    return (await client.ask(listed.document, variables)).data[listed.field]


async def tenants_read(client: Client) -> set[str]:
    return {each["tenant"]["slug"] for each in (await client.ask(NAMES, {"first": 100})).data["users"]["edges"]}


async def test_every_subject_has_the_rows_of_all_descendants_and_of_nobody_else(
    database: Database, household: Household
) -> None:
    assert LISTED
    for listed in LISTED:
        found = await read(household.above, listed, first=100)
        expected = {
            (slug, key)
            for slug, canary in household.below.items()
            for key in await seen_by_all(database, canary.tenant, listed.table)
        }
        assert ids_of(found) == expected, listed.field
        assert found["totalCount"] == len(found["edges"]) == len(expected)
        text = str(found)
        assert not household.parent.traced_in(text), listed.field
        assert not household.stranger.traced_in(text), listed.field


async def test_relations_stay_within_the_tenant_of_the_row(household: Household) -> None:
    for listed in LISTED:
        for edge in (await read(household.above, listed, first=100))["edges"]:
            for slug, canary in household.below.items():
                assert slug == edge["tenant"]["slug"] or not canary.traced_in(str(edge)), listed.field


async def test_pages_have_every_row_once_in_both_directions(household: Household) -> None:
    for listed in LISTED:
        whole = await read(household.above, listed, first=100)
        forward: list[Any] = []
        backward: list[Any] = []
        page = await read(household.above, listed, first=1)
        while page["edges"]:
            forward += page["edges"]
            end = page["pageInfo"]["endCursor"]
            page = await read(household.above, listed, first=1, after=end)
        page = await read(household.above, listed, last=2)
        while page["edges"]:
            backward = page["edges"] + backward
            page = await read(household.above, listed, last=2, before=page["pageInfo"]["startCursor"])
        assert forward == backward == whole["edges"], listed.field


async def test_a_child_reads_its_own_descendants_and_nothing_above_or_beside(household: Household) -> None:
    child = household.api.client("child")
    for listed in LISTED:
        found = await read(child, listed, first=100)
        assert {edge["tenant"]["slug"] for edge in found["edges"]} <= {"grandchild"}
        for other in (household.parent, household.sister, household.stranger):
            assert not other.traced_in(str(found)), listed.field
        for slug in ("sister", "grandchild", "stranger"):
            empty = await read(household.api.client(slug), listed, first=100)
            assert (empty["edges"], empty["totalCount"]) == ([], 0)


async def test_suspended_descendants_and_those_below_them_are_left_out(household: Household) -> None:
    assert await tenants_read(household.above) == set(BELOW)
    await provisioning.suspend(household.api.control, "child")
    # From the next statement on: what the server has cached is compared in the database.
    assert await tenants_read(household.above) == {"sister"}
    await provisioning.resume(household.api.control, "child")
    assert await tenants_read(household.above) == set(BELOW)
    await provisioning.suspend(household.api.control, "grandchild")
    assert await tenants_read(household.above) == {"child", "sister"}


async def test_a_tenant_that_enters_or_leaves_the_tree_does_so_with_the_next_statement(household: Household) -> None:
    control = household.api.control
    assert await tenants_read(household.above) == set(BELOW)
    await hierarchy.place(control, "stranger", under="grandchild")
    assert await tenants_read(household.above) == {*BELOW, "stranger"}
    await hierarchy.place(control, "child", under=None)
    assert await tenants_read(household.above) == {"sister"}


async def test_a_child_that_moves_or_is_erased_in_the_middle_of_pages_is_read_where_it_is(household: Household) -> None:
    copy, owner = household.copy, household.owner
    keys: list[tuple[str, str]] = []
    after, rounds = None, 0
    while True:
        page = (await household.above.ask(NAMES, {"first": 1, "after": after})).data["users"]
        keys += ids_of(page)
        rounds += 1
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
        to = FAMILIES[rounds % len(FAMILIES)]
        child = await provisioning.named(owner, "child")
        if child.strategy != to:
            await moves.move(owner, copy.strategies, "child", to=to)
    whole = (await household.above.ask(NAMES, {"first": 100})).data["users"]
    assert len(keys) == len(set(keys)) == whole["totalCount"]
    assert set(keys) == ids_of(whole)

    await provisioning.drop(owner, copy.strategies, "sister", notice=0)
    rest = (await household.above.ask(NAMES, {"first": 100})).data["users"]
    assert {each["tenant"]["slug"] for each in rest["edges"]} == {"child", "grandchild"}
    assert not household.sister.traced_in(str(rest))


async def test_it_needs_a_permission(household: Household) -> None:
    for role in (Role.VIEWER, Role.EDITOR):
        client = household.api.client("parent", role, role)
        answer = await client.ask(NAMES)
        assert answer.error["message"] == "this needs the permission family:read"
        assert answer.body["data"] == {"users": None}


async def test_what_needs_the_own_tenant_is_refused(household: Household) -> None:
    for document, message in (
        ("{ viewer { user { id } } users(scope: DESCENDANTS) { totalCount } }", "expected no other fields"),
        ("{ users(scope: DESCENDANTS) { groups { kind { count } } } }", "groups cannot be counted"),
    ):
        errors = (await household.above.ask(document)).body["errors"]
        [said] = [each for each in errors if each["path"] == ["users"]]
        assert message in said["message"]
        assert said["extensions"] == {"code": "BAD_USER_INPUT", "field": "scope"}
    own = await household.above.ask("{ users(scope: OWN) { edges { tenant { slug } } } }")
    assert {each["tenant"]["slug"] for each in own.data["users"]["edges"]} == {"parent"}


async def test_fields_that_are_read_outside_of_the_homes_are_refused(household: Household) -> None:
    """As the shares of a row: what a view or a function returns is of the tenant of the request."""
    for listed in LISTED:
        for name, field in model.entities[listed.type].fields.items():
            if isinstance(field, Many) and field.source is not None:
                document = (
                    f"{{ {listed.field}(scope: DESCENDANTS) {{ nodes {{ {name}(first: 1) {{ totalCount }} }} }} }}"
                )
                error = (await household.above.ask(document)).error
                assert error["message"] == "scope: with DESCENDANTS, expected only fields of tenants' own tables"
                assert error["extensions"] == {"code": "BAD_USER_INPUT", "field": "scope"}
                assert error["path"] == [listed.field], name


async def test_the_number_of_descendants_is_limited(household: Household, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(families, "MOST", 2)
    answer = await household.above.ask(NAMES)
    assert answer.error["message"] == "scope: expected at most 2 active descendants, not 3"


async def test_rows_that_differ_in_nothing_but_the_tenant_are_on_pages_of_their_own(
    database: Database, household: Household
) -> None:
    """Ids are unique in a tenant only."""
    copied = household.child.rows["users"]["id"]
    for canary in (household.sister, household.grandchild):
        async with database.transaction(canary.tenant) as work:
            await work.value("INSERT INTO users (id, subject, name) VALUES ($1, 'twin', 'twin') RETURNING 1", copied)
    found, after = [], None
    for _ in range(100):
        page = (await household.above.ask(NAMES, {"first": 1, "after": after})).data["users"]
        found += [key for key in ids_of(page) if key[1] == str(copied)]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert sorted(found) == sorted((slug, str(copied)) for slug in BELOW)


async def test_each_read_is_in_the_log_of_each_descendant_and_names_nobody_above(household: Household) -> None:
    """One entry for many reads; without the tenant above."""
    for _ in range(3):
        await household.above.ask(NAMES)
    logs = '{ auditLog(filter: {action: {eq: "family_read:create"}}) { nodes { object actor onBehalfOf new } } }'
    deadline = time.monotonic() + PATIENCE
    for slug in BELOW:
        entries: list[Any] = []
        while not entries and time.monotonic() < deadline:
            async with household.owner.unbound() as work:
                await work.script("UPDATE control.reads SET due_at = now()")
            await asyncio.sleep(0.2)
            entries = (await household.api.client(slug).ask(logs)).data["auditLog"]["nodes"]
        assert {each["object"] for each in entries} == {"family:user"}
        assert sum(each["new"]["count"] for each in entries) == 3
        assert {each["actor"] for each in entries} == {None}
        assert not household.parent.traced_in(str(entries))
    for slug in ("parent", "stranger"):
        assert (await household.api.client(slug).ask(logs)).data["auditLog"]["nodes"] == []


async def test_words_are_searched_in_the_rows_of_each_tenant(database: Database, household: Household) -> None:
    listed = (
        "query ($text: String!) { %(field)s(%(scope)s filter: {search: {text: $text}}) { totalCount nodes { id } } }"
    )
    for each in LISTED:
        filtered = model.schema.query_type.fields[each.field].args["filter"].type  # type: ignore[union-attr]
        if "search" not in getattr(filtered, "fields", {}):
            continue
        document = listed % {"field": each.field, "scope": "scope: DESCENDANTS,"}
        own = listed % {"field": each.field, "scope": ""}
        seen = {
            key for canary in household.below.values() for key in await seen_by_all(database, canary.tenant, each.table)
        }
        for text in ("canary", "child", "nothing has this"):
            found = (await household.above.ask(document, {"text": text})).data[each.field]
            expected = [
                node["id"]
                for slug in BELOW
                for node in (await household.api.client(slug).ask(own, {"text": text})).data[each.field]["nodes"]
                if node["id"].partition("_")[2] in seen
            ]
            assert sorted(node["id"] for node in found["nodes"]) == sorted(expected), (each.field, text)
            assert found["totalCount"] == len(expected)
