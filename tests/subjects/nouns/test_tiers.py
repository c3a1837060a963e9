"""What a tenant sells on: the use of its customers is limited by their tiers, as its own is by its plan."""

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, QuotaExceeded
from isola.platform.tenants import Tenant
from isola.subjects import operations, resources, tiers, usage
from isola.subjects.prices import PlanPeriod
from isola.subjects.tiers import Tier, TierCustomer
from isola.subjects.usage import Event
from isola.testing.oracles.canary import log
from tests.subjects.nouns.conftest import People
from tests.subjects.nouns.test_usage import assert_recounted, counters, limited, record

OF_CUSTOMER = "executions: the limit of the customer is 5"


@pytest.fixture
async def gold(database: Database, a: Tenant, people: People) -> Tier:
    """A tier with five executions, that of the customer Ada."""
    async with database.transaction(a) as work:
        made = await Tier.create(
            work, people.ada, name="Gold", usage_caps={"executions": 5}, feature_entitlements=["export"]
        )
        await TierCustomer.create(work, people.ada, name="Ada", tier=made)
    return made


async def change(database: Database, tenant: Tenant, people: People, tier: Tier, **changes: Any) -> None:
    async with database.transaction(tenant) as work:
        await operations.update(work, people.ada, Tier, tier.id, changes)


@pytest.mark.usefixtures("gold")
async def test_a_customer_consumes_within_its_tier_and_both_limits_hold(
    owner: Database, database: Database, control: Database, a: Tenant, b: Tenant
) -> None:
    await record(database, a, Event("executions", 5, customer="Ada"), within_limit=True)
    with pytest.raises(QuotaExceeded, match=f"^{OF_CUSTOMER}$"):
        await record(database, a, Event("executions"), Event("executions", customer="Ada"), within_limit=True)
    # Others have no tier, and in another tenant, Ada is another customer.
    await record(database, a, Event("executions", 6, customer="Bob"), within_limit=True)
    await record(database, b, Event("executions", 6, customer="Ada"), within_limit=True)
    # What is only recorded has happened.
    await record(database, a, Event("executions", customer="Ada"))
    await limited(control, a, 12)
    with pytest.raises(QuotaExceeded, match=r"^executions: the limit is 12$"):
        await record(database, a, Event("executions", customer="Bob"), within_limit=True)
    assert await counters(database, a, "quantity, allowed") == [
        "executions Ada 6 5",
        "executions Bob 6",
        "executions 12 12",
    ]
    await assert_recounted(owner, a)


@pytest.mark.usefixtures("gold")
async def test_of_many_at_once_a_customer_gets_exactly_what_is_left(
    owner: Database, database: Database, a: Tenant
) -> None:
    async def take() -> bool:
        async with database.transaction(a) as work:
            return await usage.consume(work, "executions", customer="Ada")

    outcomes = await asyncio.gather(*(take() for _ in range(20)), return_exceptions=True)
    assert outcomes.count(True) == 5
    assert {str(each) for each in outcomes if each is not True} == {OF_CUSTOMER}
    assert await counters(database, a) == ["executions Ada 5", "executions 5"]
    await assert_recounted(owner, a)


async def test_another_cap_and_another_tier_apply_to_the_next_transaction(
    database: Database, a: Tenant, people: People, gold: Tier
) -> None:
    await record(database, a, Event("executions", 5, customer="Ada"), within_limit=True)
    await change(database, a, people, gold, usage_caps={"executions": 6})
    await record(database, a, Event("executions", customer="Ada"), within_limit=True)
    async with database.transaction(a) as work:
        free = await Tier.create(work, people.ada, name="Free", usage_caps={"executions": 7})
        [ada] = await TierCustomer.find(work)
        await operations.update(work, people.ada, TierCustomer, ada.id, {"tier": free})
    await record(database, a, Event("executions", customer="Ada"), within_limit=True)
    with pytest.raises(QuotaExceeded, match=r"is 7$"):
        await record(database, a, Event("executions", customer="Ada"), within_limit=True)
    await change(database, a, people, free, usage_caps={})
    await record(database, a, Event("executions", 50, customer="Ada"), within_limit=True)


@pytest.mark.usefixtures("gold")
async def test_raw_sql_cannot_get_round_the_limit_of_a_customer(database: Database, a: Tenant, b: Tenant) -> None:
    async with database.transaction(a) as work:
        assert await work.value("SELECT isola.consume('executions', 5, NULL, 'Ada')")
        with pytest.raises(QuotaExceeded, match=OF_CUSTOMER):
            async with work.savepoint():
                await work.value("SELECT isola.consume('executions', 1, NULL, 'Ada')")
        for function in ("customer_caps($1, NULL)", "keep_limit($1, 'm', 'Ada', now(), 1, 0, false, 1, 1)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with work.savepoint():
                    await work.value(f"SELECT isola.{function}", b.id)


@pytest.mark.usefixtures("gold")
async def test_rows_of_a_subject_consume_for_the_customer_that_they_name(
    owner: Database, database: Database, a: Tenant, people: People
) -> None:
    async with owner.unbound() as work:
        home = await work.value("SELECT home FROM control.tenants WHERE id = $1", a.id)
        await work.script(
            f"CREATE TRIGGER usage_insert AFTER INSERT ON {home}.resources REFERENCING NEW TABLE AS new_rows "
            "FOR EACH STATEMENT EXECUTE FUNCTION isola.consume_rows('executions', 'kind')"
        )

    async def insert(*customers: str | None) -> None:
        async with database.transaction(a) as work:
            batch = [{"name": "x", "kind": each} for each in customers]
            await operations.create_all(work, people.ada, resources.Resource, batch)

    await insert("Ada", "Ada", "Bob", None)
    await insert(*["Ada"] * 3)
    with pytest.raises(QuotaExceeded, match=OF_CUSTOMER):
        await insert("Bob", "Ada")
    assert await counters(database, a) == ["executions Ada 5", "executions Bob 1", "executions 7"]


@pytest.mark.usefixtures("gold")
async def test_the_log_has_warnings_of_a_customer_with_its_name(database: Database, a: Tenant) -> None:
    for quantity in (3, 1, 1, 1):
        await record(database, a, Event("executions", quantity, customer="Ada"))
    warnings = [entry["new"] for entry in await log(database, a) if entry["action"] == "usage_warning:create"]
    assert [(each["customer"], each["percent"], each["quantity"], each["limit"]) for each in warnings] == [
        ("Ada", 80, 4, 5),
        ("Ada", 100, 5, 5),
    ]


async def test_an_entitlement_is_that_of_the_tier(database: Database, a: Tenant, people: People, gold: Tier) -> None:
    async with database.transaction(a) as work:
        asked = [("Ada", "export"), ("Ada", "other"), ("Bob", "export")]
        assert [await tiers.is_entitled(work, *each) for each in asked] == [True, False, False]
    await change(database, a, people, gold, feature_entitlements=["other"])
    async with database.transaction(a) as work:
        assert await tiers.is_entitled(work, "Ada", "other")


async def test_a_tier_that_a_customer_has_cannot_be_deleted(
    database: Database, a: Tenant, people: People, gold: Tier
) -> None:
    with pytest.raises(Conflict, match="customers have this tier"):
        async with database.transaction(a) as work:
            await operations.remove(work, people.ada, Tier, gold.id)
    async with database.transaction(a) as work:
        [ada] = await TierCustomer.find(work)
        await operations.remove(work, people.ada, TierCustomer, ada.id)
        await operations.remove(work, people.ada, Tier, gold.id)


CAPS = [0, -1, 2**53, 1.5, True, "1", None, [1]]
WRONG: list[tuple[str, dict[str, Any]]] = [
    ("usageCaps", {"usage_caps": {"nothing": 1}}),
    *(("usageCaps", {"usage_caps": {"executions": cap}}) for cap in CAPS),
    ("usageCaps", {"usage_caps": {f"m{number}": 1 for number in range(51)}}),
    ("usageCaps", {"usage_caps": [1]}),
    ("featureEntitlements", {"feature_entitlements": [f"f{number}" for number in range(101)]}),
    ("featureEntitlements", {"feature_entitlements": ["Export"]}),
    ("featureEntitlements", {"feature_entitlements": ["export", "export"]}),
    ("name", {"name": ""}),
    ("name", {"name": " "}),
    ("name", {"name": "a\tb"}),
    ("price", {"price": Decimal(1)}),
    ("price", {"price": Decimal(-1), "currency": "USD", "period": PlanPeriod.MONTH}),
    ("price", {"price": Decimal("NaN"), "currency": "USD", "period": PlanPeriod.MONTH}),
    ("currency", {"price": Decimal(1), "currency": "usd", "period": PlanPeriod.MONTH}),
]


async def test_a_wrong_tier_or_customer_is_refused_by_its_field(
    database: Database, a: Tenant, people: People, gold: Tier
) -> None:
    async with database.transaction(a) as work:
        for field, given in WRONG:
            with pytest.raises(BadUserInput) as refused:
                await Tier.create(work, people.ada, **{"name": "Wrong", **given})
            assert (refused.value.field, refused.value.message.partition(":")[0]) == (field, field), given
            with pytest.raises(BadUserInput):
                await (await Tier.get(work, gold.id)).update(work, people.ada, **given)
        for name in ("", "x" * 201, "a\nb", "a\x7fb", "a\x85b", "a\x00b"):
            with pytest.raises(BadUserInput, match=r"^name: "):
                await TierCustomer.create(work, people.ada, name=name, tier=gold)
    for subject, values in ((Tier, {"name": "Gold"}), (TierCustomer, {"name": "Ada", "tier": gold})):
        with pytest.raises(Conflict, match="there is one with the same name already"):
            async with database.transaction(a) as work:
                await subject.create(work, people.ada, **values)
    with pytest.raises(BadUserInput, match=r"^customer: "):
        await record(database, a, Event("executions", customer="a\nb"))


async def test_the_database_keeps_the_form_of_tiers_and_customers(database: Database, a: Tenant, gold: Tier) -> None:
    wrong = [
        *(
            f"""UPDATE tiers SET usage_caps = '{{"executions": {cap}}}'"""
            for cap in (0, 2**53, 1.5, "true", "null", "[1]")
        ),
        "UPDATE tiers SET usage_caps = '[1]'",
        """UPDATE tiers SET feature_entitlements = '{"a b"}'""",
        "UPDATE tiers SET feature_entitlements = '{Export}'",
        "UPDATE tiers SET price = 1",
        "UPDATE tiers SET price = 'NaN', currency = 'USD', period = 'month'",
        "UPDATE tier_customers SET name = E'a\\nb'",
    ]
    async with database.transaction(a) as work:
        for sql in wrong:
            with pytest.raises(BadUserInput, match="violates the rule"):
                async with work.savepoint():
                    await work.value(sql)
        fine = """UPDATE tiers SET feature_entitlements = '{export,"null",single-sign-on}', usage_caps = '{}'"""
        await work.value(f"{fine} WHERE id = $1", gold.id)
