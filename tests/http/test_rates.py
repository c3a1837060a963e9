"""Rates over HTTP: what a tenant, its users and its keys may do in a period. A day's rate does not refill in a test."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from isola.platform import overrides, plans, provisioning
from isola.platform.overrides import Kind
from isola.platform.rates import Agreed, Rate, RateOverride, RatePeriod
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.served import Answer, Api, Client, serving
from tests.control.test_plans import SAM
from tests.http.listening import listening, streaming
from tests.http.staff import LOOK, REASON, StaffClient, admitting, token

NAMES = "{ resources(first: 3) { nodes { name } } }"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return admitting(settings)


@pytest.fixture
async def api(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings) as api:
        yield api


@pytest.fixture
def sam(api: Api) -> StaffClient:
    return StaffClient(api.http, token())


async def limit(api: Api, client: Client, **most: int) -> Tenant:
    """Give the tenant of a client a plan with daily rates, before it sends anything."""
    tenant = await provisioning.named(api.control, client.tenant)
    rates = {name.replace("__", "."): Rate(each, RatePeriod.DAY) for name, each in most.items()}
    name = f"p{uuid4().hex}"
    await plans.create(api.control, SAM, name=name, title="Limited", quotas={}, rates=rates)
    await plans.give(api.control, SAM, tenant, name)
    return tenant


def left(answer: Answer) -> Mapping[str, int]:
    items = re.findall(r'"([^"]+)";r=([0-9]+);t=[0-9]+(?:, |$)', answer.response.headers["ratelimit"])
    return {name: int(remaining) for name, remaining in items}


async def test_exactly_as_many_requests_are_answered_as_the_plan_has(api: Api, alice: Client, bob: Client) -> None:
    for client in (alice, bob):
        await limit(api, client, requests=20)
    answers = await asyncio.gather(*(alice.ask(NAMES) for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 20 + [429] * 30
    refused = next(answer for answer in answers if answer.status == 429)
    assert refused.error["message"] == "requests: the limit is 20 per day"
    extensions = {"name": "requests", "limit": 20, "window": 86400, "remaining": 0}
    assert (refused.code, refused.error["extensions"]["rate"]) == ("RATE_LIMITED", extensions)
    # One of 20 comes back after a twentieth of a day.
    assert 4300 < int(refused.response.headers["retry-after"]) <= 4320
    assert refused.error["extensions"]["retryAfter"] == int(refused.response.headers["retry-after"])
    assert refused.response.headers["ratelimit-policy"] == '"requests";q=20;w=86400'
    assert left(refused) == {"requests": 0}
    assert left(await bob.ask(NAMES)) == {"requests": 19}


async def test_two_servers_together_admit_as_many_requests_as_one(
    copy: Copy, settings: Settings, api: Api, alice: Client
) -> None:
    await limit(api, alice, requests=40)
    async with serving(copy, settings) as there:
        clients = (alice, there.client(alice.tenant))
        answers = await asyncio.gather(*(client.ask(NAMES) for client in clients for _ in range(50)))
    assert sorted(answer.status for answer in answers) == [200] * 40 + [429] * 60


async def test_a_tenant_without_rates_has_no_headers_of_them(alice: Client) -> None:
    assert "ratelimit" not in (await alice.ask(NAMES)).response.headers


async def test_what_is_invalid_counts_and_tells_what_is_left(api: Api, alice: Client) -> None:
    await limit(api, alice, requests=9, documents=2)
    assert [left(await alice.ask(each)) for each in (NAMES, NAMES, "{", "query A { nothing }")] == [
        {"documents": 1, "requests": 8},
        {"documents": 1, "requests": 7},
        {"documents": 0, "requests": 6},
        {"documents": 0, "requests": 5},
    ]
    refused = await alice.ask("query B { resources { totalCount } }")
    assert (refused.status, refused.error["extensions"]["rate"]["name"]) == (429, "documents")
    assert (await alice.ask(NAMES)).data


async def test_each_user_and_each_key_has_its_own_rate(api: Api, alice: Client) -> None:
    await limit(api, alice, user__requests=3, requests=6)
    olga = api.client(alice.tenant, "olga", Role.OWNER)
    key = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'
    made = (await olga.ask(key)).data["createApiKey"]["key"]
    robot = Client(api.http, alice.tenant, {"content-type": "application/json", "x-api-key": made})
    assert [(await each.ask(NAMES)).status for each in (alice, alice, alice, alice)] == [200, 200, 200, 429]
    assert [(await each.ask(NAMES)).status for each in (robot, robot, olga)] == [200, 200, 429]


async def test_the_cost_of_an_operation_counts_and_its_fields_and_items(api: Api, alice: Client) -> None:
    await limit(api, alice, rows=300, resource=9, **{"resource:write": 3})
    many = "mutation ($i: [CreateResourceInput!]!) { createResources(input: {items: $i}) { createdIds } }"
    assert left(
        await alice.ask("{ a: resources(first: 100) { nodes { id } } b: resources(first: 50) { nodes { id } } }")
    ) == {
        "resource": 7,
        "resource:write": 3,
        "rows": 150,
    }
    made = await alice.ask(many, {"i": [{"name": "one"}, {"name": "two"}]})
    assert made.data
    assert left(made)["resource:write"] == 1
    refused = await alice.ask(many, {"i": [{"name": "three"}, {"name": "four"}]})
    assert (refused.status, list(refused.body)) == (429, ["errors"])
    assert refused.error["extensions"]["rate"] == {
        "name": "resource:write",
        "limit": 3,
        "window": 86400,
        "remaining": 1,
    }
    assert len((await alice.ask(NAMES)).data["resources"]["nodes"]) == 2
    # What can never have room is not worth another attempt.
    costly = await alice.ask("{ resources(first: 100) { nodes { spans(first: 100) { nodes { id } } } } }")
    assert costly.status == 429
    assert "retry-after" not in costly.response.headers
    assert "this needs 10" in costly.error["message"]


async def test_bytes_are_paid_by_later_requests(api: Api, alice: Client) -> None:
    await limit(api, alice, bytes=60)
    first = await alice.ask("{ viewer { permissions } }")
    assert first.data
    assert left(first) == {"bytes": 0}
    assert (await alice.ask(NAMES)).error["extensions"]["rate"]["name"] == "bytes"


async def test_bytes_of_events_are_paid_by_later_requests(api: Api, alice: Client, bob: Client) -> None:
    document = "query @live { resources(first: 3) { totalCount nodes { name } } }"
    for client in (alice, bob):
        await limit(api, client, bytes=40)
    async with listening(alice) as listener, streaming(bob, document) as events:
        await (await listener.subscribe(document)).next()
        await anext(events)
        for client in (alice, bob):
            assert (await client.ask(NAMES)).error["extensions"]["rate"]["name"] == "bytes"


async def test_staff_do_not_use_what_the_tenant_pays_for(api: Api, sam: StaffClient, alice: Client) -> None:
    await limit(api, alice, requests=1)
    await sam.ask(LOOK, t=alice.tenant, r=REASON, m=5)
    for _ in range(3):
        seen = await api.http.post(
            f"/admin/t/{alice.tenant}/graphql", json={"query": NAMES}, headers={"authorization": f"Bearer {token()}"}
        )
        assert "errors" not in seen.json()
    assert (await alice.ask(NAMES)).data


async def test_staff_set_rates_and_the_tenant_sees_them(sam: StaffClient, alice: Client) -> None:
    rates = "rates { name limit period }"
    make = f"""mutation ($r: [RateInput!]) {{
      createPlan(name: "small", title: "Small", quotas: [], rates: $r) {{ {rates} }}
    }}"""
    given = [{"name": "requests", "limit": 50, "period": "MINUTE"}, {"name": "user.rows", "limit": 9, "period": "HOUR"}]
    assert (await sam.ask(make, r=given)).data == {"createPlan": {"rates": given}}
    for bad in (
        [{"name": "requests", "limit": 0}],
        [{"name": "requests", "limit": -1}],
        [{"name": "requests", "limit": 10**15}],
        [{"name": "nothing", "limit": 1}],
        [{"name": "requests", "limit": 1}] * 2,
    ):
        assert (await sam.ask(make.replace("small", "bad"), r=bad)).code == "BAD_USER_INPUT"
    change = f"""mutation ($r: [RateInput!]) {{ changePlan(name: "small", rates: $r) {{ {rates} }} }}"""
    changed = [{"name": "user.rows", "limit": None}]
    assert (await sam.ask(change, r=changed)).data == {"changePlan": {"rates": given[:1]}}
    assert (await sam.ask(change.replace("small", "unlimited"), r=given)).code == "CONFLICT"

    await sam.ask('mutation ($s: String!) { setPlan(slug: $s, plan: "small") { plan } }', s=alice.tenant)
    override = """mutation ($s: String!) {
      overrideRate(slug: $s, rate: "requests", limit: 70, period: HOUR, reason: "a trial") { name limit period }
    }"""
    made = {"name": "requests", "limit": 70, "period": "HOUR"}
    assert (await sam.ask(override, s=alice.tenant)).data == {"overrideRate": made}
    listed = "query ($s: String!) { rateOverrides(slug: $s) { name limit period reason ended } }"
    assert (await sam.ask(listed, s=alice.tenant)).data == {
        "rateOverrides": [{**made, "reason": "a trial", "ended": False}]
    }
    own = "{ viewer { plan { rates { nodes { name limit period until } } } } }"
    seen = await alice.ask(own)
    assert seen.data == {"viewer": {"plan": {"rates": {"nodes": [{**made, "until": None}]}}}}
    end = 'mutation ($s: String!) { endRateOverride(slug: $s, rate: "requests") }'
    assert (await sam.ask(end, s=alice.tenant)).data == {"endRateOverride": "requests"}
    seen = await alice.ask(own)
    assert seen.data == {"viewer": {"plan": {"rates": {"nodes": [{**given[0], "until": None}]}}}}


async def test_overrides_apply_exactly_until_their_ends(api: Api, alice: Client) -> None:
    tenant = await limit(api, alice, requests=5)
    end = datetime.now(UTC) + timedelta(hours=1)
    more = Rate(7, RatePeriod.DAY)
    await overrides.put(api.control, SAM, tenant, Kind.RATE, "requests", value=more, reason="a trial", ends_at=end)
    await overrides.put(api.control, SAM, tenant, Kind.RATE, "rows", value=Rate(8, RatePeriod.DAY), reason="misuse")
    agreed = (await provisioning.named(api.control, tenant.slug)).entitlements.rates
    assert agreed is not None
    during, after = agreed.at(end - timedelta(microseconds=1)), agreed.at(end)
    assert [(each.name, each.rate.most) for each in during.all] == [("requests", 7), ("rows", 8)]
    assert [(each.name, each.rate.most) for each in after.all] == [("requests", 5), ("rows", 8)]
    assert agreed.now().all == during.all
    none = Agreed({"requests": more}, [RateOverride("requests", None, None)])
    assert none.now().all == ()
