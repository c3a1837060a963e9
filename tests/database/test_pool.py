"""The pool stays consistent whatever its borrowers do: request, give back, give up, time out, find the database down.

The test controls the clock, so that timeouts take no time. There is no database at the other end: these tests only
examine places and queues.
"""

import asyncio
import selectors
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from hypothesis import settings as hypothesis_settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from isola.database.connection import Connection
from isola.database.pool import IDLE, USES, WAITING, Link, Pool
from isola.database.statements import Statements
from isola.errors import Unavailable

WAIT = 2.0
GROUPS = ["acme", "globex", "initech", None]


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock only advances on demand."""

    def __init__(self) -> None:
        super().__init__(selectors.DefaultSelector())
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Run everything that is ready without advancing the clock."""
        self.call_soon(self.stop)
        self.run_forever()
        while self._ready:  # type: ignore[attr-defined]  # asyncio has no other word for it
            self.call_soon(self.stop)
            self.run_forever()


class End:
    """The end of a connection without a server."""

    def __init__(self) -> None:
        self.closed = False
        self.kept = Statements(lambda _: None)

    def is_closed(self) -> bool:
        return self.closed

    def terminate(self) -> None:
        self.closed = True

    async def close(self, *, timeout: float) -> None:  # noqa: ARG002, ASYNC109  as asyncpg has it
        self.closed = True


def link() -> Link:
    return Link(cast("Connection", End()))


@contextmanager
def loop() -> Iterator[Loop]:
    made = Loop()
    try:
        yield made
    finally:
        made.close()


class Borrowers(RuleBasedStateMachine):
    """Tenants request connections, give them back and give up, at random."""

    @property
    def size(self) -> int:
        return 5

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.reachable = True
        self.opened: list[Link] = []
        self.asking: dict[asyncio.Task[Link], Any] = {}
        self.held: list[tuple[Link, Any]] = []
        self.pool = Pool(self.connect, self.size, WAIT, self.loop.time)

    async def connect(self) -> Link:
        await asyncio.sleep(0)
        if not self.reachable:
            raise OSError
        self.opened.append(link())
        return self.opened[-1]

    def settle(self) -> None:
        self.loop.settle()
        for task, group in [*self.asking.items()]:
            if task.done():
                del self.asking[task]
                if task.cancelled():
                    continue
                if not isinstance(task.exception(), OSError | Unavailable):
                    self.held.append((task.result(), group))

    @rule(group=st.sampled_from(GROUPS), at_once=st.integers(1, 4))
    def ask(self, group: str | None, at_once: int) -> None:
        for _ in range(at_once):
            self.asking[self.loop.create_task(self.pool.borrow(group))] = group
        self.settle()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), clean=st.booleans())
    def release(self, which: int, clean: bool) -> None:  # noqa: FBT001  hypothesis passes it by name
        returned, group = self.held.pop(which % len(self.held))
        self.pool.release(returned, group, clean=clean)
        self.settle()

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 99))
    def give_up(self, which: int) -> None:
        [*self.asking][which % len(self.asking)].cancel()
        self.settle()

    @precondition(lambda self: self.asking and self.held)
    @rule(waits=st.integers(0, 99), returns=st.integers(0, 99), first=st.booleans())
    def give_up_in_the_moment_of_a_return(self, waits: int, returns: int, first: bool) -> None:  # noqa: FBT001  likewise
        task = [*self.asking][waits % len(self.asking)]
        returned, group = self.held.pop(returns % len(self.held))
        if first:
            task.cancel()
        self.pool.release(returned, group, clean=True)
        task.cancel()
        self.settle()

    @rule(seconds=st.sampled_from([WAIT / 2, WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.loop.now += seconds
        self.settle()

    @rule()
    def the_database_goes_down_or_comes_back(self) -> None:
        self.reachable = not self.reachable

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99))
    def a_connection_dies(self, which: int) -> None:
        self.held[which % len(self.held)][0].connection.terminate()

    @invariant()
    def every_place_is_free_or_held(self) -> None:
        assert self.pool._free == self.size - len(self.held)
        assert dict(self.pool._held) == Counter(group for _, group in self.held)

    @invariant()
    def no_tenant_has_all(self) -> None:
        for group, places in Counter(group for _, group in self.held).items():
            assert group is None or places <= max(1, self.size - 1)

    @invariant()
    def who_is_in_a_queue_waits(self) -> None:
        queued = {group: len(queue) for group, queue in self.pool._queues.items()}
        assert queued == Counter(self.asking.values())

    @invariant()
    def nobody_waits_for_a_place_that_is_free(self) -> None:
        assert not self.pool._free or not any(self.pool._may_have(group) for group in self.asking.values())

    @invariant()
    def no_connection_is_two_borrowers_and_none_is_lost(self) -> None:
        lent = [id(each) for each, _ in self.held]
        idle = [id(each) for each in self.pool._idle]
        assert len({*lent, *idle}) == len(lent) + len(idle)
        assert {id(each) for each in self.pool._links} == {*lent, *idle}
        assert len(self.pool._links) <= self.size
        assert all(each.connection.is_closed() for each in self.opened if each not in self.pool._links)

    def teardown(self) -> None:
        closing = self.loop.create_task(self.pool.close())
        self.settle()
        for returned, group in self.held:
            self.pool.release(returned, group, clean=True)
        self.loop.settle()
        assert closing.done()
        assert not self.asking, "somebody still waits"
        assert not self.pool._queues
        assert all(each.connection.is_closed() for each in self.opened)
        self.loop.close()


class Pair(Borrowers):
    """The smallest pool that can keep a connection from a tenant."""

    @property
    def size(self) -> int:
        return 2


class Single(Borrowers):
    """One connection, so none can be kept from the tenant that has it."""

    @property
    def size(self) -> int:
        return 1


@pytest.mark.parametrize("borrowers", [Borrowers, Pair, Single], ids=["five", "two", "one"])
def test_the_pools_counts_are_correct_under_random_use(borrowers: type[Borrowers]) -> None:
    run_state_machine_as_test(
        borrowers,
        settings=hypothesis_settings(max_examples=60, stateful_step_count=40, derandomize=True, deadline=None),
    )


@pytest.mark.parametrize(("size", "most"), [(1, 1), (2, 1), (3, 2), (4, 3), (5, 4), (9, 8), (10, 8), (100, 80)])
def test_a_tenant_uses_at_most_four_fifths_of_the_connections(size: int, most: int) -> None:
    with loop() as running:

        async def connect() -> Link:
            return link()

        pool = Pool(connect, size, WAIT)
        asking = [running.create_task(pool.borrow("acme")) for _ in range(size + 1)]
        running.settle()
        assert sum(task.done() for task in asking) == most
        other = running.create_task(pool.borrow("globex"))
        running.settle()
        assert other.done() == (size > 1)
        for task in (*asking, other):
            task.cancel()
        running.settle()


@pytest.mark.parametrize("ends", ["give up", "wait in vain"])
def test_a_cancelled_waiter_leaves_the_queue(ends: str) -> None:
    with loop() as running:

        async def connect() -> Link:
            return link()

        pool = Pool(connect, 1, WAIT)
        holding = running.create_task(pool.borrow("acme"))
        running.settle()
        for _ in range(3):
            waiting = [running.create_task(pool.borrow("acme")) for _ in range(WAITING)]
            running.settle()
            assert not any(task.done() for task in waiting)
            one_more = running.create_task(pool.borrow("acme"))
            running.settle()
            assert "too many" in str(one_more.exception())
            if ends == "give up":
                for task in waiting:
                    task.cancel()
            running.now += WAIT
            running.settle()
            assert all(task.cancelled() or isinstance(task.exception(), Unavailable) for task in waiting)
        last = running.create_task(pool.borrow("acme"))
        running.settle()
        pool.release(holding.result(), "acme", clean=True)
        running.settle()
        assert last.result() is holding.result()


def test_a_connection_ends_when_it_is_old_used_up_or_unclean() -> None:
    with loop() as running:

        async def connect() -> Link:
            return link()

        pool = Pool(connect, 1, WAIT)
        for unfit in ("old", "used up", "unclean"):
            first = running.run_until_complete(pool.borrow("acme"))
            if unfit == "used up":
                first.uses = USES
            pool.release(first, "acme", clean=unfit != "unclean")
            if unfit == "old":
                first.idle_since -= IDLE + 1
            second = running.run_until_complete(pool.borrow("acme"))
            assert second is not first
            assert first.connection.is_closed()
            pool.release(second, "acme", clean=False)
