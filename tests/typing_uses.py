# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""The public names as a user's type checker sees them. Checked by mypy and pyright; nothing here
runs. A line that ignores an error must have one: both checkers report an ignore that is not needed.
"""

from __future__ import annotations

import asyncio
import queue as stdlib_queue
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from multiprocessing import managers, pool
from pathlib import Path
from typing import Any, Protocol, assert_type

import aiomanager
from aiomanager import (
    AsyncArray,
    AsyncBarrier,
    AsyncCondition,
    AsyncDict,
    AsyncEvent,
    AsyncIteratorProxy,
    AsyncList,
    AsyncLock,
    AsyncManager,
    AsyncNamespace,
    AsyncPool,
    AsyncProxy,
    AsyncQueue,
    AsyncResult,
    AsyncValue,
    ConnectionLostError,
    DeadLetter,
    Delivery,
    QueueEmpty,
    QueueFull,
    QueueManager,
    QueueProxy,
    QueueShutDown,
    QueueStatistics,
    consume,
    wrap,
)


@dataclass
class Job:
    """An item."""

    number: int


class Mail(Protocol):
    """An item that may be of any class with these."""

    def send(self) -> None:
        """Send it."""


class Stop(Enum):
    """A sentinel."""

    STOP = "stop"


async def connections() -> None:
    """What `connect` takes, and what both give."""
    async with aiomanager.connect("tcp://127.0.0.1:50000", b"key") as manager:
        assert_type(manager, AsyncManager)
        assert_type(manager.address, str)
        assert_type(manager.authkey, bytes)
        assert_type(manager.host_pid, int | None)
        untyped = manager.queue("jobs")
        assert_type(untyped, AsyncQueue[Any])
        jobs: AsyncQueue[Job] = manager.queue("jobs", sentinel="stop")
        await use(jobs)
        assert_type(await manager.shutdown(), None)
    async with aiomanager.connect(("127.0.0.1", 50000), "key", wait=5, transport="thread"):
        pass
    async with aiomanager.connect(Path("host.sock"), on_reconnect=lambda: None):
        pass
    async with aiomanager.connect("memory://", queues={"jobs": 0}):
        pass
    async with aiomanager.host({"jobs": 0}, address=("127.0.0.1", 0), lease_timeout=60) as manager:
        assert_type(manager, AsyncManager)
    async with aiomanager.host(["jobs"]):  # type: ignore[arg-type]
        pass
    aiomanager.connect(50000)  # type: ignore[arg-type]
    aiomanager.connect("host.sock", transport="fast")  # type: ignore[arg-type]


async def use(jobs: AsyncQueue[Job]) -> None:
    """Items have the type of their queue, on every way in and out."""
    assert_type(await jobs.put(Job(1)), None)
    await jobs.put(Job(1), timeout=5)
    await jobs.put_nowait(Job(2))
    await jobs.put_many([Job(3), Job(4)])
    await jobs.put_many(Job(number) for number in range(3))
    await jobs.put("no job")  # type: ignore[arg-type]
    await jobs.put_nowait(None)
    await jobs.put_many(["no job"])  # type: ignore[list-item]

    assert_type(await jobs.get(), Job)
    assert_type(await jobs.get(timeout=5), Job)
    assert_type(await jobs.get_nowait(), Job)
    assert_type(await jobs.get_many(10), list[Job])
    async for job in jobs:
        assert_type(job, Job)
        await jobs.task_done()
        break
    assert_type([job.number async for job in jobs], list[int])

    async for delivery in jobs.deliveries():
        assert_type(delivery, Delivery[Job])
        assert_type(delivery.item, Job)
        assert_type(delivery.attempt, int)
        assert_type(delivery.data, bytes)
        assert_type(await delivery.ack(), None)
        await delivery.nack(delay=1.5)
        async with delivery as same:
            assert_type(same, Delivery[Job])
        delivery.item = Job(2)  # type: ignore[misc]
    assert_type(await jobs.get_deliveries(5), list[Delivery[Job]])

    assert_type(await jobs.join(), None)
    assert_type(await jobs.qsize(), int)
    assert_type(await jobs.empty(), bool)
    assert_type(await jobs.full(), bool)
    assert_type(await jobs.maxsize(), int)
    await jobs.shutdown(immediate=True)


async def declare(manager: AsyncManager) -> None:
    """A queue is of the type that it is asked for with; its sentinel may be put too."""
    jobs = manager.queue("jobs", Job)
    assert_type(jobs, AsyncQueue[Job])
    assert_type(manager.queue("jobs", Job, prefetch=8), AsyncQueue[Job])
    await jobs.put(None)
    await jobs.put_nowait(None)
    await jobs.put_many([Job(1), None])
    await jobs.put(Stop.STOP)  # type: ignore[arg-type]

    stopped = manager.queue("stopped", Job, sentinel=Stop.STOP)
    assert_type(stopped, AsyncQueue[Job, Stop | None])
    await stopped.put(Stop.STOP)
    await stopped.put_many([Job(1), Stop.STOP])
    await stopped.put("stop")  # type: ignore[arg-type]
    assert_type(await stopped.get(), Job)
    async for job in stopped:
        assert_type(job, Job)
    assert_type(await consume(stopped, work), int)
    await use(stopped)
    jobs = stopped
    await end(stopped)

    endless = manager.queue("jobs", Job, sentinel=aiomanager.NO_SENTINEL)
    await use(endless)
    await work_on_numbers(jobs)  # type: ignore[arg-type]

    # Types of every kind, and those that no value stands for by an annotation.
    assert_type(manager.queue("pairs", tuple[int, str]), AsyncQueue[tuple[int, str]])
    assert_type(manager.queue("counts", dict[str, int]), AsyncQueue[dict[str, int]])
    assert_type(manager.queue("mail", Mail), AsyncQueue[Mail])
    union: AsyncQueue[Job | Mail] = manager.queue("both")
    assert_type(await union.get(), Job | Mail)


async def work_on_numbers(numbers: AsyncQueue[int]) -> None:
    """Takes a queue of something else."""


async def end(jobs: AsyncQueue[Job, Stop]) -> None:
    """Takes a queue that has no sentinel but this."""
    await jobs.put(Stop.STOP)
    await jobs.put(None)  # type: ignore[arg-type]


async def settle(delivery: Delivery[Job], others: AsyncQueue[Job | str]) -> None:
    """What becomes of an item."""
    assert_type(delivery.redelivered, bool)
    assert_type(delivery.settled, bool)
    await delivery.nack(unseen=True)
    await delivery.move(others, "another")
    await delivery.move(others, 7)  # type: ignore[misc]


async def count(jobs: AsyncQueue[Job]) -> None:
    """A host of ours knows all counts, a stock host one."""
    statistics = await jobs.statistics()
    assert_type(statistics, QueueStatistics)
    assert_type(statistics.qsize, int)
    assert_type(statistics.unfinished, int | None)
    assert_type(statistics.leased, int | None)
    assert_type(statistics.is_shutdown, bool | None)
    statistics.qsize = 1  # type: ignore[misc]


async def work(job: Job) -> None:
    """A handler."""


async def work_and_say(job: Job) -> str:
    """A handler whose result nobody needs."""
    return str(job.number)


async def work_on_text(text: str) -> None:
    """A handler for another queue."""


def blocking_work(job: Job) -> None:
    """No handler: it would block the event loop."""


class Worker:
    """A handler with a state."""

    async def __call__(self, job: Job) -> None:
        """Do a job."""


def on_error(delivery: Delivery[Job], error: Exception) -> None:
    """Look at an attempt that failed."""


async def on_error_async(delivery: Delivery[Job], error: Exception) -> None:
    """The same, and wait for something."""


async def handle(
    jobs: AsyncQueue[Job],
    failed: AsyncQueue[DeadLetter[Job]],
    all_failed: AsyncQueue[DeadLetter[Job | str]],
    texts: AsyncQueue[str],
) -> None:
    """Handlers take what the queue has."""
    assert_type(await consume(jobs, work), int)
    await consume(jobs, work_and_say, concurrency=8, retries=3, backoff=0.5)
    await consume(jobs, Worker(), backoff=lambda attempt: 0.1 * attempt, drain_timeout=None)
    await consume(jobs, work, dead_letter=failed, on_error=on_error, handle_signals=True)
    await consume(jobs, work, on_error=on_error_async, sentinel=aiomanager.NO_SENTINEL)
    await consume(jobs, work, dead_letter=all_failed)
    await consume(jobs, work, dead_letter=texts)  # type: ignore[arg-type]
    await consume(jobs, work_on_text)  # type: ignore[arg-type]
    await consume(jobs, blocking_work)  # type: ignore[arg-type]
    async for letter in failed:
        assert_type(letter, DeadLetter[Job])
        assert_type(letter.item, Job)
        assert_type((letter.reason, letter.attempts, letter.queue), tuple[str, int, str])


def double(number: int) -> int:
    """Something for a pool."""
    return 2 * number


async def wrap_containers(manager: managers.SyncManager) -> None:
    """Keys, values and items keep their types."""
    shared = wrap(manager.dict({"a": 1}))
    assert_type(shared, AsyncDict[str, int])
    assert_type(await shared.get("a"), int | None)
    assert_type(await shared.get("a", 0), int)
    assert_type(await shared.get("a", "none"), int | str)
    assert_type(await shared.pop("a"), int)
    assert_type(await shared.popitem(), tuple[str, int])
    assert_type(await shared.keys(), list[str])
    assert_type(await shared.items(), list[tuple[str, int]])
    assert_type(await shared.copy(), dict[str, int])
    assert_type(await shared.call("__getitem__", "a"), int)
    assert_type(await shared.call("__len__"), int)
    assert_type([key async for key in shared], list[str])
    await shared.update(b=2)
    await shared.update({"b": 2})
    await shared.call("__setitem__", "a", 1)
    await shared.setdefault(1, 1)  # type: ignore[arg-type]
    given: managers.DictProxy[int, str] = manager.dict()
    numbered = wrap(given)
    assert_type(numbered, AsyncDict[int, str])
    await numbered.update({2: "b"})
    await numbered.update(b="c")  # type: ignore[call-arg]
    assert_type(wrap(manager.dict()), AsyncDict[Any, Any])

    numbers = wrap(manager.list([1, 2]))
    assert_type(numbers, AsyncList[int])
    assert_type(await numbers.pop(), int)
    assert_type(await numbers.copy(), list[int])
    assert_type(await numbers.call("__getitem__", 0), int)
    assert_type([number async for number in numbers], list[int])
    await numbers.sort(reverse=True)
    await numbers.append("a")  # type: ignore[arg-type]

    value = wrap(manager.Value("i", 1))
    assert_type(value, AsyncValue[int])
    assert_type(await value.get(), int)
    await value.set("a")  # type: ignore[arg-type]

    array = wrap(manager.Array("d", [0.5]))
    assert_type(array, AsyncArray[float])
    assert_type(await array.copy(), Sequence[float])
    assert_type(await array.call("__getitem__", 0), float)
    assert_type([number async for number in array], list[float])


async def wrap_locks(manager: managers.SyncManager) -> None:
    """What is waited for has the answers of the standard library."""
    for lock in (
        wrap(manager.Lock()),
        wrap(manager.RLock()),
        wrap(manager.Semaphore(2)),
        wrap(manager.BoundedSemaphore(2)),
    ):
        assert_type(lock, AsyncLock)
        assert_type(await lock.acquire(timeout=1), bool)
        assert_type(await lock.release(), None)
        await lock.acquire("soon")  # type: ignore[arg-type]
        async with lock as same:
            assert_type(same, AsyncLock)

    condition = wrap(manager.Condition())
    assert_type(condition, AsyncCondition)
    assert_type(await condition.wait(1), bool)
    assert_type(await condition.wait_for(lambda: 7, timeout=1), int)
    assert_type(await condition.notify(2), None)
    assert_type(await condition.notify_all(), None)
    assert_type(await condition.acquire(), bool)

    event = wrap(manager.Event())
    assert_type(event, AsyncEvent)
    assert_type(await event.wait(timeout=0.5), bool)
    assert_type(await event.is_set(), bool)
    assert_type(await event.set(), None)
    assert_type(await event.clear(), None)
    await event.wait("soon")  # type: ignore[arg-type]

    barrier = wrap(manager.Barrier(2))
    assert_type(barrier, AsyncBarrier)
    assert_type(await barrier.wait(), int)
    assert_type(await barrier.parties(), int)
    assert_type(await barrier.n_waiting(), int)
    assert_type(await barrier.broken(), bool)
    assert_type(await barrier.abort(), None)

    namespace = wrap(manager.Namespace())
    assert_type(namespace, AsyncNamespace)
    assert_type(await namespace.set("name", 1), None)
    assert_type(await namespace.delete("name"), None)
    any_of_them: list[AsyncProxy] = [lock, condition, event, barrier, namespace]
    assert any_of_them


async def wrap_pools(manager: managers.SyncManager, given: pool.AsyncResult[int]) -> None:
    """Results have the type that the function returns."""
    workers = wrap(manager.Pool(2))
    assert_type(workers, AsyncPool)
    assert_type(await workers.apply(double, (1,)), int)
    assert_type(await workers.map(double, [1, 2]), list[int])
    assert_type(await workers.starmap(double, [(1,)]), list[int])
    assert_type(await workers.imap(double, [1, 2]), AsyncIteratorProxy[int])
    result = await workers.apply_async(double, (1,))
    assert_type(result, AsyncResult[int])
    assert_type(await result.get(timeout=5), int)
    assert_type(await result.wait(), None)
    assert_type(await result.ready(), bool)
    assert_type(await (await workers.map_async(double, [1, 2])).get(), list[int])
    async for number in await workers.imap_unordered(double, [1, 2]):
        assert_type(number, int)
    await workers.map(double, ["a"])  # type: ignore[arg-type]
    assert_type(wrap(given), AsyncResult[int])
    async with workers as same:
        assert_type(same, AsyncPool)


async def wrap_queues(
    manager: managers.SyncManager, jobs: stdlib_queue.Queue[Job], own: QueueProxy
) -> None:
    """Queues are those that `AsyncManager.queue` gives."""
    assert_type(wrap(manager.Queue()), AsyncQueue[Any])
    assert_type(wrap(manager.JoinableQueue(5)), AsyncQueue[Any])
    assert_type(wrap(own), AsyncQueue[Any])
    assert_type(wrap(jobs), AsyncQueue[Job])
    assert_type(wrap(jobs, sentinel=Stop.STOP), AsyncQueue[Job, Stop | None])
    assert_type(wrap(manager.Queue(), AsyncQueue[Job]), AsyncQueue[Job])
    await use(wrap(manager.Queue()))


class Counter(Protocol):
    """A class of one's own, as coroutines call it."""

    async def increment(self, by: int = 1) -> int:
        """Count."""
        ...


async def own_classes(manager: AsyncManager, proxy: managers.BaseProxy) -> None:
    """They are what one's own protocol says."""
    counter = wrap(proxy, Counter)
    assert_type(counter, Counter)
    assert_type(await counter.increment(by=2), int)
    await counter.increment("a")  # type: ignore[arg-type]
    counter.decrement()  # type: ignore[attr-defined]
    there = await manager.proxy("counter", 7, start=1, as_=Counter)
    assert_type(there, Counter)
    assert_type(await there.increment(), int)
    assert_type(await manager.proxy("gate", as_=AsyncLock), AsyncLock)
    assert_type(await manager.proxy("shared", as_=AsyncDict[str, int]), AsyncDict[str, int])
    annotated: AsyncEvent = await manager.proxy("ready")
    assert_type(await annotated.wait(), bool)


async def catch(jobs: AsyncQueue[Job]) -> None:
    """Errors are also what the standard library's callers catch."""
    empty: list[asyncio.QueueEmpty] = [QueueEmpty()]
    also_empty: list[stdlib_queue.Empty] = [QueueEmpty()]
    full: list[asyncio.QueueFull] = [QueueFull()]
    lost: list[ConnectionError] = [ConnectionLostError("gone")]
    try:
        await jobs.get_nowait()
    except QueueShutDown as exc:
        raise SystemExit(1) from exc
    except ConnectionLostError as exc:
        assert_type(exc.outcome_known, bool)
    except QueueFull as exc:
        assert_type(exc.accepted, int)
    assert empty
    assert also_empty
    assert full
    assert lost


def serve() -> None:
    """A blocking host."""
    manager = QueueManager(("127.0.0.1", 50000), "key", queues={"jobs": 0})
    manager.start()
    jobs = manager.get_queue("jobs")
    jobs.put(Job(1), timeout=5)
    assert_type(jobs.qsize(), int)
    assert_type(jobs.maxsize, int)
    manager.shutdown()
    QueueManager(("127.0.0.1", 50000), 7)  # type: ignore[arg-type]
