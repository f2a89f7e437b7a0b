"""Event loops: what is used in a second one works, or says at once which one it belongs to."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import multiprocessing.process
import pickle
import threading
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Self

import anyio
import pytest

import aiomanager
from aiomanager import ConfigurationError, ConnectionLostError
from aiomanager._concurrency.event_loop import current_loop
from tests.support import leaks
from tests.support.hosts import KEY, stock_queue
from tests.support.waiting import wait_until_sync

# Loops end here with objects in use: their tasks are cancelled.
pytestmark = [pytest.mark.every_python, pytest.mark.may_leave("tasks")]

BACKENDS = ("asyncio", "trio")


class OtherLoop:
    """An event loop of asyncio's in a thread."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def start(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Run a coroutine there; a future of concurrent.futures."""

        async def run() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(run(), self._loop)

    def __exit__(self, *_: object) -> None:
        async def end() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            if others:
                await asyncio.wait(others)

        self.start(end).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("first", BACKENDS)
def test_a_wrapped_queue_in_one_loop_after_another(host, first, second):
    """What was given up in the first, with its loop, is there for the second."""
    queue = aiomanager.wrap(stock_queue(host.path))

    async def begin() -> None:
        await queue.put_many([1, 2, 3])
        assert await queue.get() == 1
        await queue.task_done()
        iteration = aiter(queue)
        assert await anext(iteration) == 2  # its lease ends with the loop

    async def go_on() -> None:
        with anyio.fail_after(5):
            assert [await queue.get(), await queue.get()] == [2, 3]
            with pytest.raises(aiomanager.QueueEmpty):
                await queue.get(timeout=0.1)

    anyio.run(begin, backend=first)
    anyio.run(go_on, backend=second)


def test_a_wrapped_queue_in_two_loops_at_once(host):
    """Both wait, and each gets an item."""
    queue = aiomanager.wrap(stock_queue(host.path))
    with OtherLoop() as one, OtherLoop() as other:
        waits = [loop.start(queue.get) for loop in (one, other)]

        async def put() -> None:
            await queue.put_many(["a", "b"])

        anyio.run(put)
        assert sorted(wait.result(10) for wait in waits) == ["a", "b"]


def test_a_managers_queue_in_another_loop(host):
    """It raises at once, and names the loop; the manager's own goes on."""

    async def main() -> None:
        async with aiomanager.connect(host.path, KEY) as manager:
            queue = manager.queue("jobs")
            await queue.put("item")
            delivery = (await queue.get_deliveries(1))[0]
            with OtherLoop() as other:
                for use in (
                    lambda: queue.put(1),
                    queue.get,
                    queue.qsize,
                    queue.join,
                    delivery.ack,
                    lambda: manager.proxy("jobs"),
                    manager.aclose,
                ):
                    future = other.start(use)
                    with pytest.raises(ConfigurationError, match="event loop"):
                        await asyncio.wait_for(asyncio.wrap_future(future), 5)
            await delivery.ack()
            await queue.join()

    asyncio.run(main())


@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("first", BACKENDS)
def test_a_managers_queue_after_its_loop_has_ended(host, first, second):
    """It says so, and not that somebody had closed the manager."""
    left: list[Any] = []

    async def begin() -> None:
        manager = await aiomanager.connect(host.path, KEY).__aenter__()
        left.append(manager)
        left.append(manager.queue("jobs"))
        await left[1].put("item")

    async def go_on() -> None:
        with pytest.raises(ConfigurationError, match="event loop"), anyio.fail_after(5):
            await left[1].get()

    anyio.run(begin, backend=first)
    anyio.run(go_on, backend=second)
    with pytest.warns(ResourceWarning, match="left open"):
        _drop(left)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("address", ["host", "memory"])
def test_a_manager_is_entered_again(host, address, backend):
    """After it was closed it connects anew, in this loop or in another; queues are got again."""
    manager = aiomanager.connect(host.path if address == "host" else "memory://", KEY)

    async def use() -> None:
        for _ in range(2):
            async with manager:
                queue = manager.queue("jobs")
                await queue.put("item")
                assert await queue.get() == "item"
                with pytest.raises(ConfigurationError, match="in use already"):
                    await manager.__aenter__()
            with pytest.raises(ConnectionLostError, match="closed"):
                await queue.put("late")

    anyio.run(use, backend=backend)
    anyio.run(use, backend=backend)


def test_a_host_is_started_again(scratch):
    """What `host()` gave starts a new host at each entry."""
    manager = aiomanager.host({"jobs": 0})

    async def use() -> None:
        async with manager:
            await manager.queue("jobs").put("item")
            assert await manager.queue("jobs").qsize() == 1

    anyio.run(use)
    anyio.run(use)


@pytest.mark.parametrize("second", BACKENDS)
@pytest.mark.parametrize("first", BACKENDS)
def test_a_memory_host_with_a_name_in_one_loop_after_another(first, second):
    """It keeps its items; those who waited in the loop that has ended get none of them, what they
    held comes back, and what was delayed is due when it is due."""
    address = f"memory://{first}-{second}"
    left: list[Any] = []

    async def begin() -> None:
        manager = await aiomanager.connect(address).__aenter__()
        left.append(manager)
        queue = manager.queue("jobs")
        left.append(queue)
        await queue.put_many(["held", "delayed"])
        await (await queue.get_deliveries(2))[1].nack(delay=0.3)
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)  # ends with the loop, without a word
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()

    async def go_on() -> None:
        async with aiomanager.connect(address) as manager:
            queue = manager.queue("jobs")
            with anyio.fail_after(5):
                assert sorted([await queue.get(), await queue.get()]) == ["delayed", "held"]

    anyio.run(begin, backend=first)
    anyio.run(go_on, backend=second)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        left.clear()
        gc.collect()


def test_a_memory_host_in_two_loops_at_once():
    """It says no at the door of the second, and names the loop."""

    async def main() -> None:
        async with aiomanager.connect("memory://both") as manager:
            await manager.queue("jobs").put("item")
            with OtherLoop() as other:
                enter = other.start(aiomanager.connect("memory://both").__aenter__)
                with pytest.raises(ConfigurationError, match="another event loop"):
                    await asyncio.wait_for(asyncio.wrap_future(enter), 5)
            assert await manager.queue("jobs").get() == "item"

    asyncio.run(main())


@pytest.mark.parametrize("backend", BACKENDS)
def test_managers_that_are_left_open(host, backend):
    """Each is worth a warning when it is garbage, and its connection is closed."""

    async def leave_open() -> None:
        manager: Any = None
        for _ in range(50):
            manager = await aiomanager.connect(host.path, KEY).__aenter__()
            await manager.queue("jobs").put("item")
        manager = None
        gc.collect()

    async def main() -> None:
        with pytest.warns(ResourceWarning, match="left open") as warned:
            await leave_open()
        assert len(warned) == 50
        # The descriptors are looked at by the detector of leaks, when the loop has had its turn.

    anyio.run(main, backend=backend)


def _drop(things: list[Any]) -> None:
    things.clear()
    gc.collect()


def test_wrap_needs_no_loop(host):
    """Nor does a loop that ends before its first use."""
    queue = aiomanager.wrap(stock_queue(host.path))
    anyio.run(anyio.sleep, 0)

    async def use() -> None:
        await queue.put("item")
        assert await queue.get() == "item"

    anyio.run(use)


@pytest.mark.parametrize("how", ["wrap", "manager"])
def test_a_queue_that_is_passed_on(host, how, monkeypatch):
    """It arrives as a queue, with its options and without the key, which the other side knows."""
    passed: list[bytes] = []

    async def send() -> None:
        if how == "wrap":
            queue = aiomanager.wrap(stock_queue(host.path), sentinel="end")
            passed.append(pickle.dumps(queue))
            return
        async with aiomanager.connect(host.path, KEY) as manager:
            passed.append(pickle.dumps(manager.queue("jobs", sentinel="end")))
            with pytest.raises(ConfigurationError, match="connect there"):
                pickle.dumps(manager)

    async def receive() -> None:
        queue = pickle.loads(passed[0])
        assert isinstance(queue, aiomanager.AsyncQueue)
        assert (queue.name, queue.sentinel) == ("jobs", "end")
        await queue.put("item")
        assert await queue.get(timeout=5) == "item"
        await queue.aclose()

    anyio.run(send)
    assert KEY not in passed[0]
    # As in a child of multiprocessing's, or where the program says so.
    monkeypatch.setattr(multiprocessing.process.current_process(), "authkey", KEY)
    anyio.run(receive)


def test_a_queue_in_memory_cannot_be_passed_on():
    """It says that it is in this process."""

    async def main() -> None:
        async with aiomanager.connect("memory://") as manager:
            with pytest.raises(ConfigurationError, match="memory of this process"):
                pickle.dumps(manager.queue("jobs"))

    anyio.run(main)


def test_no_thread_stays(host):
    """The worker threads of a loop that has ended, end."""
    queue = aiomanager.wrap(stock_queue(host.path))
    before = threading.active_count()
    anyio.run(queue.put, "item")
    wait_until_sync(lambda: threading.active_count() <= before, description="they have ended")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["Queue", "dict", "Event"])
def test_neither_the_loop_nor_its_connections_stay(kind, backend):
    """They end with it, though what used them is kept."""
    with multiprocessing.get_context("spawn").Manager() as manager:
        proxy = getattr(manager, kind)()
        str(proxy)  # the standard library's own connection stays
        wrapped = aiomanager.wrap(proxy)
        before = leaks.descriptors()
        loops: list[Callable[[], object]] = []

        async def use() -> None:
            loops.append(weakref.ref(current_loop()))
            if kind == "Queue":
                await wrapped.put("item")
                assert await wrapped.get() == "item"
            elif kind == "dict":
                await wrapped.update(a=1)
            else:
                await wrapped.wait(0.01)

        anyio.run(use, backend=backend)
        wait_until_sync(
            lambda: not leaks.descriptors().keys() - before.keys(), description="they are closed"
        )
        if backend == "asyncio":  # those of Trio's are kept by its threads, for their time
            gc.collect()
            assert loops[0]() is None


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_loop_that_ends_while_it_connects(host, transport, backend):
    """Whoever was connecting has left; nothing was left open, and nothing stays."""

    async def leave(patience: float) -> None:
        with anyio.move_on_after(patience):
            async with aiomanager.connect(host.path, KEY, transport=transport):
                pass

    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for step in range(40):
            anyio.run(leave, step / 10_000, backend=backend)
        gc.collect()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("loops", ["one loop", "another loop"])
def test_connecting_again_after_giving_up(host, loops, backend):
    """What was given up ends by itself, and touches nothing of what comes after it."""

    async def leave(manager: aiomanager.AsyncManager, patience: float) -> None:
        with anyio.move_on_after(patience):
            async with manager:
                pass

    async def use(manager: aiomanager.AsyncManager) -> None:
        async with manager:
            await manager.queue("jobs").put("item")
            await anyio.wait_all_tasks_blocked()  # what ends the first attempt has had its turn
            assert await manager.queue("jobs").get(timeout=5) == "item"

    async def both(manager: aiomanager.AsyncManager, patience: float) -> None:
        await leave(manager, patience)
        await use(manager)

    for step in range(20):
        manager = aiomanager.connect(host.path, KEY)
        if loops == "one loop":
            anyio.run(both, manager, step / 10_000, backend=backend)
        else:
            anyio.run(leave, manager, step / 10_000, backend=backend)
            anyio.run(use, manager, backend=backend)
