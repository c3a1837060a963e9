"""Server time for new documents: each caller has a budget, and waits if it exceeds the budget."""

import asyncio
import time
from threading import current_thread, main_thread

import pytest

from isola.errors import RateLimited
from isola.query.effort import Effort


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def work(seconds: float) -> str:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return current_thread().name


async def test_a_share_is_had_at_once_and_debt_is_refused_with_the_time_that_it_takes() -> None:
    clock = Clock()
    effort = Effort(rate=0.01, burst=0.05, longest=0.1, clock=clock)
    for _ in range(3):
        await effort.turn("a")
        await effort.spend("a", lambda: work(0.02), large=False)
    with pytest.raises(RateLimited) as refused:
        await effort.turn("a")
    assert refused.value.retry_after
    assert 1 <= refused.value.retry_after < 10
    with pytest.raises(RateLimited):
        await effort.spend("a", lambda: pytest.fail("this is not to be done"), large=False)
    await effort.turn("b")
    await effort.spend("b", lambda: work(0.02), large=False)
    clock.now += refused.value.retry_after
    await effort.turn("a")


async def test_debt_that_is_small_is_waited_for() -> None:
    clock = Clock()
    effort = Effort(rate=1, burst=0.01, clock=clock)
    await effort.spend("a", lambda: work(0.05), large=False)
    waiting = asyncio.create_task(effort.turn("a"))
    await asyncio.sleep(0.2)
    assert not waiting.done()
    clock.now += 1
    await waiting


async def test_what_fails_costs_as_well() -> None:
    effort = Effort(rate=0.001, burst=0.01, longest=0)

    def fail() -> None:
        work(0.02)
        raise KeyError

    with pytest.raises(KeyError):
        await effort.spend("a", fail, large=False)
    with pytest.raises(RateLimited):
        await effort.turn("a")


async def test_what_is_large_is_done_beside_others_and_one_by_one() -> None:
    effort = Effort(rate=0.001, burst=0.05, longest=0)
    results = await asyncio.gather(
        *(effort.spend("a", lambda: work(0.03), large=True) for _ in range(20)), return_exceptions=True
    )
    done = [result for result in results if isinstance(result, str)]
    assert main_thread().name not in done
    assert 2 <= len(done) <= 3
    assert {type(result) for result in results} == {str, RateLimited}


async def test_who_goes_away_is_charged_all_the_same() -> None:
    effort = Effort(rate=0.001, burst=0.01, longest=0)
    gone = asyncio.create_task(effort.spend("a", lambda: work(0.1), large=True))
    await asyncio.sleep(0.02)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    await effort.spend("b", lambda: work(0), large=True)
    await asyncio.sleep(0)
    with pytest.raises(RateLimited):
        await effort.turn("a")
