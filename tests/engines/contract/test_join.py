"""Contract: `join` waits until every item that was put is done."""

from __future__ import annotations

import anyio
import pytest

pytestmark = pytest.mark.anyio


async def joins(queue):
    """Whether `join` returns."""
    with anyio.move_on_after(0.1):
        await queue.join()
        return True
    return False


async def test_join_on_a_queue_without_items(queue):
    """It returns at once."""
    with anyio.fail_after(5):
        await queue.join()


async def test_join_waits_for_every_item(queue):
    """To be got is not enough, an item has to be done."""
    await queue.put_many([1, 2])
    await queue.get(timeout=5)
    await queue.task_done()
    await queue.get(timeout=5)
    assert not await joins(queue)
    await queue.task_done()
    with anyio.fail_after(5):
        await queue.join()


async def test_all_who_wait_in_join_are_released(queue):
    """Whenever they began to wait."""
    await queue.put_many([1, 2])
    await queue.get(timeout=5)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(queue.join)
                await anyio.wait_all_tasks_blocked()
            await queue.task_done()
            await queue.get(timeout=5)
            for _ in range(3):
                group.start_soon(queue.join)
            await queue.task_done()


async def test_task_done_too_often(queue):
    """Nobody may say of more items than were taken that they are done."""
    with pytest.raises(ValueError, match="too many times"):
        await queue.task_done()
    await queue.put("item")
    assert not await joins(queue)
    await queue.get(timeout=5)
    await queue.task_done()
    with pytest.raises(ValueError, match="too many times"):
        await queue.task_done()


async def test_task_done_by_many_at_once(queue):
    """Each counts for one item, also where some are too many."""
    await queue.put_many(range(4))
    for _ in range(3):
        await queue.get(timeout=5)
    await queue.task_done()
    outcomes = []

    async def say_done():
        try:
            await queue.task_done()
            outcomes.append("done")
        except ValueError:
            outcomes.append("too many")

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(say_done)
    # A stock host counts the item that nobody has taken yet.
    assert outcomes.count("done") in (2, 3)
    assert len(outcomes) == 5


async def test_join_in_one_client_and_task_done_in_another(queue, place):
    """The count is the queue's, not the client's."""
    await queue.put("item")
    async with place.connect() as other, anyio.create_task_group() as group:
        group.start_soon(queue.join)
        await anyio.wait_all_tasks_blocked()
        await other.queue(queue.name).get(timeout=5)
        await other.queue(queue.name).task_done()


async def test_a_cancelled_join_changes_nothing(queue):
    """Nor do many of them keep others from joining."""
    await queue.put("item")
    for _ in range(20):
        with anyio.move_on_after(0.001):
            await queue.join()
    await queue.get(timeout=5)
    await queue.task_done()
    with anyio.fail_after(5):
        await queue.join()
