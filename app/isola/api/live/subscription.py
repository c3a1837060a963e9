"""Subscriptions: what they select, how far they have come, and the events that wait to be sent."""

import asyncio
import time
from collections.abc import Sequence
from hashlib import sha256
from uuid import uuid4

from graphql.execution.values import VariableValues

from isola.api.context import Context
from isola.api.live.caller import Caller
from isola.errors import BadUserInput, Refusal
from isola.query import cursor
from isola.query.compiler import Reading
from isola.query.documents import Operation
from isola.subjects.subject import Subject

CURSOR = f"cursor-{uuid4().hex}"
"""Stands for the cursor in an event that many subscriptions share: each has its own cursors."""
UNREAD = -1
"""The position of a live query that has to be read."""
READ_EVERY, POLLED_EVERY = 0.25, 2.0
"""Seconds between two reads of a live query at least, and at most of one whose changes are not all in the log."""
RETRIED_AFTER, RETRIED_WITHIN = 0.5, 16.0
"""Seconds until a live query that could not be read is read again: at first, and at most after several failures."""
FAILING = 3
"""So many failures in a row are shown as the response."""


class Subscription:
    """``position`` is the number of the last log entry that it has seen.

    Events are handed over in batches, the next one only when the last one has been sent. So a client that reads slowly
    falls behind in the log, and nothing is buffered for it.
    """

    __slots__ = ("_batch", "_changed", "caller", "operation", "position", "reading", "refusal", "values", "waits")

    def __init__(self, caller: Caller, operation: Operation, values: VariableValues, position: int) -> None:
        self.caller = caller
        self.operation = operation
        self.values = values
        self.position = position
        self.reading: tuple[Context, Reading] | None = None
        """The use of the plan by the caller in this context; another context needs another one."""
        self.refusal: Refusal | None = None
        self.waits: float | None = None
        """Since when a batch waits to be sent, by ``time.monotonic()``; None if there is none."""
        self._batch: Sequence[tuple[int, str]] = ()
        self._changed = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether it can take the next batch."""
        return self.waits is None and self.refusal is None and not self.caller.ended

    def use(self, context: Context, reading: Reading) -> None:
        """Read in another context from now on."""
        self.reading = context, reading

    def hand_over(self, batch: Sequence[tuple[int, str]], position: int) -> None:
        """Send a batch: events with their numbers. ``position`` is the number up to which the log has been read."""
        self.position = position
        if batch:
            self._batch, self.waits = batch, time.monotonic()
            self._changed.set()

    def end(self, refusal: Refusal) -> None:
        """End it with an error."""
        if self.refusal is None:
            self.refusal = refusal
            self._changed.set()

    async def batch(self) -> Sequence[str]:
        """The next events as they are sent; the previous ones have been sent. Raises the error that ends it."""
        self.waits = None
        while not self._batch:
            if self.refusal is not None:
                raise self.refusal
            self._changed.clear()
            await self._changed.wait()
        batch, self._batch = self._batch, ()
        if self.refusal is not None:
            raise self.refusal
        return [self._sent(number, text) for number, text in batch]

    def _sent(self, number: int, text: str) -> str:  # noqa: ARG002  events of changes have a cursor made from it
        return text


class ChangeSubscription(Subscription):
    """The changes to the rows of a subject. ``key`` is the key of its cursors."""

    __slots__ = ("key", "subject")

    def __init__(
        self,
        caller: Caller,
        operation: Operation,
        values: VariableValues,
        position: int,
        subject: type[Subject],
        key: bytes,
    ) -> None:
        super().__init__(caller, operation, values, position)
        self.subject = subject
        self.key = key

    def _sent(self, number: int, text: str) -> str:
        return text.replace(CURSOR, cursor.of_number(number, self.key))


class LiveQuery(Subscription):
    """A query whose response is sent again when it has changed. If it is ``polled``, it may change without the log."""

    __slots__ = ("_digest", "_failures", "_polled", "_read_at", "_waits_until", "reading_now")

    def __init__(self, caller: Caller, operation: Operation, values: VariableValues, *, polled: bool) -> None:
        super().__init__(caller, operation, values, UNREAD)
        self._polled = polled
        self._read_at = 0.0
        self._digest = b""
        self._failures = 0
        self._waits_until = 0.0
        self.reading_now = False
        """Whether it is being read, or waits for its turn."""

    def is_due(self, head: int) -> bool:
        """Whether to read it again: the log has ``head`` entries."""
        now = time.monotonic()
        age = now - self._read_at
        if self.reading_now or not self.ready or age < READ_EVERY or now < self._waits_until:
            return False
        return self.position < head or (self._polled and age >= POLLED_EVERY)

    def use(self, context: Context, reading: Reading) -> None:
        super().use(context, reading)
        self.position = UNREAD

    def show(self, response: str, head: int) -> None:
        """Send a response, read when the log had at least ``head`` entries, unless it is the last one that was sent."""
        self._failures = 0
        self._show(response, head)

    def fail(self, response: str) -> None:
        """Read it again later. The response says why it could not be read; it is sent if that goes on."""
        delay = min(RETRIED_AFTER * 2 ** min(self._failures, 8), RETRIED_WITHIN)
        self._waits_until = time.monotonic() + delay
        self._failures += 1
        if self._failures >= FAILING:
            self._show(response, UNREAD)

    def _show(self, response: str, head: int) -> None:
        self._read_at = time.monotonic()
        digest = sha256(response.encode()).digest()
        self.hand_over(() if digest == self._digest else [(head, response)], head)
        self._digest = digest


def position_of(after: str, key: bytes) -> int:
    """The position in the log that a client's cursor names. Raises BadUserInput."""
    try:
        return cursor.number(after, key)
    except ValueError:
        raise BadUserInput("after: expected a cursor that this user received from this subscription", "after") from None
