"""Which object a name stands for, and what the host counts of it."""

from __future__ import annotations

import gc
from functools import partial
from multiprocessing import managers
from typing import Any

import anyio
import pytest

import aiomanager
from tests.engines.stock.host import StockHost, blocking
from tests.support.faults import KEY, relay
from tests.support.waiting import wait_until

_managers: Any = managers  # the type stubs hide how functions of the server are called

pytestmark = pytest.mark.anyio


async def calls(host: StockHost) -> int:
    """How often the name was called that gives a new queue each time."""
    return await blocking(lambda: len(host.standard().calls_of_new()))


async def test_first_uses_at_the_same_time_call_a_name_once(connect, host):
    """So that a name which gives a new object at each call gives one queue."""
    async with connect() as manager:
        queue = manager.queue("new")
        received = []

        async def get() -> None:
            received.append(await queue.get(timeout=5))

        async with anyio.create_task_group() as group:
            group.start_soon(get)
            group.start_soon(queue.put, "item")
            group.start_soon(queue.qsize)
        assert received == ["item"]
        assert await calls(host) == 1


async def test_connections_that_were_cut_do_not_change_the_object(connect, host):
    """Nor do they cost an error, where they were idle."""
    path = f"{host.path}-relay"
    with relay(path, host.path) as wire:
        async with connect(path) as manager:
            queue = manager.queue("new")
            for number in range(3):
                await queue.put(number)
                wire.cut()
            assert await queue.qsize() == 3
            wire.cut()
            assert await queue.get_nowait() == 0
            wire.cut()
            assert await queue.get_many(5) == [1, 2]
    assert await calls(host) == 1


async def test_an_object_that_the_host_has_deleted(connect, host):
    """Where the name gives another one, an error is better than an empty queue; where it gives
    the same, nothing has happened."""
    async with connect() as manager:
        for name in ("jobs", "new"):
            queue = manager.queue(name)
            await queue.put("item")
        await blocking(partial(_give_up_all_references, host))
        assert await manager.queue("jobs").get(timeout=5) == "item"
        for _ in range(2):
            with pytest.raises(aiomanager.RemoteError, match="another"):
                await manager.queue("new").get(timeout=5)
        assert await calls(host) == 3  # once at first, and twice to see what it gives


def _give_up_all_references(host: StockHost) -> None:
    client = host.standard()
    idents = [line.split(":")[0].strip() for line in client._debug_info().splitlines()[::2]]
    for ident in idents:
        conn = client._Client(host.path, authkey=KEY.encode())
        _managers.dispatch(conn, None, "decref", (ident,))
        conn.close()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("how", ["closed", "left open"])
async def test_a_client_that_ends_leaves_no_reference(connect, host, how):
    """Also where it was never closed."""
    async with connect() as manager:
        for name in ("jobs", "other", "new"):
            await manager.queue(name).put("item")
        assert await blocking(host.references) == 3
    assert await blocking(host.references) == 0
    if how == "left open":
        manager = connect()
        await manager.__aenter__()
        await manager.queue("jobs").qsize()
        del manager
        gc.collect()
        gc.collect()
        await wait_until(lambda: _none(host), description="no reference is counted")


async def _none(host: StockHost) -> bool:
    return await blocking(host.references) == 0


async def test_a_name_that_is_no_queue_leaves_no_reference(connect, host):
    """Nor one that is not registered."""
    async with connect() as manager:
        for name in ("calls_of_new", "nothing"):
            with pytest.raises(aiomanager.ConfigurationError):
                await manager.queue(name).put(1)
        assert await blocking(host.references) == 0
