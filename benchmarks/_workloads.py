"""What a trick for speed is to make quicker: batches of calls, at a host of their own.

A workload is called with a `Client` and a number of items; what it does within `client.timed()`
counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import anyio
import anyio.to_thread
import psutil

import aiomanager

from . import _without, giant
from ._drive import sized_items, small_items
from ._memory import MIB
from ._runner import start_child
from .peers.managers import StockManager

AUTHKEY = b"a key of the benchmarks, 32 bytes"


class Counter:
    """An object that is managed."""

    def __init__(self) -> None:
        self._count = 0

    def add(self) -> int:
        self._count += 1
        return self._count


class Manager(aiomanager.QueueManager):
    """The host's."""


Manager.register("counter", Counter)


def serve(without: str, address: tuple[str, int] | None) -> None:
    """Be a host, until the standard input ends."""
    getattr(_without, without)()
    manager = Manager(address, AUTHKEY, queues={"jobs0": 0, "jobs1": 0})
    server: Any = manager.get_server()
    print(json.dumps(server.address), flush=True)
    server.serve_forever()


def processor_time(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    with contextlib.suppress(OSError):  # no such clock, as on other systems than Linux
        return time.clock_gettime((~pid << 3) | 2)  # exact; what psutil reads is in steps of 10 ms
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _busy() -> float:
    """Seconds that all processors together have had something to do."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0))


class Client:
    """A client, and what it has measured last.

    Args:
        host: the process id of its host.
        tasks: how many there are, where there are several.
    """

    def __init__(
        self, manager: aiomanager.AsyncManager, address: Any, host: int, tasks: int
    ) -> None:
        self.manager = manager
        self.address = address
        self.tasks = tasks
        self.jobs: aiomanager.AsyncQueue[Any] = manager.queue("jobs0", prefetch=32)
        self.measured: dict[str, float] = {}
        self._host = host
        self._stock: Any = None
        self._counter: Any = None

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measure what is done within it: the seconds, those of the processors that client and
        host have had, and which part of all the processors' time others have had."""
        host, client, wall = processor_time(self._host), time.process_time(), time.perf_counter()
        everybody = _busy()
        yield
        seconds = time.perf_counter() - wall
        processor = time.process_time() - client + processor_time(self._host) - host
        others = max(0.0, _busy() - everybody - processor) / seconds / (os.cpu_count() or 1)
        self.measured = {"seconds": seconds, "processor": processor, "others": others}

    async def drain(self, count: int) -> None:
        """Take out what was put."""
        while count:
            count -= len(await self.jobs.get_many(min(count, 1000)))

    def stock(self) -> Any:
        """The standard library's proxy of the queue."""
        if self._stock is None:
            StockManager.register("jobs0")
            manager: Any = StockManager(self.address, AUTHKEY)
            manager.connect()
            self._stock = manager.jobs0()
        return self._stock

    async def counter(self) -> Any:
        """An object that is managed."""
        if self._counter is None:
            self._counter = await self.manager.proxy("counter")
        return self._counter


Workload = Callable[[Client, int], Awaitable[None]]


async def _each(
    tasks: int,
    work: Callable[[Sequence[Any]], Coroutine[Any, Any, None]],
    items: Sequence[Any],
) -> None:
    async with anyio.create_task_group() as group:
        for number in range(tasks):
            group.start_soon(work, items[number::tasks])


async def put_one(client: Client, count: int) -> None:
    items, put = small_items(count), client.jobs.put
    with client.timed():
        for item in items:
            await put(item)
    await client.drain(count)


async def put_by_many(client: Client, count: int) -> None:
    put = client.jobs.put

    async def work(share: Sequence[Any]) -> None:
        for item in share:
            await put(item)

    items = small_items(count)
    with client.timed():
        await _each(client.tasks, work, items)
    await client.drain(count)


async def get_one(client: Client, count: int) -> None:
    await client.jobs.put_many(small_items(count))
    get = client.jobs.get
    with client.timed():
        for _ in range(count):
            await get()


async def get_by_many(client: Client, count: int) -> None:
    await client.jobs.put_many(small_items(count))
    get = client.jobs.get

    async def work(share: Sequence[Any]) -> None:
        for _ in share:
            await get()

    with client.timed():
        await _each(client.tasks, work, range(count))


async def put_at_once(client: Client, count: int) -> None:
    """Small items that are no scalars, by `put_many`."""
    items = [{"number": number, "name": "Task"} for number in range(count)]
    with client.timed():
        await client.jobs.put_many(items)
    await client.drain(count)


async def iterate(client: Client, count: int) -> None:
    await client.jobs.put_many([*small_items(count), None])
    with client.timed():
        async for _ in client.jobs:
            pass


async def _large(client: Client, count: int, size: int) -> None:
    (item,) = sized_items(1, size)
    put, get = client.jobs.put, client.jobs.get
    with client.timed():
        for _ in range(count):
            await put(item)
            await get()


async def large(client: Client, count: int) -> None:
    """Items of 1 MiB, each put and got."""
    await _large(client, count, MIB)


async def huge(client: Client, count: int) -> None:
    """Items of 64 MiB, each put and got."""
    await _large(client, count, 64 * MIB)


async def beside_giant(client: Client, count: int) -> None:
    """Small calls while another client puts and gets an item of so many MiB: the slowest."""
    other: aiomanager.AsyncQueue[Any] = client.manager.queue("jobs1")
    with client.timed():
        seen = await giant.observe(
            "carry", client.address, AUTHKEY, count * MIB, lambda: other.put(1), other.get
        )
    client.measured |= {"seconds": seen["worst"] / 1000, "others": 0.0}  # the carrier is none


async def stock_put(client: Client, count: int) -> None:
    """Puts of a client of the standard library's."""
    items, put = small_items(count), client.stock().put
    with client.timed():
        for item in items:
            put(item)
    await client.drain(count)


async def stock_large(client: Client, count: int) -> None:
    """Items of 1 MiB of a client of the standard library's, each put and got."""
    (item,) = sized_items(1, MIB)
    stock = client.stock()
    with client.timed():
        for _ in range(count):
            stock.put(item)
            stock.get()


async def stock_calls(client: Client, count: int) -> None:
    """Small calls of a client of the standard library's."""
    ask = client.stock().qsize
    with client.timed():
        for _ in range(count):
            ask()


async def object_calls(client: Client, count: int) -> None:
    """Calls of one method of a managed object, by many tasks."""
    counter = await client.counter()

    async def work(share: Sequence[Any]) -> None:
        for _ in share:
            await counter.add()

    with client.timed():
        await _each(client.tasks, work, range(count))


def work(workload: str, without: str, count: int, tasks: int, tcp: bool) -> None:
    """Be a client with a host of its own. Each line of the standard input is answered with what a
    batch has measured; the host ends with this process's group."""
    getattr(_without, without)()
    anyio.run(_work, globals()[workload], without, count, tasks, tcp)


async def _work(workload: Workload, without: str, count: int, tasks: int, tcp: bool) -> None:
    host = start_child(
        __name__,
        "serve",
        {"without": without, "address": ["127.0.0.1", 0] if tcp else None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert host.stdout is not None
    address = json.loads(await anyio.to_thread.run_sync(host.stdout.readline))
    address = tuple(address) if isinstance(address, list) else address
    try:
        async with aiomanager.connect(address, AUTHKEY) as manager:
            client = Client(manager, address, host.pid, tasks)
            print("ready", flush=True)
            while await anyio.to_thread.run_sync(sys.stdin.readline):
                await workload(client, count)
                print(json.dumps(client.measured), flush=True)
    finally:
        host.kill()
        host.wait()
