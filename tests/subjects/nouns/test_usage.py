"""What a tenant uses is counted exactly, once for a key, within its limit, whoever counts and however many at once."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from isola.database.transactions import Database
from isola.errors import BadUserInput, Conflict, QuotaExceeded
from isola.platform import overrides, plans
from isola.platform.overrides import Kind
from isola.platform.platform_log import Author
from isola.platform.tenants import Tenant
from isola.subjects import meters, usage
from isola.subjects.meters import Meter, MeterKind, MeterPeriod
from isola.subjects.usage import Event
from isola.testing.fixtures import Copy
from isola.testing.oracles.canary import log

BY = Author("staff:sam", None)
RECOUNTED = """
SELECT count(*) FROM control.usage u JOIN control.meters m ON m.name = u.meter
CROSS JOIN LATERAL (
    SELECT count(*) AS events, CASE m.kind
        WHEN 'maximum' THEN max(e.quantity) WHEN 'unique' THEN count(DISTINCT e.properties -> m.property)
        ELSE sum(e.quantity)
    END AS quantity
    FROM control.usage_events e
    WHERE e.tenant_id = u.tenant_id AND e.meter = u.meter AND date_trunc(m.period, e.at, 'UTC') = u.starts_at
      AND (u.customer = '' OR e.customer = u.customer)
) r
WHERE u.tenant_id = $1 AND (u.quantity, u.events) IS DISTINCT FROM (r.quantity, r.events)
"""


@pytest.fixture
async def kinds(owner: Database) -> None:
    """A meter of each kind, as a migration stores them."""
    declared = [
        Meter("peak", MeterKind.MAXIMUM, MeterPeriod.MONTH),
        Meter("calls", MeterKind.COUNT, MeterPeriod.HOUR),
        Meter("visitors", MeterKind.UNIQUE, MeterPeriod.MONTH, of="visitor"),
    ]
    async with owner.unbound() as work:
        for each in declared:
            await work.value(
                "INSERT INTO control.meters (name, kind, period, property) VALUES ($1, $2, $3, $4)",
                each.name,
                each.kind.value,
                each.period.value,
                each.of,
            )


async def limited(control: Database, tenant: Tenant, limit: int | None, meter: str = "executions") -> None:
    async with control.unbound() as work:
        known = meter in meters.known()
        sql = (
            "INSERT INTO control.meter_overrides (tenant_id, meter, at_most, reason) VALUES ($1, $2, $3, 'test') "
            "ON CONFLICT (tenant_id, meter) DO UPDATE SET at_most = excluded.at_most"
        )
        if not known:
            await work.value(sql, tenant.id, meter, limit)
    if known:
        await overrides.put(control, BY, tenant, Kind.METER, meter, value=limit, reason="test")


async def record(database: Database, tenant: Tenant, *events: Event, within_limit: bool = False) -> int:
    async with database.transaction(tenant) as work:
        return await usage.record(work, events, within_limit=within_limit)


async def counters(database: Database, tenant: Tenant, columns: str = "quantity") -> Sequence[Any]:
    async with database.transaction(tenant, read_only=True) as work:
        return await work.texts(
            f"SELECT concat_ws(' ', meter, customer, {columns}) FROM isola.usage() ORDER BY meter, customer, starts_at"
        )


async def assert_recounted(owner: Database, tenant: Tenant) -> None:
    async with owner.unbound() as work:
        assert await work.value(RECOUNTED, tenant.id) == 0


@pytest.mark.usefixtures("kinds")
async def test_each_kind_of_meter_adds_up_events_in_its_own_way(owner: Database, database: Database, a: Tenant) -> None:
    at = datetime.now(UTC)
    events = [
        Event("executions", 3),
        Event("executions", 4, customer="Ada"),
        Event("peak", 7),
        Event("peak", 5),
        Event("calls", at=at),
        Event("calls", at=at),
        Event("visitors", properties={"visitor": "u1"}),
        Event("visitors", properties={"visitor": "u1"}, customer="Ada"),
        Event("visitors", properties={"visitor": 1}),
        Event("visitors", properties={"visitor": 1.0}),
    ]
    assert await record(database, a, *events) == len(events)
    assert await record(database, a, *events[:1], *events[3:7]) == 5
    assert await counters(database, a) == [
        "calls 4",
        "executions Ada 4",
        "executions 10",
        "peak 7",
        "visitors Ada 1",
        "visitors 2",
    ]
    await assert_recounted(owner, a)


async def test_a_key_counts_once_for_ever_and_another_event_under_it_is_a_conflict(
    database: Database, a: Tenant, b: Tenant
) -> None:
    event = Event("executions", 2, customer="Ada", key="k1", properties={"x": 1, "y": 2})
    assert await record(database, a, event, event) == 1
    assert await record(database, a, Event("executions", 2, "Ada", key="k1", properties={"y": 2, "x": 1})) == 0
    for other in (
        Event("executions", 3, "Ada", key="k1", properties={"x": 1, "y": 2}),
        Event("executions", 2, "Bob", key="k1", properties={"x": 1, "y": 2}),
        Event("executions", 2, "Ada", key="k1", properties={"x": 1}),
        Event("executions", 2, "Ada", datetime.now(UTC), "k1", {"x": 1, "y": 2}),
    ):
        with pytest.raises(Conflict) as refused:
            await record(database, a, Event("executions", 50, key="k2"), other)
        assert (refused.value.index, refused.value.field) == (1, "idempotencyKey")
    assert await counters(database, a) == ["executions Ada 2", "executions 2"]
    # A key belongs to its tenant.
    assert await record(database, b, Event("executions", 9, key="k1")) == 1


async def test_of_concurrent_events_with_one_key_one_is_counted(database: Database, a: Tenant) -> None:
    counted = await asyncio.gather(*(record(database, a, Event("executions", key="k")) for _ in range(5)))
    assert sorted(counted) == [0, 0, 0, 0, 1]
    assert await counters(database, a) == ["executions 1"]


@pytest.mark.parametrize(
    ("field", "event"),
    [
        ("meter", Event("nothing")),
        ("quantity", Event("executions", 0)),
        ("quantity", Event("executions", -1)),
        ("quantity", Event("executions", 2**53)),
        ("customer", Event("executions", customer="")),
        ("customer", Event("executions", customer="x" * 201)),
        ("at", Event("executions", at=datetime.now(UTC) + timedelta(hours=1))),
        ("at", Event("executions", at=datetime.now(UTC) - timedelta(days=35, minutes=1))),
        ("idempotencyKey", Event("executions", key="")),
        ("properties", Event("executions", properties={"x": "y" * 2000})),
    ],
)
async def test_a_wrong_event_is_named_and_nothing_of_its_call_is_counted(
    database: Database, a: Tenant, field: str, event: Event
) -> None:
    with pytest.raises(BadUserInput) as refused:
        await record(database, a, Event("executions", key="before"), event)
    assert (refused.value.index, refused.value.field) == (1, field)
    assert await counters(database, a) == []
    assert await record(database, a, Event("executions", key="before")) == 1


async def test_the_largest_sum_of_a_period_is_the_largest_integer_of_json(database: Database, a: Tenant) -> None:
    assert await record(database, a, Event("executions", 2**53 - 2), Event("executions")) == 2
    with pytest.raises(BadUserInput):
        await record(database, a, Event("executions"))
    with pytest.raises(BadUserInput):
        await record(database, a, *[Event("executions", 2**53 - 1)] * 1000)


async def test_a_late_event_changes_its_own_period(owner: Database, database: Database, a: Tenant) -> None:
    late = datetime.now(UTC) - timedelta(days=34, hours=23)
    await record(database, a, Event("executions", 5, at=late), Event("executions", at=datetime.now(UTC)))
    shown = await counters(database, a, "quantity, late_events, starts_at AT TIME ZONE 'UTC', forecast")
    assert shown[0].startswith(f"executions 5 1 {late:%Y-%m}-01 00:00:00 5")
    assert shown[1].startswith("executions 1 0 ")
    await assert_recounted(owner, a)


async def test_periods_are_those_of_utc_whatever_the_time_zone_of_the_session(copy: Copy, a: Tenant) -> None:
    connection = await asyncpg.connect(copy.where.tenant)
    try:
        async with connection.transaction():
            await connection.execute("SET LOCAL TimeZone TO 'Pacific/Kiritimati'")
            await copy.enter(connection, a)
            assert await connection.fetchval("SELECT isola.consume('executions')")
            assert await connection.fetchval(
                "SELECT (starts_at, ends_at) = (date_trunc('month', now(), 'UTC'), "
                "(date_trunc('month', now() AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC') "
                "FROM isola.usage()"
            )
    finally:
        await connection.close()


async def test_of_many_at_once_exactly_what_is_left_is_admitted(
    owner: Database, database: Database, control: Database, a: Tenant
) -> None:
    await limited(control, a, 13)
    await record(database, a, Event("executions", 3))

    async def take() -> bool:
        async with database.transaction(a) as work:
            return await usage.consume(work, "executions")

    outcomes = await asyncio.gather(*(take() for _ in range(40)), return_exceptions=True)
    assert outcomes.count(True) == 10
    refused = {str(each) for each in outcomes if isinstance(each, QuotaExceeded)}
    assert refused == {"executions: the limit is 13"}
    assert await counters(database, a) == ["executions 13"]
    await assert_recounted(owner, a)


async def test_what_is_refused_takes_its_work_with_it_and_what_is_rolled_back_gives_back(
    database: Database, control: Database, a: Tenant
) -> None:
    await limited(control, a, 2)
    with pytest.raises(ZeroDivisionError):
        async with database.transaction(a) as work:
            assert await usage.consume(work, "executions", 2, key="k")
            raise ZeroDivisionError
    async with database.transaction(a) as work:
        assert await usage.consume(work, "executions", 2, key="k")
        assert not await usage.consume(work, "executions", 2, key="k")
    with pytest.raises(QuotaExceeded):
        async with database.transaction(a) as work:
            await work.value("SELECT isola.add_domain('work.example')")
            await usage.consume(work, "executions", customer="Ada")
    async with database.transaction(a) as work:
        assert await work.texts("SELECT name FROM isola.domains()") == []
        # Measured, not limited.
        assert await usage.record(work, [Event("executions", 5)]) == 1
        left = await usage.allowance(work, "executions")
    assert (left.used, left.limit, left.remaining) == (7, 2, 0)


@pytest.mark.usefixtures("kinds")
async def test_a_limit_of_a_maximum_or_of_different_values_refuses_only_what_adds(
    database: Database, control: Database, a: Tenant
) -> None:
    await limited(control, a, 5, "peak")
    await limited(control, a, 1, "visitors")
    one, other = (Event("visitors", properties={"visitor": name}) for name in "ab")
    await record(database, a, Event("peak", 9), one)
    await record(database, a, Event("peak", 5), one, within_limit=True)
    for event in (Event("peak", 6), other):
        with pytest.raises(QuotaExceeded):
            await record(database, a, event, within_limit=True)


async def test_raw_sql_counts_for_its_own_tenant_alone(database: Database, a: Tenant, b: Tenant) -> None:
    async with database.transaction(a) as work:
        assert await work.value("SELECT isola.consume('executions', 4, 'k')")
        assert not await work.value("SELECT isola.consume('executions', 4, 'k')")
        for sql in (
            "SELECT isola.consume('executions', 4, 'k', 'Ada')",
            "SELECT isola.consume('executions', 0)",
            "SELECT isola.consume('nothing')",
        ):
            with pytest.raises((BadUserInput, Conflict)):
                async with work.savepoint():
                    await work.value(sql)
        for table in ("usage", "usage_events", "usage_keys", "usage_values", "meters"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with work.savepoint():
                    await work.value(f"SELECT count(*) FROM control.{table}")
    assert (await counters(database, a), await counters(database, b)) == (["executions 4"], [])


async def test_the_log_has_a_warning_at_80_and_at_100_percent_once_in_a_period(
    database: Database, control: Database, a: Tenant
) -> None:
    await limited(control, a, 10)
    for quantity in (7, 1, 1, 1, 5):
        await record(database, a, Event("executions", quantity))
    warnings = [entry for entry in await log(database, a) if entry["action"].startswith("usage_warning")]
    assert [
        (each["action"], each["object"], each["new"]["percent"], each["new"]["quantity"], each["new"]["limit"])
        for each in warnings
    ] == [
        ("usage_warning:create", "meter:executions", 80, 8, 10),
        ("usage_warning:create", "meter:executions", 100, 10, 10),
    ]


async def test_a_plan_limits_what_its_tenants_consume_until_an_override_does(
    database: Database, control: Database, a: Tenant
) -> None:
    await plans.create(control, BY, name="small", title="Small", quotas={}, limits={"executions": 1})
    await plans.give(control, BY, a, "small")
    await record(database, a, Event("executions"), within_limit=True)
    with pytest.raises(QuotaExceeded):
        await record(database, a, Event("executions"), within_limit=True)
    await limited(control, a, None)
    await record(database, a, Event("executions"), within_limit=True)
