"""Contract: `shutdown` ends every producer and consumer, without counting heads."""

from __future__ import annotations

import anyio
import pytest

from aiomanager import ConfigurationError, QueueFull, QueueShutDown

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _host_can(place):
    if not place.host.can_shut_down:
        pytest.skip(
            "this host has no shutdown: see test_a_queue_that_is_shut_down in test_errors.py"
        )


async def assert_shut_down(queue):
    """Whoever puts or gets hears of it."""
    for call in (
        lambda: queue.put(1),
        lambda: queue.put_nowait(1),
        lambda: queue.put_many([1, 2]),
        queue.get,
        queue.get_nowait,
        lambda: queue.get(timeout=5),
        lambda: queue.get_many(3),
    ):
        with pytest.raises(QueueShutDown), anyio.fail_after(5):
            await call()
    assert [item async for item in queue] == []


async def test_shutdown_of_an_empty_queue(queue):
    """Nothing more goes in or out."""
    await queue.shutdown()
    await assert_shut_down(queue)


async def test_what_is_in_the_queue_can_still_be_got(queue):
    """Puts end at once, gets with the last item; every item is to be done as ever."""
    await queue.put_many([1, 2])
    await queue.shutdown()
    with pytest.raises(QueueShutDown):
        await queue.put(3)
    assert [await queue.get(), await queue.get_nowait()] == [1, 2]
    await assert_shut_down(queue)
    await queue.task_done()
    await queue.task_done()
    with anyio.fail_after(5):
        await queue.join()


async def test_an_iteration_ends_with_the_last_item(queue):
    """No sentinel is needed."""
    await queue.put_many([1, 2])
    await queue.shutdown()
    assert [item async for item in queue] == [1, 2]
    with anyio.fail_after(5):
        await queue.join()


async def test_shutdown_at_once_drops_what_waits(queue):
    """Nothing comes out any more, and nobody joins in vain."""
    await queue.put_many([1, 2])
    async with anyio.create_task_group() as group:
        group.start_soon(queue.join)
        await anyio.wait_all_tasks_blocked()
        await queue.shutdown(immediate=True)
    await assert_shut_down(queue)


async def test_waiting_gets_are_woken(queue, place):
    """In every process, whatever they wait with."""
    ended = []

    async def wait(call):
        with pytest.raises(QueueShutDown):
            await call()
        ended.append(call)

    async def iterate(queue):
        assert [item async for item in queue] == []
        ended.append(queue)

    async with place.connect() as other:
        with anyio.fail_after(5):
            async with anyio.create_task_group() as group:
                group.start_soon(wait, queue.get)
                group.start_soon(wait, lambda: queue.get(timeout=60))
                group.start_soon(wait, other.queue(queue.name).get)
                group.start_soon(iterate, queue)
                await anyio.wait_all_tasks_blocked()
                await queue.shutdown()
    assert len(ended) == 4


async def test_waiting_puts_are_woken(small):
    """They have put nothing."""
    await small.put_many([1, 2])

    async def put():
        with pytest.raises(QueueShutDown):
            await small.put(3)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(put)
                await anyio.wait_all_tasks_blocked()
            await small.shutdown()
    assert [await small.get(), await small.get()] == [1, 2]
    await assert_shut_down(small)


async def test_shutdown_twice(queue):
    """The second time changes nothing, unless it is at once."""
    await queue.put(1)
    await queue.shutdown()
    await queue.shutdown()
    assert await queue.qsize() == 1
    await queue.shutdown(immediate=True)
    await assert_shut_down(queue)


async def test_an_item_on_lease_at_shutdown(queue):
    """It comes back where it was not done, and gets wait for that."""
    await queue.put("item")
    delivery = await anext(queue.deliveries())
    await queue.shutdown()
    await delivery.nack()
    assert await queue.get(timeout=5) == "item"
    await queue.task_done()
    await assert_shut_down(queue)


async def test_full_and_shut_down(small):
    """That it is shut down says more than that it is full."""
    await small.put_many([1, 2])
    with pytest.raises(QueueFull):
        await small.put_nowait(3)
    await small.shutdown()
    with pytest.raises(QueueShutDown):
        await small.put_nowait(3)


async def test_statistics_say_so(queue, place):
    """Where the host keeps them."""
    if "is_shutdown" not in place.host.promises.counts:
        pytest.skip("this host does not tell")
    assert (await queue.statistics()).is_shutdown is False
    await queue.shutdown()
    assert (await queue.statistics()).is_shutdown is True


async def test_a_queue_that_is_not_there(manager):
    """It cannot be shut down."""
    with pytest.raises(ConfigurationError, match="registered"):
        await manager.queue("nowhere").shutdown()
