"""Beside scripts that know nothing but `multiprocessing.managers`, in both directions."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from multiprocessing.managers import BaseManager, SyncManager
from typing import Any

import anyio
import anyio.to_thread
import pytest

import aiomanager
from tests.support.hosts import KEY

pytestmark = pytest.mark.anyio


class Client(BaseManager):
    """A script's way to a host: it registers a name, and calls it."""


Client.register("jobs")


class Server(BaseManager):
    """A script's host."""


_tasks: queue.Queue[Any] = queue.Queue()


def _get_tasks() -> queue.Queue[Any]:
    return _tasks


Server.register("get_task_queue", callable=_get_tasks)


@pytest.fixture(scope="module")
def our_host() -> Iterator[BaseManager]:
    """A host of ours, started by a script."""
    with aiomanager.QueueManager(None, KEY, queues={"jobs": 0}) as host:
        yield host


@pytest.fixture(scope="module")
def scripts_host() -> Iterator[BaseManager]:
    """A host of the standard library's."""
    with Server(None, KEY) as host:
        yield host


@pytest.fixture(scope="module")
def stock() -> Iterator[SyncManager]:
    """The standard library's own manager, in a process of its own."""
    with SyncManager(authkey=KEY) as manager:
        yield manager


async def test_a_script_finds_its_queue_at_our_host(our_host):
    """`QueueManager` is a `BaseManager`: a client of the standard library notices no difference."""

    def script():
        client: Any = Client(our_host.address, KEY)
        client.connect()
        jobs = client.jobs()
        assert jobs.get() == "from a coroutine"
        jobs.task_done()
        jobs.put("from a script")

    async with aiomanager.connect(our_host.address, KEY) as manager:
        await manager.queue("jobs").put("from a coroutine")
        await anyio.to_thread.run_sync(script)
        assert await manager.queue("jobs").get() == "from a script"


async def test_a_coroutine_finds_its_queue_at_a_scripts_host(scripts_host):
    """`connect` goes to any `BaseManager`, and a queue has the name that it was registered by."""
    async with aiomanager.connect(scripts_host.address, KEY) as manager:
        tasks = manager.queue("get_task_queue")
        await tasks.put("from a coroutine")
        assert await tasks.get(timeout=5) == "from a coroutine"
        await tasks.task_done()
        await tasks.join()


async def test_a_queue_that_somebody_has_a_proxy_of(stock):
    """`wrap` makes an `AsyncQueue` of it, in which a cancelled get takes nothing either."""
    jobs: aiomanager.AsyncQueue[str] = aiomanager.wrap(stock.Queue())
    with anyio.move_on_after(0.05):
        await jobs.get()
    await jobs.put("kept")
    assert await jobs.get(timeout=5) == "kept"


async def test_a_dict_that_processes_share(stock):
    """`wrap` makes the methods of any object coroutines; `call` takes those without a name."""
    shared = aiomanager.wrap(stock.dict())
    await shared.update(a=1)
    assert await shared.copy() == {"a": 1}
    assert await shared.call("__getitem__", "a") == 1


async def test_a_lock_that_processes_share(stock):
    """A lock is an async context manager, and who waits for it holds up nobody."""
    lock, holders = aiomanager.wrap(stock.Lock()), set()

    async def hold(name):
        async with lock:
            holders.add(name)
            await anyio.wait_all_tasks_blocked()
            assert holders == {name}
            holders.remove(name)

    async with anyio.create_task_group() as tasks:
        for name in ("one", "other", "third"):
            tasks.start_soon(hold, name)
