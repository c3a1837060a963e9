"""An owner and a partner on every pair of placements: the partner sees what is shared, and nothing else."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.subjects.permissions import Role
from isola.testing.consent import end_partnerships
from isola.testing.fixtures import STRATEGIES, TRIED
from isola.testing.served import Api, Client

PAIRS = [(owner, partner) for owner in STRATEGIES for partner in STRATEGIES if {owner, partner} & set(TRIED)]


@pytest.fixture(params=PAIRS, ids="-to-".join)
def pair(api: Api, request: pytest.FixtureRequest) -> tuple[Client, Client]:
    owner, partner = request.param
    return api.client(f"{owner}-a", "olga"), api.client(f"{partner}-b", "pia")


async def share(owner: Client, resource: str, partner: Client, **more: Any) -> str:
    made = await owner.run("ShareResource", input={"resourceId": resource, "grantee": partner.tenant, **more})
    return str(made.data["shareResource"]["share"]["id"])


async def received(partner: Client) -> list[Any]:
    nodes: list[Any] = (await partner.run("SharedWithMe")).data["sharedWithMe"]["nodes"]
    return nodes


async def test_a_partner_reads_what_was_shared_until_the_moment_it_is_revoked(pair: tuple[Client, Client]) -> None:
    owner, partner = pair
    resource = await owner.create("lent", data={"x": 1}, sizeBytes=3, kind="map")
    await owner.create("kept")

    shared = await share(owner, resource, partner)

    [node] = await received(partner)
    assert node["id"] == shared
    assert node["owner"] == {"slug": owner.tenant, "name": owner.tenant.title()}
    assert node["resource"] == {
        "grantedFields": ["NAME", "KIND", "DATA", "SIZE_BYTES", "CREATED_AT", "UPDATED_AT"],
        "name": "lent",
        "kind": "map",
        "data": {"x": 1},
        "sizeBytes": 3,
    }
    assert (await partner.run("Node", id=shared)).data["node"]["resource"] == {"name": "lent"}
    await owner.run("UpdateResource", input={"id": resource, "name": "renamed"})
    assert [node["resource"]["name"] for node in await received(partner)] == ["renamed"]

    revoked = await owner.run("RevokeShare", input={"shareId": shared})

    assert revoked.data == {"revokeShare": {"revokedId": shared}}
    assert await received(partner) == []
    assert (await partner.run("Node", id=shared)).data == {"node": None}
    assert (await owner.run("RevokeShare", input={"shareId": shared})).code == "NOT_FOUND"


async def test_a_partner_gets_nothing_beside_the_resource_and_changes_nothing(
    api: Api, pair: tuple[Client, Client]
) -> None:
    owner, partner = pair
    resource = await owner.create("lent")
    shared = await share(owner, resource, partner)
    await partner.run("Viewer")
    before = {client.tenant: await api.content(client.tenant) for client in pair}

    reads = await partner.ask(
        "query ($id: ID!) { resource(id: $id) { name } node(id: $id) { id } resources { totalCount } }",
        {"id": resource},
    )
    assert reads.data == {"resource": None, "node": None, "resources": {"totalCount": 0}}
    for beside in ("ownerId", "owner { name }", "spans { totalCount }", "shares { totalCount }"):
        refused = await partner.ask("{ sharedWithMe { nodes { resource { %s } } } }" % beside)  # noqa: UP031
        assert refused.status == 400
    listed = await partner.ask("{ sharedResources { nodes { id } } sharedWithMe { nodes { resource { id } } } }")
    assert listed.data == {
        "sharedResources": {"nodes": [{"id": shared}]},
        "sharedWithMe": {"nodes": [{"resource": {"id": shared}}]},
    }
    for mutation, values in (
        ("UpdateResource", {"id": resource, "name": "x"}),
        ("DeleteResource", {"id": resource}),
        ("ShareResource", {"resourceId": resource, "grantee": "rls-b"}),
        ("ShareResource", {"resourceId": resource, "grantee": partner.tenant}),
        ("RevokeShare", {"shareId": shared}),
        ("ChangeShare", {"shareId": shared, "fields": ["NAME"]}),
        ("CreateSpan", {"title": "x", "resourceId": resource}),
    ):
        answer = await partner.run(mutation, input=values)
        assert answer.code == "NOT_FOUND"
    assert {client.tenant: await api.content(client.tenant) for client in pair} == before
    assert [node["id"] for node in await received(partner)] == [shared]


async def test_a_share_ends_when_it_expires_and_when_its_resource_is_deleted(pair: tuple[Client, Client]) -> None:
    owner, partner = pair
    deleted, expired = await owner.create("deleted"), await owner.create("expired")
    soon = datetime.now(UTC) + timedelta(seconds=2.5)
    await share(owner, deleted, partner)
    await share(owner, expired, partner, expiresAt=soon.isoformat())
    assert {node["resource"]["name"] for node in await received(partner)} == {"deleted", "expired"}

    await owner.run("DeleteResource", input={"id": deleted})
    assert [node["resource"]["name"] for node in await received(partner)] == ["expired"]

    while datetime.now(UTC) < soon:
        await owner.run("Viewer")
    assert await received(partner) == []
    assert (await owner.run("ResourceShares", id=expired)).data["resource"]["shares"]["totalCount"] == 0


async def test_received_shares_are_paged_newest_first(pair: tuple[Client, Client]) -> None:
    owner, partner = pair
    for number in range(5):
        await share(owner, await owner.create(str(number)), partner)

    pages: list[list[str]] = []
    cursor, more = None, True
    while more:
        found = (await partner.run("SharedWithMe", first=2, after=cursor)).data["sharedWithMe"]
        pages.append([node["resource"]["name"] for node in found["nodes"]])
        cursor, more = found["pageInfo"]["endCursor"], found["pageInfo"]["hasNextPage"]

    assert pages == [["4", "3"], ["2", "1"], ["0"]]


async def test_only_the_owner_or_an_administrator_shares(api: Api, alice: Client, bob: Client) -> None:
    resource = await alice.create("mine")
    editor = api.client(alice.tenant, "eve", Role.EDITOR)

    assert (
        await editor.run("ShareResource", input={"resourceId": resource, "grantee": bob.tenant})
    ).code == "FORBIDDEN"
    own = await editor.create("hers")
    assert await share(editor, own, bob)

    assert [node["resource"]["name"] for node in await received(bob)] == ["hers"]


@pytest.mark.parametrize("grantee", ["No-body", "", "x'; --", "\u0430cme", "a"])
async def test_an_invalid_slug_of_another_tenant_is_refused_by_name(guest: Client, grantee: str) -> None:
    [resource] = (await guest.run("Resources", first=1)).data["resources"]["nodes"]

    for slug in (grantee, guest.tenant):
        refused = await guest.run("ShareResource", input={"resourceId": resource["id"], "grantee": slug})

        assert refused.code == "BAD_USER_INPUT"
        assert refused.error["message"] == "grantee: expected the slug of a partner"


async def test_an_existing_slug_is_indistinguishable_from_an_unused_one(
    alice: Client, bob: Client, owner: Database, api: Api
) -> None:
    """In an offer of a partnership, in the list of offers, in a share without a partnership, and in the log."""
    await end_partnerships(owner, (await provisioning.named(api.control, alice.tenant)).id)
    resource = await alice.create("lent")
    document = """mutation ($resource: ID!, $slug: String!) {
        offerPartnership(input: {slug: $slug}) { partnership { slug name acceptedAt } }
        again: offerPartnership(input: {slug: $slug}) { partnership { slug name acceptedAt } }
        blockTenant(input: {slug: $slug}) { slug }
        unblockTenant(input: {slug: $slug}) { slug }
        offered: offerPartnership(input: {slug: $slug}) { partnership { slug name acceptedAt } }
        shareResource(input: {resourceId: $resource, grantee: $slug}) { share { id } } }"""
    admin = api.client(alice.tenant, "ann", Role.ADMIN)

    bodies = [(await admin.ask(document, {"resource": resource, "slug": slug})).body for slug in (bob.tenant, "nobody")]

    assert str(bodies[0]).replace(bob.tenant, "slug") == str(bodies[1]).replace("nobody", "slug")
    assert [error["path"] for error in bodies[0]["errors"]] == [["shareResource"]]
    listed = (await admin.ask("{ partnerships { nodes { slug name acceptedAt } } }")).data["partnerships"]["nodes"]
    assert listed == [{"slug": slug, "name": None, "acceptedAt": None} for slug in (bob.tenant, "nobody")]
    assert bob.tenant.title() not in (await admin.ask("{ auditLog(first: 100) { nodes { new } } }")).response.text


async def test_a_tenant_offers_a_partnership_and_another_accepts_and_ends_it(
    api: Api, pair: tuple[Client, Client], owner: Database
) -> None:
    sharer, partner = pair
    manager, other = (api.client(each.tenant, "mia", Role.ADMIN) for each in (partner, sharer))
    editor = api.client(partner.tenant, "eve", Role.EDITOR)
    await end_partnerships(owner, *[(await provisioning.named(api.control, each.tenant)).id for each in pair])
    resource = await sharer.create("lent")
    given = {"resourceId": resource, "grantee": partner.tenant}

    made = await other.run("OfferPartnership", input={"slug": partner.tenant})

    key = made.data["offerPartnership"]["partnership"]["id"]
    [offer] = (await editor.run("PartnershipOffers")).data["partnershipOffers"]["nodes"]
    assert (offer["id"], offer["tenant"]) == (key, {"slug": sharer.tenant, "name": sharer.tenant.title()})
    assert (await sharer.run("ShareResource", input=given)).code == "BAD_USER_INPUT"
    assert (await editor.run("AcceptPartnership", input={"partnershipId": key})).code == "FORBIDDEN"
    assert (await other.run("AcceptPartnership", input={"partnershipId": key})).code == "NOT_FOUND"

    accepted = await manager.run("AcceptPartnership", input={"partnershipId": key})

    assert accepted.data["acceptPartnership"]["partnership"]["name"] == sharer.tenant.title()
    [listed] = (await other.run("Partnerships")).data["partnerships"]["nodes"]
    assert (listed["id"], listed["slug"], listed["name"]) == (key, partner.tenant, partner.tenant.title())
    shared = await share(sharer, resource, partner)
    assert [node["id"] for node in await received(partner)] == [shared]

    ended = await manager.run("EndPartnership", input={"partnershipId": key})

    assert ended.data == {"endPartnership": {"endedId": key}}
    assert await received(partner) == []
    assert (await partner.run("Node", id=shared)).data == {"node": None}
    assert (await other.run("Partnerships")).data["partnerships"]["nodes"] == []


async def test_a_tenant_declines_blocks_and_trusts_domains(
    api: Api, alice: Client, bob: Client, owner: Database
) -> None:
    await end_partnerships(owner, (await provisioning.named(api.control, alice.tenant)).id)
    ann, ben = (api.client(each.tenant, "ann", Role.ADMIN) for each in (alice, bob))
    made = await ann.run("OfferPartnership", input={"slug": bob.tenant})
    key = made.data["offerPartnership"]["partnership"]["id"]

    declined = await ben.run("DeclinePartnership", input={"partnershipId": key})

    assert declined.data == {"declinePartnership": {"declinedId": key}}
    assert (await ben.run("PartnershipOffers")).data["partnershipOffers"]["nodes"] == []
    assert len((await ann.run("Partnerships")).data["partnerships"]["nodes"]) == 1
    for mutation, listing, values in (
        ("BlockTenant", "{ blockedTenants { nodes { slug } } }", {"slug": alice.tenant}),
        ("AddPartnerDomain", "{ partnerDomains { nodes { name } } }", {"name": "example.org"}),
    ):
        undo = {"BlockTenant": "UnblockTenant", "AddPartnerDomain": "RemovePartnerDomain"}[mutation]
        for name, nodes in ((mutation, [values]), (undo, [])):
            answer = await ben.run(name, input=values)
            assert answer.data == {name[0].lower() + name[1:]: values}
            [found] = (await ben.ask(listing)).data.values()
            assert found["nodes"] == nodes
        assert (await ben.run(undo, input=values)).code == "NOT_FOUND"
    assert (await ben.run("AddPartnerDomain", input={"name": "localhost"})).code == "BAD_USER_INPUT"


async def test_fields_that_are_not_granted_are_null_and_changes_keep_what_they_omit(
    pair: tuple[Client, Client],
) -> None:
    owner, partner = pair
    resource = await owner.create("lent", data={"x": 1}, kind="map")
    until = "2100-01-01T00:00:00.000000+00:00"
    shared = await share(owner, resource, partner, fields=["NAME"], expiresAt=until, note="for you", access="COMMENT")
    [node] = await received(partner)
    assert (node["note"], node["expiresAt"]) == ("for you", until)
    expected = {"grantedFields": ["NAME"], "name": "lent", "kind": None, "data": None, "sizeBytes": None}
    assert node["resource"] == expected

    again = await owner.run("ShareResource", input={"resourceId": resource, "grantee": partner.tenant})
    assert (again.code, again.error["extensions"]["field"]) == ("CONFLICT", "input.grantee")
    for more, note, end in (({"note": "new"}, "new", until), ({"expiresAt": None}, "new", None)):
        changed = await owner.run("ChangeShare", input={"shareId": shared, **more})
        assert changed.data["changeShare"]["share"] == {
            "id": shared,
            "fields": ["NAME"],
            "access": "COMMENT",
            "note": note,
            "expiresAt": end,
        }
    await owner.run("ChangeShare", input={"shareId": shared, "fields": ["KIND"]})
    [node] = await received(partner)
    assert node["resource"] == {**expected, "grantedFields": ["KIND"], "name": None, "kind": "map"}
    mine = (await owner.run("MyShares", filter={"resourceId": {"eq": resource}})).data["myShares"]["nodes"]
    assert [(each["id"], each["fields"]) for each in mine] == [(shared, ["KIND"])]
    assert (await partner.run("MyShares")).data["myShares"]["totalCount"] == 0


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"fields": []}, "input.fields"),
        ({"expiresAt": "2020-01-01T00:00:00Z"}, "input.expiresAt"),
        ({"note": "n" * 501}, "input.note"),
        ({"note": ""}, "input.note"),
    ],
)
async def test_an_invalid_grant_is_refused_by_name(
    alice: Client, bob: Client, given: dict[str, Any], field: str
) -> None:
    resource = await alice.create("lent")
    refused = await alice.run("ShareResource", input={"resourceId": resource, "grantee": bob.tenant, **given})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", field)
    shared = await share(alice, resource, bob)
    refused = await alice.run("ChangeShare", input={"shareId": shared, **given})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", field)


async def test_grants_and_changes_are_in_the_owners_log(alice: Client, bob: Client) -> None:
    resource = await alice.create("lent")
    shared = await share(alice, resource, bob, fields=["NAME", "KIND"], note="first")
    await alice.run("ChangeShare", input={"shareId": shared, "fields": ["NAME"], "expiresAt": "2100-01-01T00:00:00Z"})
    await alice.run("RevokeShare", input={"shareId": shared})
    query = "query ($id: String!) { auditLog(filter: {object: {eq: $id}}) { nodes { action old new } } }"
    entries = (await alice.ask(query, {"id": shared})).data["auditLog"]["nodes"][::-1]
    assert [entry["action"] for entry in entries] == ["share:create", "share:update", "share:update"]
    made, changed, ended = entries
    assert (made["new"]["fields"], made["new"]["note"], made["new"]["expires_at"]) == (["name", "kind"], "first", None)
    assert (changed["old"]["fields"], changed["new"]["fields"]) == (["name", "kind"], ["name"])
    assert changed["new"].keys() == {"fields", "expires_at"}
    assert ended["new"].keys() == {"revoked_at"}
