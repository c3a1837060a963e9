"""Custom domains of tenants, from the claim to requests to the domain."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from dns import rcode
from sqlalchemy import select, update

from isola.database.transactions import Database
from isola.platform import provisioning
from isola.platform.domains import domains
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Answer, Api, Client, make_tenant, serving
from isola_strategies.base import Strategy
from tests.http.nameserver import NameServer, name_server
from tests.http.naming import PLATFORM, ask

DOMAIN = "id name challengeRecord challenge challengeExpiresAt verifiedAt"
ADD = f"mutation ($name: String!) {{ addDomain(input: {{name: $name}}) {{ domain {{ {DOMAIN} }} }} }}"
VERIFY = f"mutation ($id: ID!) {{ verifyDomain(input: {{domainId: $id}}) {{ found domain {{ {DOMAIN} }} }} }}"
REMOVE = "mutation ($id: ID!) { removeDomain(input: {domainId: $id}) { removedId } }"
LIST = f"{{ domains {{ totalCount nodes {{ {DOMAIN} createdAt }} }} }}"


@pytest.fixture
async def dns() -> AsyncIterator[NameServer]:
    async with name_server() as server:
        yield server


@pytest.fixture
async def api(copy: Copy, settings: Settings, dns: NameServer) -> AsyncIterator[Api]:
    changed = {"platform_domain": PLATFORM, "dns_servers": ["127.0.0.1"], "dns_port": dns.port, "hosts": ["api.test"]}
    async with serving(copy, settings.model_copy(update=changed)) as api:
        yield api


async def add(client: Client, name: str) -> Any:
    return (await client.ask(ADD, {"name": name})).data["addDomain"]["domain"]


async def verify(client: Client, domain: Any) -> Answer:
    return await client.ask(VERIFY, {"id": domain["id"]})


def publish(dns: NameServer, *claims: Any) -> None:
    for claim in claims:
        dns.records.setdefault(claim["challengeRecord"], []).append(claim["challenge"])


async def reached(api: Api, client: Client, name: str) -> int:
    return (await ask(api, client.headers, ("/graphql", {"host": name}))).status_code


async def become(api: Api, client: Client, name: str, status: int) -> None:
    """Wait until a request to this domain gets this status: changes reach servers a moment later."""
    until = asyncio.get_running_loop().time() + PATIENCE
    while await reached(api, client, name) != status:
        assert asyncio.get_running_loop().time() < until
        await asyncio.sleep(0.05)


async def stored(owner: Database) -> list[dict[str, Any]]:
    async with owner.unbound() as work:
        return [dict(row) for row in await work.rows(select(domains).order_by(domains.c.id))]


async def test_a_domain_names_its_tenant_once_it_is_verified(
    api: Api, alice: Client, bob: Client, dns: NameServer
) -> None:
    claim = await add(alice, "API.Acme-Own.example")

    assert claim["name"] == "api.acme-own.example"
    assert claim["challengeRecord"] == "_isola-challenge.api.acme-own.example"
    assert len(claim["challenge"]) >= 22
    assert claim["verifiedAt"] is None
    assert datetime.fromisoformat(claim["challengeExpiresAt"]) > datetime.now(UTC)
    assert await reached(api, alice, claim["name"]) == 400

    missed = (await verify(alice, claim)).data["verifyDomain"]
    assert (missed["found"], missed["domain"]) == (False, claim)

    dns.records[claim["challengeRecord"]] = ["something else", claim["challenge"]]
    met = (await verify(alice, claim)).data["verifyDomain"]
    assert met["found"]
    assert met["domain"]["verifiedAt"]
    await become(api, alice, claim["name"], 200)
    assert await reached(api, bob, claim["name"]) == 403
    listed = (await alice.ask(LIST)).data["domains"]
    assert [each["name"] for each in listed["nodes"]] == [claim["name"]]
    assert (await bob.ask(LIST)).data["domains"]["totalCount"] == 0


async def test_a_record_is_looked_up_without_a_search_domain(alice: Client, dns: NameServer) -> None:
    claim = await add(alice, "acme-own.example")
    await verify(alice, claim)
    assert set(dns.asked) == {claim["challengeRecord"]}


@pytest.mark.parametrize("answer", [rcode.SERVFAIL, rcode.REFUSED])
async def test_without_an_answer_of_dns_verification_is_undecided(
    alice: Client, dns: NameServer, owner: Database, answer: rcode.Rcode
) -> None:
    claim = await add(alice, "acme-own.example")
    before = await stored(owner)
    dns.failing = answer

    assert (await verify(alice, claim)).code == "UNAVAILABLE"
    assert await stored(owner) == before


async def test_two_may_claim_a_domain_and_one_has_it(api: Api, alice: Client, bob: Client, dns: NameServer) -> None:
    hers, his = await add(alice, "shared.example"), await add(bob, "shared.example")
    assert hers["challenge"] != his["challenge"]
    publish(dns, hers)
    assert not (await verify(bob, his)).data["verifyDomain"]["found"]
    assert (await verify(alice, hers)).data["verifyDomain"]["found"]

    publish(dns, his)
    taken = await verify(bob, his)

    assert taken.code == "CONFLICT"
    assert alice.tenant not in taken.response.text
    await become(api, alice, "shared.example", 200)
    assert await reached(api, bob, "shared.example") == 403


async def test_a_released_domain_must_be_verified_again_by_its_next_tenant(
    api: Api, alice: Client, bob: Client, dns: NameServer
) -> None:
    first = await add(alice, "passed-on.example")
    publish(dns, first)
    await verify(alice, first)
    await become(api, alice, "passed-on.example", 200)

    assert (await alice.ask(REMOVE, {"id": first["id"]})).data["removeDomain"] == {"removedId": first["id"]}
    await become(api, alice, "passed-on.example", 400)

    # The old record still exists, but verifies no claim.
    for client in (bob, alice):
        claim = await add(client, "passed-on.example")
        assert claim["challenge"] != first["challenge"]
        assert not (await verify(client, claim)).data["verifyDomain"]["found"]
    publish(dns, claim)
    assert (await verify(alice, claim)).data["verifyDomain"]["found"]
    assert (await verify(alice, first)).code == "NOT_FOUND"


async def test_a_challenge_expires_and_is_replaced_by_adding_the_domain_again(
    alice: Client, dns: NameServer, owner: Database
) -> None:
    claim = await add(alice, "late.example")
    publish(dns, claim)
    async with owner.unbound() as work:
        await work.execute(update(domains).values(challenge_expires_at=datetime(2026, 1, 1, tzinfo=UTC)))

    late = await verify(alice, claim)
    assert late.code == "BAD_USER_INPUT"
    assert "expired" in late.error["message"]

    again = await add(alice, "late.example")
    assert again["id"] == claim["id"]
    assert again["challenge"] != claim["challenge"]
    assert not (await verify(alice, again)).data["verifyDomain"]["found"]
    publish(dns, again)
    assert (await verify(alice, again)).data["verifyDomain"]["found"]
    assert (await alice.ask(ADD, {"name": "late.example"})).code == "CONFLICT"


REFUSED = [
    "", ".", "localhost", "example", "com", "co.uk", "github.io", "192.0.2.1", "[2001:db8::1]", "2130706433",
    "127.1", "0x7f.1", "a.0x7f", "acme.example.", ".acme.example", "acme..example", "-acme.example", "ac_me.example",
    "*.acme.example", "acme.example:443", "https://acme.example", "acme.example/x", "acme example.com",
    "acme\x00.example", "a" * 64 + ".example", ".".join(["a" * 60] * 4) + ".example", "\ud800.example",
    PLATFORM, f"acme.{PLATFORM}", f"deep.acme.{PLATFORM}", "api.test", "www.api.test", "127.0.0.1",
]  # fmt: skip


async def test_an_invalid_domain_is_refused(alice: Client, owner: Database) -> None:
    for name in [*REFUSED, "ä" * 100_000 + ".example"]:
        refused = await alice.ask(ADD, {"name": name})
        assert refused.code == "BAD_USER_INPUT", name
        assert refused.error["message"].startswith(("name: expected", "input.name: expected")), name
        assert refused.error["extensions"]["field"] == "input.name", name
    assert await stored(owner) == []


async def test_a_name_in_another_script_is_its_ascii_form(alice: Client) -> None:
    claim = await add(alice, "BÜCHER.example")
    assert claim["name"] == "xn--bcher-kva.example"
    assert (await add(alice, "xn--bcher-kva.example"))["id"] == claim["id"]
    # With a Cyrillic letter it is another name than its look-alike.
    assert (await add(alice, "\u0430cme.example"))["name"].startswith("xn--")


@pytest.mark.parametrize("role", [Role.VIEWER, Role.EDITOR])
async def test_domains_are_for_those_who_may_manage_them(
    api: Api, alice: Client, dns: NameServer, owner: Database, role: Role
) -> None:
    claim = await add(alice, "acme-own.example")
    before = await stored(owner)
    member = api.client(alice.tenant, "mia", role)

    identified = {"id": claim["id"]}
    for document, variables in ((ADD, {"name": "other.example"}), (VERIFY, identified), (REMOVE, identified)):
        refused = await member.ask(document, variables)
        assert refused.code == "FORBIDDEN"
    assert dns.asked == []
    assert await stored(owner) == before


async def test_a_domain_of_another_tenant_cannot_be_changed(
    alice: Client, bob: Client, dns: NameServer, owner: Database
) -> None:
    claim = await add(alice, "acme-own.example")
    publish(dns, claim)
    before = await stored(owner)

    for document in (VERIFY, REMOVE):
        answers = [await bob.ask(document, {"id": each}) for each in (claim["id"], "dom_" + "0" * 8 + claim["id"][12:])]
        assert {each.response.content for each in answers} == {answers[0].response.content}
        assert answers[0].code == "NOT_FOUND"
    assert await stored(owner) == before
    await bob.ask(f'{{ node(id: "{claim["id"]}") {{ __typename }} }}')


async def test_the_domains_and_keys_of_a_dropped_tenant_are_gone(
    api: Api, copy: Copy, strategy: Strategy, dns: NameServer, owner: Database
) -> None:
    await make_tenant(copy, "leaving", strategy.name)
    client = api.client("leaving")
    claim = await add(client, "acme-own.example")
    publish(dns, claim)
    await verify(client, claim)
    made = await client.ask(
        'mutation { createApiKey(input: {name: "robot", permissions: ["user:read"]}) { apiKey { id } } }'
    )
    assert made.data

    await provisioning.drop(owner, copy.strategies, "leaving", notice=0)

    assert await stored(owner) == []
    async with owner.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.api_keys") == 0


async def test_a_claim_of_another_tenants_domain_looks_like_that_of_a_free_one(
    alice: Client, bob: Client, dns: NameServer
) -> None:
    claim = await add(alice, "taken.example")
    publish(dns, claim)
    assert (await verify(alice, claim)).data["verifyDomain"]["found"]

    outcomes = []
    for name in ("taken.example", "still-free.example"):
        first, again = [await bob.ask(ADD, {"name": name}) for _ in range(2)]
        domain = again.data["addDomain"]["domain"]
        unproven = await verify(bob, domain)
        outcomes.append(
            [
                _shape(answer.response.text.replace(name, "name"))
                for answer in (first, again, unproven, await bob.ask(LIST))
            ]
        )
        assert (await bob.ask(REMOVE, {"id": domain["id"]})).data
    assert outcomes[0] == outcomes[1]


def _shape(text: str) -> str:
    """An answer without its generated values."""
    return re.sub(r'(?<=")(?:dom_[0-9a-f-]{36}|[0-9a-f]{64}|\d{4}-\d\d-\d\dT[^"]*)(?=")', "…", text)
