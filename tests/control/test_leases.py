"""Several servers share rates through the database. A day's rate does not refill in a test."""

import asyncio

import pytest

from isola.database.transactions import Database
from isola.gcra import SECOND, Flow, Use
from isola.platform.leases import Leases, empty
from isola.platform.rates import Key
from isola.platform.tenants import Tenant

DAY = 86400
HOLD = "UPDATE control.rate_levels SET at = at + $1::text::interval"


class Clock:
    """The clock of a server."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def of(tenant: Tenant, most: int, units: int = 1, rate: str = "requests") -> Use:
    return Use(Key(tenant.id, rate, DAY, None), Flow(most, DAY * SECOND), units)


async def taken(leases: Leases, use: Use, times: int) -> int:
    answers = await asyncio.gather(*(leases.take([use]) for _ in range(times)))
    return answers.count(None)


@pytest.mark.parametrize("most", [3, 50, 1000])
async def test_all_servers_together_admit_exactly_what_there_is(
    control: Database, a: Tenant, b: Tenant, most: int
) -> None:
    servers = [Leases(control) for _ in range(3)]
    admitted = await asyncio.gather(*(taken(server, of(a, most), most + 20) for server in servers))
    assert sum(admitted) == most
    assert await taken(servers[0], of(b, most), 1) == 1


async def test_what_was_used_elsewhere_is_known_and_comes_back(control: Database, owner: Database, a: Tenant) -> None:
    here, there = Leases(control), Leases(control)
    assert await taken(here, of(a, 10), 10) == 10
    refused = await there.take([of(a, 10)])
    assert refused is not None
    assert 0.99 * DAY * SECOND / 10 < refused[1] <= DAY * SECOND / 10
    async with owner.unbound() as work:
        await work.value(HOLD, "-12 hours")
    # A refusal is remembered: the database is not asked.
    assert await taken(there, of(a, 10), 1) == 0
    assert await taken(Leases(control), of(a, 10), 10) == 5
    # The clock of the database goes back: nothing is lost or won.
    async with owner.unbound() as work:
        await work.value(HOLD, "1 hour")
    assert await taken(Leases(control), of(a, 10), 10) == 0
    async with owner.unbound() as work:
        await work.value(HOLD, "-12 hours")
    assert await taken(Leases(control), of(a, 10), 10) == 5


async def test_a_lease_ends_after_a_twentieth_of_the_period(control: Database, owner: Database, a: Tenant) -> None:
    clock = Clock()
    leases = Leases(control, clock=clock)
    assert await taken(leases, of(a, 1000), 200) == 200
    held = leases.left(of(a, 1000).key, of(a, 1000).flow)
    async with owner.unbound() as work:
        bucket = "SELECT floor(1000 - level / $1)::bigint FROM control.rate_levels"
        in_bucket: int = await work.value(bucket, DAY * SECOND)
    assert 0 < held - in_bucket <= 100
    clock.now += DAY * SECOND // 20
    assert await taken(leases, of(a, 1000), 1000) == in_bucket


async def test_a_change_of_the_rate_applies_at_once(control: Database, a: Tenant) -> None:
    leases = Leases(control)
    assert await taken(leases, of(a, 3), 5) == 3
    assert await taken(leases, of(a, 1000), 200) == 200
    key, flow, _ = of(a, 300)
    # Without what the server holds of the 1000.
    assert 0 <= leases.left(key, flow) <= 97
    assert await taken(leases, of(a, 200), 1) == 0


async def test_units_that_another_rate_refuses_are_given_back(control: Database, a: Tenant) -> None:
    leases = Leases(control)
    much, little = of(a, 10), of(a, 2, rate="rows")
    answers = [await leases.take([much, little]) for _ in range(6)]
    assert answers.count(None) == 2
    assert await taken(leases, much, 10) == 8


async def test_what_was_used_beyond_the_rate_is_owed_by_all_servers(control: Database, a: Tenant) -> None:
    here, there = Leases(control), Leases(control)
    use = of(a, 100, rate="bytes")
    assert await here.take([use._replace(units=0)]) is None
    await here.put(use._replace(units=250))
    assert here.left(use.key, use.flow) == -150
    for server in (here, there):
        refused = await server.take([use._replace(units=0)])
        assert refused is not None
        assert 1.49 * DAY * SECOND < refused[1] <= 1.5 * DAY * SECOND


async def test_only_empty_buckets_are_deleted(control: Database, owner: Database, a: Tenant, b: Tenant) -> None:
    leases = Leases(control)
    for tenant in (a, b):
        assert await taken(leases, of(tenant, 10), 10) == 10
    async with owner.unbound() as work:
        emptied = "UPDATE control.rate_levels SET empty_at = now() - interval '1 hour' WHERE tenant_id = $1"
        await work.value(emptied, a.id)
    assert await empty(control) == 1
    assert await taken(Leases(control), of(b, 10), 10) == 0
    assert await taken(Leases(control), of(a, 10), 10) == 10
