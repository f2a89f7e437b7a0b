"""Tasks are cancelled and processes are killed, and no item is lost with them."""

from __future__ import annotations

import os
import subprocess

import anyio
import pytest

import aiomanager
from tests.support.hosts import KEY, script

pytestmark = pytest.mark.anyio

CONSUMER = """
    import asyncio, sys
    import aiomanager

    async def main():
        async with aiomanager.connect(sys.argv[1]) as manager:
            async for job in manager.queue("jobs"):
                print("working on", job, flush=True)
                await asyncio.Event().wait()

    asyncio.run(main())
"""


def line_of(process: subprocess.Popen[str]) -> str:
    """What a program says next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_a_get_that_is_cancelled_has_taken_nothing():
    """What comes afterwards is for whoever asks next."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        with anyio.move_on_after(0.05) as scope:
            await jobs.get()
        assert scope.cancelled_caught
        await jobs.put("kept")
        assert await jobs.get(timeout=5) == "kept"


async def test_a_get_that_is_cancelled_as_its_item_comes_has_taken_nothing():
    """An item that was on its way to a task that has left goes back to the queue."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        got = []

        async def get():
            got.append(await jobs.get())

        for number in range(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(get)
                await jobs.put(number)
                tasks.cancel_scope.cancel()
        while len(got) < 20:
            got.append(await jobs.get(timeout=5))
        assert sorted(got) == list(range(20))


async def test_work_that_is_cancelled_is_handed_out_again():
    """A handler that had no time to end has not done its item."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("half done")
        begun = anyio.Event()

        async def handle(_job):
            begun.set()
            await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: aiomanager.consume(jobs, handle, drain_timeout=0))
            await begun.wait()
            tasks.cancel_scope.cancel()
        (delivery,) = await jobs.get_deliveries(1, timeout=5)
        assert (delivery.item, delivery.attempt) == ("half done", 2)


async def test_what_a_killed_consumer_was_working_on_is_handed_out_again():
    """The host sees that the process is gone, and gives its item to the next."""
    async with aiomanager.host({"jobs": 0}, authkey=KEY) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("dangerous")
        environ = os.environ | {"AIOMANAGER_AUTHKEY": KEY.decode()}
        with script(CONSUMER, manager.address, env=environ) as consumer:
            assert line_of(consumer) == "working on dangerous"
            consumer.kill()
            (delivery,) = await jobs.get_deliveries(1, timeout=10)
        assert (delivery.item, delivery.attempt) == ("dangerous", 2)
        await delivery.ack()
        await jobs.join()


async def test_a_host_that_is_gone_is_an_error():
    """Calls say that the connection is lost, and do not wait for ever."""
    async with (
        aiomanager.host({"jobs": 0}) as manager,
        aiomanager.connect(manager.address, manager.authkey, reconnect=0.1) as other,
    ):
        await manager.shutdown()
        with pytest.raises(aiomanager.ConnectionLostError):
            await other.queue("jobs").put("to nobody")
