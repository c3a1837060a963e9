"""A partner on another installation reads what was shared, by tokens that its installation signs."""

import asyncio
import json
from typing import Any

from isola.identity.federation import parse_key
from isola.subjects.permissions import Role
from tests.http.federation.conftest import ADD_OWNER, ADD_PARTNER, CREATE_TOKEN, OWNERS, PARTNERS, Agreed, Sides


async def entries(client: Any, action: str) -> list[Any]:
    document = """query ($action: String!) { auditLog(filter: {action: {eq: $action}}, first: 100) {
        nodes { actor object new } } }"""
    nodes: list[Any] = (await client.ask(document, {"action": action})).data["auditLog"]["nodes"]
    return nodes


async def test_what_was_shared_is_read_with_its_mask_and_both_logs_know(sides: Sides) -> None:
    olga, pia = sides.olga, sides.pia
    resource = await olga.create("lent abroad", kind="map")
    await olga.create("kept")
    described = sides.described()
    made = (await olga.ask(ADD_PARTNER, {"input": described})).data["addRemotePartner"]["remotePartner"]
    assert made == {
        "id": made["id"],
        "slug": made["slug"],
        "name": "Pia's",
        "installation": PARTNERS,
        "tenantId": described["tenantId"],
        "key": parse_key(described["key"]),
    }
    shared = await Agreed(sides, made["id"], made["slug"], sides.partner_id).share(
        resource, fields=["NAME"], note="for you"
    )
    known = {"name": "Olga's", "installation": OWNERS, "partnershipId": made["id"]}
    owner = (await pia.ask(ADD_OWNER, {"input": known})).data["addRemoteOwner"]["remoteOwner"]["id"]

    created = (await pia.ask(CREATE_TOKEN, {"id": owner})).data["createRemoteToken"]

    assert created["endpoint"] == f"{OWNERS}/graphql"
    answer = await sides.read(created["token"])
    share = {"owner": {"slug": olga.tenant}, "note": "for you"}
    assert answer.data["sharedResources"]["nodes"] == [
        {"name": "lent abroad", "kind": None, "grantedFields": ["NAME"], "share": share}
    ]
    again = (await pia.ask(CREATE_TOKEN, {"id": owner})).data["createRemoteToken"]
    node = f'{{ node(id: "{shared}") {{ ... on ReceivedShare {{ resource {{ name kind }} }} }} }}'
    assert (await sides.read(again["token"], node)).data["node"]["resource"] == {"name": "lent abroad", "kind": None}

    [agreed] = [each for each in await entries(olga, "remote_partner:create") if each["object"] == made["id"]]
    assert agreed["new"]["installation"] == PARTNERS
    assert agreed["new"]["key"] == parse_key(described["key"])
    assert made["id"] in [each["object"] for each in await entries(olga, "partnership:create")]
    tokens = [each for each in await entries(pia, "remote_token:create") if each["object"] == owner]
    me = (await pia.ask("{ viewer { user { id } } }")).data["viewer"]["user"]["id"]
    assert [each["actor"] for each in tokens] == [me, me]
    assert created["token"] not in json.dumps(tokens)
    for _ in range(300):
        if made["slug"] in [each["new"]["partner"] for each in await entries(olga, "share_read:create")]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the reads of the partner are not in the owner's log")


async def test_a_partner_elsewhere_reads_shares_and_nothing_else(sides: Sides) -> None:
    agreed = await sides.agree()

    for field in ("resources", "users", "auditLog", "apiKeys"):
        assert (await agreed.read(f"{{ {field} {{ nodes {{ __typename }} }} }}")).code == "FORBIDDEN"
    for mutation in (
        'createResource(input: {name: "x"}) { resource { id } }',
        f'endPartnership(input: {{partnershipId: "{agreed.partnership}"}}) {{ endedId }}',
        "createTicket(input: {}) { ticket }",
        "signOutEverywhere { __typename }",
    ):
        assert (await agreed.read(f"mutation {{ {mutation} }}")).code == "FORBIDDEN"
    assert (await agreed.read("{ viewer { tenant { slug } permissions } }")).data["viewer"] == {
        "tenant": {"slug": agreed.slug},
        "permissions": ["share:read"],
    }
    listening = sides.olga.saying(f"Bearer {agreed.token()}")
    live = json.dumps({"query": "query @live { sharedResources { totalCount } }"})
    streamed = await listening.send(live, accept="text/event-stream")
    assert streamed.code == "FORBIDDEN"


async def test_every_end_is_an_end_at_once(sides: Sides) -> None:
    olga = sides.olga
    resource = await olga.create("lent until the end")
    agreed = await sides.agree()
    shared = await agreed.share(resource)
    refused = await olga.run("ChangeShare", input={"shareId": shared, "access": "COMMENT"})
    assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", "input.access")
    assert [each["name"] for each in (await agreed.read()).data["sharedResources"]["nodes"]] == ["lent until the end"]

    await olga.run("RevokeShare", input={"shareId": shared})
    assert (await agreed.read()).data == {"sharedResources": {"nodes": []}}
    end = f'mutation {{ endPartnership(input: {{partnershipId: "{agreed.partnership}"}}) {{ endedId }} }}'
    assert (await olga.ask(end)).data == {"endPartnership": {"endedId": agreed.partnership}}
    assert (await agreed.read()).code == "UNAUTHENTICATED"

    again = await sides.agree(tenantId=f"ten_{agreed.subject}")
    assert (again.slug, again.partnership != agreed.partnership) == (agreed.slug, True)
    assert (await agreed.read()).code == "UNAUTHENTICATED"
    assert (await again.read()).data == {"sharedResources": {"nodes": []}}
    block = f'mutation {{ blockTenant(input: {{slug: "{again.slug}"}}) {{ slug }} }}'
    assert (await olga.ask(block)).data == {"blockTenant": {"slug": again.slug}}
    assert (await again.read()).code == "UNAUTHENTICATED"
    described = sides.described(tenantId=f"ten_{agreed.subject}")
    assert (await olga.ask(ADD_PARTNER, {"input": described})).code == "CONFLICT"


async def test_wrong_descriptions_of_partners_are_refused(sides: Sides) -> None:
    agreed = await sides.agree()
    again = {"tenantId": f"ten_{agreed.subject}"}
    wrong: dict[str, list[Any]] = {
        "key": [{}, "x", {"kty": "oct", "k": "c2VjcmV0"}, {**sides.installation.jwk, "d": "AAAA"}],
        "installation": ["http://partner.example", "https://partner.example/", "https://Partner.example", "x", ""],
        "tenantId": ["rls-a", "usr_00000000-0000-0000-0000-000000000000"],
        "name": ["", "x" * 201],
    }

    for field, values in wrong.items():
        for value in values:
            refused = await sides.olga.ask(ADD_PARTNER, {"input": sides.described(**{field: value})})
            assert (refused.code, refused.error["extensions"]["field"]) == ("BAD_USER_INPUT", f"input.{field}")
    assert (await sides.olga.ask(ADD_PARTNER, {"input": sides.described(**again)})).code == "CONFLICT"
    eve = sides.owners.client(sides.olga.tenant, "eve-the-editor", Role.EDITOR)
    assert (await eve.ask(ADD_PARTNER, {"input": sides.described()})).code == "FORBIDDEN"
