"""Background work that a server repeats as long as it runs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog

from isola.errors import Refusal

log = structlog.get_logger()


@asynccontextmanager
async def repeating(work: Callable[[], Awaitable[object]], interval: float, failure: str) -> AsyncIterator[None]:
    """Do ``work`` every ``interval`` seconds, as long as the context is open.

    If it fails, ``failure`` is logged, only once for a series of refusals, and the next run tries again.
    """
    task = asyncio.create_task(_repeat(work, interval, failure))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(work: Callable[[], Awaitable[object]], interval: float, failure: str) -> None:
    failing = False
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Refusal as refusal:
            if not failing:
                log.warning(failure, reason=refusal.code)
            failing = True
        except Exception:
            # If this task ended, the work would never be done again.
            log.exception(failure)
        else:
            failing = False
