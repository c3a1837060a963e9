"""The cost of a decision about rates: microseconds of the server's CPU, without a database.

``python -m benchmarks.rates`` from the checkout. A request of a tenant without rates, of one with one rate, and of one
with six; and what the headers of a response cost. 10,000 tenants take turns, so that no bucket stays in a CPU's cache.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping
from uuid import UUID

from rich.console import Console
from rich.table import Table

from isola.api.rates import Account, Charging
from isola.platform.rates import Rate, RatePeriod, Rates

TENANTS, ROUNDS, EACH = 10_000, 7, 50_000
MANY = 10**9
ONE = {"requests": Rate(MANY, RatePeriod.MINUTE)}
SIX = {
    name: Rate(MANY, RatePeriod.MINUTE)
    for name in ("bytes", "requests", "resource:read", "rows", "user.requests", "user.rows")
}
LONGEST = 30.0
"""Microseconds of CPU a decision may take."""

Step = Callable[[Account], Awaitable[object]]


async def spent(rates: Mapping[str, Rate], step: Step) -> float:
    """Microseconds of CPU for each call: the median of several rounds."""
    agreed = Rates(rates)
    accounts = [Account(UUID(int=number), UUID(int=number), agreed) for number in range(TENANTS)]
    took = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for number in range(EACH):
            await step(accounts[number % TENANTS])
        took.append((time.process_time() - began) / EACH * 1e6)
    return statistics.median(took)


async def run() -> None:
    table = Table("rates", "µs to decide", "µs for the headers", box=None)
    slowest = 0.0
    for name, rates in (("one", ONE), ("six", SIX)):
        charging = Charging()

        async def shown(account: Account, charging: Charging = charging) -> object:
            return charging.shown(account)

        decision = await spent(rates, charging.request)
        slowest = max(slowest, decision)
        table.add_row(name, f"{decision:.1f}", f"{await spent(rates, shown):.1f}")
    Console().print(table)
    if slowest > LONGEST:
        raise SystemExit(f"a decision takes {slowest:.1f} µs, more than {LONGEST:.0f}")


if __name__ == "__main__":
    asyncio.run(run())
