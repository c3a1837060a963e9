"""Records the requests of tenants, in batches, so that requests do not wait for it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from itertools import islice
from time import time
from typing import NamedTuple
from uuid import UUID

import structlog

from isola.api.observation import OK, Observation
from isola.database.transactions import Database
from isola.errors import Refusal, Unconfirmed
from isola.platform import request_records
from isola.platform.background import repeating
from isola.platform.request_records import MAX_MEMBER, Member, Record, Sum
from isola.query.documents import Operation

log = structlog.get_logger()

INTERVAL = 0.5
"""Seconds between two batches: with the time that one takes, a kill loses what happened in the last second."""
AT_ONCE = 2000
"""Records of a batch at most."""
MOST = 50_000
"""Records that wait while the database cannot be reached. Further ones are lost."""
FORGOTTEN_EVERY = 60.0
_HOUR = 3600
# Members of the present hour that are known to be stored: bounds their memory.
_KNOWN = 200_000


class Described(NamedTuple):
    """What records have of an operation."""

    kind: str
    name: str
    fields: tuple[str, ...]


_NOTHING = Described("none", "", ())


class Recorder:
    """Observes requests, and stores records of those in a tenant. Created by ``open``.

    A batch of which it is not known whether it was committed is not stored again: it is counted at most once.
    """

    def __init__(self, control: Database) -> None:
        self._control = control
        self._pending: list[tuple[float, Observation]] = []
        self._known: set[Member] = set()
        self._known_hour = 0
        self._failing = False
        self.lost = 0
        """Records that were lost, because the database could not be reached for long or lost a batch."""

    @classmethod
    @asynccontextmanager
    async def open(cls, control: Database, days: int | None) -> AsyncIterator["Recorder | None"]:
        """Record as long as the context is open, and delete records after ``days``. None if that is None.

        ``control`` needs a connection of its own.
        """
        if days is None:
            yield None
            return
        recorder = cls(control)
        forget = partial(request_records.forget, control, days)
        stopping = asyncio.Event()
        task = asyncio.create_task(recorder._repeat(stopping))
        try:
            async with repeating(forget, FORGOTTEN_EVERY, "old records of requests cannot be deleted"):
                yield recorder
        finally:
            # Not cancelled: a batch that was committed and not noted as such would be counted twice.
            stopping.set()
            await task

    @property
    def waiting(self) -> int:
        """The number of records that are not stored yet."""
        return len(self._pending)

    def observe(self, observation: Observation) -> None:
        if observation.principal is None:
            return
        if len(self._pending) >= MOST:
            self.lost += 1
            return
        self._pending.append((time(), observation))

    async def flush(self) -> bool:
        """Store the records that wait, as many as a batch may have; whether the database took them."""
        batch = self._pending[:AT_ONCE]
        if not batch:
            return True
        records, members = _records(batch)
        new = sorted(self._new(members))
        try:
            await request_records.store(self._control, records, new, _sums(records))
        except Unconfirmed:
            self.lost += len(batch)
        except Refusal as refusal:
            if not self._failing:
                log.warning("requests cannot be recorded", reason=refusal.code)
            self._failing = True
            return False
        else:
            self._known.update(islice(new, max(0, _KNOWN - len(self._known))))
            self._failing = False
        del self._pending[: len(batch)]
        return True

    def _new(self, members: set[Member]) -> set[Member]:
        """The members that are not known to be stored."""
        hour = int(time()) // _HOUR
        if hour != self._known_hour:
            self._known.clear()
            self._known_hour = hour
        return members - self._known

    async def _repeat(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await stopping.wait()
            try:
                while self._pending and await self.flush():
                    pass
            except Exception:
                # If this task ended, nothing would be recorded again.
                log.exception("requests cannot be recorded")
                self.lost += len(self._pending[:AT_ONCE])
                del self._pending[:AT_ONCE]


def _records(batch: Sequence[tuple[float, Observation]]) -> tuple[Sequence[Record], set[Member]]:
    """The records of observations, and the users and fields that they have."""
    records = []
    members: set[Member] = set()
    for at, observation in batch:
        principal, operation = observation.principal, observation.operation
        if principal is None:
            continue
        tenant, user, hour = principal.tenant.id, principal.user_id, int(at) // _HOUR * _HOUR
        about = _NOTHING if operation is None else described(operation)
        records.append(
            Record(
                at,
                tenant,
                user,
                about.kind,
                about.name,
                " ".join(about.fields),
                observation.code,
                round(observation.seconds * 1_000_000),
                observation.objects,
                observation.size,
            )
        )
        members.add(Member(tenant, hour, "user", str(user)))
        members.update(Member(tenant, hour, "field", field[:MAX_MEMBER]) for field in about.fields)
    return records, members


def described(operation: Operation) -> Described:
    """What records and traces have of an operation. Computed once for each that is cached."""
    described_once: Described = operation.once("record", _described, operation)
    return described_once


def _described(operation: Operation) -> Described:
    return Described(operation.type.value, operation.label, tuple(sorted(operation.roots)))


def _sums(records: Sequence[Record]) -> Sequence[Sum]:
    """What the records add to each hour of each tenant, sorted."""
    sums: dict[tuple[UUID, int], list[int]] = {}
    for each in records:
        key = each.tenant, int(each.at) // _HOUR * _HOUR
        total = sums.setdefault(key, [0] * 5)
        total[0] += 1
        total[1] += each.code != OK
        total[2] += each.objects
        total[3] += each.bytes
        total[4] += each.microseconds
    return [Sum(*key, *total) for key, total in sorted(sums.items())]
