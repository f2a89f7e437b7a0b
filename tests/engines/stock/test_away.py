"""Hosts that are away for a while, that stop, and that do not come back."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

import aiomanager
from tests.engines.stock.host import StockHost, blocking
from tests.support.faults import relay
from tests.support.waiting import while_busy

pytestmark = pytest.mark.anyio


async def test_what_waits_goes_on_when_the_host_is_back(connect, host: StockHost):
    """Gets, iterations, deliveries and joins wait for the host of the next run; looks do, too."""
    received: list[Any] = []

    async def get(queue: Any) -> None:
        received.append(await queue.get())

    async def iterate(queue: Any) -> None:
        async for item in queue:
            received.append(item)
            break

    async def deliver(queue: Any) -> None:
        async for delivery in queue.deliveries():
            async with delivery:
                received.append(delivery.item)
            break

    async def size(queue: Any) -> None:
        assert await queue.qsize() in (0, 1, 2, 3)

    async with connect(reconnect=20) as manager:
        queue, other = manager.queue("jobs"), manager.queue("other")
        await other.put("not done before the host goes")
        async with anyio.create_task_group() as group:
            for wait in (get, iterate, deliver):
                group.start_soon(wait, queue)
            group.start_soon(other.join)
            await anyio.sleep(0.1)  # under way at the host
            await blocking(host.kill)
            group.start_soon(size, queue)
            await blocking(host.restart)
            for number in range(3):
                await queue.put(number)
        assert sorted(received) == [0, 1, 2]


async def test_a_get_outlives_a_connection_that_is_cut(connect, host):
    """However often."""
    path = f"{host.path}-relay"
    with relay(path, host.path) as wire:
        async with connect(path) as manager:
            queue = manager.queue("jobs")
            received = []

            async def get() -> None:
                received.append(await queue.get())

            async with anyio.create_task_group() as group:
                group.start_soon(get)
                for _ in range(3):
                    await anyio.sleep(0.05)  # the slice is at the host
                    wire.cut()
                # What a broken slice takes is lost with it: so not before its time is over.
                await anyio.sleep(0.6)
                await queue.put("item")
            assert received == ["item"]


async def test_what_is_done_after_a_restart_is_not_counted_there(connect, host):
    """It belongs to the queue of the run before."""
    async with connect(reconnect=20) as manager:
        queue = manager.queue("jobs")
        await queue.put_many([1, 2])
        async for delivery in queue.deliveries():
            await queue.get()
            await blocking(host.restart)
            with pytest.raises(aiomanager.LeaseLostError):
                await queue.task_done()
            await queue.put("of this run")
            with pytest.raises(aiomanager.LeaseLostError):
                await delivery.ack()
            with anyio.move_on_after(0.2) as in_vain:
                await queue.join()
            assert in_vain.cancelled_caught
            assert await queue.get() == "of this run"
            await queue.task_done()
            await queue.join()
            break


CALLS: dict[str, tuple[Callable[[Any], Awaitable[Any]], float | None]] = {
    "put": (lambda queue: queue.put(1, timeout=0.5), 0.5),
    "put_nowait": (lambda queue: queue.put_nowait(1), 0.0),
    "get": (lambda queue: queue.get(timeout=0.5), 0.5),
    "get_nowait": (lambda queue: queue.get_nowait(), 0.0),
    "put for ever": (lambda queue: queue.put(1), None),
    "get for ever": (lambda queue: queue.get(), None),
    "qsize": (lambda queue: queue.qsize(), None),
    "empty": (lambda queue: queue.empty(), None),
    "statistics": (lambda queue: queue.statistics(), None),
    "task_done": (lambda queue: queue.task_done(), None),
    "join": (lambda queue: queue.join(), None),
    "shutdown": (lambda queue: queue.shutdown(), None),
}


async def test_every_call_to_a_host_that_has_stopped_ends_in_time(connect, host: StockHost):
    """A second after its timeout, else a second after `call_timeout` and `reconnect` together,
    whatever stands before it."""
    late: dict[str, float] = {}

    async def call(name: str, queue: Any) -> None:
        work, timeout = CALLS[name]
        start = time.monotonic()
        with pytest.raises((aiomanager.ConnectionLostError, aiomanager.QueueEmpty)):
            await work(queue)
        over = time.monotonic() - start - (2.0 if timeout is None else timeout)
        if over > while_busy(1.0):
            late[name] = over

    async with connect(call_timeout=1, reconnect=1, connect_timeout=1) as manager:
        queue = manager.queue("jobs")
        await queue.put_many([1] * 3)
        assert await queue.get_many(3)
        names = list(CALLS)
        if not hasattr(host.standard().jobs(), "shutdown"):
            names.remove("shutdown")
        async with anyio.create_task_group() as group:
            host.freeze()
            for name in [*names, *["qsize"] * 8]:
                group.start_soon(call, name, queue)
        host.thaw()
    assert not late
