"""Connections stay with the homes that they have used, which delays no request for more than a moment.

As in test_pool.py, the test controls the clock, and there is no database at the other end.
"""

import asyncio
from collections.abc import Hashable, Iterator
from contextlib import closing
from typing import cast

import pytest
from hypothesis import settings as hypothesis_settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from isola.database.connection import Connection
from isola.database.pool import GROWTH, LEAST_PATIENCE, LENT, MOST_PATIENCE, WAITING_FOR_ONE, Link, Pool
from isola.database.statements import HOME_BYTES, STATEMENT_LENGTH, STATEMENTS_BYTES, Statements, size_of
from isola.errors import Unavailable
from tests.database.test_pool import End, Loop

WAIT = 2.0
OTHER = "umbrella"
HOMES = ["acme", "globex", "initech", "hooli"]


class Statement:
    """A statement that is prepared nowhere."""

    closed = False


def meet(link: Link, home: Hashable, text: str = "SELECT 1") -> None:
    """Record on a connection what a transaction in a home leaves there."""
    link.kept.enter(home, is_lent=link.is_lent)
    link.kept.put((text,), Statement())


class Homes:
    """A pool and its callers."""

    def __init__(self, size: int) -> None:
        self.loop = Loop()
        self.pool = Pool(self._connect, size, WAIT, self.loop.time)

    async def _connect(self) -> Link:
        return Link(cast("Connection", End()))

    def close(self) -> None:
        self.loop.close()

    def ask(self, home: Hashable) -> asyncio.Task[Link]:
        task = self.loop.create_task(self.pool.borrow(home, home))
        self.loop.settle()
        return task

    def lend(self, home: Hashable) -> Link:
        return self.ask(home).result()

    def release(self, link: Link, home: Hashable) -> None:
        self.pool.release(link, home, clean=True)
        self.loop.settle()

    def spread(self) -> dict[Hashable, Link]:
        """One connection for each home, which has used only that home."""
        lent: dict[Hashable, Link] = {home: self.lend(home) for home in HOMES}
        for home, link in lent.items():
            meet(link, home)
            self.release(link, home)
        return lent

    def keep_busy(self, home: Hashable) -> Link:
        """Have the one connection that knows a home serve another home that it knows as well."""
        link = self.lend(home)
        meet(link, OTHER)
        self.release(link, home)
        return self.lend(OTHER)


@pytest.fixture
def homes() -> Iterator[Homes]:
    with closing(Homes(len(HOMES))) as made:
        yield made


def test_a_home_gets_the_connection_that_last_served_it_if_idle(homes: Homes) -> None:
    known = homes.spread()
    for home in (*HOMES, *reversed(HOMES)):
        link = homes.lend(home)
        assert link is known[home]
        homes.release(link, home)


def test_a_new_home_gets_the_connection_that_has_grown_the_least(homes: Homes) -> None:
    known = homes.spread()
    for home in HOMES[1:]:
        meet(known[home], home, "SELECT 2")
    assert homes.lend("new") is known[HOMES[0]]


def test_a_busy_preferred_connection_is_assigned_as_soon_as_it_is_released(homes: Homes) -> None:
    known = homes.spread()
    first = homes.keep_busy("acme")
    waiting = homes.ask("acme")
    assert not waiting.done()
    homes.release(first, OTHER)
    assert waiting.result() is known["acme"]


def test_a_home_with_concurrent_transactions_uses_as_many_connections(homes: Homes) -> None:
    """Waiting would limit it to the connections that know it already, while others are idle."""
    homes.spread()
    at_once = [homes.lend("acme") for _ in range(3)]
    for link in at_once:
        meet(link, "acme")
    for link in at_once:
        homes.release(link, "acme")
    assert [homes.lend("acme") for _ in range(3)] == [*reversed(at_once)]


def test_the_wait_for_the_preferred_connection_is_short(homes: Homes) -> None:
    known = homes.spread()
    homes.keep_busy("acme")
    waiting = homes.ask("acme")
    homes.loop.now += homes.pool._patience
    homes.loop.settle()
    assert waiting.result() in known.values()
    assert waiting.result() is not known["acme"]


def test_requests_do_not_wait_for_a_connection_with_a_long_transaction(homes: Homes) -> None:
    homes.spread()
    homes.keep_busy("acme").lent_at -= MOST_PATIENCE
    assert homes.ask("acme").done()


def test_a_home_that_waited_too_long_spreads_to_few_other_connections(homes: Homes) -> None:
    known = homes.spread()
    homes.keep_busy("acme").lent_at -= MOST_PATIENCE
    kept = []
    for _ in range(LENT):
        link = homes.lend("acme")
        assert link is not known["acme"]
        meet(link, "acme")
        kept.append("acme" in link.kept.homes)
        homes.release(link, "acme")
    assert kept == [False] * (LENT - 1) + [True]
    # The memory for the tables of the home is counted in any case.
    assert sum(each.kept.bytes for each in known.values()) > (len(known) + LENT) * HOME_BYTES


def test_no_long_queue_forms_at_one_connection() -> None:
    with closing(Homes(8)) as homes:
        homes.spread()
        lent = homes.keep_busy("acme")
        waiting = [homes.ask("acme") for _ in range(WAITING_FOR_ONE + 1)]
        assert [task.done() for task in waiting] == [False] * WAITING_FOR_ONE + [True]
        for home, first in zip([OTHER, "acme"], waiting[:-1], strict=True):
            homes.release(lent, home)
            assert first.result() is lent


def test_no_connection_is_idle_while_requests_are_queued(homes: Homes) -> None:
    known = homes.spread()
    homes.keep_busy("acme")
    for home in HOMES[1:3]:
        homes.lend(home)
    waiting = homes.ask("acme")
    assert not waiting.done()
    queued = homes.ask("new")
    assert not queued.done()
    assert waiting.result() is known[HOMES[3]]


def test_a_connection_that_ends_does_not_block_waiting_requests(homes: Homes) -> None:
    homes.spread()
    link = homes.keep_busy("acme")
    waiting = homes.ask("acme")
    assert not waiting.done()
    homes.pool.release(link, OTHER, clean=False)
    homes.loop.settle()
    assert waiting.result() is not link


def test_an_idle_connection_prefers_its_home_in_the_queue_without_starvation() -> None:
    with closing(Homes(3)) as homes:
        links = {home: homes.lend(home) for home in ("acme", "globex", "initech")}
        for home, link in links.items():
            meet(link, home)
        queued = homes.ask("globex")
        # Only the connection of another home is ever given back.
        served = []
        for _ in range(5):
            other = homes.ask("acme")
            homes.release(links["acme"], "acme")
            served.append(other.done())
            if not other.done():
                assert queued.result() is links["acme"]
                break
        assert served == [True, True, True, False]
        other.cancel()
        homes.loop.settle()


def test_a_fresh_connection_takes_the_place_of_an_idle_one(homes: Homes) -> None:
    known = homes.spread()
    task = homes.loop.create_task(homes.pool.borrow("acme", "acme", fresh=True))
    homes.loop.settle()
    assert task.result() not in known.values()
    assert sum(link.connection.is_closed() for link in known.values()) == 1
    assert len(homes.pool._links) == len(HOMES)


def test_a_connection_at_its_memory_limit_is_replaced(homes: Homes) -> None:
    link = homes.lend("acme")
    for number in range(GROWTH // HOME_BYTES):
        meet(link, number)
    assert link.kept.bytes > GROWTH
    homes.release(link, "acme")
    assert link.connection.is_closed()
    assert homes.lend("acme") is not link


def test_cached_statements_are_bounded_and_a_flooding_tenant_evicts_its_own() -> None:
    closed: list[object] = []
    kept = Statements(closed.append)
    for home in ("modest", "flooding"):
        kept.enter(home)
        kept.put(("SELECT 1",), Statement())
    text = "x" * (STATEMENT_LENGTH // 8)
    for number in range(200):
        kept.put((f"{number}{text}",), Statement())
        assert sum(size_of(key[0]) for each in kept.homes.values() for key in each) <= STATEMENTS_BYTES
    assert closed
    kept.enter("modest")
    assert kept.get(("SELECT 1",)) is not None


class Borrowers(RuleBasedStateMachine):
    """Homes request connections and give up, at random; connections record the homes that use them."""

    SIZE = 3

    def __init__(self) -> None:
        super().__init__()
        self.homes = Homes(self.SIZE)
        self.asking: dict[asyncio.Task[Link], str] = {}
        self.held: list[tuple[Link, str]] = []

    def settle(self) -> None:
        self.homes.loop.settle()
        for task, home in [*self.asking.items()]:
            if task.done():
                del self.asking[task]
                if not task.cancelled() and not isinstance(task.exception(), Unavailable):
                    self.held.append((task.result(), home))

    @rule(home=st.sampled_from(HOMES), at_once=st.integers(1, 3))
    def ask(self, home: str, at_once: int) -> None:
        for _ in range(at_once):
            self.asking[self.homes.loop.create_task(self.homes.pool.borrow(home, home))] = home
        self.settle()

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 99), clean=st.booleans(), slow=st.booleans())
    def release(self, which: int, clean: bool, slow: bool) -> None:  # noqa: FBT001  hypothesis passes it by name
        link, home = self.held.pop(which % len(self.held))
        meet(link, home)
        for other, _ in self.held:
            other.lent_at -= MOST_PATIENCE * slow
        self.homes.pool.release(link, home, clean=clean)
        self.settle()

    @precondition(lambda self: self.asking)
    @rule(which=st.integers(0, 99), at_a_return=st.booleans())
    def give_up(self, which: int, at_a_return: bool) -> None:  # noqa: FBT001  likewise
        task = [*self.asking][which % len(self.asking)]
        if at_a_return and self.held:
            link, home = self.held.pop()
            self.homes.pool.release(link, home, clean=True)
        task.cancel()
        self.settle()

    @rule(seconds=st.sampled_from([LEAST_PATIENCE / 2, MOST_PATIENCE, WAIT]))
    def time_passes(self, seconds: float) -> None:
        self.homes.loop.now += seconds
        self.settle()

    @invariant()
    def every_place_is_free_held_or_waited_with(self) -> None:
        pool = self.homes.pool
        waiting = [waiter for link in pool._links for waiter in link.waiters if not waiter.done()]
        queued = sum(map(len, pool._queues.values()))
        assert pool._free == self.SIZE - len(self.held) - len(waiting)
        assert len(self.asking) == queued + len(waiting)
        assert not (queued and waiting and not pool._free)

    @invariant()
    def no_connection_is_two_borrowers_and_none_is_lost(self) -> None:
        pool = self.homes.pool
        lent = [id(link) for link, _ in self.held]
        idle = [id(link) for link in pool._idle]
        assert len({*lent, *idle}) == len(lent) + len(idle)
        assert {id(link) for link in pool._links} == {*lent, *idle}

    def teardown(self) -> None:
        closing = self.homes.loop.create_task(self.homes.pool.close())
        self.settle()
        for link, home in self.held:
            self.homes.pool.release(link, home, clean=True)
        self.settle()
        assert closing.done()
        assert not self.asking
        self.homes.loop.close()


def test_no_place_or_connection_is_leaked_under_random_use() -> None:
    run_state_machine_as_test(
        Borrowers,
        settings=hypothesis_settings(max_examples=80, stateful_step_count=40, derandomize=True, deadline=None),
    )
