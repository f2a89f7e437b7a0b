"""Contract: `memory://` is shut down as a host is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import pytest

import aiomanager
from aiomanager import ConfigurationError, ConnectionLostError
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.every_python]


async def test_it_ends_what_waits_for_all_its_clients():
    """A get, a full put, a join and a loop, here and in another manager; nothing hangs, and what
    is asked from then on says why there is nothing."""
    lost = []

    async def ends(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(ConnectionLostError, match="the host was shut down"):
            await call()
        lost.append(call)

    async def loops(queue: aiomanager.AsyncQueue[object]) -> None:
        async for _ in queue:
            pass

    async with (
        aiomanager.connect("memory://shut", queues={"jobs": 0, "full": 1}) as manager,
        aiomanager.connect("memory://shut") as other,
    ):
        await manager.queue("full").put(1)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(ends, manager.queue("jobs").get)
                group.start_soon(ends, other.queue("jobs").get)
                group.start_soon(ends, lambda: other.queue("full").put(2))
                group.start_soon(ends, manager.queue("full").join)
                group.start_soon(ends, lambda: loops(other.queue("jobs")))
                await wait_until(lambda: _waiting(manager), description="the gets wait, and a put")
                await manager.shutdown()
        assert len(lost) == 5
        for queue in (manager.queue("jobs"), other.queue("full")):
            await ends(partial(queue.put, 1))
            await ends(queue.qsize)
            await ends(queue.get_nowait)
        with pytest.raises(ConnectionLostError, match="the host was shut down"):
            await other.shutdown()


async def _waiting(manager: aiomanager.AsyncManager) -> bool:
    jobs = await manager.queue("jobs").statistics()
    full = await manager.queue("full").statistics()
    return (jobs.waiting_getters, full.waiting_putters) == (3, 1)


async def test_what_was_leased_from_it_is_lost():
    """As at any host that is gone."""
    async with aiomanager.connect("memory://") as manager:
        await manager.queue("jobs").put(1)
        delivery = await anext(manager.queue("jobs").deliveries())
        await manager.shutdown()
        with pytest.raises(ConnectionLostError, match="the host was shut down"):
            await delivery.ack()


async def test_a_name_is_free_again():
    """The next to come makes a new host, with queues of its own."""
    async with aiomanager.connect("memory://again", queues={"jobs": 0}) as manager:
        await manager.queue("jobs").put(1)
        await manager.shutdown()
        async with aiomanager.connect("memory://again", queues={"jobs": 0}) as next_one:
            assert await next_one.queue("jobs").empty()
            await next_one.shutdown()


async def test_shutdown_needs_a_connection():
    """Before and after the block there is none."""
    manager = aiomanager.connect("memory://")
    with pytest.raises(ConfigurationError, match="not connected"):
        await manager.shutdown()
