"""Records of requests, and metrics by tenant and hour: exact, and of one tenant only."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from isola.platform import provisioning, request_records
from isola.platform.request_records import Member, Record, Sum
from isola.settings import Settings
from isola.subjects.permissions import Role
from isola.testing.fixtures import Copy
from isola.testing.patience import PATIENCE
from isola.testing.served import Api, Client, serving
from isola_strategies.base import Strategy

METRICS = """query ($from: DateTime!, $to: DateTime!) { tenantMetrics(from: $from, to: $to) {
  requests errors objects bytes milliseconds
  hours { hour requests errors users fields objects bytes milliseconds } } }"""
FIRST = datetime(2026, 3, 29, tzinfo=UTC)  # summer time begins in Europe
HOUR = 3600


@pytest.fixture
async def recording(copy: Copy, settings: Settings) -> AsyncIterator[Api]:
    async with serving(copy, settings.model_copy(update={"request_record_days": 1})) as api:
        yield api


async def recorded(api: Api, number: int) -> list[Mapping[str, Any]]:
    """All records, when there are as many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            async with api.control.unbound() as work:
                rows = await work.rows(
                    request_records.request_records.select().order_by(request_records.request_records.c.at)
                )
            if len(rows) >= number:
                return [dict(row) for row in rows]
            await asyncio.sleep(0.05)


async def metrics_of(client: Client, start: datetime, hours: int) -> Mapping[str, Any]:
    period = {"from": start.isoformat(), "to": (start + timedelta(hours=hours)).isoformat()}
    found: Mapping[str, Any] = (await client.ask(METRICS, period)).data["tenantMetrics"]
    return found


async def test_requests_are_recorded_and_their_metrics_are_those_of_the_records(
    recording: Api, strategy: Strategy
) -> None:
    ada = recording.client(f"{strategy.name}-a")
    eve = recording.client(f"{strategy.name}-a", "eve", Role.VIEWER)
    began = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await ada.create("first")
    sent = [await ada.run("Viewer"), await eve.ask("query { resources { nodes { name } } }")]
    refused = await eve.run("CreateResource", input={"name": "second"})
    await ada.ask("{ nothing }")
    await ada.saying("Bearer nonsense").run("Viewer")

    records = await recorded(recording, 5)
    assert [(each["kind"], each["operation"], each["fields"], each["code"]) for each in records] == [
        ("mutation", "CreateResource", "createResource", "OK"),
        ("query", "Viewer", "viewer", "OK"),
        ("query", records[2]["operation"], "resources", "OK"),
        ("mutation", "CreateResource", "createResource", refused.code),
        ("none", "", "", "BAD_USER_INPUT"),
    ]
    assert records[2]["operation"].startswith("sha256:")
    assert [each["bytes"] for each in records[1:3]] == [len(each.response.content) for each in sent]
    assert records[2]["objects"] == 4  # the whole, its data, the connection, and one row
    assert len({each["user_id"] for each in records}) == 2
    assert len({each["tenant_id"] for each in records}) == 1

    found = await metrics_of(ada, began, 2)
    expected = {
        "requests": len(records),
        "errors": sum(each["code"] != "OK" for each in records),
        "objects": sum(each["objects"] for each in records),
        "bytes": sum(each["bytes"] for each in records),
    }
    assert {name: found[name] for name in expected} == expected
    assert sum(each["requests"] for each in found["hours"]) == len(records)
    # If the hour changed meanwhile, each has its own users.
    if len(found["hours"]) == 1:
        assert (found["hours"][0]["users"], found["hours"][0]["fields"]) == (2, 3)


async def test_metrics_are_of_one_tenant(recording: Api, strategy: Strategy) -> None:
    began = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    await recording.client(f"{strategy.name}-a").run("Viewer")
    await recorded(recording, 1)
    other = recording.client(f"{strategy.name}-b")
    assert await metrics_of(other, began, 2) == {
        "requests": 0,
        "errors": 0,
        "objects": 0,
        "bytes": 0,
        "milliseconds": 0,
        "hours": [],
    }


async def test_without_the_setting_nothing_is_recorded(alice: Client, api: Api) -> None:
    await alice.run("Viewer")
    async with api.control.unbound() as work:
        assert await work.value("SELECT count(*) FROM control.request_records") == 0


@pytest.mark.parametrize(
    ("start", "hours", "said"),
    [(FIRST, 0, "to: expected a moment after from"), (FIRST, 31 * 24 + 1, "to: expected at most 31 days after from")],
)
async def test_a_period_that_is_none_or_too_long_is_refused(
    guest: Client, start: datetime, hours: int, said: str
) -> None:
    period = {"from": start.isoformat(), "to": (start + timedelta(hours=hours)).isoformat()}
    assert (await guest.ask(METRICS, period)).error["message"] == said


async def test_a_day_of_two_servers_adds_up_and_each_user_counts_once_an_hour(api: Api, alice: Client) -> None:
    tenant = (await provisioning.named(api.control, alice.tenant)).id
    users = [tenant, (await provisioning.named(api.control, "rls-b")).id]
    began = int(FIRST.timestamp())
    records = [
        Record(
            began + second,
            tenant,
            users[second // 1200 % 2],
            "query",
            "Q",
            "f",
            "OK" if second % 5 else "CONFLICT",
            1500,
            2,
            10,
        )
        for second in range(0, 24 * HOUR, 600)
    ]
    for server in range(2):
        own = records[server::2]
        members = {Member(tenant, int(each.at) // HOUR * HOUR, "user", str(each.user)) for each in own}
        hours = sorted({int(each.at) // HOUR * HOUR for each in own})
        sums = []
        for hour in hours:
            of_hour = [each for each in own if int(each.at) // HOUR * HOUR == hour]
            errors = sum(each.code != "OK" for each in of_hour)
            sums.append(
                Sum(tenant, hour, len(of_hour), errors, 2 * len(of_hour), 10 * len(of_hour), 1500 * len(of_hour))
            )
        # Each server sends what it knows, and the second nothing new.
        await request_records.store(api.control, own, sorted(members), sums)

    found = await metrics_of(alice, FIRST, 24)
    assert [each["requests"] for each in found["hours"]] == [6] * 24
    assert {(each["users"], each["milliseconds"]) for each in found["hours"]} == {(2, 9)}
    assert found["requests"] == 144
    assert found["errors"] == sum(each.code != "OK" for each in records)
    assert len(await request_records.latest(api.control, tenant, 1000)) == 144
    [total] = await request_records.totals(api.control, FIRST, FIRST + timedelta(days=1), 10)
    assert (total["slug"], total["requests"], total["users"]) == (alice.tenant, 144, 2)


async def test_old_records_are_deleted_in_batches(api: Api, alice: Client) -> None:
    tenant = (await provisioning.named(api.control, alice.tenant)).id
    now = datetime.now(UTC).timestamp()
    ages = [0, 0, 2, 2, 2, 40]
    records = [Record(now - age * 86400, tenant, tenant, "query", "Q", "f", "OK", 1, 1, 1) for age in ages]
    hours = sorted({int(each.at) // HOUR * HOUR for each in records})
    await request_records.store(
        api.control,
        records,
        [Member(tenant, hour, "user", "u") for hour in hours],
        [Sum(tenant, hour, 1, 0, 1, 1, 1) for hour in hours],
    )
    assert await request_records.forget(api.control, 1, most=2) == 4 + 1 + 2
    assert len(await request_records.latest(api.control, tenant, 10)) == 2
    assert await request_records.forget(api.control, 1) == 0
    start = datetime.fromtimestamp(now, UTC) - timedelta(days=30)
    assert len(await request_records.hours(api.control, tenant, start, start + timedelta(days=31))) == 2
