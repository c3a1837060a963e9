"""Every kind of read, each by one statement in one transaction."""

import json
from typing import Any

import pytest

from isola.api.execute import Executor
from isola.api.schema import model
from isola.query.limits import Limits
from tests.api.conftest import OPEN, OPERATIONS, Caller, ids

VARIABLES: dict[str, dict[str, Any]] = {
    "Resource": {"id": ids("res", 1)},
    "ResourceShares": {"id": ids("res", 1)},
    "Node": {"id": ids("org", 1)},
    "ReceivedComments": {"id": ids("res", 99).replace("res", "shr")},
    "Nodes": {"ids": [ids("res", 1), ids("usr", 1), "?"]},
    "SearchResources": {"filter": {"name": {"gt": "A"}}, "orderBy": [{"field": "NAME"}]},
}
READS = sorted(
    path.stem for path in OPERATIONS.glob("*.graphql") if path.read_text().startswith("query") and path.stem not in OPEN
)


@pytest.mark.parametrize("name", READS)
async def test_operations_that_clients_share(a: Caller, name: str) -> None:
    answer = await a.ask((OPERATIONS / f"{name}.graphql").read_text(), VARIABLES.get(name, {}))
    assert answer.data
    assert answer.transactions == 1
    assert answer.status == 200


async def test_selection_order_aliases_fragments_and_merging(a: Caller) -> None:
    answer = await a.ask(
        """
        query ($id: ID!) {
          z: resource(id: $id) { b: name ...Basics ... on Node { id } ...Owner a: __typename }
          y: viewer { tenant { slug __typename } }
        }
        fragment Basics on Resource { kind owner { name } b: name }
        fragment Owner on Resource { owner { id name email } kind }
        """,
        {"id": ids("res", 1)},
    )
    assert list(answer.data) == ["z", "y"]
    assert list(answer.data["z"]) == ["b", "kind", "owner", "id", "a"]
    assert list(answer.data["z"]["owner"]) == ["name", "id", "email"]
    assert answer.data["y"]["tenant"] == {"slug": a.principal.tenant.slug, "__typename": "Tenant"}


@pytest.mark.parametrize("with_kind", [True, False])
@pytest.mark.parametrize("without_owner", [True, False])
async def test_skip_and_include(a: Caller, *, with_kind: bool, without_owner: bool) -> None:
    answer = await a.ask(
        """query ($k: Boolean!, $o: Boolean = false, $id: ID!) { resource(id: $id) {
             kind @include(if: $k) ... @skip(if: $o) { owner { id } } ...N @include(if: true) @skip(if: $k) id
           } } fragment N on Resource { name }""",
        {"k": with_kind, "o": without_owner, "id": ids("res", 1)},
    )
    expected = ["kind"] * with_kind + ["owner"] * (not without_owner) + ["name"] * (not with_kind) + ["id"]
    assert list(answer.data["resource"]) == expected


async def test_nothing_selected_at_all(a: Caller) -> None:
    answer = await a.ask("{ viewer @skip(if: true) { roles } }")
    assert answer.data == {}


async def test_thousands_of_fields_and_long_names(a: Caller) -> None:
    limits = Limits(text=10**6, tokens=10**5, fields=10**4, aliases=10**4)
    wide = a.using(Executor(model, secret=b"x", limits=limits))
    aliases = [f"{'long' * 20}_{index}" for index in range(3000)]
    selection = " ".join(f"{alias}: name" for alias in aliases)
    answer = await wide.ask(f'{{ resource(id: "{ids("res", 1)}") {{ {selection} }} }}')
    assert list(answer.data["resource"]) == aliases
    assert set(answer.data["resource"].values()) == {"z\u2028 1"}


async def test_node_finds_each_type(a: Caller) -> None:
    query = "query ($id: ID!) { node(id: $id) { __typename id } }"
    for prefix, name in {"usr": "User", "org": "Organization", "res": "Resource", "spn": "Span"}.items():
        if prefix == "spn":
            visible = (await a.ask("{ timeline(first: 1) { nodes { id } } }")).data["timeline"]["nodes"][0]["id"]
        else:
            visible = ids(prefix, 1)
        answer = await a.ask(query, {"id": visible})
        assert answer.data["node"] == {"__typename": name, "id": visible}
    share = (await a.ask("{ sharedWithMe { nodes { id } } }")).data["sharedWithMe"]["nodes"][0]["id"]
    answer = await a.ask(
        "query ($id: ID!) { node(id: $id) { id ... on ReceivedShare { owner { slug } } } }", {"id": share}
    )
    assert answer.data["node"]["id"] == share
    assert answer.data["node"]["owner"]["slug"] != a.principal.tenant.slug


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "?",
        "res",
        "res_",
        ids("res", 999),
        ids("res", 1).upper(),
        ids("res", 1).replace("-", ""),
        ids("res", 1) + " ",
        ids("res", 1) + "\n",
        "res_{" + ids("res", 1)[4:] + "}",
        ids("res", 1).replace("res", "usr") + "0",
        "xyz_" + ids("res", 1)[4:],
        "'; DROP TABLE resources; --",
        "\x00",
        "é" * 1000,
    ],
)
async def test_ids_that_find_nothing_are_all_answered_alike(a: Caller, wrong: str) -> None:
    query = "query ($id: ID!) { node(id: $id) { id } resource(id: $id) { id } nodes(ids: [$id, $id]) { id } }"
    answer = await a.ask(query, {"id": wrong})
    assert answer.text == '{"data":{"node":null,"resource":null,"nodes":[null,null]}}'
    # An id of another type finds no resource, and an id of another tenant finds nothing.
    answer = await a.ask("query ($id: ID!) { resource(id: $id) { id } }", {"id": ids("usr", 1)})
    assert answer.text == '{"data":{"resource":null}}'


async def test_other_tenants_rows_are_not_there(a: Caller, b: Caller) -> None:
    query = "query ($id: ID!) { node(id: $id) { id } resource(id: $id) { id name } nodes(ids: [$id]) { id } }"
    assert (await a.ask(query, {"id": ids("res", 30)})).data["node"]
    answer = await b.ask(query, {"id": ids("res", 30)})
    assert answer.text == '{"data":{"node":null,"resource":null,"nodes":[null]}}'
    every = "{ users(first: 100) { nodes { email } } timeline(first: 100) { nodes { title } } }"
    assert b.principal.tenant.slug not in (await a.ask(every)).text
    assert a.principal.tenant.slug not in (await b.ask(every)).text


async def test_nodes_keep_order_length_and_duplicates(a: Caller) -> None:
    asked = [ids("usr", 2), "?", ids("res", 1), ids("usr", 2), ids("res", 999), ids("org", 0), ids("res", 1)]
    answer = await a.ask(
        "query ($ids: [ID!]!) { nodes(ids: $ids) { id __typename ... on User { name } } }", {"ids": asked}
    )
    found = [node and node["id"] for node in answer.data["nodes"]]
    assert found == [ids("usr", 2), None, ids("res", 1), ids("usr", 2), None, ids("org", 0), ids("res", 1)]
    assert answer.data["nodes"][0] == {"id": ids("usr", 2), "__typename": "User", "name": 'c "quoted"'}
    assert (await a.ask("{ nodes(ids: []) { id } }")).data == {"nodes": []}
    # A single value is coerced to a list.
    assert (await a.ask(f'{{ nodes(ids: "{ids("usr", 1)}") {{ id }} }}')).data == {"nodes": [{"id": ids("usr", 1)}]}
    answer = await a.ask("query ($ids: [ID!]!) { nodes(ids: $ids) { id } }", {"ids": ["x"] * 101})
    assert answer.code == "BAD_USER_INPUT"


async def test_values_have_the_json_forms_of_the_contract(a: Caller) -> None:
    answer = await a.ask(
        "{ resources(first: 100) { nodes { id name data sizeBytes createdAt updatedAt kind } } }",
    )
    nodes = answer.data["resources"]["nodes"]
    assert {json.dumps(node["data"]) for node in nodes} > {'"text"', "1.5", "[]"}
    assert 2**53 - 1 in {node["sizeBytes"] for node in nodes}
    assert all(node["createdAt"].endswith("+00:00") for node in nodes)
    assert {"line\nfeed", 'c "quoted"', "d\\el"} <= {node["name"].rstrip(" 0123456789") for node in nodes}


async def test_the_visibility_of_spans_holds_on_every_path(a: Caller) -> None:
    every = """{ timeline(first: 100) { totalCount nodes { id visibility author { id } organization { id } } }
      resources(first: 100) { nodes { spans(first: 100) { nodes { id } } } } }"""
    seen: dict[int, set[str]] = {}
    for user, member_of in {0: {0, 2}, 2: {1}, 5: set[int]()}.items():
        being = a.being(user)
        data = (await being.ask(every)).data
        nodes = data["timeline"]["nodes"]
        assert data["timeline"]["totalCount"] == len(nodes) < 120
        for node in nodes:
            assert (
                (node["author"] is None and "ghost:read" in being.principal.permissions)
                or node["visibility"] == "PUBLIC"
                or node["author"]["id"] == ids("usr", user)
                or (
                    node["visibility"] == "ORGANIZATION"
                    and node["organization"]["id"] in {ids("org", o) for o in member_of}
                )
            )
        seen[user] = {node["id"] for node in nodes}
        below = {node["id"] for resource in data["resources"]["nodes"] for node in resource["spans"]["nodes"]}
        assert below
        assert below <= seen[user]
    hidden = next(iter(seen[0] - seen[5]))
    query = "query ($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } }"
    assert (await a.ask(query, {"id": hidden})).data["node"] == {"id": hidden}
    assert (await a.being(5).ask(query, {"id": hidden})).text == '{"data":{"node":null,"nodes":[null]}}'
    found = await a.being(5).ask(
        "query ($id: ID!) { timeline(filter: {id: {eq: $id}}) { totalCount nodes { id } } }", {"id": hidden}
    )
    assert found.data["timeline"] == {"totalCount": 0, "nodes": []}


async def test_python_and_postgresql_answer_alike(a: Caller) -> None:
    """With introspection in a document, graphql-core answers the rest from the result of the same statement."""
    selection = """
      viewer { user { name } permissions } y: node(id: "%s") { ...N } nodes(ids: ["%s", "?"]) { ...N }
      timeline(first: 3) { edges { node { visibility title payload __typename } } pageInfo { hasNextPage } totalCount }
      resources(first: 50) { nodes { data sizeBytes kind createdAt } }
    """ % (ids("res", 1), ids("org", 1))  # noqa: UP031  braces belong to GraphQL here
    fragment = "fragment N on Node { __typename id ... on Resource { name owner { id } } ... on Organization { name } }"
    plain = await a.ask(f"{{ {selection} }} {fragment}")
    mixed = await a.ask(f"{{ {selection} __schema {{ queryType {{ name }} }} }} {fragment}")
    assert mixed.data.pop("__schema") == {"queryType": {"name": "Query"}}
    assert mixed.data == plain.data
    assert list(mixed.data) == list(plain.data)
    assert mixed.transactions == 1


async def test_introspection_alone_sends_no_statement(a: Caller) -> None:
    answer = await a.ask('{ __type(name: "Resource") { name } __typename }')
    assert answer.data == {"__type": {"name": "Resource"}, "__typename": "Query"}
    assert answer.transactions == 0
