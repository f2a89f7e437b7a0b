"""Contract: `consume()` over each kind of queue, on each event loop."""

from __future__ import annotations

import asyncio
import itertools
import logging
import multiprocessing
import os
import queue as stdlib_queue
import signal
import subprocess
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

import anyio
import pytest

import aiomanager
from aiomanager import (
    NO_SENTINEL,
    AsyncManager,
    AsyncQueue,
    ConfigurationError,
    ConnectionLostError,
    DeadLetter,
    DecodeError,
    Delivery,
    QueueManager,
    QueueShutDown,
    consume,
)
from aiomanager._consumer import _Rules
from tests.waiting import wait_until, wait_until_sync

KEY = b"the key of these tests"
QUEUES = ("jobs", "failed")
STOCK_KINDS: dict[str, Callable[[], Any]] = {
    "queue.Queue": stdlib_queue.Queue,
    "JoinableQueue": multiprocessing.JoinableQueue,
}

_numbers = itertools.count()
_stock_queues: dict[str, Any] = {}


@dataclass(frozen=True)
class Hosting:
    """Where the queues of a test are."""

    kind: str
    address: Any
    manager: BaseManager | None = None

    @property
    def leases(self) -> bool:
        """Whether the host knows who has what."""
        return self.kind in ("memory", "ours")

    def connect(self, **options: Any) -> AsyncManager:
        """A new connection."""
        key = None if self.kind == "memory" else KEY
        return aiomanager.connect(self.address, key, wait_slice=0.1, **options)


def _stock_queue(make: Callable[[], Any], name: str) -> Any:
    """Runs in the host process, which keeps what it has made."""
    if name not in _stock_queues:
        _stock_queues[name] = make()
    return _stock_queues[name]


def _stock_manager(make: Callable[[], Any]) -> BaseManager:
    class StockManager(BaseManager):
        pass

    for name in QUEUES:
        StockManager.register(name, callable=partial(_stock_queue, make, name))
    manager = StockManager(authkey=KEY)
    manager.start()
    return manager


def _serve(kind: str, **settings: Any) -> Iterator[Hosting]:
    if kind == "memory":
        yield Hosting(kind, f"memory://consumer-{next(_numbers)}")
        return
    manager: BaseManager
    if kind == "ours":
        manager = QueueManager(authkey=KEY, queues=dict.fromkeys(QUEUES, 0), **settings)
        manager.start()
    else:
        manager = _stock_manager(STOCK_KINDS[kind])
    try:
        yield Hosting(kind, manager.address, manager)
    finally:
        stop(manager)


def stop(manager: Any) -> None:
    """Shut a manager down, with its process and what this one holds of it."""
    process = manager._process
    manager.shutdown()
    process.close()


@pytest.fixture(params=["memory", "ours", *STOCK_KINDS])
def hosting(request: pytest.FixtureRequest) -> Iterator[Hosting]:
    """Every kind of host, with nothing in its queues."""
    yield from _serve(request.param)


@pytest.fixture
def ours() -> Iterator[Hosting]:
    """A host process of ours."""
    yield from _serve("ours")


@pytest.fixture
def impatient() -> Iterator[Hosting]:
    """A host of ours which takes back what is kept for longer than a moment."""
    yield from _serve("ours", lease_timeout=0.2)


@pytest.fixture
def memory() -> Iterator[Hosting]:
    """Queues in this process."""
    yield from _serve("memory")


def watched(seen: list[Any]) -> Callable[[Any], Any]:
    """A handler that notes what it was given."""

    async def handler(item: Any) -> None:
        seen.append(item)

    return handler


async def assert_done(queue: AsyncQueue[Any]) -> None:
    """Everything that was put is done."""
    with anyio.fail_after(10):
        await queue.join()
    assert await queue.qsize() == 0


# -- the way it should go ---------------------------------------------------------------------


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


# -- failures ---------------------------------------------------------------------------------


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
    started = anyio.Event()

    async def handler(item: int) -> None:
        if item == 2:
            await started.wait()
            raise ValueError("two")
        started.set()
        await anyio.sleep(0.05)
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


# -- endings from outside ---------------------------------------------------------------------


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


# -- arguments --------------------------------------------------------------------------------


async def _fine(item: object) -> None:
    pass


BAD: dict[str, dict[str, Any]] = {
    "handler": {"handler": None},
    "concurrency": {"concurrency": 0},
    "concurrency is": {"concurrency": 1.5},
    "retries": {"retries": -1},
    "backoff": {"backoff": -1.0},
    "drain_timeout": {"drain_timeout": -1},
    "on_error": {"on_error": "log"},
}


@pytest.mark.anyio
@pytest.mark.parametrize("match", BAD)
async def test_bad_arguments(memory, match):
    """Each is refused before anything is received."""
    async with memory.connect() as manager:
        arguments = {"handler": _fine, **BAD[match]}
        with pytest.raises(ConfigurationError, match=match):
            await consume(manager.queue("jobs"), **arguments)


@pytest.mark.anyio
async def test_a_dead_letter_queue_cannot_be_the_queue(memory):
    """It would never be empty."""
    async with memory.connect() as manager:
        jobs = manager.queue("jobs")
        with pytest.raises(ConfigurationError, match="the queue itself"):
            await consume(jobs, _fine, dead_letter=jobs)


@pytest.mark.anyio
async def test_a_blocking_handler_is_refused(memory):
    """At its first item, which stays; it does not count as a failure of the item."""
    seen: list[int] = []
    async with memory.connect() as manager:
        jobs, failed = manager.queue("jobs"), manager.queue("failed")
        await jobs.put(1)
        with pytest.raises(ConfigurationError, match="no async function"):
            await consume(jobs, seen.append, dead_letter=failed)  # type: ignore[arg-type]
        assert (await jobs.get(timeout=5), seen) == (1, [1])
        assert await failed.empty()
