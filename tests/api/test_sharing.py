"""Grantees read shared rows, for every pair of placements, but no rows related to them."""

import pytest
from sqlalchemy import false, func, insert, select

from isola.api.execute import Executor
from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.spans import spans
from isola.subjects.users import users
from isola_strategies.base import Strategy
from tests.api.conftest import Caller, Principal, World, ids, uuid

SHARED = """{ sharedWithMe(first: 100) { totalCount nodes {
  id grantedAt expiresAt owner { slug name }
  resource { __typename id name kind data sizeBytes createdAt updatedAt } } } }"""


async def test_sharing_works_between_all_placements(a: Caller, world: World) -> None:
    found = (await a.ask(SHARED)).data["sharedWithMe"]
    owners = {node["owner"]["slug"] for node in found["nodes"]}
    assert owners == set(world.tenants) - {a.principal.tenant.slug}
    assert found["totalCount"] == len(found["nodes"]) == 3
    moments = [node["grantedAt"] for node in found["nodes"]]
    assert moments == sorted(moments, reverse=True)


async def test_values_are_the_owners(a: Caller, world: World) -> None:
    fields = "id name kind data sizeBytes createdAt updatedAt"
    for node in (await a.ask(SHARED)).data["sharedWithMe"]["nodes"]:
        owner = Caller(
            world.database, type(a.principal)(world.tenants[node["owner"]["slug"]], a.principal.user_id), a.executor
        )
        query = f"query ($id: ID!) {{ resource(id: $id) {{ __typename {fields} }} }}"
        assert (await owner.ask(query, {"id": node["resource"]["id"]})).data["resource"] == node["resource"]


@pytest.mark.parametrize(
    ("selection", "path"),
    [
        ("owner { id }", "owner"),
        ("spans { totalCount }", "spans"),
        ("shares { totalCount }", "shares"),
        ("a: owner { id }", "a"),
        ("... on Resource { ... on Node { ...F } }", "spans"),
    ],
)
async def test_relations_of_shared_rows_are_refused_before_any_statement(a: Caller, selection: str, path: str) -> None:
    fragment = "fragment F on Resource { id spans { totalCount } }" if "F" in selection else ""
    answer = await a.ask(
        f"{{ s: sharedWithMe {{ edges {{ node {{ resource {{ name {selection} }} }} }} }} }} {fragment}"
    )
    assert answer.code == "FORBIDDEN"
    assert answer.error["path"] == ["s", "edges", "node", "resource", path]
    assert (answer.body["data"], answer.transactions) == ({"s": None}, 0)
    share = ids("res", 0).replace("res", "shr")
    answer = await a.ask(
        f'{{ node(id: "{share}") {{ ... on SharedResource {{ resource {{ {selection} }} }} }} }} {fragment}'
    )
    assert answer.code == "FORBIDDEN"


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
        await work.script(
            "INSERT INTO control.subjects (name, relation, shared) VALUES ('span', 'spans', '{id,title}')"
        )
        home = await work.value("SELECT home FROM control.tenants WHERE id = $1", sharer.id)
        await work.script(f"GRANT SELECT (id, title) ON {home}.spans TO isola_sharing")
    async with database.transaction(sharer, about={"user": str(uuid(0, 0))}) as work:
        await work.execute(insert(users).values(id=uuid(0, 0), subject="s", name="n"))
        await work.execute(insert(spans).values(id=uuid(1, 0), author_id=uuid(0, 0), title="t"))
        call = func.isola.share("span", uuid(1, 0), partner.slug, None, false()).table_valued("share")
        share = await work.scalar(select(call.c.share))
    async with database.transaction(partner) as work:
        await work.execute(insert(users).values(id=uuid(0, 1), subject="s", name="n"))
    reader = Caller(database, Principal(partner, uuid(0, 1)), executor)
    node = {"id": f"shr_{share}", "owner": {"slug": sharer.slug}, "resource": None}
    answer = await reader.ask("{ sharedWithMe { nodes { id owner { slug } resource { id name } } } }")
    assert answer.data == {"sharedWithMe": {"nodes": [node]}}
