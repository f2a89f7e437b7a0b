"""Handlers that fail, items that cannot be had, hosts that go away."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import signal
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiomanager import (
    AsyncQueue,
    ConnectionLostError,
    DeadLetter,
    DecodeError,
    Delivery,
    QueueShutDown,
    consume,
)
from aiomanager._queue.consumer import _Rules
from aiomanager._queue.leases import Lease
from tests.queue.consumer.hosting import assert_done, watched
from tests.support.waiting import wait_until


@pytest.mark.anyio
async def test_retries_then_dead_letter(hosting):
    """`retries` more attempts, counted; then a `DeadLetter` with the reason, and the item is
    done. Both callbacks see the number of the attempt."""
    attempts: list[int] = []
    pauses: list[int] = []

    async def handler(item: str) -> None:
        raise LookupError(f"no such {item}")

    def backoff(attempt: int) -> float:
        pauses.append(attempt)
        return 0.01 * attempt

    def on_error(delivery: Delivery[str], error: Exception) -> None:
        attempts.append(delivery.attempt)
        assert delivery.item == "thing"
        assert isinstance(error, LookupError)

    async with hosting.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put_many(["thing", None])
        with anyio.fail_after(20):
            handled = await consume(
                jobs, handler, retries=2, backoff=backoff, dead_letter=failed, on_error=on_error
            )
        assert handled == 0
        assert attempts == [1, 2, 3]
        assert pauses == [1, 2]
        await assert_done(jobs)
        letter = await failed.get(timeout=5)
        assert isinstance(letter, DeadLetter)
        assert letter.item == "thing"
        assert (letter.reason, letter.attempts) == ("LookupError: no such thing", 3)
        assert letter.queue == "jobs"
        assert await failed.qsize() == 0


@pytest.mark.every_python
def test_backoff_doubles_up_to_a_minute():
    """Seconds before the first retry, doubled for each later one."""

    async def handler(item: object) -> None:
        raise AssertionError

    rules = _Rules(handler, 10, 0.5, None, None)
    assert [rules.pause(attempt) for attempt in (1, 2, 3, 7, 8, 9, 2000)] == [
        0.5,
        1.0,
        2.0,
        32.0,
        60.0,
        60.0,
        60.0,
    ]


@pytest.mark.anyio
async def test_a_retry_that_the_host_hears_of_late(hosting, monkeypatch):
    """The sentinel does not end the call before it, however long the answer of the host took."""
    settle = Lease.settle

    async def settle_late(lease: Lease[int], action: Any, delay: float = 0.0) -> None:
        await settle(lease, action, delay)
        if action == "nack" and lease.item == 1:
            await anyio.sleep(0.2)  # by now its backoff is over

    monkeypatch.setattr(Lease, "settle", settle_late)
    failed: list[int] = []

    async def handler(item: int) -> None:
        if not failed:
            failed.append(item)
            raise OSError

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, None])
        with anyio.fail_after(20):
            assert await consume(jobs, handler, concurrency=2, retries=1, backoff=0.01) == 1
        assert await jobs.empty()


@pytest.mark.anyio
async def test_a_retry_waits_for_its_backoff(hosting):
    """The next attempt begins no sooner than that."""
    times: list[float] = []

    async def handler(item: int) -> None:
        times.append(anyio.current_time())
        if len(times) == 1:
            raise OSError

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, None])
        with anyio.fail_after(20):
            assert await consume(jobs, handler, retries=1, backoff=0.2) == 1
        # The clocks are those of two processes, each with its own grain.
        assert times[1] - times[0] > 0.19


@pytest.mark.anyio
async def test_dead_letter_at_another_host(ours, memory):
    """The queue for what was given up may be anywhere."""

    async def handler(item: int) -> None:
        raise ValueError(item)

    async with ours.connect() as manager, memory.connect() as other:
        jobs, failed = manager.queue("jobs"), other.queue("graves")
        await jobs.put_many([1, 2, None])
        assert await consume(jobs, handler, dead_letter=failed) == 0
        await assert_done(jobs)
        assert [(await failed.get(timeout=5)).item for _ in range(2)] == [1, 2]


@pytest.mark.anyio
async def test_dead_letter_that_takes_nothing(hosting):
    """Its error ends the call, and the item is in its queue again."""
    if not hosting.leases:
        pytest.skip("a stock host's queue cannot be shut down before Python 3.13")

    async def handler(item: int) -> None:
        raise ValueError(item)

    async with hosting.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await failed.shutdown()
        await jobs.put(1)
        with pytest.raises(QueueShutDown):
            await consume(jobs, handler, dead_letter=failed)
        with anyio.fail_after(5):
            assert await jobs.get() == 1


@pytest.mark.anyio
@pytest.mark.parametrize("awaitable", [False, True], ids=["sync", "async"])
async def test_on_error_alone_gives_up(hosting, awaitable, caplog):
    """An item that was shown to `on_error` for the last time is done, and the log says so."""
    shown: list[tuple[int, int]] = []

    async def handler(item: int) -> None:
        if item == 1:
            raise ValueError(item)

    def on_error(delivery: Delivery[int], error: Exception) -> None:
        shown.append((delivery.item, delivery.attempt))

    async def on_error_async(delivery: Delivery[int], error: Exception) -> None:
        await anyio.lowlevel.checkpoint()
        on_error(delivery, error)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([0, 1, 2, None])
        callback = on_error_async if awaitable else on_error
        with anyio.fail_after(20):
            assert await consume(jobs, handler, retries=1, backoff=0, on_error=callback) == 2
        assert shown == [(1, 1), (1, 2)]
        await assert_done(jobs)
    assert "gave up an item of <AsyncQueue 'jobs'> after attempt 2" in caplog.text


@pytest.mark.anyio
async def test_on_error_may_settle(memory):
    """Where `on_error` has settled the delivery, nothing else is done with it."""
    seen: list[int] = []

    async def handler(item: int) -> None:
        seen.append(item)
        raise ValueError(item)

    async def on_error(delivery: Delivery[int], error: Exception) -> None:
        await delivery.ack()

    async with memory.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put_many([1, None])
        assert await consume(jobs, handler, retries=5, dead_letter=failed, on_error=on_error) == 0
        assert seen == [1]
        await assert_done(jobs)
        assert await failed.qsize() == 0


@pytest.mark.anyio
async def test_an_error_in_on_error_ends_the_call(hosting):
    """It is raised, and the item stays."""

    async def handler(item: int) -> None:
        raise ValueError(item)

    def on_error(delivery: Delivery[int], error: Exception) -> None:
        raise ZeroDivisionError

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put(1)
        with pytest.raises(ZeroDivisionError):
            await consume(jobs, handler, retries=3, on_error=on_error)
        assert await jobs.get(timeout=5) == 1


@pytest.mark.anyio
async def test_error_without_rules_ends_the_call(hosting):
    """The very error is raised after the other handlers have ended; its item is handed out again,
    and what was not received is still there."""
    ended: list[int] = []
    started, failing = anyio.Event(), anyio.Event()

    async def handler(item: int) -> None:
        if item == 2:
            await started.wait()
            failing.set()
            raise ValueError("two")
        started.set()
        await failing.wait()
        await anyio.wait_all_tasks_blocked()  # the call, which has seen the error, waits for this
        ended.append(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, 2])
        with anyio.fail_after(20), pytest.raises(ValueError, match=r"^two$"):
            await consume(jobs, handler, concurrency=2)
        assert ended == [1]
        await jobs.put(3)
        assert sorted([await jobs.get(timeout=5), await jobs.get(timeout=5)]) == [2, 3]


@pytest.mark.anyio
async def test_error_while_the_sentinel_waits(hosting):
    """The sentinel waits for a handler which then fails: the call ends all the same, and both
    the item and the sentinel are in the queue again."""
    release = anyio.Event()

    async def handler(item: int) -> None:
        await release.wait()
        raise ValueError(item)

    async with hosting.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put_many([1, None])

        async def let_fail() -> None:
            await wait_until(lambda: _is_empty(jobs), description="both were received")
            release.set()

        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:
                group.start_soon(let_fail)
                with pytest.raises(ValueError, match="1"):
                    await consume(jobs, handler, concurrency=4)
        again = [await jobs.get(timeout=5), await jobs.get(timeout=5)]
        assert sorted(again, key=str) == [1, None]


async def _is_empty(queue: AsyncQueue[Any]) -> bool:
    return await queue.qsize() == 0


@pytest.mark.asyncio
async def test_a_cancelled_thing_that_a_handler_awaits_is_a_failure(memory):
    """The handler itself was not cancelled, so it has failed as by any error."""
    reasons: list[str] = []

    async def handler(item: int) -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async with memory.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put_many([1, None])
        assert await consume(jobs, handler, retries=1, backoff=0, dead_letter=failed) == 0
        letter = await failed.get(timeout=5)
        reasons.append(letter.reason)
        assert letter.attempts == 2
    assert reasons == ["RuntimeError: something that the handler awaited was cancelled"]


@pytest.fixture
def undecodable() -> Iterator[type]:
    """A class whose instances do not decode once its module is gone."""
    module = types.ModuleType("imported_by_nobody_else")
    kind = type("Thing", (), {"__module__": module.__name__})
    module.Thing = kind  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    yield kind
    sys.modules.pop(module.__name__, None)


@pytest.mark.anyio
async def test_undecodable_item_goes_to_the_dead_letters(undecodable, hosting):
    """It is no sentinel and reaches no handler; its bytes are kept, and decode where the class
    is known."""
    seen: list[Any] = []
    module = sys.modules["imported_by_nobody_else"]
    async with hosting.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put_many([undecodable(), "next", None])
        del sys.modules[module.__name__]
        with anyio.fail_after(20):
            handled = await consume(jobs, watched(seen), retries=1, backoff=0, dead_letter=failed)
        assert (handled, seen) == (1, ["next"])
        await assert_done(jobs)
        letter = await failed.get(timeout=5)
        assert letter.attempts == 2
        assert letter.reason.startswith("DecodeError: ")
        with pytest.raises(DecodeError):
            _ = letter.item
        sys.modules[module.__name__] = module
        assert isinstance(letter.item, undecodable)


@pytest.mark.anyio
async def test_undecodable_item_without_rules(undecodable, ours):
    """The error ends the call, and the item stays."""
    async with ours.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put(undecodable())
        module = sys.modules.pop("imported_by_nobody_else")
        with pytest.raises(DecodeError):
            await consume(jobs, watched([]))
        sys.modules[module.__name__] = module
        assert isinstance(await jobs.get(timeout=5), undecodable)


@pytest.mark.anyio
async def test_lost_lease_is_no_success(impatient, caplog):
    """An item whose lease ran out meanwhile counts for whoever did it in time."""
    second = anyio.Event()
    attempts = itertools.count(1)

    async def handler(item: int) -> None:
        if next(attempts) == 1:
            await second.wait()
        else:
            second.set()

    async with impatient.connect() as manager:
        jobs = manager.queue("jobs")
        await jobs.put(1)
        with anyio.fail_after(10):
            async with anyio.create_task_group() as group:

                async def end() -> None:
                    await second.wait()
                    await jobs.put(None)

                group.start_soon(end)
                assert await consume(jobs, handler, concurrency=2) == 1
        await assert_done(jobs)
    assert "the lease of this item has ended" in caplog.text


@pytest.mark.anyio
@pytest.mark.parametrize("waiting", [True, False], ids=["waiting", "working"])
async def test_a_lost_host_ends_the_call(ours, waiting, caplog):
    """The error is the plain `ConnectionLostError`, with the traceback of no task group."""
    caplog.set_level(logging.CRITICAL)
    began, gone = anyio.Event(), anyio.Event()

    async def handler(item: int) -> None:
        began.set()
        await gone.wait()

    async with ours.connect(reconnect=0.0) as manager:
        jobs = manager.queue("jobs")
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:

                async def kill() -> None:
                    if not waiting:
                        await began.wait()
                    else:
                        await wait_until(
                            lambda: _waits(jobs), description="the consumer waits at the host"
                        )
                    os.kill(ours.manager._process.pid, signal.SIGKILL)
                    await anyio.to_thread.run_sync(ours.manager._process.join)
                    Path(ours.address).unlink()  # which it had no time to do itself
                    gone.set()

                if not waiting:
                    await jobs.put(1)
                group.start_soon(kill)
                with pytest.raises(ConnectionLostError):
                    await consume(jobs, handler)


async def _waits(queue: AsyncQueue[Any]) -> bool:
    return bool((await queue.statistics()).waiting_getters)
