"""`wrap` over real processes of the standard library's `SyncManager`: contract tests."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from multiprocessing.managers import BaseProxy
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import aiomanager
from aiomanager import AsyncProxy, AsyncQueue, ConfigurationError, wrap
from aiomanager._waits import Turns
from tests import objects
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def manager():
    """One stock manager for all tests here."""
    with objects.running() as running:
        yield running


@pytest.fixture(scope="module")
def our_host():
    """A host of ours, with objects beside its queue."""
    with objects.OurManager(None, objects.KEY, queues={"jobs": 0}, ctx="spawn") as host:
        yield host


async def all_freed(manager: Any, before: int) -> None:
    """Wait until the manager has no more objects than before."""

    def freed() -> bool:
        gc.collect()
        return bool(manager._number_of_objects() <= before)

    await wait_until(freed, description="the objects are freed")


# -- values -----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_dict(manager):
    """A dict's methods are coroutines, keywords included, and what it raises is raised here."""
    shared = wrap(manager.dict())
    assert isinstance(shared, AsyncProxy)
    await shared.update({"b": 2}, a=1)
    assert await shared.get("a") == 1
    assert await shared.call("__getitem__", "b") == 2
    assert await shared.call("__len__") == 2
    assert sorted(await shared.items()) == [("a", 1), ("b", 2)]
    assert sorted([key async for key in shared]) == ["a", "b"]
    with pytest.raises(KeyError, match="nothing"):
        await shared.call("__getitem__", "nothing")
    assert await shared.copy() == {"a": 1, "b": 2}
    assert await shared.pop("a") == 1


@pytest.mark.anyio
async def test_list_and_array(manager):
    """Sequences: their methods, iteration, and a copy."""
    shared = wrap(manager.list([3, 1]))
    await shared.append(2)
    await shared.sort()
    assert [item async for item in shared] == [1, 2, 3]
    assert await shared.copy() == [1, 2, 3]
    array = wrap(manager.Array("i", [1, 2]))
    await array.call("__setitem__", 0, 5)
    assert [item async for item in array] == [5, 2]


@pytest.mark.anyio
async def test_namespace_and_value(manager):
    """Attributes and a value have methods of their own."""
    namespace = wrap(manager.Namespace(a=1))
    await namespace.set("b", [2])
    assert await namespace.get("a") == 1
    assert (await namespace.copy()).b == [2]
    await namespace.delete("b")
    with pytest.raises(AttributeError):
        await namespace.get("b")
    with pytest.raises(AttributeError, match=r"await get\('b'\)"):
        await namespace.b
    value = wrap(manager.Value("i", 3))
    await value.set(4)
    assert await value.get() == 4
    for shared in (namespace, value):
        with pytest.raises(AttributeError, match=r"'value' cannot be assigned.*`set`"):
            shared.value = 5


@pytest.mark.anyio
async def test_stock_clients_see_the_same(manager):
    """The proxy goes on working, for blocking code."""
    proxy = manager.dict()
    await wrap(proxy).update(a=1)
    assert dict(proxy) == {"a": 1}


# -- classes that a user registered -----------------------------------------------------------


@pytest.mark.anyio
async def test_a_registered_class(manager):
    """Methods by their exposed names, with positional and keyword arguments; its errors are
    raised here."""
    counter = wrap(manager.Counter(10))
    assert await counter.add() == 11
    assert await counter.add(2, times=3) == 17
    with pytest.raises(LookupError, match="as it was asked to"):
        await counter.fail()
    with pytest.raises(aiomanager.RemoteError, match="pickle"):
        await counter.unpicklable()
    assert await counter.add() == 18
    copied = await counter.copy()
    assert isinstance(copied, objects.Counter)
    assert copied.value == 18


@pytest.mark.anyio
async def test_what_is_not_exposed_is_refused_by_name(manager):
    """The error is an AttributeError and a ConfigurationError, and says what is exposed."""
    counter = wrap(manager.Counter())
    assert not hasattr(counter, "hidden")
    assert not hasattr(counter, "_private")
    with pytest.raises(AttributeError, match=r"'hidden'.* it exposes: add, child"):
        await counter.hidden()
    with pytest.raises(ConfigurationError, match=r"'hidden'.* it exposes: add, child"):
        await counter.call("hidden")


@pytest.mark.anyio
async def test_a_proxy_type_that_does_not_say_what_is_exposed(manager):
    """Then the host is asked."""
    bare = wrap(manager.Bare())
    assert await bare.add(2) == 2
    with pytest.raises(AttributeError, match="it exposes: add"):
        await bare.nonsense()


@pytest.mark.anyio
async def test_what_only_looks_like_a_queue_or_a_lock(manager):
    """What is exposed decides: a cache has `put` and `get`, a pool `acquire` and `release`."""
    cache = wrap(manager.Cache())
    await cache.put("a", 1)
    assert await cache.get("a") == 1
    connections = wrap(manager.Connections())
    assert await connections.acquire() == "connection"
    assert await connections.release("connection") == "released"


@pytest.mark.anyio
async def test_arguments_that_cannot_be_pickled(manager):
    """They are refused before anything is sent."""
    shared = wrap(manager.dict())
    with pytest.raises(aiomanager.EncodeError, match="update"):
        await shared.update(a=lambda: None)
    assert await shared.copy() == {}


def test_what_is_no_proxy(manager):
    """The error says what wrap takes."""
    things: list[Any] = [{}, manager, None]
    for thing in things:
        with pytest.raises(ConfigurationError, match=r"takes a proxy.*this is a \w+"):
            wrap(thing)


# -- objects in objects -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_nested_objects_come_wrapped(manager):
    """As an item, inside plain values, and as the result of a method that makes an object; the
    manager's key is not this process's."""
    outer = wrap(manager.list())
    await outer.append(wrap(manager.dict(x=1)))
    await outer.append({"deep": [manager.list([2])]})
    inner = await outer.call("__getitem__", 0)
    assert await inner.copy() == {"x": 1}
    deep = (await outer.copy())[1]["deep"][0]
    assert await deep.copy() == [2]
    child = await wrap(manager.Counter(5)).child()
    assert await child.add() == 6
    grandchild = await child.child()
    assert await grandchild.add() == 7


@pytest.mark.anyio
async def test_a_wrapped_object_pickles_as_its_proxy(manager):
    """So that it can be passed on, also where it came from a call."""
    child = await wrap(manager.Counter(5)).child()
    outer = wrap(manager.list())
    await outer.append(child)
    assert await (await outer.pop()).add() == 6
    rebuild, arguments = child.__reduce__()
    proxy: Any = rebuild(*arguments[:3], {**arguments[3], "authkey": objects.KEY})
    assert proxy.add() == 7
    assert isinstance(proxy, BaseProxy)


@pytest.mark.anyio
async def test_the_host_keeps_an_object_as_long_as_it_is_wrapped(manager):
    """It is not freed with the proxy, and is freed with the wrapped object."""
    before = manager._number_of_objects()
    proxy = manager.Counter(1)
    wrapped = wrap(proxy)
    del proxy
    assert await wrapped.add() == 2
    child = await wrapped.child()
    assert manager._number_of_objects() == before + 2
    del wrapped
    assert await child.add() == 3
    del child
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_objects_that_nobody_waited_for_are_freed(manager):
    """A call that was left frees what it brought."""
    before = manager._number_of_objects()
    counter = wrap(manager.Counter())
    for _ in range(10):
        with anyio.move_on_after(0.001):
            await counter.child()
    del counter
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_giving_up_never_blocks_the_event_loop(manager, monkeypatch):
    """The host is told on another thread, for proxies of the standard library and for others."""
    threads: list[threading.Thread] = []

    def noted(decref):
        def run(*args):
            threads.append(threading.current_thread())
            return decref(*args)

        return run

    stock: Any = BaseProxy
    monkeypatch.setattr(stock, "_decref", staticmethod(noted(stock._decref)))
    monkeypatch.setattr(
        "aiomanager._references.Home.function_now",
        noted(aiomanager._references.Home.function_now),
    )
    wrapped = wrap(manager.Counter())
    child = await wrapped.child()
    threads.clear()  # the standard library gives up a reference of its own when it makes a proxy
    del wrapped, child
    await wait_until(lambda: len(threads) == 2, description="both are given up")
    assert threading.current_thread() not in threads


@pytest.mark.anyio
async def test_aclose_gives_up_at_once(manager):
    """When it returns the host has freed the object, and calls are refused."""
    before = manager._number_of_objects()
    counter = wrap(manager.Counter())
    child = await counter.child()
    for wrapped in (counter, child):
        await wrapped.aclose()
        await wrapped.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await wrapped.add()
    assert manager._number_of_objects() == before


# -- calls that wait --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_method_that_blocks_keeps_no_other_call_from_running(manager):
    """Neither on other objects nor on the same."""
    gate, shared = wrap(manager.Gate()), wrap(manager.dict())
    results = []

    async def pass_through():
        results.append(await gate.pass_through())

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(pass_through)
        await anyio.wait_all_tasks_blocked()
        assert await gate.waiting() < 50  # that is, before they have all had a turn
        await shared.update(a=1)
        await gate.open()
    assert results == ["through"] * 50


@pytest.mark.anyio
async def test_calls_that_wait_make_room_for_more_and_more():
    """Of however many that wait at the host, the last has its turn soon."""
    turns = Turns(places=4)
    async with anyio.create_task_group() as group:
        for _ in range(400):  # with as many places all the time the last would wait for 20 s
            group.start_soon(turns.enter)
        with anyio.fail_after(10):
            turns.leave(await turns.enter())


@pytest.mark.anyio
async def test_many_calls_at_once_share_a_few_connections(manager):
    """They wait for their turns."""
    shared = wrap(manager.list())
    before = threading.active_count()
    most = 0

    async def append(number):
        nonlocal most
        await shared.append(number)
        most = max(most, threading.active_count() - before)

    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(append, number)
    assert sorted(await shared.copy()) == list(range(200))
    # A slow machine may take one or the other call for one that waits.
    assert most <= 50


@pytest.mark.asyncio
async def test_native_cancellation_leaves_a_call_at_once(manager):
    """`task.cancel` and `wait_for` do not wait for the host, and nothing is broken after them."""
    gate = wrap(manager.Gate())
    start = time.monotonic()
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(gate.pass_through(), 0.05)
    task = asyncio.create_task(gate.pass_through())
    await wait_until(gate.waiting, description="the call waits")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - start < 5
    await gate.open()
    assert await gate.pass_through() == "through"


@pytest.mark.anyio
async def test_event(manager):
    """A wait ends when the event is set, or in vain when its time is up."""
    proxy = manager.Event()
    event = wrap(proxy)
    assert not await event.wait(0)
    assert not await event.wait(0.02)
    woken = []

    async def wait():
        woken.append(await event.wait())

    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert not await event.wait(0.01)
        proxy.set()
    assert woken == [True] * 100
    assert await event.is_set()
    assert await event.wait(0)
    await event.clear()
    assert not proxy.is_set()


@pytest.mark.anyio
async def test_waiting_for_an_event_costs_one_thread(manager):
    """However many tasks wait."""
    event = wrap(manager.Event())
    await event.is_set()
    before = threading.active_count()
    async with anyio.create_task_group() as group:
        for _ in range(1000):
            group.start_soon(event.wait)
        await anyio.wait_all_tasks_blocked()
        assert threading.active_count() <= before + 2
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_barrier(manager):
    """Parties pass together, blocking ones included."""
    proxy = manager.Barrier(3)
    barrier = wrap(proxy)
    numbers = []

    async def wait():
        numbers.append(await barrier.wait())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        group.start_soon(wait)
        await wait_until(lambda: proxy.n_waiting == 2, description="both wait")
        assert await barrier.n_waiting() == 2
        thread = threading.Thread(target=lambda: numbers.append(proxy.wait()))
        thread.start()
    thread.join()
    assert sorted(numbers) == [0, 1, 2]
    assert await barrier.parties() == 3
    await barrier.abort()
    assert await barrier.broken()
    with pytest.raises(threading.BrokenBarrierError):
        await barrier.wait()
    await barrier.reset()
    assert not await barrier.broken()


@pytest.mark.anyio
@pytest.mark.parametrize("timeout", [None, 0.05])
async def test_whoever_leaves_a_barrier_breaks_it(manager, timeout):
    """By a cancellation as by a timeout."""
    proxy = manager.Barrier(3)
    barrier = wrap(proxy)

    async def wait():
        with pytest.raises(threading.BrokenBarrierError):
            await barrier.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        if timeout is None:
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as leaving:
                    leaving.start_soon(barrier.wait)
                    await wait_until(lambda: proxy.n_waiting == 2, description="both wait")
                    scope.cancel()
        else:
            with pytest.raises(threading.BrokenBarrierError):
                await barrier.wait(timeout)


# -- pools and iterators ----------------------------------------------------------------------


@pytest.mark.anyio
async def test_pool(manager):
    """Functions run in the manager's pool, and what they raise is raised here."""
    before = manager._number_of_objects()
    async with wrap(manager.Pool(2)) as pool:
        assert await pool.map(objects.square, range(4)) == [0, 1, 4, 9]
        assert await pool.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]
        assert await pool.apply(objects.square, (5,)) == 25
        with pytest.raises(ArithmeticError):
            await pool.apply(objects.failing, (1,))
        result = await pool.apply_async(objects.slowly, (0.2,))
        assert not await result.ready()
        with pytest.raises(multiprocessing.TimeoutError):
            await result.get(0.01)
        assert await result.get() == 0.2
        assert await result.ready()
        assert await result.successful()
        squares = await pool.imap(objects.square, range(3))
        assert [square async for square in squares] == [0, 1, 4]
        unordered = await pool.imap_unordered(objects.square, range(3))
        assert sorted([square async for square in unordered]) == [0, 1, 4]
    del pool, result, squares, unordered
    await all_freed(manager, before)


@pytest.mark.anyio
async def test_an_item_that_nobody_waited_for_is_the_next(manager):
    """An iterator's item is lost to no cancellation."""
    async with wrap(manager.Pool(1)) as pool:
        times = [0.05] * 5
        slow = await pool.imap(objects.slowly, times)
        items = []
        while True:
            with anyio.move_on_after(0.02):
                try:
                    items.append(await anext(slow))
                except StopAsyncIteration:
                    break
        assert items == times


@pytest.mark.anyio
async def test_other_iterators(manager):
    """What exposes `__next__` is iterated over, and its end is the end."""
    assert [number async for number in wrap(manager.numbers())] == [0, 1, 2]
    with pytest.raises(AttributeError, match="iterate"):
        aiter(wrap(manager.Counter()))


# -- queues -----------------------------------------------------------------------------------


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


# -- AsyncManager.proxy -----------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("lane", ["stream", "thread"])
async def test_a_name_of_a_stock_host(manager, lane):
    """`proxy` calls what is registered, and gives what `wrap` gives."""
    before = manager._number_of_objects()
    async with aiomanager.connect(manager.address, objects.KEY, lane=lane) as connected:
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
@pytest.mark.parametrize("lane", ["stream", "thread"])
async def test_a_name_of_our_host(our_host, lane):
    """Objects beside its queues, and the queues themselves."""
    async with aiomanager.connect(our_host.address, objects.KEY, lane=lane) as connected:
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
    assert "another authkey" in str(refused.value)


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["get", "iteration", "delivery"])
async def test_an_item_with_a_proxy_is_done_when_the_host_counts_it(manager, monkeypatch, how):
    """Whoever put it may give up his own reference then, and not before."""
    queue, kept, may_count = wrap(manager.Queue()), [], anyio.Event()
    count = aiomanager._references.Reference.count

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

    monkeypatch.setattr(aiomanager._references.Reference, "count", count_late)
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
    count = aiomanager._references.Reference.count

    async def count_late(reference):
        counting.set()
        await may_count.wait()
        await count(reference)

    monkeypatch.setattr(aiomanager._references.Reference, "count", count_late)
    counter = manager.Counter(1)
    await queue.put(counter)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)
            await counting.wait()
            scope.cancel()
    may_count.set()
    assert await (await queue.get()).add() == 2


# -- hosts that go away -----------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_host_that_is_killed_and_restarted(socket_path):
    """Calls fail at once with an error of ours, those that wait included; at the new host the
    object is gone, which the error says."""
    first: Any
    with objects.running(socket_path) as first:
        shared, event = wrap(first.dict()), wrap(first.Event())
        await shared.update(a=1)

        async def wait():
            with pytest.raises(aiomanager.ConnectionLostError):
                await event.wait()

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.wait_all_tasks_blocked()
            os.kill(first._process.pid, signal.SIGKILL)
            with anyio.fail_after(5):
                with pytest.raises(aiomanager.ConnectionLostError):
                    while True:
                        await shared.copy()
    Path(socket_path).unlink()
    with objects.running(socket_path), pytest.raises(aiomanager.RemoteError, match="restarted"):
        await shared.copy()


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["event", "result", "iterator"])
async def test_a_host_that_is_frozen(monkeypatch, what):
    """Whoever waits there learns it after a time, and for ever waits nobody."""
    for module in ("_references", "_pools"):
        monkeypatch.setattr(f"aiomanager.{module}.ANSWER_TIMEOUT", 0.5)
    running: Any
    with objects.running() as running:
        wait: Any
        if what == "event":
            wait = wrap(running.Event()).wait
        else:
            pool = wrap(running.Pool(1))
            if what == "result":
                wait = (await pool.apply_async(objects.slowly, (0.5,))).get
            else:
                wait = (await pool.imap(objects.slowly, [0, 0.5])).__anext__
                await wait()
        process = psutil.Process(running._process.pid)

        async def wait_in_vain():
            with pytest.raises(aiomanager.ConnectionLostError, match="answer"):
                await wait()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(wait_in_vain)
                await anyio.wait_all_tasks_blocked()
                process.suspend()
        finally:
            process.resume()


# -- event loops ------------------------------------------------------------------------------


def test_one_object_in_one_loop_after_the_other(manager):
    """Nothing of a loop that has ended is used in the next."""
    counter, event = wrap(manager.Counter()), wrap(manager.Event())

    async def use():
        assert not await event.wait(0.01)
        return await counter.add()

    assert [anyio.run(use, backend=backend) for backend in ("asyncio", "trio", "asyncio")] == [
        1,
        2,
        3,
    ]


def test_objects_of_one_manager_in_two_loops_at_once(manager):
    """Their connections are apart."""
    shared = [manager.list(), manager.list()]

    async def use(proxy):
        wrapped = wrap(proxy)
        for number in range(50):
            await wrapped.append(number)

    threads = [
        threading.Thread(target=anyio.run, args=(use, proxy), kwargs={"backend": backend})
        for proxy, backend in zip(shared, ("asyncio", "trio"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(proxy) for proxy in shared] == [50, 50]


def test_garbage_closes_the_connections(manager):
    """Without `aclose` and without warnings."""

    async def use():
        before = _descriptors()
        wrapped = [wrap(manager.dict()) for _ in range(3)]
        for shared in wrapped:
            await shared.update(a=1)
        assert _descriptors() > before
        del wrapped, shared
        gc.collect()
        await wait_until(lambda: _descriptors() <= before, description="all is closed")

    anyio.run(use)


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_pickling_says_where_the_object_is(manager):
    """What `pickle` makes of it is the proxy's own pickle."""
    proxy = manager.dict()
    assert pickle.dumps(wrap(proxy)) == pickle.dumps(proxy)


def test_a_queue_wrapped_before_there_is_an_event_loop(manager):
    """As everything else, it can be made where a script begins."""
    queue, lock = wrap(manager.Queue()), wrap(manager.RLock())

    async def use():
        async with lock:
            await queue.put(1)
            return await queue.get()

    assert anyio.run(use) == 1
