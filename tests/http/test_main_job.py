"""Typical operations of a front end, under every strategy, with the shared documents of clients."""

from typing import Any

import pytest

from isola.subjects.permissions import Role
from isola.testing.served import Api, Client


async def test_a_new_user_is_created_and_can_read_their_identity(api: Api, alice: Client) -> None:
    viewer = (await alice.run("Viewer")).data["viewer"]

    assert viewer["tenant"] == {"slug": alice.tenant, "name": alice.tenant.title()}
    assert viewer["user"]["name"] == "ada"
    assert viewer["roles"] == ["admin"]
    assert "resource:manage" in viewer["permissions"]
    assert [row["subject"] for row in (await api.content(alice.tenant))["users"]] == ["ada"]


async def test_a_resource_is_made_read_changed_and_deleted(alice: Client) -> None:
    made = (await alice.run("CreateResource", input={"name": "map", "data": {"a": [1, None]}, "sizeBytes": 7})).data
    resource = made["createResource"]["resource"]
    assert (resource["name"], resource["data"], resource["sizeBytes"]) == ("map", {"a": [1, None]}, 7)
    assert resource["owner"]["name"] == "ada"

    changed = (await alice.run("UpdateResource", input={"id": resource["id"], "name": "atlas"})).data
    read = (await alice.run("Resource", id=resource["id"])).data["resource"]
    assert changed["updateResource"]["resource"]["name"] == read["name"] == "atlas"
    assert (read["data"], read["sizeBytes"], read["createdAt"]) == ({"a": [1, None]}, 7, resource["createdAt"])

    deleted = (await alice.run("DeleteResource", input={"id": resource["id"]})).data
    assert deleted == {"deleteResource": {"deletedId": resource["id"]}}
    assert (await alice.run("Resource", id=resource["id"])).data == {"resource": None}
    assert (await alice.run("UpdateResource", input={"id": resource["id"], "name": "x"})).code == "NOT_FOUND"


async def test_a_list_is_filtered_ordered_and_paged_to_both_ends(alice: Client) -> None:
    sizes = {"delta": 4, "alpha": 1, "beta": 2, "epsilon": 5, "gamma": 3, "other": 9}
    for name, size in sizes.items():
        await alice.create(name, sizeBytes=size, kind=None if name == "other" else "letter")
    search = {"filter": {"kind": {"eq": "letter"}}, "orderBy": [{"field": "SIZE_BYTES", "direction": "DESC"}]}
    wanted = ["epsilon", "delta", "gamma", "beta", "alpha"]

    assert await _pages(alice, search, "first", "after") == [wanted[:2], wanted[2:4], wanted[4:]]
    assert await _pages(alice, search, "last", "before") == [wanted[3:], wanted[1:3], wanted[:1]]


async def _pages(client: Client, search: dict[str, Any], size: str, place: str) -> list[list[str]]:
    forward = size == "first"
    pages: list[list[str]] = []
    cursor = None
    more = True
    while more:
        found = (await client.run("SearchResources", **search, **{size: 2, place: cursor})).data["resources"]
        assert found["totalCount"] == 5
        pages.append([edge["node"]["name"] for edge in found["edges"]])
        cursor = found["pageInfo"]["endCursor" if forward else "startCursor"]
        assert cursor == found["edges"][-1 if forward else 0]["cursor"]
        more = found["pageInfo"]["hasNextPage" if forward else "hasPreviousPage"]
    return pages


async def test_spans_are_visible_to_their_author_their_organization_or_all(api: Api, alice: Client) -> None:
    member, stranger = (api.client(alice.tenant, name, Role.EDITOR) for name in ("mia", "sam"))
    people = [(await client.run("Viewer")).data["viewer"]["user"]["id"] for client in (alice, member)]
    organization = await _organization(alice, *people)
    resource = await alice.create("watched")
    for visibility in ("PRIVATE", "ORGANIZATION", "PUBLIC"):
        span = {"title": visibility, "visibility": visibility, "resourceId": resource, "organizationId": organization}
        assert (await alice.run("CreateSpan", input=span)).data["createSpan"]["span"]["title"] == visibility

    for client, titles in (
        (alice, ["PUBLIC", "ORGANIZATION", "PRIVATE"]),
        (member, ["PUBLIC", "ORGANIZATION"]),
        (stranger, ["PUBLIC"]),
    ):
        timeline = (await client.run("Timeline")).data["timeline"]
        assert [edge["node"]["title"] for edge in timeline["edges"]] == titles
        [read] = (await client.run("ResourcesWithSpans")).data["resources"]["nodes"]
        assert [span["title"] for span in read["spans"]["nodes"]] == titles

    refused = await stranger.run(
        "CreateSpan", input={"title": "x", "visibility": "ORGANIZATION", "organizationId": organization}
    )
    assert refused.code == "FORBIDDEN"


async def test_former_members_cannot_read_spans_of_an_organization(api: Api, alice: Client) -> None:
    member = api.client(alice.tenant, "mia", Role.EDITOR)
    people = [(await client.run("Viewer")).data["viewer"]["user"]["id"] for client in (alice, member)]
    organization = await _organization(alice, *people)
    await alice.run("CreateSpan", input={"title": "t", "visibility": "ORGANIZATION", "organizationId": organization})
    assert len((await member.run("Timeline")).data["timeline"]["edges"]) == 1

    left = await alice.ask(
        """mutation ($input: RemoveMemberInput!) {
            removeMember(input: $input) { organization { members { totalCount } } } }""",
        {"input": {"organizationId": organization, "userId": people[1]}},
    )

    assert left.data["removeMember"]["organization"]["members"]["totalCount"] == 1
    assert (await member.run("Timeline")).data["timeline"]["edges"] == []


async def _organization(admin: Client, *people: str) -> str:
    made = await admin.ask('mutation { createOrganization(input: {name: "Research"}) { organization { id } } }')
    organization = str(made.data["createOrganization"]["organization"]["id"])
    for person in people:
        added = await admin.ask(
            "mutation ($input: AddMemberInput!) { addMember(input: $input) { user { id } } }",
            {"input": {"organizationId": organization, "userId": person}},
        )
        assert added.data["addMember"]["user"]["id"] == person
    [found] = (await admin.run("Organizations")).data["organizations"]["nodes"]
    assert [member["id"] for member in found["members"]["nodes"]] == list(people)
    return organization


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
async def test_a_role_permits_exactly_its_permissions(api: Api, alice: Client, role: Role) -> None:
    resource = await alice.create("of the administrator")
    other = api.client(alice.tenant, "eve", role)
    await other.run("Viewer")
    before = await api.content(alice.tenant)

    assert (await other.run("Resource", id=resource)).data["resource"]["name"] == "of the administrator"
    for refused in (
        await other.run("UpdateResource", input={"id": resource, "name": "x"}),
        await other.run("DeleteResource", input={"id": resource}),
        await other.run("ShareResource", input={"resourceId": resource, "grantee": "rls-b"}),
        await other.ask('mutation { createOrganization(input: {name: "x"}) { organization { id } } }'),
    ):
        assert refused.code == "FORBIDDEN"
    assert await api.content(alice.tenant) == before


async def test_results_of_other_mutation_fields_are_returned_if_one_fails(alice: Client) -> None:
    done = await alice.ask(
        """mutation {
            one: createResource(input: {name: "one"}) { resource { name } }
            two: createResource(input: {name: ""}) { resource { name } }
            three: createResource(input: {name: "three"}) { resource { name } }
        }"""
    )

    assert done.status == 200
    assert done.error["path"] == ["two"]
    assert done.error["extensions"] == {"code": "BAD_USER_INPUT", "field": "input.name"}
    assert done.body["data"] == {
        "one": {"resource": {"name": "one"}},
        "two": None,
        "three": {"resource": {"name": "three"}},
    }
    found = (await alice.run("Resources")).data["resources"]["nodes"]
    assert [resource["name"] for resource in found] == ["one", "three"]
