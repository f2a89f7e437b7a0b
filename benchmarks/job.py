"""The first article's whole job: a host, a process that produces, one that consumes, the end."""

from __future__ import annotations

import multiprocessing
import secrets
import subprocess
import time
from collections.abc import Callable
from multiprocessing.managers import BaseManager
from typing import Any

import anyio
import anyio.to_thread

import aiomanager

from ._results import Claim, Report, Samples, Table, figure
from ._runner import Benchmark, Case, start_child

ARTICLE = "article"
LABELS = {
    ARTICLE: "the article: blocking proxies of a JoinableQueue",
    "many": "put_many; async for, prefetch=32",
    "one": "await put, one at a time; async for",
    "tasks": "64 tasks that put; 64 that get and task_done",
    "batches": "put_many; get_many, task_done for each at once",
    "consume": "put_many; consume(concurrency=64)",
}
CLAIMED = "many"
TASKS = 64


def cases(quick: bool) -> list[Case]:
    return [Case(key, {"how": key, "count": 2_000 if quick else 100_000}) for key in LABELS]


def sample(how: str, count: int) -> dict[str, float]:
    """Seconds for the whole job, from the host's start to the end of `join`."""
    start = time.perf_counter()
    consumed = article(count) if how == ARTICLE else anyio.run(job, how, count)
    if consumed != sum(range(count)):
        raise AssertionError("the consumer did not get what the producer put")
    return {"seconds": time.perf_counter() - start}


# -- the article's code, with a sum in place of its prints ------------------------------------


class TestManager(BaseManager):
    """Named as in the article."""


def article(count: int) -> int:
    """The job as the article does it: all processes but the terminator run at the same time."""
    fork = multiprocessing.get_context("fork")  # the article's lambda needs it
    hosted: Any = fork.JoinableQueue()
    authkey = secrets.token_bytes(32)
    TestManager.register("get_queue", callable=lambda: hosted)
    manager = TestManager(authkey=authkey, ctx=fork)
    manager.start()
    receiver, sender = fork.Pipe(duplex=False)
    consumer = fork.Process(target=_do_consume, args=(manager, sender))
    consumer.start()
    producer = fork.Process(target=_do_produce, args=(manager.address, authkey, count))
    producer.start()
    producer.join()
    terminator = fork.Process(target=_do_terminate, args=(manager.address, authkey))
    terminator.start()
    terminator.join()
    total: int = receiver.recv()
    consumer.join()
    manager.get_queue().join()  # type: ignore[attr-defined]
    manager.shutdown()
    return total


def _make_client(address: Any, authkey: bytes) -> Any:
    TestManager.register("get_queue")
    manager = TestManager(address=address, authkey=authkey)
    manager.connect()
    return manager


def _do_consume(manager: Any, sender: Any) -> None:
    queue = manager.get_queue()
    total = 0
    while True:
        item = queue.get(block=True)
        queue.task_done()
        if item is None:
            break
        total += item
    sender.send(total)


def _do_produce(address: Any, authkey: bytes, count: int) -> None:
    queue = _make_client(address, authkey).get_queue()
    for i in range(count):
        queue.put(i, block=True)


def _do_terminate(address: Any, authkey: bytes) -> None:
    _make_client(address, authkey).get_queue().put(None, block=True)


# -- the same job with aiomanager -------------------------------------------------------------


async def job(how: str, count: int) -> int:
    """The parent: a host of its own, and two other programs."""
    async with aiomanager.host(queues={"jobs": 0}) as manager:
        parameters = {
            "address": manager.address,
            "authkey": manager.authkey.decode(),
            "how": how,
        }
        consumer = start_child(__name__, "consumer", parameters, stdout=subprocess.PIPE)
        producer = start_child(
            __name__, "producer", parameters | {"count": count}, stdout=subprocess.DEVNULL
        )
        await anyio.to_thread.run_sync(producer.wait)
        output, _ = await anyio.to_thread.run_sync(consumer.communicate)
        await manager.queue("jobs").join()
        return int(output)


def producer(address: str, authkey: str, how: str, count: int) -> None:
    """The program that puts, and then puts a sentinel for each consumer."""

    async def main() -> None:
        async with aiomanager.connect(address, authkey) as manager:
            queue = manager.queue("jobs")
            if how == "one":
                for i in range(count):
                    await queue.put(i)
            elif how == "tasks":
                numbers = iter(range(count))

                async def put() -> None:
                    for i in numbers:
                        await queue.put(i)

                await _tasks(put)
            else:
                await queue.put_many(range(count))
            await queue.put_many([None] * (TASKS if how == "tasks" else 1))

    anyio.run(main)


def consumer(address: str, authkey: str, how: str) -> int:
    """The program that gets; the sum of what it got."""

    async def main() -> int:
        async with aiomanager.connect(address, authkey) as manager:
            queue = manager.queue("jobs", prefetch=32 if how == "many" else 1)
            total: int = await CONSUMERS.get(how, _iterate)(queue)
            return total

    return anyio.run(main)


async def _iterate(queue: aiomanager.AsyncQueue[int]) -> int:
    total = 0
    async for item in queue:
        total += item
    return total


async def _get(queue: aiomanager.AsyncQueue[int | None]) -> int:
    total = 0

    async def work() -> None:
        nonlocal total
        while True:
            item = await queue.get()
            await queue.task_done()
            if item is None:
                break
            total += item

    await _tasks(work)
    return total


async def _get_many(queue: aiomanager.AsyncQueue[int | None]) -> int:
    total = 0
    ended = False
    while not ended:
        items = await queue.get_many(1000)
        async with anyio.create_task_group() as group:
            for _ in items:
                group.start_soon(queue.task_done)
        total += sum(item for item in items if item is not None)
        ended = None in items
    return total


async def _consume(queue: aiomanager.AsyncQueue[int]) -> int:
    total = 0

    async def handle(item: int) -> None:
        nonlocal total
        total += item

    await aiomanager.consume(queue, handle, concurrency=TASKS)
    return total


CONSUMERS: dict[str, Callable[[Any], Any]] = {
    "tasks": _get,
    "batches": _get_many,
    "consume": _consume,
}


async def _tasks(work: Callable[[], Any]) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(TASKS):
            group.start_soon(work)


def summarise(samples: Samples) -> Report:
    claim = Claim(
        f"the article's job, its blocking code's time to that of `{LABELS[CLAIMED]}`",
        samples.ratio(ARTICLE, CLAIMED, "seconds"),
        ">=",
        5.0,
    )
    rows = [
        [
            label,
            figure(samples.ratio(ARTICLE, key, "seconds")),
            figure(samples.median(key, "seconds")),
        ]
        for key, label in LABELS.items()
        if samples.has(key)
    ]
    table = Table("the article's time to each, and seconds", ["", "times", "seconds"], rows)
    return Report([claim], [table])


BENCHMARK = Benchmark(
    "job", "the first article's whole job, 100,000 items", cases, summarise, rounds=3, timeout=400
)
