"""Cancels a task at a chosen await, so that every await of a piece of work can be tried in turn."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any


class Interruption:
    """Awaits ``work`` and cancels the awaiting task at its ``at``-th wait, counted from 1.

    ``late`` cancels it at the moment the wait ends: the awaited event has happened, but the task has not resumed yet.
    At that point connections and bindings can get lost.

    ``reached`` says afterwards whether there was such a wait.
    """

    def __init__(self, work: Coroutine[Any, Any, object], at: int, *, late: bool) -> None:
        self._work = work
        self._at = at
        self._late = late
        self.reached = False

    def __await__(self) -> Generator[Any, Any, None]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        waits = 0
        advance: Any = lambda: steps.send(None)  # noqa: E731
        while True:
            try:
                waited_for = advance()
            except StopIteration:
                return
            waits += 1
            if waits == self._at:
                self.reached = True
                if self._late and waited_for is not None:
                    # Before the task's own callback, which is added when this future is yielded.
                    waited_for.add_done_callback(lambda _: task.cancel())
                else:
                    asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield waited_for
            except BaseException as error:  # noqa: BLE001  handed on to the work, whatever it is
                thrown = error
                advance = lambda thrown=thrown: steps.throw(thrown)  # noqa: E731
            else:
                advance = lambda: steps.send(None)  # noqa: E731
