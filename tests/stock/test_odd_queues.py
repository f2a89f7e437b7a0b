"""What people register as a queue."""

from __future__ import annotations

import anyio
import pytest

import aiomanager

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    "name", ["jobs", "simple", "pipe", "lifo", "priority", "processes", "plain"]
)
async def test_queues_of_all_kinds(connect, host, name):
    """Puts, gets and their cancellation work, whatever their methods take."""
    async with connect() as manager:
        queue = manager.queue(name)
        await queue.put(1)
        assert await queue.get(timeout=5) == 1
        with pytest.raises(aiomanager.QueueEmpty):
            await queue.get(timeout=0.1)
        with anyio.move_on_after(0.1):
            await queue.get()
        await queue.put_many([1, 2])
        assert sorted([await queue.get(timeout=5), await queue.get(timeout=5)]) == [1, 2]


async def test_a_get_that_cannot_be_given_up(connect, host):
    """The error says what is missing."""
    async with connect() as manager:
        with pytest.raises(aiomanager.ConfigurationError, match="no empty"):
            await manager.queue("blind").get(timeout=5)


async def test_an_error_from_inside_is_not_taken_for_one_of_the_call(connect, host):
    """What may have had an effect is not called twice."""
    async with connect() as manager:
        queue = manager.queue("forgetful")
        with pytest.raises(TypeError, match="takes 2"):
            await queue.put(1)
        assert await queue.qsize() == 1
