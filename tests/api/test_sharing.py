"""Grantees read shared rows, for every pair of placements, but no rows related to them."""

from dataclasses import replace
from typing import Any

import pytest
from graphql import get_named_type
from sqlalchemy import func, insert, select

from isola.api.execute import Executor
from isola.api.schema import model
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.declaration import field_of
from isola.subjects.resources import Resource
from isola.subjects.spans import spans
from isola.subjects.users import users
from isola_strategies.base import Strategy
from tests.api.conftest import Caller, Principal, World, ids, uuid

SHARED = """{ sharedWithMe(first: 100) { totalCount nodes {
  id grantedAt expiresAt note owner { slug name }
  resource { __typename grantedFields name kind data sizeBytes createdAt updatedAt } } } }"""


async def test_sharing_works_between_all_placements(a: Caller, world: World) -> None:
    found = (await a.ask(SHARED)).data["sharedWithMe"]
    owners = {node["owner"]["slug"] for node in found["nodes"]}
    assert owners == set(world.tenants) - {a.principal.tenant.slug}
    assert found["totalCount"] == len(found["nodes"]) == 3
    moments = [node["grantedAt"] for node in found["nodes"]]
    assert moments == sorted(moments, reverse=True)


async def test_values_are_the_owners_and_null_where_they_are_not_granted(a: Caller, world: World) -> None:
    """Each tenant has shared a row with every other one: all of it, or a part."""
    fields = {each: field_of(each) for each in Resource.declaration.shared}
    known = []
    for node in (await a.ask(SHARED)).data["sharedWithMe"]["nodes"]:
        shared = node["resource"]
        assert shared.pop("__typename") == "SharedResource"
        granted = shared.pop("grantedFields")
        slug, partners = node["owner"]["slug"], sorted(world.tenants.keys() - {node["owner"]["slug"]})
        place = partners.index(a.principal.tenant.slug)
        columns = [list(fields), ["name"], ["kind", "data"]][place]
        assert (granted, node["note"]) == ([each.upper() for each in columns], [None, "for you", None][place])
        assert (node["expiresAt"] is None) == (place == 0)
        owner = replace(a, principal=replace(a.principal, tenant=world.tenants[slug]))
        query = f"query ($id: ID!) {{ resource(id: $id) {{ {' '.join(fields.values())} }} }}"
        whole = (await owner.ask(query, {"id": ids("res", place % 3)})).data["resource"]
        assert shared == {field: whole[field] if each in columns else None for each, field in fields.items()}
        known.append(place)
    assert known


async def test_lists_of_enum_values_are_the_same_where_graphql_core_resolves_a_part(a: Caller) -> None:
    mixed = (await a.ask(SHARED.replace("{", "{ __schema { __typename } ", 1))).data
    assert mixed["sharedWithMe"] == (await a.ask(SHARED)).data["sharedWithMe"]


@pytest.mark.parametrize("selection", ["ownerId", "owner { id }", "spans { totalCount }", "shares { totalCount }"])
async def test_a_shared_row_has_no_relations_and_no_ids_of_its_owner(a: Caller, selection: str) -> None:
    answer = await a.ask(f"{{ sharedWithMe {{ nodes {{ resource {{ name {selection} }} }} }} }}")
    assert (answer.status, answer.transactions) == (400, 0)


OWN = """query ($filter: ShareFilter, $orderBy: [ShareOrder!], $first: Int, $after: String, $last: Int) {
  myShares(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last) { totalCount
    nodes { id resourceId grantee { slug } fields note expiresAt grantedBy { id } } pageInfo { endCursor } } }"""


async def test_own_shares_are_filtered_ordered_and_paged(a: Caller, world: World) -> None:
    partners = sorted(world.tenants.keys() - {a.principal.tenant.slug})

    async def found(**given: Any) -> list[str]:
        return [node["grantee"]["slug"] for node in (await manager.ask(OWN, given)).data["myShares"]["nodes"]]

    manager = a.being(7, "share:manage")
    whole = (await manager.ask(OWN)).data["myShares"]
    assert (whole["totalCount"], [node["grantee"]["slug"] for node in whole["nodes"]]) == (3, partners)
    assert [node["fields"] for node in whole["nodes"]][1:] == [["NAME"], ["KIND", "DATA"]]
    assert await found(filter={"grantee": {"eq": partners[1]}}) == [partners[1]]
    assert await found(filter={"resourceId": {"eq": ids("res", 2)}}) == [partners[2]]
    assert await found(filter={"type": {"eq": "RESOURCE"}, "expiresAt": {"isNull": True}}) == [partners[0]]
    assert await found(filter={"type": {"in": []}}) == []
    assert await found(filter={"expiresAt": {"gt": "2030-01-01T00:00:00Z"}}) == partners[1:]
    assert await found(filter={"grantedById": {"eq": ids("usr", 0)}, "id": {"eq": whole["nodes"][0]["id"]}}) == [
        partners[0]
    ]
    assert await found(filter={"grantedById": {"eq": ids("usr", 1)}}) == []
    descending = [{"field": "EXPIRES_AT", "direction": "DESC"}, {"field": "GRANTED_AT"}]
    assert (await found(orderBy=descending))[0] == partners[0]
    assert await found(last=2) == partners[1:]
    page = (await manager.ask(OWN, {"first": 2})).data["myShares"]
    assert await found(first=2, after=page["pageInfo"]["endCursor"]) == partners[2:]


async def test_others_see_the_shares_that_they_granted(a: Caller) -> None:
    assert (await a.being(0).ask(OWN)).data["myShares"]["totalCount"] == 3
    assert (await a.being(7).ask(OWN)).data["myShares"]["totalCount"] == 0


async def test_shares_are_visible_to_the_owner_and_to_managers(a: Caller) -> None:
    query = """query ($id: ID!) { resource(id: $id) { owner { id } shares { totalCount nodes {
      id resourceId resource { id owner { id } } grantee { slug } grantedBy { id } grantedAt expiresAt } } } }"""
    for index in range(3):
        found = (await a.ask(query, {"id": ids("res", index)})).data["resource"]
        owner = int(found["owner"]["id"][-1])
        owned = (await a.being(owner).ask(query, {"id": ids("res", index)})).data["resource"]["shares"]
        managed = (await a.being(7, "resource:manage").ask(query, {"id": ids("res", index)})).data["resource"]["shares"]
        other = (await a.being(7).ask(query, {"id": ids("res", index)})).data["resource"]["shares"]
        assert owned == managed
        assert other == {"totalCount": 0, "nodes": []}
        assert owned["totalCount"] == 1
        share = owned["nodes"][0]
        assert share["resourceId"] == share["resource"]["id"] == ids("res", index)
        assert share["grantedBy"] == {"id": ids("usr", 0)}
        assert share["grantee"]["slug"] != a.principal.tenant.slug


async def test_shared_rows_are_paged(a: Caller) -> None:
    query = """query ($after: String) { sharedWithMe(first: 2, after: $after) {
      nodes { id } pageInfo { hasNextPage endCursor } } }"""
    whole = [node["id"] for node in (await a.ask(SHARED)).data["sharedWithMe"]["nodes"]]
    first = (await a.ask(query)).data["sharedWithMe"]
    second = (await a.ask(query, {"after": first["pageInfo"]["endCursor"]})).data["sharedWithMe"]
    assert [node["id"] for node in first["nodes"] + second["nodes"]] == whole
    assert (first["pageInfo"]["hasNextPage"], second["pageInfo"]["hasNextPage"]) == (True, False)


LISTED = """query ($filter: SharedResourceFilter, $orderBy: [SharedResourceOrder!], $first: Int, $after: String,
    $last: Int, $before: String) {
  sharedResources(filter: $filter, orderBy: $orderBy, first: $first, after: $after, last: $last, before: $before) {
    totalCount nodes { id name kind grantedFields share { owner { slug name } note grantedAt expiresAt } }
    pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }"""


async def test_shared_rows_are_those_of_the_received_shares(a: Caller) -> None:
    received = (await a.ask(SHARED)).data["sharedWithMe"]
    listed = (await a.ask(LISTED)).data["sharedResources"]
    assert listed["totalCount"] == received["totalCount"] == 3
    for node, share in zip(listed["nodes"], received["nodes"], strict=True):
        assert node["id"] == share["id"]
        assert node["share"] == {name: share[name] for name in ("owner", "note", "grantedAt", "expiresAt")}
        assert {name: node[name] for name in ("name", "kind", "grantedFields")} == {
            name: share["resource"][name] for name in ("name", "kind", "grantedFields")
        }
    assert (await a.being(7, "resource:read").ask("{ sharedResources { totalCount } }")).data == {
        "sharedResources": {"totalCount": 3}
    }


async def test_shared_rows_are_filtered_ordered_and_paged(a: Caller) -> None:
    async def found(**given: Any) -> list[str]:
        return [node["id"] for node in (await a.ask(LISTED, given)).data["sharedResources"]["nodes"]]

    nodes = (await a.ask(LISTED)).data["sharedResources"]["nodes"]
    whole = [node["id"] for node in nodes]
    by_owner = sorted(nodes, key=lambda node: node["share"]["owner"]["slug"])
    for node in nodes:
        assert await found(filter={"id": {"eq": node["id"]}}) == [node["id"]]
        assert await found(filter={"sharedBy": {"eq": node["share"]["owner"]["slug"]}}) == [node["id"]]
    named = [node for node in nodes if node["name"] is not None]
    assert await found(filter={"name": {"isNull": False}}) == [node["id"] for node in named]
    assert await found(filter={"name": {"isNull": True}}) == [node["id"] for node in nodes if node["name"] is None]
    for node in named:
        assert node["id"] in await found(filter={"name": {"eq": node["name"]}})
    assert await found(filter={"name": {"eq": "no such name"}}) == []
    ended = [node["id"] for node in nodes if node["share"]["expiresAt"] is not None]
    assert await found(filter={"sharedUntil": {"gt": "2030-01-01T00:00:00Z"}}) == ended
    order = [{"field": "SHARED_BY", "direction": "DESC"}]
    assert await found(orderBy=order) == [node["id"] for node in reversed(by_owner)]
    first = (await a.ask(LISTED, {"orderBy": order, "first": 2})).data["sharedResources"]
    assert (first["totalCount"], first["pageInfo"]["hasNextPage"]) == (3, True)
    after, before = first["pageInfo"]["endCursor"], first["pageInfo"]["endCursor"]
    assert await found(orderBy=order, after=after) == [by_owner[0]["id"]]
    assert await found(orderBy=order, last=1, before=before) == [by_owner[2]["id"]]
    assert await found(last=2) == whole[1:]


async def test_a_share_of_others_is_not_there(a: Caller, b: Caller) -> None:
    theirs = (await b.ask(SHARED)).data["sharedWithMe"]["nodes"][0]["id"]
    answer = await a.ask("query ($id: ID!) { node(id: $id) { id } }", {"id": theirs})
    assert answer.text == '{"data":{"node":null}}'


async def test_a_share_of_another_subject_has_null_where_a_resource_would_be(
    database: Database, control: Database, owner: Database, strategy: Strategy, other: Strategy, executor: Executor
) -> None:
    """The test declares the titles of spans as shared."""
    sharer = await provisioning.named(control, f"{strategy.name}-a")
    partner = await provisioning.named(control, f"{other.name}-b")
    async with owner.unbound() as work:
        await work.script("INSERT INTO control.subjects (name, relation, shared) VALUES ('span', 'spans', '{title}')")
        home = await work.value("SELECT home FROM control.tenants WHERE id = $1", sharer.id)
        await work.script(f"GRANT SELECT (id, title) ON {home}.spans TO isola_sharing")
    async with database.transaction(sharer, about={"user": str(uuid(0, 0))}) as work:
        await work.execute(insert(users).values(id=uuid(0, 0), subject="s", name="n"))
        await work.execute(insert(spans).values(id=uuid(1, 0), author_id=uuid(0, 0), title="t"))
        call = func.isola.share("span", uuid(1, 0), partner.slug, None, None, None).table_valued("share")
        share = await work.scalar(select(call.c.share))
    async with database.transaction(partner) as work:
        await work.execute(insert(users).values(id=uuid(0, 1), subject="s", name="n"))
    reader = Caller(database, Principal(partner, uuid(0, 1)), executor)
    node = {"id": f"shr_{share}", "owner": {"slug": sharer.slug}, "resource": None}
    answer = await reader.ask("{ sharedWithMe { nodes { id owner { slug } resource { name } } } }")
    assert answer.data == {"sharedWithMe": {"nodes": [node]}}


NODE = 'node(id: "%s") { ... on ReceivedShare { resource { name } } }'


@pytest.mark.parametrize(
    ("selection", "reads"),
    [
        ("sharedResources { nodes { name } }", 3),
        ("sharedResources { nodes { id } edges { cursor node { name } } }", 3),
        ("sharedResources(first: 2) { nodes { name } pageInfo { hasNextPage } }", 2),
        ("sharedResources(last: 1) { nodes { name } pageInfo { hasPreviousPage } }", 1),
        ("sharedResources { edges { cursor } }", 3),
        ("sharedResources { pageInfo { startCursor endCursor } }", 2),
        ("sharedResources(first: 1, orderBy: [{field: NAME}]) { pageInfo { endCursor } edges { cursor } }", 1),
        ("sharedResources { nodes { name } } __schema { __typename }", 3),
        ("sharedWithMe { nodes { resource { name } } }", 3),
        ("a: sharedWithMe { nodes { resource { name } } } b: sharedResources { nodes { kind } }", 3),
        (NODE, 1),
        # No row is in the answer.
        ("sharedResources { totalCount }", 0),
        ("sharedResources(first: 0) { nodes { name } totalCount }", 0),
        ('sharedResources(filter: {name: {eq: "nothing has this"}}) { nodes { name } pageInfo { endCursor } }', 0),
        ("sharedWithMe { totalCount nodes { id note owner { slug } } }", 0),
        ("resources { nodes { id name } pageInfo { startCursor } }", 0),
    ],
)
async def test_the_shares_whose_rows_are_in_an_answer_are_noted(a: Caller, selection: str, reads: int) -> None:
    everything = [node["id"] for node in (await a.ask(SHARED)).data["sharedWithMe"]["nodes"]]
    noted: list[set[str]] = []
    executor = Executor(model, secret=b"s" * 32, note=lambda _, shares: noted.append(set(shares)))
    answer = await a.using(executor).ask(f"{{ {selection.replace('%s', everything[0])} }}")
    assert answer.data
    found = set().union(*noted)
    assert found <= {each.removeprefix("shr_") for each in everything}
    assert (len(found), len(noted)) == (reads, 1 if reads else 0)
    plain = await a.ask(f"{{ {selection.replace('%s', everything[0])} }}")
    assert {**answer.data} == {**plain.data} or "ursor" in selection


def test_no_answer_to_a_mutation_has_rows_of_other_tenants() -> None:
    """The first answer to a mutation with a key is kept as it is."""
    shared = {name for name, entity in model.entities.items() if getattr(entity.source, "share", None) is not None}
    assert shared
    reached: set[str] = set()
    waiting = [get_named_type(each.type) for each in model.schema.mutation_type.fields.values()]  # type: ignore[union-attr]
    while waiting:
        type_ = waiting.pop()
        if type_.name not in reached:
            reached.add(type_.name)
            waiting += [get_named_type(each.type) for each in getattr(type_, "fields", {}).values()]
    assert not reached & shared
