"""Which tenant ``isola.run_with_tenant`` chooses: in tasks, in task groups, in threads, and outside of all."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import pytest

import isola
from isola.scope import Scope, current


def test_outside_there_is_no_tenant() -> None:
    with pytest.raises(RuntimeError, match="run_with_tenant"):
        current()


def test_an_inner_scope_inherits_nothing_and_its_end_restores_the_outer_one() -> None:
    with isola.run_with_tenant("acme", user="ada", organization="Sales"):
        with isola.run_with_tenant("globex"):
            assert current() == Scope("globex")
        assert current() == Scope("acme", "ada", "Sales")


def test_an_error_restores_the_outer_scope() -> None:
    with isola.run_with_tenant("acme"):
        with pytest.raises(KeyError), isola.run_with_tenant("globex"):
            raise KeyError
        assert current() == Scope("acme")
    with pytest.raises(RuntimeError):
        current()


def test_one_cannot_be_entered_twice_at_a_time() -> None:
    running = isola.run_with_tenant("acme")
    with running, pytest.raises(RuntimeError), running:
        pass
    with pytest.raises(RuntimeError):
        current()


async def test_a_task_keeps_the_tenant_in_which_it_began() -> None:
    begun = asyncio.Event()

    async def late() -> Scope:
        await begun.wait()
        return current()

    with isola.run_with_tenant("acme"):
        task = asyncio.create_task(late())
    with isola.run_with_tenant("globex"):
        begun.set()
        assert await task == Scope("acme")
        assert current() == Scope("globex")


async def test_task_groups_and_threads_of_asyncio_carry_the_tenant() -> None:
    async def inner() -> Scope:
        await asyncio.sleep(0)
        return current()

    with isola.run_with_tenant("acme"):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(inner())
        thread = await asyncio.to_thread(current)
    assert task.result() == thread == Scope("acme")


async def test_what_a_thread_sends_to_the_loop_runs_in_the_tenant_of_the_thread() -> None:
    loop = asyncio.get_running_loop()

    async def inner() -> Scope:
        return current()

    def blocking() -> Scope:
        return asyncio.run_coroutine_threadsafe(inner(), loop).result(10)

    with isola.run_with_tenant("acme"):
        assert await asyncio.to_thread(blocking) == Scope("acme")


def test_threads_of_a_pool_have_no_tenant_unless_they_run_in_a_copied_context() -> None:
    with ThreadPoolExecutor(1) as pool:
        # The thread begins here, outside of any tenant.
        pool.submit(threading.get_ident).result()
        with isola.run_with_tenant("acme"):
            assert isinstance(pool.submit(current).exception(), RuntimeError)
            assert pool.submit(copy_context().run, current).result() == Scope("acme")


@pytest.mark.parametrize(
    "given", [{"tenant": None}, {"tenant": b"acme"}, {"user": 5}, {"user": ["ada"]}, {"organization": True}]
)
def test_a_value_of_another_type_is_refused_at_once(given: dict[str, Any]) -> None:
    [name] = given
    with pytest.raises(TypeError, match=f"{name}: expected a text"):
        isola.run_with_tenant(**{"tenant": "acme", **given})
