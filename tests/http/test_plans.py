"""Plans over HTTP: staff assign them, tenants see their plan and usage, and exceeding a quota is rejected."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from graphql import ObjectTypeDefinitionNode, parse

from isola.admin.schema import schema
from isola.platform import platform_log, provisioning
from isola.platform.changes import EFFECTIVE_WITHIN
from isola.platform.sign_in_log import SignInLog
from isola.platform.tenants import Tenant
from isola.settings import Settings
from isola.subjects import retention
from isola.subjects.permissions import Role
from isola.subjects.quotas import names
from isola.testing.fixtures import Copy
from isola.testing.served import Answer, Api, Client, serving
from isola_strategies.base import Strategy
from tests.http.listening import Ended, listening
from tests.http.staff import LOOK, REASON, StaffClient, admitting, token

PLAN = "{ viewer { plan { name title quotas { totalCount nodes { name limit used } } } } }"
CREATE = """mutation ($n: String!, $q: [QuotaInput!]!) {
  createPlan(name: $n, title: "Small", quotas: $q) { name title quotas { name limit } retiredAt }
}"""
CHANGE = """mutation ($n: String!, $q: [QuotaInput!]) { changePlan(name: $n, quotas: $q) { quotas { name limit } } }"""
GIVE = "mutation ($s: String!, $p: String!) { setPlan(slug: $s, plan: $p) { plan } }"
RETIRE = "mutation ($n: String!) { retirePlan(name: $n) { retiredAt } }"
PLANS = "{ plans { name quotas { name limit } retiredAt } }"
LOG = """query ($object: String, $actor: String, $action: String, $since: DateTime, $after: ID, $first: Int = 100) {
  platformLog(object: $object, actor: $actor, action: $action, since: $since, after: $after, first: $first) {
    id at actor action object old new request
  }
}"""
RESOURCES = [{"name": "RESOURCES", "limit": 2}]


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


async def log(sam: StaffClient, **conditions: Any) -> list[dict[str, Any]]:
    return list((await sam.ask(LOG, **conditions)).data["platformLog"])


async def test_a_tenant_can_read_its_plan_and_usage(sam: StaffClient, alice: Client) -> None:
    unlimited = (await alice.ask(PLAN)).data["viewer"]["plan"]
    assert (unlimited["name"], unlimited["title"]) == ("unlimited", "Unlimited")
    assert [(each["name"], each["limit"]) for each in unlimited["quotas"]["nodes"]] == [
        (name.upper(), None) for name in names()
    ]
    made = await sam.ask(CREATE, n="small", q=[*RESOURCES, {"name": "API_KEYS", "limit": None}])
    assert made.data["createPlan"] == {"name": "small", "title": "Small", "quotas": RESOURCES, "retiredAt": None}
    assert (await sam.ask(GIVE, s=alice.tenant, p="small")).data == {"setPlan": {"plan": "small"}}
    await alice.create("one")

    seen = (await alice.ask(PLAN)).data["viewer"]["plan"]
    assert (seen["name"], seen["title"], seen["quotas"]["totalCount"]) == ("small", "Small", len(names()))
    used = {each["name"]: (each["limit"], each["used"]) for each in seen["quotas"]["nodes"]}
    others = {name.upper(): (None, 0) for name in names()}
    assert used == {
        **others,
        "API_KEYS": (None, 0),
        "DOMAINS": (None, 0),
        "RESOURCES": (2, 1),
        "SHARES": (None, 0),
        "USERS": (None, 1),
    }
    half = len(names()) // 2 + 1
    quotas = f"quotas(first: {half}, after: $a) {{ nodes {{ name }} pageInfo {{ endCursor }} }}"
    pages = f"query ($a: String) {{ viewer {{ plan {{ {quotas} }} }} }}"
    first = (await alice.ask(pages)).data["viewer"]["plan"]["quotas"]
    rest = (await alice.ask(pages, {"a": first["pageInfo"]["endCursor"]})).data["viewer"]["plan"]["quotas"]
    assert [each["name"] for each in first["nodes"] + rest["nodes"]] == sorted(used)


async def test_over_the_plan_nothing_is_added_and_the_quota_is_named(sam: StaffClient, api: Api, alice: Client) -> None:
    await sam.ask(CREATE, n="small", q=[*RESOURCES, {"name": "USERS", "limit": 1}])
    await sam.ask(GIVE, s=alice.tenant, p="small")
    for name in ("one", "two"):
        await alice.create(name)
    before = await api.content(alice.tenant)
    refused = await alice.run("CreateResource", input={"name": "three"})
    assert refused.code == "QUOTA_EXCEEDED"
    assert refused.error["message"] == "resources: the limit is 2"
    assert refused.body["data"] == {"createResource": None}
    # A new user needs a place as well; existing users keep their access.
    newcomer = await api.client(alice.tenant, "nora").ask(PLAN)
    assert (newcomer.status, newcomer.code) == (429, "QUOTA_EXCEEDED")
    assert await api.content(alice.tenant) == before
    assert (await alice.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 2}}


async def test_a_tenant_sees_its_override_and_its_end(api: Api, sam: StaffClient, alice: Client) -> None:
    end = "2999-01-01T00:00:00+00:00"
    change = """mutation ($s: String!, $u: DateTime) {
      overrideQuota(slug: $s, quota: RESOURCES, limit: 1, reason: "a trial", until: $u) { limit until ended }
    }"""
    made = (await sam.ask(change, s=alice.tenant, u=end)).data["overrideQuota"]
    assert (made["limit"], made["ended"]) == (1, False)
    found = (await sam.ask("query ($s: String!) { quotaOverrides(slug: $s) { name reason } }", s=alice.tenant)).data
    assert found == {"quotaOverrides": [{"name": "RESOURCES", "reason": "a trial"}]}
    limits = "{ viewer { plan { quotas { nodes { name limit until } } } } }"
    seen = (await alice.ask(limits)).data["viewer"]["plan"]["quotas"]["nodes"]
    limited = [each for each in seen if each["limit"] is not None]
    assert limited == [{"name": "RESOURCES", "limit": 1, "until": made["until"]}]
    await alice.create("one")
    assert (await alice.run("CreateResource", input={"name": "two"})).code == "QUOTA_EXCEEDED"
    assert (await sam.ask(change, s=alice.tenant, u="2001-01-01T00:00:00Z")).code == "BAD_USER_INPUT"
    async with SignInLog(api.control, api.tenants):
        pass  # it copies the entry
    logged = '{ auditLog(filter: {object: {eq: "quota:resources"}}) { nodes { action new withheld } } }'
    [entry] = (await alice.ask(logged)).data["auditLog"]["nodes"]
    assert (entry["action"], entry["withheld"]) == ("quota_override:create", False)
    assert (entry["new"]["limit"], entry["new"]["reason"]) == (1, "a trial")


async def test_connections_outlive_refusals(sam: StaffClient, alice: Client, bob: Client) -> None:
    await sam.ask(CREATE, n="small", q=[{"name": "RESOURCES", "limit": 5}])
    for tenant in (alice.tenant, bob.tenant):
        await sam.ask(GIVE, s=tenant, p="small")
    answers = await asyncio.gather(
        *(client.run("CreateResource", input={"name": "x"}) for client in (alice, bob) for _ in range(20))
    )
    codes = [None if "errors" not in answer.body else answer.code for answer in answers]
    assert (codes.count(None), codes.count("QUOTA_EXCEEDED")) == (10, 30)
    for client in (alice, bob):
        assert (await client.ask("{ resources { totalCount } }")).data == {"resources": {"totalCount": 5}}


async def test_a_changed_plan_applies_on_every_server_within_five_seconds(
    copy: Copy, settings: Settings, strategy: Strategy
) -> None:
    async with serving(copy, settings) as here, serving(copy, settings) as there:
        ada = there.client(f"{strategy.name}-a")
        sam = StaffClient(here.http, token())
        await ada.create("one")
        await sam.ask(CREATE, n="small", q=[{"name": "RESOURCES", "limit": 1}])
        for change, variables, holds in (
            (GIVE, {"s": ada.tenant, "p": "small"}, False),
            (CHANGE, {"n": "small", "q": [{"name": "RESOURCES", "limit": None}]}, True),
            (CHANGE, {"n": "small", "q": [{"name": "RESOURCES", "limit": 0}]}, False),
            (GIVE, {"s": ada.tenant, "p": "unlimited"}, True),
        ):
            assert "errors" not in (await sam.ask(change, **variables)).body
            committed = time.monotonic()
            while True:
                asked = time.monotonic()
                answer = await ada.run("CreateResource", input={"name": "more"})
                if ("errors" not in answer.body) is holds:
                    break
                assert asked - committed < EFFECTIVE_WITHIN


async def test_plans_are_changed_and_retired_by_staff(sam: StaffClient, alice: Client) -> None:
    await sam.ask(CREATE, n="small", q=RESOURCES)
    assert (await sam.ask(CREATE, n="small", q=[])).code == "CONFLICT"
    assert (await sam.ask(CREATE, n="other", q=RESOURCES * 2)).code == "BAD_USER_INPUT"
    assert (await sam.ask(CREATE, n="Bad Name", q=[])).code == "BAD_USER_INPUT"
    assert (await sam.ask(CREATE, n="other", q=[{"name": "USERS", "limit": -1}])).code == "BAD_USER_INPUT"
    more = [{"name": "RESOURCES", "limit": 3}, {"name": "USERS", "limit": 1}]
    assert (await sam.ask(CHANGE, n="small", q=more)).data == {"changePlan": {"quotas": more}}
    assert (await sam.ask(CHANGE, n="nothing", q=[])).code == "NOT_FOUND"
    assert (await sam.ask(CHANGE, n="unlimited", q=more)).code == "CONFLICT"
    assert (await sam.ask(RETIRE, n="small")).data["retirePlan"]["retiredAt"]
    assert (await sam.ask(GIVE, s=alice.tenant, p="small")).code == "CONFLICT"
    assert (await sam.ask(GIVE, s="nobody", p="unlimited")).code == "NOT_FOUND"
    small, _, unlimited = (await sam.ask(PLANS)).data["plans"][-3:]
    assert (small["name"], small["quotas"], bool(small["retiredAt"])) == ("small", more, True)
    assert unlimited == {"name": "unlimited", "quotas": [], "retiredAt": None}


async def test_a_price_is_set_by_staff_and_read_by_tenants(sam: StaffClient, alice: Client) -> None:
    priced = "{ price currency period }"
    change = f'mutation ($p: PriceInput) {{ changePlan(name: "starter", price: $p) {priced} }}'
    new = {"amount": "120.50", "currency": "EUR", "period": "YEAR"}
    shown = {"price": "120.5", "currency": "EUR", "period": "YEAR"}
    assert (await sam.ask(change, p=new)).data == {"changePlan": shown}
    assert (await sam.ask(change, p={**new, "currency": "euro"})).code == "BAD_USER_INPUT"
    assert (await sam.ask(change)).data == {"changePlan": shown}
    await sam.ask(GIVE, s=alice.tenant, p="starter")
    assert (await alice.ask(f"{{ viewer {{ plan {priced} }} }}")).data == {"viewer": {"plan": shown}}
    none = dict.fromkeys(shown)
    assert (await sam.ask(change, p=None)).data == {"changePlan": none}
    assert (await alice.ask(f"{{ viewer {{ plan {priced} }} }}")).data == {"viewer": {"plan": none}}


async def test_all_actions_of_staff_are_in_the_platforms_log(
    api: Api, sam: StaffClient, alice: Client, bob: Client
) -> None:
    """Each mutation of the contract writes an entry with its actor and request; rejected ones write none."""
    owner = api.client(alice.tenant, "olga", Role.OWNER)
    key = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'
    prefix = (await owner.ask(key)).data["createApiKey"]["key"].split("_")[1]
    named = {"s": bob.tenant}
    leave = await sam.ask(LOOK, t=bob.tenant, r=REASON, m=5)
    began = {entry["id"] for entry in await log(sam)}
    done: dict[str, tuple[str, str, dict[str, Any]]] = {
        "createPlan": ("plan:create", CREATE, {"n": "small", "q": []}),
        "changePlan": ("plan:change", CHANGE, {"n": "small", "q": RESOURCES}),
        "setPlan": ("tenant:set_plan", GIVE, {"s": bob.tenant, "p": "small"}),
        "retirePlan": ("plan:retire", RETIRE, {"n": "small"}),
        "overrideQuota": (
            "tenant:override",
            """mutation ($s: String!) {
              overrideQuota(slug: $s, quota: USERS, limit: 9, reason: "a trial") { name limit reason until ended }
            }""",
            named,
        ),
        "endQuotaOverride": (
            "tenant:end_override",
            "mutation ($s: String!) { endQuotaOverride(slug: $s, quota: USERS) }",
            named,
        ),
        "overrideLimit": (
            "tenant:override",
            """mutation ($s: String!) {
              overrideLimit(slug: $s, meter: "executions", limit: 9, reason: "a trial") { meter limit until ended }
            }""",
            named,
        ),
        "endLimitOverride": (
            "tenant:end_override",
            'mutation ($s: String!) { endLimitOverride(slug: $s, meter: "executions") }',
            named,
        ),
        "overrideFeature": (
            "tenant:override",
            """mutation ($s: String!) {
              overrideFeature(slug: $s, feature: "data-export", given: false, reason: "a trial") { name given until }
            }""",
            named,
        ),
        "endFeatureOverride": (
            "tenant:end_override",
            'mutation ($s: String!) { endFeatureOverride(slug: $s, feature: "data-export") }',
            named,
        ),
        "overrideRate": (
            "tenant:override",
            """mutation ($s: String!) {
              overrideRate(slug: $s, rate: "requests", limit: 9, reason: "a trial") { name limit period until }
            }""",
            named,
        ),
        "endRateOverride": (
            "tenant:end_override",
            'mutation ($s: String!) { endRateOverride(slug: $s, rate: "requests") }',
            named,
        ),
        "overrideRetention": (
            "tenant:override",
            """mutation ($s: String!) {
              overrideRetention(slug: $s, subject: "spans", days: 9, reason: "a trial") { subject days until }
            }""",
            named,
        ),
        "endRetentionOverride": (
            "tenant:end_override",
            'mutation ($s: String!) { endRetentionOverride(slug: $s, subject: "spans") }',
            named,
        ),
        "deletePlan": ("plan:delete", "mutation ($n: String!) { deletePlan(name: $n) }", {"n": "starter"}),
        "suspendTenant": ("tenant:suspend", "mutation ($s: String!) { suspendTenant(slug: $s) { id } }", named),
        "resumeTenant": ("tenant:resume", "mutation ($s: String!) { resumeTenant(slug: $s) { id } }", named),
        "setParent": (
            "tenant:set_parent",
            "mutation ($s: String!, $p: String) { setParent(slug: $s, parent: $p) { id } }",
            {"s": bob.tenant, "p": alice.tenant},
        ),
        "revokeApiKey": (
            "api_key:revoke",
            "mutation ($t: String!, $p: String!) { revokeApiKey(tenant: $t, prefix: $p) { prefix } }",
            {"t": alice.tenant, "p": prefix},
        ),
        "lookInto": ("access:grant", LOOK, {"t": alice.tenant, "r": REASON, "m": 5}),
        "endAccess": (
            "access:end",
            "mutation ($g: ID!) { endAccess(grant: $g) { id } }",
            {"g": leave.data["lookInto"]["id"]},
        ),
    }
    requests = []
    for action, document, variables in done.values():
        answer = await sam.ask(document, **variables)
        assert "errors" not in answer.body, answer.body
        requests.append((action, answer.response.headers["x-request-id"]))
        # The second time it is rejected, or changes nothing.
        if action not in {"access:grant", "tenant:override"}:
            await sam.ask(document, **variables)
    new = [entry for entry in reversed(await log(sam)) if entry["id"] not in began]
    assert [(entry["action"], entry["request"]) for entry in new] == requests
    assert {entry["actor"] for entry in new} == {"staff:sam"}
    [revoked] = await log(sam, action="api_key:revoke", object=f"tenant:{alice.tenant}")
    assert (revoked["old"], revoked["new"]) == (None, {"prefix": prefix})
    [definition] = [
        each
        for each in parse(schema.as_str()).definitions
        if isinstance(each, ObjectTypeDefinitionNode) and each.name.value == "Mutation"
    ]
    # Orders are logged when they are carried out; of incidents: test_incidents.
    fields = {each.name.value for each in definition.fields or ()}
    orders, of_incidents = (
        {"createTenant", "moveTenant", "cancelOrder"},
        {"openIncident", "noteIncident", "closeIncident"},
    )
    assert fields - done.keys() <= orders | of_incidents


async def test_the_log_is_filtered_and_paged(api: Api, sam: StaffClient, alice: Client) -> None:
    tenant: Tenant = await provisioning.named(api.control, alice.tenant)
    every = await log(sam)
    assert len(every) == len(await platform_log.page(api.control, first=100))
    [made] = await log(sam, object=f"tenant:{alice.tenant}", action="tenant:create")
    assert made["new"]["id"] == str(tenant.id)
    assert await log(sam, actor="staff:nobody") == []
    assert await log(sam, since="2999-01-01T00:00:00Z") == []
    first = await log(sam, first=1)
    assert first + await log(sam, after=first[0]["id"]) == every
    for bad in ({"first": 0}, {"first": 101}, {"after": "x"}):
        assert (await sam.ask(LOG, **bad)).code == "BAD_USER_INPUT"


async def test_reading_the_plan_requires_the_permission(api: Api, alice: Client) -> None:
    key = 'mutation { createApiKey(input: {name: "robot", permissions: ["resource:read"]}) { key } }'
    machine = alice.saying(f"Bearer {(await alice.ask(key)).data['createApiKey']['key']}")
    refused = await machine.ask(PLAN)
    assert refused.code == "FORBIDDEN"
    assert "plan:read" in refused.error["message"]
    assert (await api.client(alice.tenant, "vera", Role.VIEWER).ask(PLAN)).data["viewer"]["plan"]["name"] == "unlimited"


MAKE = """mutation ($n: String!) { createPattern(input: {name: $n, instructions: "x"}) { pattern { id name } } }"""
FEATURE = "custom-patterns"


async def until(client: Client, document: str, expected: str | None, **variables: Any) -> Answer:
    """Repeat a request until it has this error, or none: changes reach the server within seconds."""
    latest = time.monotonic() + 10 * EFFECTIVE_WITHIN
    while True:
        answer = await client.ask(document, variables)
        if (answer.code if "errors" in answer.body else None) == expected:
            return answer
        assert time.monotonic() < latest, answer.response.text
        await asyncio.sleep(0.05)


async def test_without_a_feature_its_fields_are_refused_and_the_plans_that_have_it_are_named(
    sam: StaffClient, alice: Client, bob: Client
) -> None:
    pattern = (await alice.ask(MAKE, {"n": "mine"})).data["createPattern"]["pattern"]["id"]
    own = 'mutation ($p: PriceInput) { createPlan(name: "for-bob", title: "Bob", quotas: [], price: $p) { features } }'
    assert (await sam.ask(own)).data == {"createPlan": {"features": None}}
    await sam.ask(GIVE, s=bob.tenant, p="for-bob")
    await sam.ask('mutation { changePlan(name: "free", rates: [{name: "requests"}]) { name } }')
    await sam.ask(GIVE, s=alice.tenant, p="free")
    refused = await until(alice, "{ patterns { nodes { name } } }", "FEATURE_REQUIRED")
    # A plan that is not listed may have been made for another tenant.
    assert refused.error["extensions"] == {
        "code": "FEATURE_REQUIRED",
        "feature": FEATURE,
        "plans": ["starter", "professional", "enterprise"],
    }
    assert (refused.status, refused.error["path"]) == (200, ["patterns"])
    features = "{ viewer { plan { features } } }"
    assert (await alice.ask(features)).data == {"viewer": {"plan": {"features": []}}}
    for document in (
        MAKE,
        "query ($p: ID!) { node(id: $p) { id } }",
        "query ($p: ID!) { nodes(ids: [$p]) { id } }",
        "mutation ($p: ID!) { deletePattern(input: {id: $p}) { deletedId } }",
        "{ agents { nodes { patterns { totalCount } } } }",
        "{ agents(filter: {patterns: {some: {}}}) { totalCount } }",
    ):
        assert (await alice.ask(document, {"n": "new", "p": pattern})).code == "FEATURE_REQUIRED", document
        # Of a missing object or another tenant's there is no more to learn.
        assert (await alice.ask(document, {"n": "new", "p": f"pat_{UUID(int=7)}"})).code == "FEATURE_REQUIRED"
    assert (await alice.ask("{ agents { totalCount } }")).data == {"agents": {"totalCount": 0}}
    assert (await bob.ask("{ patterns { totalCount } }")).data == {"patterns": {"totalCount": 0}}

    given = """mutation ($s: String!) {
      overrideFeature(slug: $s, feature: "custom-patterns", given: true, reason: "a trial") { name }
    }"""
    assert (await sam.ask(given, s=alice.tenant)).data
    assert (await until(alice, "{ patterns { nodes { id } } }", None)).data["patterns"]["nodes"] == [{"id": pattern}]
    assert (await alice.ask(features)).data == {"viewer": {"plan": {"features": [FEATURE]}}}
    ended = 'mutation ($s: String!) { endFeatureOverride(slug: $s, feature: "custom-patterns") }'
    assert (await sam.ask(ended, s=alice.tenant)).data
    await until(alice, MAKE, "FEATURE_REQUIRED", n="one")
    change = 'mutation ($f: [String!]) { changePlan(name: "free", features: $f) { features } }'
    assert (await sam.ask(change, f=["no-such-feature"])).code == "BAD_USER_INPUT"
    assert (await sam.ask(change, f=[FEATURE])).data == {"changePlan": {"features": [FEATURE]}}
    await until(alice, "{ patterns { totalCount } }", None)
    assert (await sam.ask(change)).data == {"changePlan": {"features": [FEATURE]}}


async def test_a_tenant_sees_for_how_long_its_plan_or_an_override_keeps_something(
    sam: StaffClient, alice: Client
) -> None:
    kept = "{ viewer { plan { retention(first: 10) { nodes { subject days until } } } } }"
    nodes = (await alice.ask(kept)).data["viewer"]["plan"]["retention"]["nodes"]
    assert [each["subject"] for each in nodes] == retention.names()
    assert {each["days"] for each in nodes} == {None}
    change = """mutation ($r: [RetentionInput!]) {
      changePlan(name: "free", retention: $r) { retention { subject days } }
    }"""
    changed = await sam.ask(change, r=[{"subject": "spans", "days": 14}, {"subject": "executions"}])
    assert changed.data["changePlan"]["retention"] == [{"subject": "log", "days": 7}, {"subject": "spans", "days": 14}]
    assert (await sam.ask(change, r=[{"subject": "users", "days": 1}])).error["extensions"]["field"] == "retention"
    await sam.ask(GIVE, s=alice.tenant, p="free")
    override = """mutation ($s: String!, $n: String!) {
      overrideRetention(slug: $s, subject: $n, days: 90, reason: "a contract", until: "2999-01-01T00:00:00Z") { days }
    }"""
    assert (await sam.ask(override, s=alice.tenant, n="log")).data == {"overrideRetention": {"days": 90}}
    nodes = (await alice.ask(kept)).data["viewer"]["plan"]["retention"]["nodes"]
    found = {each["subject"]: (each["days"], each["until"]) for each in nodes}
    assert found["spans"] == (14, None)
    assert found["log"] == (90, "2999-01-01T00:00:00.000000+00:00")
    listed = "query ($s: String!) { retentionOverrides(slug: $s) { subject days reason ended } }"
    assert (await sam.ask(listed, s=alice.tenant)).data["retentionOverrides"] == [
        {"subject": "log", "days": 90, "reason": "a contract", "ended": False}
    ]
    ended = 'mutation ($s: String!) { endRetentionOverride(slug: $s, subject: "log") }'
    assert (await sam.ask(ended, s=alice.tenant)).data == {"endRetentionOverride": "log"}


async def test_a_subscription_ends_with_the_feature_that_it_needs(sam: StaffClient, alice: Client) -> None:
    changes = "subscription ($after: String) { patternChanges(after: $after) { kind id cursor } }"
    async with listening(alice) as listener:
        stream = await listener.subscribe(changes)
        await stream.started()
        await sam.ask(GIVE, s=alice.tenant, p="free")
        with pytest.raises(Ended) as ended:
            await stream.next()
        assert ended.value.code == "FEATURE_REQUIRED"
