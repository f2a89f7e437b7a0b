# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""The public names as a user's type checker sees them. Checked by mypy and pyright; nothing here
runs. A line that ignores an error must have one: both checkers report an ignore that is not needed.
"""

from __future__ import annotations

import asyncio
import queue as stdlib_queue
from dataclasses import dataclass
from pathlib import Path
from typing import Any, assert_type

import aiomanager
from aiomanager import (
    AsyncManager,
    AsyncQueue,
    ConnectionLostError,
    DeadLetter,
    Delivery,
    QueueEmpty,
    QueueFull,
    QueueManager,
    QueueShutDown,
    QueueStatistics,
    consume,
)


@dataclass
class Job:
    """An item."""

    number: int


async def managers() -> None:
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


async def handle(jobs: AsyncQueue[Job], failed: AsyncQueue[DeadLetter[Job]]) -> None:
    """Handlers take what the queue has."""
    assert_type(await consume(jobs, work), int)
    await consume(jobs, work_and_say, concurrency=8, retries=3, backoff=0.5)
    await consume(jobs, Worker(), backoff=lambda attempt: 0.1 * attempt, drain_timeout=None)
    await consume(jobs, work, dead_letter=failed, on_error=on_error, handle_signals=True)
    await consume(jobs, work, on_error=on_error_async, sentinel=aiomanager.NO_SENTINEL)
    await consume(jobs, work_on_text)  # type: ignore[arg-type]
    await consume(jobs, blocking_work)  # type: ignore[arg-type]
    async for letter in failed:
        assert_type(letter, DeadLetter[Job])
        assert_type(letter.item, Job)
        assert_type((letter.reason, letter.attempts, letter.queue), tuple[str, int, str])


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
