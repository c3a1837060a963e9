"""Background work that fails again and again: it is tried again, and the log is not flooded."""

import asyncio
from collections.abc import Iterator

from structlog.testing import capture_logs

from isola.errors import Unavailable
from isola.platform.background import repeating


async def test_a_failure_is_logged_once_for_each_series_of_its_kind() -> None:
    failures: Iterator[Exception | None] = iter(
        [Unavailable("x"), Unavailable("x"), ValueError(), ValueError(), None, ValueError(), KeyError(), KeyError()]
    )
    done = asyncio.Event()

    async def work() -> None:
        failure = next(failures, StopAsyncIteration)
        if failure is StopAsyncIteration:
            done.set()
        elif isinstance(failure, Exception):
            raise failure

    with capture_logs() as logged:
        async with repeating(work, 0.001, "it failed"):
            await asyncio.wait_for(done.wait(), 10)
    assert [entry["log_level"] for entry in logged] == ["warning", "error", "error", "error"]
    assert {entry["event"] for entry in logged} == {"it failed"}
