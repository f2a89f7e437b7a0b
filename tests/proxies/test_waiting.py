"""Calls that wait, pools and iterators."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time

import anyio
import pytest

from aiomanager import wrap
from aiomanager._proxies.long_poll import CallLimit
from tests.proxies.freed import all_freed
from tests.support import objects
from tests.support.waiting import wait_until


# -- calls that wait ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_method_that_blocks_keeps_no_other_call_from_running(manager):
    """Neither on other objects nor on the same."""
    gate, shared = wrap(manager.Gate()), wrap(manager.dict())
    results = []

    async def pass_through():
        results.append(await gate.pass_through())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(pass_through)
        await anyio.wait_all_tasks_blocked()
        assert await gate.waiting() < 50  # that is, before they have all had a turn
        await shared.update(a=1)
        await gate.open()
    assert results == ["through"] * 50


@pytest.mark.anyio
async def test_calls_that_wait_make_room_for_more_and_more():
    """Of however many that wait at the host, the last has its turn soon."""
    turns = CallLimit(places=4)
    async with anyio.create_task_group() as group:
        for _ in range(400):  # with as many places all the time the last would wait for 20 s
            group.start_soon(turns.enter)
        with anyio.fail_after(10):
            turns.leave(await turns.enter())


@pytest.mark.anyio
async def test_many_calls_at_once_share_a_few_connections(manager):
    """They wait for their turns."""
    shared = wrap(manager.list())
    before = threading.active_count()
    most = 0

    async def append(number):
        nonlocal most
        await shared.append(number)
        most = max(most, threading.active_count() - before)

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(append, number)
    assert sorted(await shared.copy()) == list(range(200))
    # A slow machine may take one or the other call for one that waits.
    assert most <= 50


@pytest.mark.asyncio
async def test_native_cancellation_leaves_a_call_at_once(manager):
    """`task.cancel` and `wait_for` do not wait for the host, and nothing is broken after them."""
    gate = wrap(manager.Gate())
    start = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(gate.pass_through(), 0.05)
    task = asyncio.create_task(gate.pass_through())
    await wait_until(gate.waiting, description="the call waits")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 5
    await gate.open()
    assert await gate.pass_through() == "through"


@pytest.mark.anyio
async def test_event(manager):
    """A wait ends when the event is set, or in vain when its time is up."""
    proxy = manager.Event()
    event = wrap(proxy)
    assert not await event.wait(0)
    assert not await event.wait(0.02)
    woken = []

    async def wait():
        woken.append(await event.wait())

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not await event.wait(0.01)
        proxy.set()
    assert woken == [True] * 100
    assert await event.is_set()
    assert await event.wait(0)
    await event.clear()
    assert not proxy.is_set()


@pytest.mark.anyio
async def test_waiting_for_an_event_costs_one_thread(manager):
    """However many tasks wait."""
    event = wrap(manager.Event())
    await event.is_set()
    before = threading.active_count()
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        assert threading.active_count() <= before + 2
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_barrier(manager):
    """Parties pass together, blocking ones included."""
    proxy = manager.Barrier(3)
    barrier = wrap(proxy)
    numbers = []

    async def wait():
        numbers.append(await barrier.wait())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await wait_until(lambda: proxy.n_waiting == 2, description="both wait")
        assert await barrier.n_waiting() == 2
        thread = threading.Thread(target=lambda: numbers.append(proxy.wait()))
        thread.start()
    thread.join()
    assert sorted(numbers) == [0, 1, 2]
    assert await barrier.parties() == 3
    await barrier.abort()
    assert await barrier.broken()
    with pytest.raises(threading.BrokenBarrierError):
        await barrier.wait()
    await barrier.reset()
    assert not await barrier.broken()


@pytest.mark.anyio
@pytest.mark.parametrize("timeout", [None, 0.05])
async def test_whoever_leaves_a_barrier_breaks_it(manager, timeout):
    """By a cancellation as by a timeout."""
    proxy = manager.Barrier(3)
    barrier = wrap(proxy)

    async def wait():
        with pytest.raises(threading.BrokenBarrierError):
            await barrier.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        if timeout is None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as leaving:
                    leaving.start_soon(barrier.wait)
                    await wait_until(lambda: proxy.n_waiting == 2, description="both wait")
                    scope.cancel()
        else:
            with pytest.raises(threading.BrokenBarrierError):
                await barrier.wait(timeout)


# -- pools and iterators ------------------------------------------------------------
@pytest.mark.anyio
async def test_pool(manager):
    """Functions run in the manager's pool, and what they raise is raised here."""
    before = manager._number_of_objects()
    async with wrap(manager.Pool(2)) as pool:
        assert await pool.map(objects.square, range(4)) == [0, 1, 4, 9]
        assert await pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert await pool.apply(objects.square, (5,)) == 25
        with pytest.raises(ArithmeticError):
            await pool.apply(objects.failing, (1,))
        result = await pool.apply_async(objects.slowly, (0.2,))
        assert not await result.ready()
        with pytest.raises(multiprocessing.TimeoutError):
            await result.get(0.01)
        assert await result.get() == 0.2
        assert await result.ready()
        assert await result.successful()
        squares = await pool.imap(objects.square, range(3))
        assert [square async for square in squares] == [0, 1, 4]
        unordered = await pool.imap_unordered(objects.square, range(3))
        assert sorted([square async for square in unordered]) == [0, 1, 4]
    del pool, result, squares, unordered
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_an_item_that_nobody_waited_for_is_the_next(manager):
    """An iterator's item is lost to no cancellation."""
    async with wrap(manager.Pool(1)) as pool:
        times = [0.05] * 5
        slow = await pool.imap(objects.slowly, times)
        items = []
        while True:
            with anyio.move_on_after(0.02):
                try:
                    items.append(await anext(slow))
                except StopAsyncIteration:
                    break
        assert items == times


@pytest.mark.anyio
async def test_other_iterators(manager):
    """What exposes `__next__` is iterated over, and its end is the end."""
    assert [number async for number in wrap(manager.numbers())] == [0, 1, 2]
    with pytest.raises(AttributeError, match="iterate"):
        aiter(wrap(manager.Counter()))
