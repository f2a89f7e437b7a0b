"""A queue that lives in another process: what goes in comes out."""

from __future__ import annotations

import anyio
import pytest

import aiomanager

pytestmark = pytest.mark.anyio


async def test_what_is_put_can_be_got():
    """`host` starts a process that holds queues; what one puts there is there to be got."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put({"number": 1})
        assert await jobs.get() == {"number": 1}


async def test_first_in_first_out():
    """Items come in the order in which they were put, one by one or many in one message."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("a")
        await jobs.put_many(["b", "c"])
        assert await jobs.get() == "a"
        assert await jobs.get_many(10) == ["b", "c"]


async def test_a_get_waits_for_a_put():
    """Who gets from an empty queue sleeps until there is something, and others run meanwhile."""
    async with aiomanager.host({"jobs": 0}) as manager, anyio.create_task_group() as tasks:
        jobs = manager.queue("jobs")
        got = []

        async def get():
            got.append(await jobs.get())

        tasks.start_soon(get)
        await jobs.put("awaited")
    assert got == ["awaited"]


async def test_an_empty_queue():
    """A get that is not to wait, or not for longer, raises `QueueEmpty`."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        with pytest.raises(aiomanager.QueueEmpty):
            await jobs.get_nowait()
        with pytest.raises(aiomanager.QueueEmpty):
            await jobs.get(timeout=0.01)


async def test_a_full_queue():
    """A queue with a bound has no room beyond it: a put waits, or raises `QueueFull`."""
    async with aiomanager.host({"jobs": 2}) as manager, anyio.create_task_group() as tasks:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, 2])
        with pytest.raises(aiomanager.QueueFull):
            await jobs.put(3, timeout=0.01)
        tasks.start_soon(jobs.put, 3)  # until one is out
        assert [await jobs.get() for _ in range(3)] == [1, 2, 3]


async def test_join_waits_until_all_is_done():
    """An item that was got is still to be done: `task_done` says that it is, and `join` waits."""
    async with aiomanager.host({"jobs": 0}) as manager, anyio.create_task_group() as tasks:
        jobs = manager.queue("jobs")
        await jobs.put_many(["a", "b"])
        done = []

        async def work():
            for _ in range(2):
                done.append(await jobs.get())
                await jobs.task_done()

        tasks.start_soon(work)
        await jobs.join()
        assert done == ["a", "b"]
