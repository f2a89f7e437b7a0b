"""Consumers that are ended from outside: cancelled, by a signal, at any step."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from functools import partial

import anyio
import pytest

from aiomanager import QueueManager, consume
from tests.queue.consumer.hosting import KEY, assert_done, stop
from tests.support.waiting import wait_until_sync


@pytest.mark.anyio
async def test_cancelled_it_drains(hosting):
    """By a scope: the handlers under way end and their items are done; nothing more is
    received."""
    ended: list[int] = []
    began = anyio.Event()
    release = anyio.Event()

    async def handler(item: int) -> None:
        if item == 1:
            began.set()
        await release.wait()
        ended.append(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(range(4))
        with anyio.fail_after(20), anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as consumer:

                    async def cancel() -> None:
                        await began.wait()
                        consumer.cancel()
                        consumer.cancel()
                        release.set()

                    group.start_soon(cancel)
                    await consume(jobs, handler, concurrency=2)
        assert consumer.cancelled_caught
        assert not scope.cancelled_caught
        assert sorted(ended) == [0, 1]
        rest = [await jobs.get(timeout=5), await jobs.get(timeout=5)]
        assert sorted(rest) == [2, 3]


@pytest.mark.asyncio
async def test_cancelled_natively_it_drains(hosting):
    """By `task.cancel`, also a second one, which does not hurry it."""
    ended: list[int] = []
    began, release = asyncio.Event(), asyncio.Event()

    async def handler(item: int) -> None:
        if item == 1:
            began.set()
        await release.wait()
        ended.append(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(range(4))
        task = asyncio.create_task(consume(jobs, handler, concurrency=2))
        await began.wait()
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)
        assert sorted(ended) == [0, 1]
        rest = [await jobs.get(timeout=5), await jobs.get(timeout=5)]
        assert sorted(rest) == [2, 3]


@pytest.mark.anyio
async def test_drain_timeout_cancels_handlers(hosting):
    """What was not finished in time is handed out again."""
    began = anyio.Event()
    cancelled: list[int] = []

    async def handler(item: int) -> None:
        began.set()
        try:
            await anyio.sleep_forever()
        except BaseException:
            cancelled.append(item)
            raise

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put(7)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as consumer:

                    async def cancel() -> None:
                        await began.wait()
                        consumer.cancel()

                    group.start_soon(cancel)
                    await consume(jobs, handler, drain_timeout=0.05)
        assert cancelled == [7]
        assert await jobs.get(timeout=5) == 7
        await jobs.task_done()
        await assert_done(jobs)


@pytest.mark.anyio
@pytest.mark.parametrize("steps", range(12))
async def test_cancelled_at_any_step_it_ends(memory, steps):
    """With no time to drain, the call ends and no item is lost, wherever the cancellation finds
    it: also where a handler is only about to start."""

    async def handler(item: int) -> None:
        await anyio.sleep_forever()

    async with memory.connect() as manager:
        jobs = manager.queue("jobs")
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(partial(consume, jobs, handler, concurrency=3, drain_timeout=0))
                await anyio.lowlevel.checkpoint()
                await jobs.put_many(range(5))
                for _ in range(steps):
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert sorted([await jobs.get() for _ in range(5)]) == list(range(5))


@pytest.mark.asyncio
async def test_cancelled_natively_at_any_time_nothing_is_lost(memory):
    """Every item is handled once, or still in the queue."""
    handled: list[int] = []

    async def handler(item: int) -> None:
        await asyncio.sleep(0)
        handled.append(item)

    async with memory.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(range(400))
        for steps in range(60):
            task = asyncio.create_task(consume(jobs, handler, concurrency=1 + steps % 3))
            for _ in range(steps % 20):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await jobs.put(None)
        await consume(jobs, handler)
        assert sorted(handled) == list(range(400))
        await assert_done(jobs)


PROGRAM = """
import anyio, os, sys
import aiomanager

async def main():
    async with aiomanager.connect(sys.argv[1], bytes.fromhex(sys.argv[2])) as manager:
        jobs, begun, go = (manager.queue(name) for name in ("jobs", "begun", "go"))

        async def handler(item):
            await begun.put(item)
            await go.get()

        handled = await aiomanager.consume(jobs, handler, concurrency=2, handle_signals=True)
        print("handled", handled, flush=True)

anyio.run(main, backend=sys.argv[3])
"""


@pytest.mark.every_python
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_returns(backend, number):
    """`handle_signals`: handlers end, the call returns as usual, and the program goes on."""
    host = QueueManager(authkey=KEY, queues=dict.fromkeys(("jobs", "begun", "go"), 0))
    host.start()
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM)]
    command += [str(host.address), KEY.hex(), backend]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        jobs, begun, go = (host.get_queue(name) for name in ("jobs", "begun", "go"))
        for item in range(4):
            jobs.put(item)
        assert {begun.get(True, 20), begun.get(True, 20)} == {0, 1}
        child.send_signal(number)
        # A third handler would begin if the signal had changed nothing.
        go.put(None)
        go.put(None)
        out, _ = child.communicate(timeout=20)
        assert (out, child.returncode) == ("handled 2\n", 0)
        assert begun.empty()
        wait_until_sync(lambda: jobs.qsize() == 2, description="the rest is in the queue")
    finally:
        child.kill()
        child.wait()
        stop(host)


@pytest.mark.anyio
async def test_handle_signals_raises_the_plain_error(memory):
    """What a handler raised comes out as it is here too."""

    async def handler(item: int) -> None:
        raise ValueError(item)

    async with memory.connect() as manager:
        await manager.queue("jobs").put(1)
        with pytest.raises(ValueError, match="1"):
            await consume(manager.queue("jobs"), handler, handle_signals=True)
