"""Follows the feeds of all tenants that have subscribers on this server, and reads their events.

One query asks which logs have grown. A log that has is read once for all its subscriptions at the same position; and
subscriptions with the same selection share the statement that reads an event, if all their users may see the same. Live
queries are read again when the log of their tenant has grown.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from uuid import UUID

from graphql import OperationType
from graphql.execution.values import VariableValues

from isola.api.declared.changes import NO_ROW, followed
from isola.api.execute import Executor
from isola.api.live.caller import Caller
from isola.api.live.followers import ChangeFollower, Followed, Follower, LiveFollower, reading_of
from isola.api.live.subscription import CURSOR, ChangeSubscription, LiveQuery, Subscription, position_of
from isola.database.transactions import Database
from isola.errors import BadUserInput, RateLimited, Refusal, Unavailable
from isola.platform import feed
from isola.platform.background import repeating
from isola.platform.changes import Changes
from isola.query import cursor
from isola.query.documents import Operation
from isola.query.read_plan import coerced
from isola.query.sharing import is_logged

INTERVAL = 0.08
"""Seconds between two questions which logs have grown; with no subscriptions, there are none."""
CHECKED_EVERY = 0.2
"""Seconds between two times at which all callers are checked whose last check does not hold any more."""
_AT_ONCE = 20


class Hub:
    """All subscriptions of this server. Created by ``open``."""

    def __init__(
        self,
        executor: Executor,
        secret: bytes,
        control: Database,
        tenants: Database,
        changes: Changes,
        *,
        most_of_user: int,
        patience: float,
    ) -> None:
        self._executor = executor
        self._secret = secret
        self._control = control
        self._tenants = tenants
        self._most_of_user = most_of_user
        self._patience = patience
        self.changes = changes
        self._subjects = followed(executor.compiler.model.schema)
        self._change_followers: dict[UUID, Follower[ChangeSubscription]] = {}
        self._live_followers: dict[UUID, Follower[LiveQuery]] = {}
        self._callers: dict[Caller, int] = {}
        self._of_user: Counter[UUID] = Counter()

    @property
    def subscriptions(self) -> int:
        """The number of subscriptions and live queries."""
        return self._of_user.total()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        executor: Executor,
        secret: bytes,
        control: Database,
        tenants: Database,
        changes: Changes,
        *,
        most_of_user: int,
        patience: float,
    ) -> AsyncIterator["Hub"]:
        """Follow as long as the context is open. ``control`` and ``tenants`` need connections of their own.

        A user has at most ``most_of_user`` subscriptions. A client that has not taken a batch of events after
        ``patience`` seconds is disconnected.
        """
        hub = cls(executor, secret, control, tenants, changes, most_of_user=most_of_user, patience=patience)
        async with (
            repeating(hub.look, INTERVAL, "the feeds of tenants cannot be followed"),
            repeating(hub.check, CHECKED_EVERY, "subscribers cannot be authenticated"),
        ):
            try:
                yield hub
            finally:
                for follower in hub._followers():
                    await follower.stop()

    @asynccontextmanager
    async def subscribed(
        self, caller: Caller, operation: Operation, values: VariableValues
    ) -> AsyncIterator[Subscription]:
        """A subscription or a live query, as long as the context is open. Raises a Refusal if it cannot begin."""
        principal = caller.context.principal
        if self._of_user[principal.user_id] >= self._most_of_user:
            raise RateLimited(f"expected at most {self._most_of_user} subscriptions of one user", 10)
        self._of_user[principal.user_id] += 1
        self._callers[caller] = self._callers.get(caller, 0) + 1
        tenant, executor, database = principal.tenant.id, self._executor, self._tenants
        try:
            if operation.type is OperationType.SUBSCRIPTION:
                changes = await self._begin(caller, operation, values)
                with _served(self._change_followers, tenant, partial(ChangeFollower, executor, database), changes):
                    yield changes
            else:
                live = self._live(caller, operation, values)
                with _served(self._live_followers, tenant, partial(LiveFollower, executor, database), live) as follower:
                    follower.wake(await self._head(tenant))
                    yield live
        finally:
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]
            self._of_user[principal.user_id] -= 1
            if not self._of_user[principal.user_id]:
                del self._of_user[principal.user_id]

    async def _begin(self, caller: Caller, operation: Operation, values: VariableValues) -> ChangeSubscription:
        reading = reading_of(self._executor, caller.context, operation, values)
        if reading.plan.called is None:
            raise BadUserInput("expected a subscription")
        await self._executor.charge(reading, values, caller.context)
        definition, place = reading.plan.called
        name = place.node.name.value
        principal = caller.context.principal
        key = cursor.key(self._secret, principal.tenant.id, ("changes", name, principal.user_id))
        after: str | None = coerced(definition, place.node, values).get("after")
        head = await self._head(principal.tenant.id)
        position = head if after is None else position_of(after, key)
        if position > head:
            # The database was restored from a backup.
            raise BadUserInput("after: expected a cursor from the present log, not from after its end", "after")
        if after is not None and position < await feed.beginning(self._control, principal.tenant.id):
            raise BadUserInput("after: expected a newer cursor, whose next entry the plan still keeps", "after")
        subscription = ChangeSubscription(caller, operation, values, position, self._subjects[name], key)
        if after is None:
            async with caller.context.transaction(read_only=True) as work:
                given = {"kind": "started", "row": NO_ROW, "cursor": CURSOR}
                text = await self._executor.event(operation, values, reading, caller.context, work, given)
            subscription.hand_over([(position, text)], position)
        return subscription

    def _live(self, caller: Caller, operation: Operation, values: VariableValues) -> LiveQuery:
        reading = reading_of(self._executor, caller.context, operation, values)
        logged = is_logged(self._executor.compiler.model, reading.plan, reading.shapes)
        return LiveQuery(caller, operation, values, polled=not logged)

    async def _head(self, tenant: UUID) -> int:
        return (await feed.heads(self._control, [tenant])).get(tenant, 0)

    def _followers(self) -> Sequence[Follower[ChangeSubscription] | Follower[LiveQuery]]:
        return [*self._change_followers.values(), *self._live_followers.values()]

    async def look(self) -> None:
        """Read the logs that have grown."""
        tenants = self._change_followers.keys() | self._live_followers.keys()
        if not tenants:
            return
        for tenant, head in (await feed.heads(self._control, tenants)).items():
            for follower in (self._change_followers.get(tenant), self._live_followers.get(tenant)):
                if follower is not None:
                    follower.wake(head)

    async def check(self) -> None:
        """Authenticate callers again, and disconnect those that do not read their events."""
        too_late = time.monotonic() - self._patience
        for follower in self._followers():
            for each in list(follower.subscriptions):
                if each.waits is not None and each.waits < too_late and not each.caller.ended:
                    each.caller.ended = True
                    each.caller.end(TooSlow("events were not read in time: continue from the last cursor"))
        changed: set[Caller] = set()
        for number, caller in enumerate([each for each in self._callers if not each.is_current]):
            rights = _rights(caller)
            # Nothing is sent to a caller that cannot be checked.
            with suppress(Unavailable):
                if await caller.check() and _rights(caller) != rights:
                    changed.add(caller)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if changed:
            for follower in self._followers():
                await follower.check_again(changed)


def _rights(caller: Caller) -> tuple[object, object]:
    return caller.context.principal.permissions, caller.context.principal.features


@contextmanager
def _served(
    followers: dict[UUID, Follower[Followed]],
    tenant: UUID,
    make: Callable[[], Follower[Followed]],
    subscription: Followed,
) -> Iterator[Follower[Followed]]:
    """Let the follower of a tenant serve a subscription. There is one as long as the tenant has subscriptions."""
    follower = followers[tenant] if tenant in followers else followers.setdefault(tenant, make())
    follower.add(subscription)
    try:
        yield follower
    finally:
        follower.subscriptions.discard(subscription)
        if not follower.subscriptions:
            del followers[tenant]


class TooSlow(Refusal):
    code = "RATE_LIMITED"
    status = 429
    retry_after = 1
