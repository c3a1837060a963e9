"""Read what the subscriptions of one tenant get: changes from its log, and live queries.

A log is read once for all subscriptions at the same position. Subscriptions with the same selection share the statement
that reads an event, if all their users may see the same.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set as AbstractSet
from contextlib import suppress
from itertools import chain
from types import MappingProxyType
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID

import structlog
from graphql.execution.values import VariableValues

from isola.api.context import Context
from isola.api.execute import Executor, refused
from isola.api.live.caller import Caller
from isola.api.live.subscription import CURSOR, UNREAD, ChangeSubscription, LiveQuery, Subscription
from isola.database.transactions import Database
from isola.errors import BadUserInput, RateLimited, Refusal, Unavailable
from isola.platform import feed
from isola.platform.feed import Change
from isola.query.compiler import Reading
from isola.query.documents import Operation
from isola.query.read_plan import ReadPlan
from isola.query.sharing import is_same_for_all

log = structlog.get_logger()

ENTRIES = 100
"""Entries of a log that are read at once."""
AT_ONCE = 2
"""Users of a tenant whose live queries are read at the same time."""
BATCH_BYTES = 1024 * 1024
"""A batch of events that is larger ends early, after one event at least."""

Followed = TypeVar("Followed", bound=Subscription)
Group: TypeAlias = Sequence[tuple[Followed, Context, Reading]]
"""Subscriptions that get the same events, each with the caller's context and the caller's use of the plan."""


def reading_of(executor: Executor, context: Context, operation: Operation, values: VariableValues) -> Reading:
    """The caller's use of an operation's plan. Raises the Refusal of a subscription's field."""
    compiler = executor.compiler
    plans = compiler.plans(operation, values.coerced, context.principal.tenant.id)
    # A task reads for several connections, so the client is not told.
    logged = executor.logged(operation, context.principal)
    if isinstance(plans, ReadPlan):
        return compiler.read(plans, values, context.principal, logged)
    if len(plans) != 1:
        raise BadUserInput("expected one field of a subscription")
    [plan] = plans.values()
    reading = compiler.read(plan, values, context.principal, logged)
    for each in reading.refused.values():
        raise each.refusal
    return reading


class Follower(ABC, Generic[Followed]):
    """Reads for some subscriptions of one tenant, one position after the other."""

    def __init__(self, executor: Executor, tenants: Database) -> None:
        self.subscriptions: set[Followed] = set()
        self._executor = executor
        self._tenants = tenants
        self._head = 0
        self._failing: object = None
        self._task: asyncio.Task[None] | None = None

    @abstractmethod
    def _next(self) -> int | None:
        """The position to read from next; None if nobody has to get anything."""

    @abstractmethod
    async def _read_from(self, position: int) -> bool:
        """Serve the subscriptions at a position; whether there are any that may be served at the moment."""

    def add(self, subscription: Followed) -> None:
        self.subscriptions.add(subscription)
        self._head = max(self._head, subscription.position)

    def wake(self, head: int) -> None:
        """The log has ``head`` entries: read what is new."""
        self._head = max(self._head, head)
        if (self._task is None or self._task.done()) and self._next() is not None:
            self._task = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _read(self) -> None:
        """Read until no subscription is behind. After an error, the next question of the hub starts it again."""
        try:
            while (position := self._next()) is not None:
                if not await self._read_from(position):
                    return
            self._failing = None
        except Refusal as refusal:
            if self._failing != refusal.code:
                log.warning("a feed cannot be read", reason=refusal.code)
            self._failing = refusal.code
        except Exception as error:
            if self._failing is not type(error):
                log.exception("a feed cannot be read")
            self._failing = type(error)

    async def check_again(self, callers: AbstractSet[Caller]) -> None:
        """End the subscriptions of these callers that they may no longer have."""
        await self.entitled([each for each in self.subscriptions if each.caller in callers])

    async def entitled(self, subscriptions: Iterable[Followed]) -> Group[Followed]:
        """Those whose callers may still read what they select. Others are ended."""
        entitled = []
        for each in subscriptions:
            try:
                if await each.caller.check():
                    context = each.caller.context
                    if each.reading is None or each.reading[0] is not context:
                        each.use(context, reading_of(self._executor, context, each.operation, each.values))
                    if each.reading is not None:
                        entitled.append((each, *each.reading))
            except (Unavailable, RateLimited):
                # They stay where they are, and get the events later.
                continue
            except Refusal as refusal:
                each.end(refusal)
        return entitled

    def _is_same_for_all(self, operation: Operation, reading: Reading) -> bool:
        # Where reads are logged, each user has their own.
        return (
            reading.logged is None
            and operation.once(
                ("shared", reading.plan.serial, reading.shapes),
                lambda: (is_same_for_all(self._executor.compiler.model, reading.plan, reading.shapes),),
            )[0]
        )


def _shared_by(subscription: Subscription, reading: Reading, *, same_for_all: bool) -> Hashable:
    """Equal for subscriptions with equal results."""
    if not reading.plan.complete:
        # Python's resolvers get arguments that are not part of the reading.
        return subscription
    selection = (reading.plan.serial, reading.shapes, repr(reading.values), *reading.refused)
    return selection if same_for_all else (*selection, repr(reading.caller))


class ChangeFollower(Follower[ChangeSubscription]):
    """Reads the log of a tenant."""

    def __init__(self, executor: Executor, tenants: Database) -> None:
        super().__init__(executor, tenants)
        self._served = -1

    def _next(self) -> int | None:
        """The position to read from next. They take turns, so that none waits for one that is far behind."""
        behind = sorted({each.position for each in self.subscriptions if each.ready and each.position < self._head})
        return next((each for each in behind if each > self._served), behind[0] if behind else None)

    async def _read_from(self, position: int) -> bool:
        self._served = position
        current = await self.entitled([each for each in self.subscriptions if each.ready and each.position == position])
        if not current:
            return False
        _, context, _ = current[0]
        head = self._head
        async with self._tenants.transaction(context.principal.tenant, read_only=True) as work:
            last, changes = await feed.after(work, position, ENTRIES)
        if last == position:
            last = head
        of_subject: defaultdict[str, list[Change]] = defaultdict(list)
        for change in changes:
            of_subject[change.subject].append(change)
        groups: defaultdict[Hashable, list[tuple[ChangeSubscription, Context, Reading]]] = defaultdict(list)
        for subscription, context, reading in current:
            if subscription.subject.declaration.name in of_subject:
                groups[self._shared_by(subscription, reading)].append((subscription, context, reading))
            else:
                subscription.hand_over((), last)
        for group in groups.values():
            await self._hand_over(group, of_subject[group[0][0].subject.declaration.name], last)
        return True

    def _shared_by(self, subscription: ChangeSubscription, reading: Reading) -> Hashable:
        return _shared_by(subscription, reading, same_for_all=self._is_shared(subscription, reading))

    def _is_shared(self, subscription: ChangeSubscription, reading: Reading) -> bool:
        return subscription.subject.visible is None and self._is_same_for_all(subscription.operation, reading)

    async def _hand_over(self, group: Group[ChangeSubscription], changes: Sequence[Change], last: int) -> None:
        """Read the events of some changes, and hand them over to subscriptions that get the same."""
        subscription, context, reading = group[0]
        same = self._is_shared(subscription, reading)
        about: Mapping[str, str] = MappingProxyType({}) if same else context.actor.reader
        batch: list[tuple[int, str]] = []
        size = 0
        try:
            async with self._tenants.transaction(context.principal.tenant, read_only=True, about=about) as work:
                if subscription.subject.visible is not None:
                    changes = await feed.visible(work, subscription.subject.table, changes)
                for change in changes:
                    given = {"kind": str(change.kind), "row": change.key, "cursor": CURSOR}
                    text = await self._executor.event(
                        subscription.operation, subscription.values, reading, context, work, given
                    )
                    batch.append((change.number, text))
                    size += len(text)
                    if size > BATCH_BYTES:
                        last = change.number
                        break
        except (Unavailable, RateLimited):
            raise
        except Exception as error:  # noqa: BLE001  the client gets it instead of the event
            # The transaction is aborted: what follows is read by another one.
            number = changes[len(batch)].number
            batch.append((number, refused(error).body.decode()))
            last = number
        for each, _, _ in group:
            # It may have ended meanwhile.
            if each in self.subscriptions and each.ready:
                each.hand_over(batch, last)


class LiveFollower(Follower[LiveQuery]):
    """Reads live queries again.

    The queries of a user are read one after the other, and two users at once, in turn. So slow queries delay the other
    queries of their user, and nobody else's.
    """

    def __init__(self, executor: Executor, tenants: Database) -> None:
        super().__init__(executor, tenants)
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._users: dict[UUID, asyncio.Task[None]] = {}

    def _next(self) -> int | None:
        return UNREAD if any(each.is_due(self._head) for each in self.subscriptions) else None

    async def stop(self) -> None:
        await super().stop()
        for task in list(self._users.values()):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _read_from(self, position: int) -> bool:  # noqa: ARG002  all are read as they are now
        head = self._head
        groups: defaultdict[Hashable, list[tuple[LiveQuery, Context, Reading]]] = defaultdict(list)
        for use in await self.entitled([each for each in self.subscriptions if each.is_due(head)]):
            live, _, reading = use
            same = self._is_same_for_all(live.operation, reading)
            groups[_shared_by(live, reading, same_for_all=same)].append(use)
        started = False
        for user, of_user in self._by_user(groups.values()).items():
            for live, _, _ in chain.from_iterable(of_user):
                live.reading_now = True
            self._users[user] = asyncio.create_task(self._read_all(user, of_user, head))
            started = True
        # The others wait for the next question of the hub.
        return started

    def _by_user(self, groups: Iterable[Group[LiveQuery]]) -> Mapping[UUID, Sequence[Group[LiveQuery]]]:
        """Each group with one of its users, none of whose queries are being read: the one with the fewest groups.

        So nobody can delay what others share by subscribing to it.
        """
        found: defaultdict[UUID, list[Group[LiveQuery]]] = defaultdict(list)
        for group in sorted(groups, key=len):
            users = {context.principal.user_id for _, context, _ in group} - self._users.keys()
            if users:
                found[min(users, key=lambda user: len(found.get(user, ())))].append(group)
        return found

    async def _read_all(self, user: UUID, groups: Sequence[Group[LiveQuery]], head: int) -> None:
        """Read queries of one user, one after the other."""
        try:
            for group in groups:
                async with self._turns:
                    await self._read_group(group, head)
        finally:
            del self._users[user]
            for live, _, _ in chain.from_iterable(groups):
                live.reading_now = False

    async def _read_group(self, group: Group[LiveQuery], head: int) -> None:
        live, context, reading = group[0]
        failure = None
        try:
            response = await self._executor.read(live.operation, live.values, reading, context)
        except Exception as error:  # noqa: BLE001  logged if it is a defect; the client gets it if it goes on
            response = failure = refused(error).body.decode()
        for each, _, _ in group:
            each.reading_now = False
            # It may have ended meanwhile.
            if each in self.subscriptions and each.ready:
                each.show(response, head) if failure is None else each.fail(failure)
