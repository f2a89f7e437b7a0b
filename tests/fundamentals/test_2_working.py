"""Loops over a queue, which hand an item out again where its work was not done."""

from __future__ import annotations

import anyio
import pytest

import aiomanager

pytestmark = pytest.mark.anyio


async def test_a_loop_marks_its_items_as_done():
    """In `async for` an item counts as done when the loop asks for the next; None ends it."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(["a", "b", None])
        assert [job async for job in jobs] == ["a", "b"]
        await jobs.join()


async def test_a_sentinel_of_ones_own():
    """Where None is an item like others, another value ends the loop."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs", sentinel="the end")
        await jobs.put_many(["a", None, "the end"])
        assert [job async for job in jobs] == ["a", None]


async def test_a_loop_that_is_left_has_not_done_its_item():
    """A break, or an error, hands the current item out again, before all others."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(["a", "b", None])
        async for _job in jobs:
            break
        assert [job async for job in jobs] == ["a", "b"]


async def test_a_delivery_is_acked():
    """`deliveries` gives the caller the lease of an item, and `ack` says that it is done."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many(["a", None])
        async for delivery in jobs.deliveries():
            assert (delivery.item, delivery.attempt) == ("a", 1)
            await delivery.ack()
        await jobs.join()


async def test_a_delivery_is_nacked():
    """`nack` has it handed out again, and `attempt` counts how often it was."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("flaky")
        async for delivery in jobs.deliveries():
            if delivery.attempt == 3:
                await delivery.ack()
                break
            await delivery.nack()
        await jobs.join()


async def test_a_delivery_as_a_block():
    """The end of the block acks, and an error in it nacks."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("a")
        (delivery,) = await jobs.get_deliveries(1)
        with pytest.raises(ZeroDivisionError):
            async with delivery:
                raise ZeroDivisionError
        (again,) = await jobs.get_deliveries(1)
        async with again:
            assert (again.item, again.attempt) == ("a", 2)
        await jobs.join()


async def test_consume_runs_a_handler():
    """`consume` calls a handler for each item, several at once, until None comes."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, 2, 3, None])
        handled = []

        async def handle(job):
            handled.append(job)

        assert await aiomanager.consume(jobs, handle, concurrency=2) == 3
        assert sorted(handled) == [1, 2, 3]


async def test_consume_retries_what_fails():
    """An item whose handler raises is tried again, as often as `retries` says."""
    async with aiomanager.host({"jobs": 0}) as manager:
        jobs = manager.queue("jobs")
        await jobs.put("flaky")
        attempts = []

        async def handle(job):
            attempts.append(job)
            if len(attempts) < 3:
                raise RuntimeError("not yet")
            await jobs.put(None)

        assert await aiomanager.consume(jobs, handle, retries=2, backoff=0.01) == 1
        assert attempts == ["flaky"] * 3


async def test_consume_gives_up_into_a_dead_letter_queue():
    """What fails for good is in another queue then, with the reason, and nothing is lost."""
    async with aiomanager.host({"jobs": 0, "failed": 0}) as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put_many([4, 0, None])

        async def handle(number):
            assert 1 / number == 0.25

        assert await aiomanager.consume(jobs, handle, dead_letter=failed) == 1
        letter = await failed.get()
        assert (letter.item, letter.attempts) == (0, 1)
        assert letter.reason == "ZeroDivisionError: division by zero"


async def test_shutdown_ends_everybody():
    """After `shutdown` nothing can be put; loops take what is left, and end."""
    async with aiomanager.host({"jobs": 0}) as manager, anyio.create_task_group() as tasks:
        jobs = manager.queue("jobs")
        got = []

        async def work():
            got.extend([job async for job in jobs])

        tasks.start_soon(work)
        tasks.start_soon(work)
        await jobs.put_many([1, 2])
        await jobs.shutdown()
        with pytest.raises(aiomanager.QueueShutDown):
            await jobs.put(3)
    assert sorted(got) == [1, 2]
