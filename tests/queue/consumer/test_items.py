"""What a consumer does with the items that come."""

from __future__ import annotations

import queue as stdlib_queue
from typing import Any

import anyio
import pytest

from aiomanager import NO_SENTINEL, AsyncManager, ConfigurationError, consume
from tests.queue.consumer.hosting import assert_done, watched


@pytest.mark.anyio
async def test_handles_items_until_the_sentinel(hosting):
    """Each item once, in order; the count is returned, the sentinel is given to nobody, and all
    is marked done."""
    seen: list[Any] = []
    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([*range(10), None, "after"])
        assert await consume(jobs, watched(seen)) == 10
        assert seen == list(range(10))
        assert await jobs.get(timeout=5) == "after"
        await jobs.task_done()
        await assert_done(jobs)


@pytest.mark.anyio
async def test_concurrency_is_reached_and_not_passed(hosting):
    """`concurrency` handlers run at once and no more."""
    running: list[int] = []
    most = 0
    met = anyio.Event()

    async def handler(item: int) -> None:
        nonlocal most
        running.append(item)
        most = max(most, len(running))
        if len(running) == 4:
            met.set()
        await met.wait()
        await anyio.lowlevel.checkpoint()
        running.remove(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([*range(12), None])
        with anyio.fail_after(20):
            assert await consume(jobs, handler, concurrency=4) == 12
        assert most == 4
        await assert_done(jobs)


@pytest.mark.anyio
async def test_sentinel_waits_for_handlers_and_their_retries(hosting):
    """What was put before the sentinel has been handled when the call returns, also what failed
    at first; one sentinel ends all handlers."""
    failed: set[int] = set()
    seen: list[int] = []

    async def handler(item: int) -> None:
        if item % 2 and item not in failed:
            failed.add(item)
            raise OSError("not now")
        seen.append(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([*range(8), None])
        with anyio.fail_after(20):
            assert await consume(jobs, handler, concurrency=3, retries=1, backoff=0.01) == 8
        assert sorted(seen) == list(range(8))
        await assert_done(jobs)


@pytest.mark.anyio
async def test_each_consumer_has_a_sentinel(hosting):
    """Two consumers share the items, and each ends at one sentinel."""
    seen: list[int] = []
    counts: list[int] = []

    async def run(manager: AsyncManager) -> None:
        counts.append(await consume(manager.queue("jobs"), watched(seen), concurrency=2))

    async with hosting.connect() as first, hosting.connect() as second:
        jobs = first.queue("jobs")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(run, first)
                group.start_soon(run, second)
                await jobs.put_many([*range(40), None, None])
        assert sum(counts) == 40
        assert sorted(seen) == list(range(40))
        await assert_done(jobs)


@pytest.mark.anyio
async def test_another_sentinel_or_none(memory):
    """The sentinel is the call's, else the queue's; without one, None is an item."""
    seen: list[Any] = []
    async with memory.connect() as manager:
        jobs = manager.queue("jobs", sentinel="stop")
        await jobs.put_many([None, "stop", 1, "halt", 2, "stop"])
        assert await consume(jobs, watched(seen)) == 1
        assert await consume(jobs, watched(seen), sentinel="halt") == 1
        await jobs.shutdown()
        assert await consume(jobs, watched(seen), sentinel=NO_SENTINEL) == 2
        assert seen == [None, 1, 2, "stop"]


@pytest.mark.anyio
async def test_shutdown_ends_it(hosting):
    """What is in the queue is handled; then the call returns."""
    seen: list[int] = []
    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(range(5))
        if not hosting.leases and not (
            hosting.kind == "queue.Queue" and hasattr(stdlib_queue, "ShutDown")
        ):
            with pytest.raises(ConfigurationError, match="cannot shut it down"):
                await jobs.shutdown()
            return
        await jobs.shutdown()
        with anyio.fail_after(10):
            assert await consume(jobs, watched(seen), concurrency=2) == 5
        assert sorted(seen) == list(range(5))


@pytest.mark.anyio
async def test_shutdown_ends_a_waiting_consumer(ours):
    """Also one that has nothing to do, and after the handler under way has ended."""
    began, release = anyio.Event(), anyio.Event()
    results: list[int] = []

    async def handler(item: int) -> None:
        began.set()
        await release.wait()

    async def run(manager: AsyncManager) -> None:
        results.append(await consume(manager.queue("jobs"), handler, concurrency=2))

    async with ours.connect() as manager, ours.connect() as other:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(run, manager)
                await other.queue("jobs").put(1)
                await began.wait()
                await other.queue("jobs").shutdown(immediate=True)
                release.set()
    assert results == [1]
