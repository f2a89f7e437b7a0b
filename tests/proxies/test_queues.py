"""Queues through `wrap`, and names of a manager through `AsyncManager.proxy`."""

from __future__ import annotations

import anyio
import pytest

import aiomanager
from aiomanager import AsyncQueue, ConfigurationError, wrap
from aiomanager._proxies.references import Reference
from tests.proxies.freed import all_freed
from tests.support import objects


# -- queues ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_queue_becomes_an_async_queue(manager):
    """By what it exposes, whatever it was registered as."""
    for proxy in (manager.Queue(2), manager.JoinableQueue(), manager.task_queue()):
        queue = wrap(proxy)
        assert isinstance(queue, AsyncQueue)
        await queue.put("item")
        assert proxy.get() == "item"
        proxy.task_done()
        await queue.join()
        await queue.aclose()
        with pytest.raises(aiomanager.ConnectionLostError, match="closed"):
            await queue.get()


@pytest.mark.anyio
async def test_the_sentinel_of_a_queue(manager):
    """Iterations end at it."""
    queue = wrap(manager.Queue(), sentinel="end")
    await queue.put_many([1, None, "end"])
    assert [item async for item in queue] == [1, None]


@pytest.mark.anyio
async def test_a_proxy_in_a_queue_comes_wrapped(manager):
    """It has lost its key on the way, and gets the manager's; the host counts the reference."""
    queue = wrap(manager.Queue())
    inner = manager.dict(x=1)
    for beside in (b"", bytes(100_000)):
        await queue.put({"here": inner, "beside": beside})
        received = (await queue.get())["here"]
        assert await received.copy() == {"x": 1}
    nested = wrap(manager.list([manager.Queue()]))
    inner_queue = await nested.pop()
    await inner_queue.put(1)
    assert await inner_queue.get() == 1


@pytest.mark.anyio
async def test_a_queue_of_our_host(our_host):
    """A stock proxy of it gets all that a hosted queue can do, leases for one."""
    queue = wrap(await anyio.to_thread.run_sync(our_host.get_queue, "jobs"))
    await queue.put(1)
    async for item in queue:
        assert item == 1
        assert (await queue.statistics()).leased == 1
        break
    assert await queue.get() == 1
    await queue.aclose()


# -- AsyncManager.proxy ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_name_of_a_stock_host(manager, transport):
    """`proxy` calls what is registered, and gives what `wrap` gives."""
    before = manager._number_of_objects()
    async with aiomanager.connect(manager.address, objects.KEY, transport=transport) as connected:
        counter = await connected.proxy("Counter", start=3)
        assert await counter.add() == 4
        assert isinstance(await connected.proxy("Queue"), AsyncQueue)
        with pytest.raises(ConfigurationError, match="'nothing'"):
            await connected.proxy("nothing")
        with pytest.raises(aiomanager.RemoteError, match="unexpected"):
            await connected.proxy("Counter", unexpected=1)
        with pytest.raises(aiomanager.EncodeError, match="Counter"):
            await connected.proxy("Counter", lambda: None)
    assert await counter.add() == 5
    del counter
    await all_freed(manager, before)
    with pytest.raises(ConfigurationError, match="not connected"):
        await connected.proxy("Counter")


@pytest.mark.anyio
async def test_a_name_of_our_host(our_host, transport):
    """Objects beside its queues, and the queues themselves."""
    async with aiomanager.connect(our_host.address, objects.KEY, transport=transport) as connected:
        counter = await connected.proxy("Counter")
        assert await counter.add() == 1
        lock = await connected.proxy("common")
        async with lock, lock:
            pass
        assert await connected.proxy("jobs") is connected.queue("jobs")


@pytest.mark.anyio
async def test_memory_hosts_no_objects():
    """Which is said."""
    async with aiomanager.connect("memory://") as connected:
        with pytest.raises(ConfigurationError, match="memory://"):
            await connected.proxy("anything")


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["stock", "ours"])
async def test_a_proxy_in_an_item_of_a_manager(manager, our_host, host):
    """It finds its way with the key of a manager that this process is connected to."""
    address, name = (manager.address, "common_queue") if host == "stock" else (None, "jobs")
    async with (
        aiomanager.connect(address or our_host.address, objects.KEY) as connected,
        aiomanager.connect(manager.address, objects.KEY),
    ):
        queue = connected.queue(name)
        inner = manager.dict(x=1)
        await queue.put([inner])
        async for [received] in queue:
            assert await received.copy() == {"x": 1}
            await queue.task_done()
            break
        await queue.put(wrap(inner))
        received = await queue.get()
        await queue.task_done()
        assert await received.copy() == {"x": 1}


@pytest.mark.anyio
async def test_a_proxy_in_an_item_after_an_attempt_with_a_wrong_key(manager):
    """That key is not tried again, though the error is still there to be looked at."""
    with pytest.raises(aiomanager.AuthenticationError) as refused:
        async with aiomanager.connect(manager.address, b"wrong"):
            pass
    async with aiomanager.connect(manager.address, objects.KEY) as connected:
        queue = connected.queue("Queue")
        await queue.put(manager.Counter(1))
        assert await (await queue.get()).add() == 2
        with pytest.raises(aiomanager.AuthenticationError) as refused_again:
            async with aiomanager.connect(manager.address, b"wrong"):
                pass
        await queue.put(manager.Counter(1))
        assert await (await queue.get()).add() == 2
    assert "another authkey" in str(refused.value)
    assert "another authkey" in str(refused_again.value)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["get", "iteration", "delivery"])
async def test_an_item_with_a_proxy_is_done_when_the_host_counts_it(manager, monkeypatch, how):
    """Whoever put it may give up his own reference then, and not before."""
    queue, kept, may_count = wrap(manager.Queue()), [], anyio.Event()
    count = Reference.count

    async def count_late(reference):
        await may_count.wait()
        await count(reference)

    async def receive():
        if how == "get":
            kept.append(await queue.get())
            await queue.task_done()
        elif how == "iteration":
            async for item in queue:
                kept.append(item)
        else:
            async for delivery in queue.deliveries():
                kept.append(delivery.item)
                await delivery.ack()

    monkeypatch.setattr(Reference, "count", count_late)
    counter = manager.Counter(1)
    async with anyio.create_task_group() as group:
        group.start_soon(receive)
        await queue.put(counter)
        with anyio.move_on_after(0.1) as in_vain:
            await queue.join()
        assert in_vain.cancelled_caught
        may_count.set()
        await queue.join()
        del counter
        assert await kept[0].add() == 2
        if how != "get":
            await queue.put(None)


@pytest.mark.anyio
async def test_a_cancelled_get_leaves_an_item_with_a_proxy(manager, monkeypatch):
    """Also while the host is told of the reference."""
    queue, counting, may_count = wrap(manager.Queue()), anyio.Event(), anyio.Event()
    count = Reference.count

    async def count_late(reference):
        counting.set()
        await may_count.wait()
        await count(reference)

    monkeypatch.setattr(Reference, "count", count_late)
    counter = manager.Counter(1)
    await queue.put(counter)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)
            await counting.wait()
            scope.cancel()
    may_count.set()
    assert await (await queue.get()).add() == 2
