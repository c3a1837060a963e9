"""Plans are created, changed, retired and assigned, all logged by the platform; invalid changes are rejected."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import update

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, NotFound
from isola.platform import overrides, plans, platform_log, provisioning
from isola.platform.overrides import Kind
from isola.platform.plans import MOST, UNLIMITED
from isola.platform.platform_log import Author
from isola.platform.tenants import Tenant, tenants
from isola.subjects import features
from isola.subjects.prices import PlanPeriod, Price
from isola.testing.fixtures import Copy
from isola_strategies.base import Strategy

SAM = Author("staff:sam", "request-1")


async def entries(control: Database, about: str) -> Sequence[tuple[str, Any, Any]]:
    """The log entries about an object, oldest first."""
    found = await platform_log.page(control, object=about, first=100)
    return [(entry.action, entry.old, entry.new) for entry in reversed(found)]


async def names(control: Database) -> Sequence[str]:
    return [plan.name for plan in await plans.every(control)]


NOTHING: Mapping[str, Any] = {"limits": {}, "rates": {}, "retention": {}, "features": None}
OTHERS: Mapping[str, Any] = {"price": None, **NOTHING, "listed": False, "retired": False}
OFFERED = ["enterprise", "free", "professional", "starter"]


async def test_at_first_all_tenants_have_the_plan_that_limits_nothing_and_there_are_some_to_sell(
    control: Database, a: Tenant
) -> None:
    *offered, unlimited = await plans.every(control)
    assert (unlimited.name, unlimited.price, unlimited.quotas, unlimited.retired_at) == (UNLIMITED, None, {}, None)
    assert a.plan == UNLIMITED
    assert {plan.name: {rate: str(most) for rate, most in plan.rates.items()} for plan in offered} == {
        "enterprise": {},
        "free": {"requests": "10/minute"},
        "professional": {"requests": "200/minute"},
        "starter": {"requests": "50/minute"},
    }
    assert {plan.name: (plan.price and str(plan.price), plan.quotas, plan.limits) for plan in offered} == {
        "enterprise": (None, {}, {}),
        "free": ("0 USD/month", {"agents": 3, "storage": 10**9}, {"executions": 1000}),
        "professional": ("499 USD/month", {"agents": 50, "storage": 10**11}, {"executions": 100_000}),
        "starter": ("99 USD/month", {"agents": 10, "storage": 10**10}, {"executions": 10_000}),
    }


async def test_a_plan_has_limits_of_meters(control: Database) -> None:
    made = await plans.create(control, SAM, name="small", title="Small", quotas={}, limits={"executions": 5})
    assert made.limits == {"executions": 5}
    changed = await plans.change(control, SAM, "small", limits={"executions": None})
    assert changed.limits == {}
    for wrong in ({"nothing": 1}, {"executions": -1}, {"executions": MOST + 1}):
        with pytest.raises(BadUserInput) as refused:
            await plans.change(control, SAM, "small", limits=wrong)
        assert refused.value.field == "limits"
    with pytest.raises(Conflict):
        await plans.change(control, SAM, UNLIMITED, limits={"executions": 1})


async def test_a_plan_keeps_subjects_and_the_log_for_some_days(control: Database, a: Tenant) -> None:
    kept = {plan.name: set(plan.retention.values()) for plan in await plans.every(control)}
    assert kept == {"free": {7}, "starter": {30}, "professional": {90}, "enterprise": {365}, UNLIMITED: set()}
    made = await plans.create(control, SAM, name="small", title="Small", quotas={}, retention={"spans": 30, "log": 90})
    assert made.retention == {"spans": 30, "log": 90}
    assert (await plans.change(control, SAM, "small", retention={"spans": None})).retention == {"log": 90}
    for wrong in ({"resources": 1}, {"log": 0}, {"log": 36_501}):
        with pytest.raises(BadUserInput) as refused:
            await plans.change(control, SAM, "small", retention=wrong)
        assert refused.value.field == "retention"
        [(name, days)] = wrong.items()
        with pytest.raises(BadUserInput):
            await overrides.put(control, SAM, a, Kind.RETENTION, name, value=days, reason="a trial")
    with pytest.raises(Conflict):
        await plans.change(control, SAM, UNLIMITED, retention={"log": 1})
    for stored in ('{"log": 0}', '{"log": "7"}', '{"log": 1.5}', "[]"):
        with pytest.raises(BadUserInput):
            async with control.unbound() as work:
                await work.script(f"UPDATE control.plans SET retention = '{stored}' WHERE name = 'small'")


async def test_an_override_of_a_meter_leaves_the_quota_of_the_same_name(control: Database, a: Tenant) -> None:
    for kind, name in ((Kind.QUOTA, "resources"), (Kind.METER, "executions")):
        made = await overrides.put(control, SAM, a, kind, name, value=9, reason="a trial")
        assert (made.name, made.value) == (name, 9)
    with pytest.raises(NotFound):
        await overrides.remove(control, SAM, a, "executions", Kind.QUOTA)
    await overrides.remove(control, SAM, a, "executions", Kind.METER)
    assert [(each.kind, each.name) for each in await overrides.every(control, a)] == [("quota", "resources")]


async def test_a_plan_is_made_changed_and_retired(control: Database) -> None:
    made = await plans.create(control, SAM, name="small", title="Small", quotas={"users": 5, "shares": 0})
    assert (made.name, made.title, made.quotas) == ("small", "Small", {"users": 5, "shares": 0})
    changed = await plans.change(control, SAM, "small", quotas={"users": 7, "shares": None})
    assert (changed.title, changed.quotas) == ("Small", {"users": 7})
    renamed = await plans.change(control, SAM, "small", title="Little", price=Price.parse("9.50 EUR/year"))
    assert (renamed.title, renamed.quotas, str(renamed.price)) == ("Little", {"users": 7}, "9.5 EUR/year")
    free = await plans.change(control, SAM, "small", price=None)
    assert (free.title, free.price) == ("Little", None)
    retired = await plans.retire(control, SAM, "small")
    assert retired.retired_at is not None
    assert await names(control) == sorted([*OFFERED, "small", UNLIMITED])
    assert await entries(control, "plan:small") == [
        ("plan:create", None, {"title": "Small", "quotas": {"users": 5, "shares": 0}, **OTHERS}),
        ("plan:change", {"quotas": {"users": 5, "shares": 0}}, {"quotas": {"users": 7}}),
        ("plan:change", {"title": "Small", "price": None}, {"title": "Little", "price": "9.5 EUR/year"}),
        ("plan:change", {"price": "9.5 EUR/year"}, {"price": None}),
        ("plan:retire", {"retired": False}, {"retired": True}),
    ]


async def test_a_tenant_is_given_a_plan_at_first_or_later(
    copy: Copy, control: Database, owner: Database, a: Tenant, strategy: Strategy
) -> None:
    for name in ("small", "large"):
        await plans.create(control, SAM, name=name, title=name, quotas={})
    given = await plans.give(control, SAM, a, "small")
    assert given.plan == (await provisioning.named(control, a.slug)).plan == "small"
    with pytest.raises(Conflict, match="the tenant has this plan already"):
        await plans.give(control, SAM, a, "small")
    assert await entries(control, f"tenant:{a.slug}") == [
        ("tenant:create", None, _made(a)),
        ("tenant:set_plan", {"plan": UNLIMITED}, {"plan": "small"}),
    ]
    new = await provisioning.create(
        owner, copy.strategies, slug="new", name="New", strategy=strategy.name, plan="large", by=SAM
    )
    assert new.plan == "large"
    assert await entries(control, "tenant:new") == [("tenant:create", None, _made(new))]


def _made(tenant: Tenant) -> Mapping[str, Any]:
    known = {"id": str(tenant.id), "name": tenant.name, "strategy": tenant.strategy}
    return {**known, "parent": None, "plan": tenant.plan}


async def test_a_retired_plan_stays_with_its_tenants_and_is_refused_for_others(
    copy: Copy, control: Database, owner: Database, a: Tenant, b: Tenant
) -> None:
    await plans.create(control, SAM, name="small", title="Small", quotas={})
    await plans.give(control, SAM, a, "small")
    await plans.retire(control, SAM, "small")
    assert (await provisioning.named(control, a.slug)).plan == "small"
    with pytest.raises(Conflict, match="retired"):
        await plans.give(control, SAM, b, "small")
    with pytest.raises(Conflict, match="retired"):
        await provisioning.create(
            owner, copy.strategies, slug="new", name="New", strategy=a.strategy, plan="small", by=SAM
        )
    with pytest.raises(NotFound):
        await provisioning.named(control, "new")
    with pytest.raises(Conflict, match="retired already"):
        await plans.retire(control, SAM, "small")


async def test_a_plan_is_not_retired_while_a_tenant_gets_it(control: Database, a: Tenant, b: Tenant) -> None:
    """Nor assigned once it has been retired meanwhile: the two are serialized."""
    await plans.create(control, SAM, name="small", title="Small", quotas={})
    async with control.unbound() as transaction:
        await plans.offered(transaction, "small")
        retiring = asyncio.create_task(plans.retire(control, SAM, "small"))
        done, _ = await asyncio.wait([retiring], timeout=0.2)
        assert not done
    assert (await retiring).retired_at is not None
    with pytest.raises(Conflict):
        await plans.give(control, SAM, a, "small")
    assert (await provisioning.named(control, a.slug)) == a
    assert (await provisioning.named(control, b.slug)) == b


async def test_a_plan_is_deleted_unless_a_tenant_has_it(control: Database, a: Tenant) -> None:
    await plans.give(control, SAM, a, "starter")
    with pytest.raises(Conflict, match="retire it"):
        await plans.remove(control, SAM, "starter")
    async with control.unbound() as transaction:
        # A tenant that is about to get the plan comes first; then the plan is one of a tenant.
        await plans.offered(transaction, "free")
        removing = asyncio.create_task(plans.remove(control, SAM, "free"))
        done, _ = await asyncio.wait([removing], timeout=0.2)
        assert not done
        await transaction.execute(update(tenants).where(tenants.c.id == a.id).values(plan="free"))
    with pytest.raises(Conflict, match="retire it"):
        await removing
    await plans.remove(control, SAM, "starter")
    with pytest.raises(NotFound):
        await plans.remove(control, SAM, "starter")
    with pytest.raises(NotFound):
        await plans.give(control, SAM, a, "starter")
    assert await entries(control, "plan:starter") == [("plan:delete", None, None)]
    assert await names(control) == ["enterprise", "free", "professional", UNLIMITED]


@pytest.mark.parametrize(
    ("amount", "currency", "period"),
    [("-1", "USD", "month"), ("1e12", "USD", "month"), ("1.0001", "USD", "month"), ("1", "usd", "year")],
)
def test_an_invalid_price_is_refused(amount: str, currency: str, period: str) -> None:
    with pytest.raises(BadUserInput, match=r"^price: expected"):
        Price.of(Decimal(amount), currency, PlanPeriod(period))


@pytest.mark.parametrize(
    ("name", "title", "quotas", "reason"),
    [
        ("Small", "Small", {}, "^name: expected"),
        ("s", "Small", {}, "^name: expected"),
        ("small\0", "Small", {}, "name"),
        ("x" * 64, "Small", {}, "name"),
        ("small", "", {}, "title"),
        ("small", "x" * 201, {}, "title"),
        ("small", "a\nb", {}, "title"),
        ("small", "Small", {"users": -1}, "users: expected 0 to"),
        ("small", "Small", {"users": 1, "wings": 1}, "quotas: expected any of "),
        ("small", "Small", {"users": MOST + 1}, "users: expected 0 to"),
    ],
)
async def test_an_invalid_plan_is_refused(
    control: Database, name: str, title: str, quotas: Mapping[str, int], reason: str
) -> None:
    with pytest.raises(BadUserInput, match=reason):
        await plans.create(control, SAM, name=name, title=title, quotas=quotas)
    assert await names(control) == [*OFFERED, UNLIMITED]


async def test_the_plan_that_is_built_in_stays_as_it_is(control: Database) -> None:
    before = await plans.every(control)
    with pytest.raises(Conflict):
        await plans.change(control, SAM, UNLIMITED, quotas={"users": 1})
    with pytest.raises(Conflict):
        await plans.retire(control, SAM, UNLIMITED)
    with pytest.raises(Conflict):
        await plans.remove(control, SAM, UNLIMITED)
    with pytest.raises(Conflict, match="plans: there is one"):
        await plans.create(control, SAM, name=UNLIMITED, title="Mine", quotas={})
    assert await plans.every(control) == before
    assert await entries(control, f"plan:{UNLIMITED}") == []


@pytest.mark.parametrize("name", ["nothing", "no\0thing", "", "x" * 1000])
async def test_an_unknown_plan_is_reported(control: Database, a: Tenant, name: str) -> None:
    with pytest.raises(NotFound, match="there is no such plan"):
        await plans.change(control, SAM, name, title="Title")
    with pytest.raises(NotFound, match="there is no such plan"):
        await plans.retire(control, SAM, name)
    with pytest.raises(NotFound, match="there is no such plan"):
        await plans.give(control, SAM, a, name)


async def test_overrides_of_features_apply_exactly_until_their_ends(control: Database, a: Tenant) -> None:
    now = datetime.now(UTC)
    end = now + timedelta(hours=1)
    await plans.give(control, SAM, a, "starter")
    await overrides.put(control, SAM, a, Kind.FEATURE, "single-sign-on", value=True, reason="a trial", ends_at=end)
    await overrides.put(control, SAM, a, Kind.FEATURE, "data-export", value=False, reason="misuse")
    entitlements = (await provisioning.named(control, a.slug)).entitlements
    during, after = entitlements.at(end - timedelta(microseconds=1)), entitlements.at(end)
    assert during == {"audit-logs", "custom-patterns", "single-sign-on"}
    assert after == during - {"single-sign-on"}
    assert entitlements.offering("single-sign-on") == ["professional", "enterprise"]
    await plans.retire(control, SAM, "professional")
    await overrides.remove(control, SAM, a, "data-export")
    entitlements = (await provisioning.named(control, a.slug)).entitlements
    assert entitlements.at(end) == {"audit-logs", "custom-patterns", "data-export"}
    assert entitlements.offering("single-sign-on") == ["enterprise"]
    with pytest.raises(BadUserInput, match="features: expected any of"):
        await overrides.put(control, SAM, a, Kind.FEATURE, "wings", value=True, reason="a trial")
    with pytest.raises(BadUserInput, match="features: expected any of"):
        await plans.change(control, SAM, "starter", features=["wings"])


async def test_a_plan_without_a_list_of_features_has_all_of_them(control: Database, a: Tenant) -> None:
    assert a.entitlements.at(datetime.now(UTC)) == features.known().keys()
    await plans.create(control, SAM, name="small", title="Small", quotas={}, features=["data-export", "data-export"])
    assert (await plans.give(control, SAM, a, "small")).entitlements.at(datetime.now(UTC)) == {"data-export"}
    assert (await plans.change(control, SAM, "small", title="Little")).features == ["data-export"]
    assert (await plans.change(control, SAM, "small", features=None, listed=True)).features is None
    assert (await provisioning.named(control, a.slug)).entitlements.now() == features.known().keys()
