"""What a parent shares with all its children: each reads it, and learns neither of the parent nor of the others."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import hierarchy, moves, provisioning
from isola.platform.sign_in_log import SignInLog
from isola.subjects.permissions import Role
from isola.testing.consent import end_partnerships, make_partners
from isola.testing.isolation.families.conftest import FAMILIES, Household
from isola.testing.isolation.sharing.reading import all_shared
from isola.testing.oracles.canary import Canary, Row, log
from isola.testing.patience import PATIENCE
from isola.testing.printed import in_plan, plans_of
from isola.testing.served import OPERATIONS, Answer

# Each strategy once above and once below.
CROSSED = list(zip(FAMILIES, [*FAMILIES[1:], *FAMILIES[:1]], strict=True))
ALIKE = [(name, name) for name in FAMILIES]
SHARED = """
query ($order: [SharedResourceOrder!], $first: Int, $after: String) {
  sharedResources(orderBy: $order, first: $first, after: $after) {
    totalCount edges { cursor node { id name kind share { owner { slug } note grantedAt expiresAt } } }
    pageInfo { hasNextPage endCursor }
  }
}
"""
BY_OWNER = {"order": [{"field": "SHARED_BY"}, {"field": "NAME"}]}
OWN = "{ myShares { nodes { id toChildren grantee { slug } resource { shares { nodes { id } } } } } }"
REFUSED = "SELECT refused FROM isola.share_with_children('resource', $1, NULL, NULL, NULL)"
DUE = "UPDATE control.reads SET due_at = now()"
READ_BY = ("SharedWithMe", "AuditLog", "Viewer", "Partnerships", "MyShares", "Resources")

crossed = pytest.mark.parametrize("placed_above", CROSSED, indirect=True, ids="-over-".join)
alike = pytest.mark.parametrize("placed_above", ALIKE, indirect=True, ids="-over-".join)
once = pytest.mark.parametrize("placed_above", CROSSED[:1], indirect=True, ids="-over-".join)


async def share(household: Household, *, role: Role = Role.ADMIN, **given: Any) -> Answer:
    """Share the parent's resource, by default with all children."""
    resource = f"res_{household.parent.rows['resources']['id']}"
    client = household.api.client("parent", role=role)
    return await client.run("ShareResource", input={"resourceId": resource, **(given or {"toChildren": True})})


async def shared(household: Household, **given: Any) -> str:
    return str((await share(household, **given)).data["shareResource"]["share"]["id"])


async def received(household: Household, slug: str) -> Sequence[Any]:
    """What a tenant receives; checks that lists, counts and ``node`` agree."""
    client = household.api.client(slug)
    nodes: Sequence[Any] = (await client.run("SharedWithMe")).data["sharedWithMe"]["nodes"]
    listed = (await client.ask(SHARED)).data["sharedResources"]
    assert listed["totalCount"] == len(nodes)
    assert [each["node"]["id"] for each in listed["edges"]] == [each["id"] for each in nodes]
    for each in nodes:
        one = (await client.run("Node", id=each["id"])).data["node"]
        assert one["resource"] == {"name": each["resource"]["name"]}
    return nodes


async def readers(household: Household) -> set[str]:
    """The tenants that receive something."""
    asked = ("child", "sister", "grandchild", "stranger", "parent")
    return {slug for slug in asked if await received(household, slug)}


async def entries(database: Database, household: Household, canary: Canary, subject: str) -> Sequence[Row]:
    """The entries of a tenant's log, after a server has copied there what waits."""
    async with household.owner.unbound() as work:
        await work.script(DUE)
    async with SignInLog(household.api.control, database):
        pass
    return [each for each in await log(database, canary.tenant) if each["action"].startswith(f"{subject}:")]


@crossed
async def test_children_read_it_and_learn_neither_of_the_parent_nor_of_each_other(
    database: Database, household: Household
) -> None:
    ours = await shared(household, toChildren=True, note="for all", fields=["NAME"])
    assert await readers(household) == {"child", "sister"}
    found = {slug: (await received(household, slug))[0] for slug in ("child", "sister")}
    name = household.parent.rows["resources"]["name"]
    for node in found.values():
        expected = {"grantedFields": ["NAME"], "name": name, "kind": None, "data": None, "sizeBytes": None}
        assert (node["owner"], node["note"], node["resource"]) == (None, "for all", expected)
    # No two tenants have the same id of it, and none finds it by the id of another.
    assert len({ours, *(node["id"] for node in found.values())}) == 3
    for slug, other in (("child", "sister"), ("sister", "child")):
        client = household.api.client(slug)
        for foreign in (ours, found[other]["id"]):
            assert (await client.run("Node", id=foreign)).data == {"node": None}
        answers = [await client.ask(SHARED, BY_OWNER), *[await client.run(name) for name in READ_BY]]
        text = "".join(answer.response.text for answer in answers)
        assert name in text
        for hidden in (household.parent.tenant, household.below[other].tenant):
            assert str(hidden.id) not in text
            assert f'"{hidden.slug}"' not in text
    [mine] = (await household.above.ask(OWN)).data["myShares"]["nodes"]
    assert mine == {"id": ours, "toChildren": True, "grantee": None, "resource": {"shares": {"nodes": [{"id": ours}]}}}

    await household.above.run("ChangeShare", input={"shareId": ours, "fields": ["KIND"], "note": None})
    [node] = await received(household, "child")
    assert (node["resource"]["grantedFields"], node["note"], node["resource"]["name"]) == (["KIND"], None, None)
    await household.above.run("RevokeShare", input={"shareId": ours})
    assert await readers(household) == set()
    for place, node in found.items():
        noted = await entries(database, household, household.below[place], "received_share")
        assert [each["action"].partition(":")[2] for each in noted] == ["create", "update", "delete"]
        assert {each["object"] for each in noted} == {node["id"]}
        assert {(each["new"] or each["old"])["owner"] for each in noted} == {None}
        assert "parent" not in str(noted)
    for canary in (household.grandchild, household.stranger):
        assert await entries(database, household, canary, "received_share") == []
    assert len(await entries(database, household, household.parent, "share")) == 3


@alike
async def test_a_child_reads_the_same_with_and_without_siblings(household: Household) -> None:
    await shared(household)
    client = household.api.client("child")

    async def everything() -> Sequence[str]:
        documents = [name for name, text in OPERATIONS.items() if text.startswith("query") and "$id" not in text]
        answers = [await client.run(name) for name in documents if name != "AuditLog"]
        return [*(each.response.text for each in answers), (await client.ask(SHARED, BY_OWNER)).response.text]

    before = await everything()
    assert household.parent.rows["resources"]["name"] in str(before)
    await provisioning.drop(household.owner, household.copy.strategies, "sister", notice=0)
    assert await everything() == before
    await hierarchy.place(household.api.control, "stranger", under="parent")
    assert await everything() == before


@crossed
async def test_children_come_and_go_and_have_it_as_long_as_they_are_children(household: Household) -> None:
    control = household.api.control
    await shared(household)
    [first] = await received(household, "sister")
    await hierarchy.place(control, "sister", under=None)
    assert await readers(household) == {"child"}
    await hierarchy.place(control, "stranger", under="parent")
    await hierarchy.place(control, "sister", under="parent")
    assert await readers(household) == {"child", "sister", "stranger"}
    # Not even a child that comes back finds by an id that it is the same share, nor that it is older.
    [again] = await received(household, "sister")
    assert again["id"] != first["id"]
    assert again["grantedAt"] > first["grantedAt"]
    to = FAMILIES[FAMILIES.index(household.parent.tenant.strategy) - 1]
    await moves.move(household.owner, household.copy.strategies, "parent", to=to)
    assert (await received(household, "sister"))[0] == again
    await provisioning.suspend(control, "child")
    await provisioning.resume(control, "child")
    assert len(await received(household, "child")) == 1
    await provisioning.suspend(control, "parent")
    # The database refuses it at once, and the server as soon as it has heard of the suspension.
    answer = await household.api.client("child").run("SharedWithMe")
    assert answer.code in {"FORBIDDEN", "TENANT_SUSPENDED"}


@once
async def test_pages_end_where_a_child_leaves_its_parent(household: Household) -> None:
    for name in "abc":
        resource = await household.above.create(name)
        given = {"resourceId": resource, "toChildren": True}
        assert (await household.above.run("ShareResource", input=given)).data
    client = household.api.client("child")
    newest = {"first": 1}
    pages = [(await client.run("SharedWithMe", **newest)).data["sharedWithMe"]]
    pages.append(
        (await client.run("SharedWithMe", after=pages[0]["pageInfo"]["endCursor"], **newest)).data["sharedWithMe"]
    )
    assert [each["nodes"][0]["resource"]["name"] for each in pages] == ["c", "b"]
    listed = (await client.ask(SHARED, {**BY_OWNER, **newest})).data["sharedResources"]
    assert [each["node"]["name"] for each in listed["edges"]] == ["a"]
    await hierarchy.place(household.api.control, "child", under="stranger")
    for answer in (
        await client.run("SharedWithMe", after=pages[1]["pageInfo"]["endCursor"]),
        await client.ask(SHARED, {**BY_OWNER, "after": listed["pageInfo"]["endCursor"]}),
    ):
        assert '"name"' not in answer.response.text.partition("data")[2]


@once
async def test_a_child_that_is_a_partner_receives_a_row_once(household: Household) -> None:
    await make_partners(household.owner, household.parent.tenant.id, household.child.tenant.id)
    theirs = await shared(household, grantee="child")
    ours = await shared(household)
    [node] = await received(household, "child")
    assert (node["id"], node["owner"]["slug"]) == (theirs, "parent")
    # It would learn from the values who its parent is, also later.
    await household.above.run("RevokeShare", input={"shareId": theirs})
    await end_partnerships(household.owner, household.child.tenant.id)
    assert await readers(household) == {"sister"}
    await household.above.run("RevokeShare", input={"shareId": ours})

    await make_partners(household.owner, household.parent.tenant.id, household.sister.tenant.id)
    await shared(household)
    assert (await share(household, grantee="sister")).code == "CONFLICT"
    assert [each["owner"] for each in await received(household, "sister")] == [None]


@once
async def test_a_rule_shares_no_row_with_a_child_that_receives_it_as_one(household: Household) -> None:
    await make_partners(household.owner, household.parent.tenant.id, household.child.tenant.id)
    await shared(household)
    await household.above.create("only by the rule")
    every = {"filter": {"id": {"isNull": False}}, "grantee": "child"}
    assert (await household.above.run("ShareResources", input=every)).data
    owners = {each["resource"]["name"]: each["owner"] for each in await received(household, "child")}
    assert owners[household.parent.rows["resources"]["name"]] is None
    assert owners["only by the rule"]["slug"] == "parent"


@once
async def test_each_read_by_a_child_is_in_the_log_of_the_parent(database: Database, household: Household) -> None:
    await shared(household)
    for slug in ("child", "child", "sister"):
        assert (await household.api.client(slug).ask("{ sharedResources { nodes { name } } }")).data
    noted: list[Row] = []
    async with asyncio.timeout(PATIENCE):
        while sum(each["new"]["count"] for each in noted) < 3:
            noted = [*await entries(database, household, household.parent, "share_read")]
    assert {each["object"] for each in noted} == {"shared:resource"}
    counts = {
        slug: sum(each["new"]["count"] for each in noted if each["new"]["child"] == slug)
        for slug in ("child", "sister")
    }
    assert counts == {"child": 2, "sister": 1}
    assert await entries(database, household, household.child, "share_read") == []


@once
async def test_it_needs_one_kind_of_recipient_children_and_permissions(household: Household) -> None:
    for given, field in (
        ({"note": "to nobody"}, "grantee"),
        ({"grantee": None, "toChildren": False}, "grantee"),
        ({"grantee": "child", "toChildren": True}, "toChildren"),
        ({"toChildren": True, "expiresAt": "2020-01-01T00:00:00Z"}, "expiresAt"),
        ({"toChildren": True, "access": "COMMENT"}, "access"),
    ):
        refused = await share(household, **given)
        assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"input.{field}")
    client = household.api.client("stranger")
    resource = await client.create("alone")
    refused = await client.run("ShareResource", input={"resourceId": resource, "toChildren": True})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.toChildren")
    ours = await shared(household)
    assert (await share(household)).code == "CONFLICT"
    admin = household.api.client("parent", role=Role.ADMIN)
    refused = await admin.run("ChangeShare", input={"shareId": ours, "access": "COMMENT"})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.access")
    eve = household.api.client("parent", "eve", Role.EDITOR)
    theirs = await eve.create("of an editor")
    refused = await eve.run("ShareResource", input={"resourceId": theirs, "toChildren": True})
    assert refused.error["message"] == "this needs the permission share:manage"
    for change in ("ChangeShare", "RevokeShare"):
        assert (await eve.run(change, input={"shareId": ours})).code == "FORBIDDEN"


@once
async def test_sql_in_a_child_finds_neither_the_parent_nor_the_share(database: Database, household: Household) -> None:
    ours = (await shared(household)).removeprefix("shr_")
    child, parent = household.child, household.parent
    async with database.transaction(child.tenant, about=child.about) as work, plans_of(work) as printed:
        [row] = await all_shared(work)
        [one] = await work._connection.fetch("SELECT * FROM isola.share_received($1)", row["share_id"])
        assert (one["id"], one["owner_slug"], row["owner_slug"], row["owner_name"]) == (
            row["share_id"],
            None,
            None,
            None,
        )
        assert await work.value(REFUSED, parent.rows["resources"]["id"]) == "children"
    text = "".join(printed)
    assert ":constvalue" in text
    for hidden in (str(parent.tenant.id), ours):
        assert in_plan(bytes.fromhex(hidden.replace("-", ""))) not in text
    # Nor does SQL of a user who may not see them find out that there are children.
    async with database.transaction(parent.tenant, about={"user": parent.about["user"]}) as work:
        assert await work.value(REFUSED, parent.rows["resources"]["id"]) == "children"
    async with household.owner.unbound() as work:
        key = await work.value("SELECT child_key FROM control.tenants WHERE id = $1", child.tenant.id)
        assert str(await work.value("SELECT control.id_of_parent($1, $2)", row["share_id"], key)) == ours
