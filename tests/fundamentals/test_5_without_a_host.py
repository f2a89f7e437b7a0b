"""`memory://`: the same queues in one process, for the tests of a program."""

from __future__ import annotations

import pytest

import aiomanager

pytestmark = pytest.mark.anyio


async def test_a_program_is_tested_without_a_host():
    """What is written for a queue does not see where it is."""

    async def double(jobs, results):
        async for number in jobs:
            await results.put(2 * number)

    async with aiomanager.connect("memory://", queues={"jobs": 0, "results": 10}) as manager:
        jobs, results = manager.queue("jobs"), manager.queue("results")
        await jobs.put_many([1, 2, 3, None])
        await double(jobs, results)
        assert await results.get_many(10) == [2, 4, 6]
        await jobs.join()


async def test_programs_of_one_process_share_a_named_memory():
    """Who connects to the same name has the same queues."""
    shop = "memory://shop"
    async with aiomanager.connect(shop) as one, aiomanager.connect(shop) as other:
        await one.queue("jobs").put("for the other")
        assert await other.queue("jobs").get(timeout=5) == "for the other"
