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

    If it fails, ``failure`` is logged, only once for a series of failures of one kind, and the next run tries again.
    """
    task = asyncio.create_task(_repeat(work, interval, failure))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(work: Callable[[], Awaitable[object]], interval: float, failure: str) -> None:
    failing: object = None
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Refusal as refusal:
            if failing != refusal.code:
                log.warning(failure, reason=refusal.code)
            failing = refusal.code
        except Exception as error:
            # If this task ended, the work would never be done again.
            if failing is not type(error):
                log.exception(failure)
            failing = type(error)
        else:
            failing = None
