"""Ids of another tenant's objects get the same response as unknown ids: the same status, headers and bytes."""

import json
from collections.abc import Mapping
from uuid import uuid4

import pytest

from isola.testing.fixtures import STRATEGIES
from isola.testing.served import Api, Client

QUERIES = {
    "resource": "query ($resource: ID!) { resource(id: $resource) { id name owner { name } } }",
    "node, a resource": "query ($resource: ID!) { node(id: $resource) { id __typename } }",
    "node, a user": "query ($user: ID!) { node(id: $user) { id __typename ... on User { email } } }",
    "node, an organization": "query ($organization: ID!) { node(id: $organization) { id __typename } }",
    "node, a span": "query ($span: ID!) { node(id: $span) { id __typename ... on Span { title } } }",
    "node, a share": "query ($share: ID!) { node(id: $share) { id ... on ReceivedShare { resource { name } } } }",
    "nodes": """query ($resource: ID!, $user: ID!, $organization: ID!, $span: ID!, $share: ID!) {
        nodes(ids: [$resource, $user, $organization, $span, $share]) { id __typename } }""",
    "filter by id": """query ($resource: ID!) {
        resources(filter: {id: {in: [$resource]}}) { totalCount nodes { name } } }""",
    "filter by owner": "query ($user: ID!) { resources(filter: {ownerId: {eq: $user}}) { totalCount } }",
    "filter by what it is not": """query ($user: ID!) {
        resources(filter: {not: {ownerId: {eq: $user}}}) { totalCount } }""",
    "filter shares": """query ($resource: ID!, $user: ID!, $share: ID!) { myShares(filter: {or: [
        {resourceId: {eq: $resource}}, {grantedById: {eq: $user}}, {id: {eq: $share}}
    ]}) { totalCount nodes { id } } }""",
    "filter spans": """query ($user: ID!, $resource: ID!, $organization: ID!) { timeline(filter: {or: [
        {authorId: {eq: $user}}, {resourceId: {eq: $resource}}, {organizationId: {eq: $organization}}
    ]}) { totalCount nodes { title } } }""",
}
MUTATIONS = {
    "update": 'mutation ($resource: ID!) { updateResource(input: {id: $resource, name: "x"}) { resource { id } } }',
    "delete": "mutation ($resource: ID!) { deleteResource(input: {id: $resource}) { deletedId } }",
    "share": """mutation ($resource: ID!) {
        shareResource(input: {resourceId: $resource, grantee: "third"}) { share { id } } }""",
    "share with oneself": """mutation ($resource: ID!, $me: String!) {
        shareResource(input: {resourceId: $resource, grantee: $me}) { share { id } } }""",
    "revoke": "mutation ($share: ID!) { revokeShare(input: {shareId: $share}) { revokedId } }",
    "change a share": """mutation ($share: ID!) {
        changeShare(input: {shareId: $share, fields: [NAME]}) { share { id } } }""",
    "span about": """mutation ($resource: ID!) {
        createSpan(input: {title: "x", resourceId: $resource}) { span { id } } }""",
    "span for": """mutation ($organization: ID!) {
        createSpan(input: {title: "x", organizationId: $organization, visibility: ORGANIZATION}) { span { id } } }""",
    "foreign user into own organization": """mutation ($own: ID!, $user: ID!) {
        addMember(input: {organizationId: $own, userId: $user}) { organization { id } } }""",
    "own user into foreign organization": """mutation ($organization: ID!, $self: ID!) {
        addMember(input: {organizationId: $organization, userId: $self}) { organization { id } } }""",
    "foreign user out of own organization": """mutation ($own: ID!, $user: ID!) {
        removeMember(input: {organizationId: $own, userId: $user}) { organization { id } } }""",
    "foreign user out of foreign organization": """mutation ($organization: ID!, $user: ID!) {
        removeMember(input: {organizationId: $organization, userId: $user}) { organization { id } } }""",
}

Ids = Mapping[str, str]


async def furnish(client: Client, partner: str) -> dict[str, str]:
    """One of each thing that has an id, named by its kind."""
    resource = await client.create("secret of " + client.tenant)
    user = (await client.run("Viewer")).data["viewer"]["user"]["id"]
    made = await client.ask(
        """mutation ($resource: ID!, $partner: String!) {
            createOrganization(input: {name: "secret"}) { organization { id } }
            createSpan(input: {title: "secret", visibility: PUBLIC, resourceId: $resource}) { span { id } }
            shareResource(input: {resourceId: $resource, grantee: $partner}) { share { id } }
        }""",
        {"resource": resource, "partner": partner},
    )
    return {
        "resource": resource,
        "user": user,
        "organization": made.data["createOrganization"]["organization"]["id"],
        "span": made.data["createSpan"]["span"]["id"],
        "share": made.data["shareResource"]["share"]["id"],
    }


@pytest.fixture
def third(alice: Client) -> str:
    """A tenant under another strategy."""
    return next(f"{name}-b" for name in STRATEGIES if not alice.tenant.startswith(name))


async def answers(client: Client, documents: Mapping[str, str], ids: Ids) -> dict[str, tuple[int, str]]:
    """The responses to a client, with the requested ids replaced."""
    found = {}
    for name, document in documents.items():
        used = {variable: value for variable, value in ids.items() if f"${variable}:" in document}
        answer = await client.ask(document, used)
        text = answer.response.text
        for variable, value in used.items():
            text = text.replace(value, f"<{variable}>")
        found[name] = (answer.status, text)
    return found


async def test_ids_of_another_tenant_are_answered_like_ids_of_nothing(
    api: Api, alice: Client, bob: Client, third: str
) -> None:
    own = await furnish(alice, third)
    mine = {"own": own["organization"], "self": own["user"], "me": alice.tenant}
    foreign = {**await furnish(bob, third), **mine}
    nothing = {**foreign, **{kind: f"{id_[:4]}{uuid4()}" for kind, id_ in foreign.items() if kind in own}}
    before = {slug: await api.content(slug) for slug in (alice.tenant, bob.tenant)}

    answered = await answers(alice, QUERIES | MUTATIONS, foreign)

    assert answered == await answers(alice, QUERIES | MUTATIONS, nothing)
    assert "secret of" not in str(answered)
    assert all(set(json.loads(answered[name][1])["data"].values()) == {None} for name in MUTATIONS)
    assert {slug: await api.content(slug) for slug in before} == before
    assert (await bob.run("ResourceShares", id=foreign["resource"])).data["resource"]["shares"]["totalCount"] == 1
    # The same documents do find the tenant's own objects; otherwise the comparison above would prove nothing.
    found = await answers(alice, QUERIES, {**own, **mine})
    assert {name for name in QUERIES if found[name] == answered[name]} == {"node, a share"}


async def test_responses_do_not_depend_on_data_of_other_tenants(api: Api, alice: Client, bob: Client) -> None:
    everything = """{ resources { totalCount nodes { name } } users { totalCount } organizations { totalCount }
        timeline { totalCount } sharedWithMe { totalCount } myShares { totalCount } }"""
    await alice.create("mine")
    alone = (await alice.ask(everything)).response.content

    for number in range(3):
        await bob.create(f"theirs {number}")
    await bob.run("CreateSpan", input={"title": "theirs", "visibility": "PUBLIC"})

    assert (await alice.ask(everything)).response.content == alone
    assert len((await api.content(bob.tenant))["resources"]) == 3


async def test_cursors_of_another_tenant_are_refused_like_modified_ones(alice: Client, bob: Client) -> None:
    for client in (alice, bob):
        for number in range(3):
            await client.create(f"r{number}")
    foreign = (await bob.run("SearchResources", first=2)).data["resources"]["pageInfo"]["endCursor"]
    own = (await alice.run("SearchResources", first=2)).data["resources"]["pageInfo"]["endCursor"]
    edited = own[:-2] + ("A" if own[-2] != "A" else "B") + own[-1]

    for place in ("after", "before"):
        refused = await alice.run("SearchResources", **{place: foreign})
        assert (refused.error["path"], refused.error["extensions"]["field"]) == (["resources"], place)
        assert (refused.code, refused.body["data"]) == ("BAD_USER_INPUT", {"resources": None})
        assert refused.response.text == (await alice.run("SearchResources", **{place: edited})).response.text
    assert len((await alice.run("SearchResources", after=own)).data["resources"]["edges"]) == 1


async def test_two_tenants_may_have_the_same_names_and_addresses(api: Api, alice: Client, bob: Client) -> None:
    for client in (alice, bob):
        same = api.client(client.tenant, "ada")
        made = await same.ask('mutation { createOrganization(input: {name: "Research"}) { organization { name } } }')
        assert made.data["createOrganization"]["organization"]["name"] == "Research"
        again = await same.ask('mutation { createOrganization(input: {name: "Research"}) { organization { name } } }')
        assert again.code == "CONFLICT"
        assert len((await api.content(client.tenant))["organizations"]) == 1
