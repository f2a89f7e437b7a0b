"""Finalizers, which run on any thread, at any moment: they leave their work to the event loop."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aiomanager
from tests.support.hosts import KEY
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


@pytest.fixture
def no_garbage_collector() -> Iterator[None]:
    """Garbage is collected where the test says."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def in_a_cycle(*things: Any) -> None:
    """Leave things to the garbage collector, as a traceback and its frame do."""
    cycle: list[Any] = [*things]
    cycle.append(cycle)


@pytest.mark.parametrize("held", ["one", "several"])
async def test_an_iteration_that_another_thread_collects(host, held, no_garbage_collector):
    """What it held is handed out again in order, and every kind of get works after that."""
    async with aiomanager.connect(host.path, KEY) as manager:
        queue = manager.queue("jobs", prefetch=16 if held == "several" else 1)
        await queue.put_many(range(40))
        iteration = aiter(queue)
        for number in range(10):
            assert await anext(iteration) == number
        in_a_cycle(iteration)
        del iteration
        await anyio.to_thread.run_sync(gc.collect)
        with anyio.fail_after(5):
            assert await queue.get() == 9
            assert await queue.get_nowait() == 10
            assert await queue.get(timeout=5) == 11
            assert await queue.get_many(100) == list(range(12, 40))


async def test_an_iteration_that_is_collected_in_the_middle_of_a_call(host, no_garbage_collector):
    """A collection in the middle of what a queue does to itself changes nothing for it."""
    async with aiomanager.connect(host.path, KEY) as manager:
        queue = manager.queue("jobs")
        got: list[int] = []
        await queue.put_many(range(200))

        async def leave_iterations() -> None:
            for _ in range(50):
                iteration = aiter(queue)
                await anext(iteration)
                in_a_cycle(iteration)

        async def get() -> None:
            while len(got) < 200:
                try:
                    got.extend(await queue.get_many(3, timeout=0.5))
                except aiomanager.QueueEmpty:
                    gc.collect()  # the last items are in iterations that were left

        gc.enable()
        gc.set_threshold(5)
        try:
            async with anyio.create_task_group() as group:
                for _ in range(4):
                    group.start_soon(leave_iterations)
                group.start_soon(get)
        finally:
            gc.set_threshold(700)
        assert sorted(got) == list(range(200))


async def test_an_iteration_that_outlives_its_loop(host, no_garbage_collector):
    """It is collected when its event loop has ended: nothing is raised, and its lease has ended
    with the connection."""
    left: list[Any] = []

    async def begin() -> None:
        async with aiomanager.connect(host.path, KEY) as manager:
            queue = manager.queue("jobs")
            await queue.put("item")
            left.append(aiter(queue))
            await anext(left[0])

    await anyio.to_thread.run_sync(lambda: anyio.run(begin))
    left.clear()
    gc.collect()
    async with aiomanager.connect(host.path, KEY) as manager:
        delivery = (await manager.queue("jobs").get_deliveries(1, timeout=5))[0]
        assert (delivery.item, delivery.attempt) == ("item", 2)
        await delivery.ack()


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_task_done_counts_for_its_own_task(host):
    """An iteration that a task has left to others hangs on that task and not on its id, which
    later tasks have again."""
    async with aiomanager.connect(host.path, KEY) as manager:
        queue = manager.queue("jobs")
        await queue.put("held")
        iteration = aiter(queue)
        assert await asyncio.ensure_future(anext(iteration)) == "held"
        ids = set()

        async def other() -> None:
            ids.add(id(asyncio.current_task()))
            await queue.put("got")
            assert await queue.get() == "got"
            await queue.task_done()

        for _ in range(300):
            await asyncio.create_task(other())
        assert len(ids) < 300, "ids are used again"
        statistics = await queue.statistics()
        assert (statistics.leased, statistics.unfinished, statistics.done) == (1, 1, 300)
        del iteration
        await wait_until(
            lambda: _is_back(queue), description="the item goes back when nobody iterates"
        )


async def _is_back(queue: aiomanager.AsyncQueue[Any]) -> bool:
    return await queue.qsize() == 1


async def test_get_nowait_after_a_get_that_was_given_up(host):
    """What was on its way to the get is the first to be had."""
    async with aiomanager.connect(host.path, KEY) as manager:
        queue = manager.queue("jobs")
        for number in range(200):
            await queue.put_many(["first", "second"])
            with anyio.move_on_after(number % 20 * 0.0001) as scope:
                assert await queue.get() == "first"
            if scope.cancelled_caught:
                assert await queue.get_nowait() == "first"
            assert await queue.get_nowait() == "second"
