"""Hosts that go away, and event loops that do."""

from __future__ import annotations

import gc
import os
import pickle
import signal
import threading
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import aiomanager
from aiomanager import wrap
from tests.support import objects
from tests.support.waiting import wait_until, while_busy


# -- hosts that go away ------------------------------------------------------------
@pytest.mark.anyio
async def test_a_host_that_is_killed_and_restarted(socket_path):
    """What was under way fails at once. What changes nothing is asked again when the host is back,
    as is what was called while it was away; the object is gone then, which the error says."""
    first: Any
    with objects.running(socket_path) as first:
        shared, event, gate = wrap(first.dict()), wrap(first.Event()), wrap(first.Gate())
        await shared.update(a=1)
        failed = anyio.Event()

        async def pass_through():
            with pytest.raises(aiomanager.ConnectionLostError) as lost:
                await gate.pass_through()
            assert not lost.value.outcome_known
            failed.set()

        async def gone(call):
            with pytest.raises(aiomanager.RemoteError, match="restarted"):
                await call()
            told.append(call)

        told: list[Any] = []
        async with anyio.create_task_group() as group:
            group.start_soon(pass_through)
            group.start_soon(gone, event.wait)
            await wait_until(gate.waiting, description="the call is at the host")
            os.kill(first._process.pid, signal.SIGKILL)
            with anyio.fail_after(5):
                await failed.wait()
            group.start_soon(gone, shared.copy)
            Path(socket_path).unlink()
            # Without a proxy: the standard library goes on using the connection that has ended.
            with objects.Manager(socket_path, objects.KEY, ctx=objects.SPAWN):
                await gone(event.wait)
                await gone(shared.copy)
                # Those who called while it was away, too, before this host ends.
                await wait_until(lambda: len(told) == 4, description="all have been told")


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["event", "lock", "result", "iterator", "dict"])
async def test_a_host_that_does_not_come_back(socket_path, what):
    """It is waited for as long as `reconnect` says, and no longer."""
    running: Any
    with objects.running(socket_path) as running:
        wait: Any
        async with connected(running) as manager:
            wait = await waiting(manager, what)
        os.kill(running._process.pid, signal.SIGKILL)
        with anyio.fail_after(5), pytest.raises(aiomanager.ConnectionLostError):
            while True:
                await wait()
    Path(socket_path).unlink(missing_ok=True)


@pytest.mark.anyio
@pytest.mark.parametrize("what", ["event", "lock", "result", "iterator"])
async def test_a_host_that_is_frozen(what):
    """Whoever waits there learns it after a time, and for ever waits nobody."""
    running: Any
    with objects.running() as running:
        async with connected(running) as manager:
            wait = await waiting(manager, what)
        process = psutil.Process(running._process.pid)

        async def wait_in_vain():
            with pytest.raises(aiomanager.ConnectionLostError, match=r"answer|come back"):
                await wait()

        try:
            async with anyio.create_task_group() as group:
                group.start_soon(wait_in_vain)
                await anyio.wait_all_tasks_blocked()
                process.suspend()
        finally:
            process.resume()


@pytest.mark.anyio
@pytest.mark.parametrize("timeout", [0, 0.2, 0.8])
async def test_a_timeout_holds_though_the_host_is_frozen(timeout):
    """It has ended within a second after it, whatever is waited for."""
    running: Any
    with objects.running() as running:
        async with connected(running, call_timeout=1, reconnect=2) as manager:
            lock, semaphore = await manager.proxy("RLock"), await manager.proxy("Semaphore", 0)
            result = await (await manager.proxy("Pool", 1)).apply_async(objects.slowly, (0.5,))
            calls = [
                (await manager.proxy("Event")).wait,
                lambda seconds: lock.acquire(timeout=seconds),
                lambda seconds: semaphore.acquire(True, seconds),
                (await manager.proxy("Barrier", 2)).wait,
                result.get,
                result.wait,
            ]
        process = psutil.Process(running._process.pid)
        took = []

        async def wait_in_vain(call):
            begun = anyio.current_time()
            with pytest.raises(aiomanager.ConnectionLostError, match="answer"):
                await call(timeout)
            took.append(anyio.current_time() - begun)

        process.suspend()
        try:
            async with anyio.create_task_group() as group:
                for call in calls:
                    group.start_soon(wait_in_vain, call)
        finally:
            process.resume()
        assert max(took) < timeout + while_busy(1)


def connected(
    running: Any, *, call_timeout: float = 0.5, reconnect: float = 0.5
) -> aiomanager.AsyncManager:
    """A connection that gives up soon."""
    return aiomanager.connect(
        running.address, objects.KEY, call_timeout=call_timeout, reconnect=reconnect
    )


async def waiting(manager: aiomanager.AsyncManager, what: str) -> Any:
    """A call that waits at the host, or else one that changes nothing."""
    if what == "event":
        return (await manager.proxy("Event")).wait
    if what == "lock":
        return (await manager.proxy("Semaphore", 0)).acquire
    if what == "dict":
        return (await manager.proxy("dict")).copy
    pool = await manager.proxy("Pool", 1)
    if what == "result":
        return (await pool.apply_async(objects.slowly, (0.5,))).get
    iterator = await pool.imap(objects.slowly, [0, 0.5])
    await anext(iterator)
    return iterator.__anext__


@pytest.mark.anyio
async def test_a_connection_that_is_cut_while_somebody_waits(manager):
    """To wait changes nothing, so it is waited on over another connection."""
    proxy = manager.Event()
    pool = wrap(manager.Pool(1))
    event, result = wrap(proxy), await pool.apply_async(objects.slowly, (0.5,))
    outcomes = []

    async def wait(call):
        outcomes.append(await call())

    async with anyio.create_task_group() as group:
        assert not await event.wait(0.01)
        await result.wait(0.01)  # they have been looked at
        group.start_soon(wait, event.wait)
        group.start_soon(wait, result.get)
        host = event._reference.host
        await wait_until(lambda: len(host.pool._used) == 2, description="both wait")
        host.pool.cut()
        await wait_until(lambda: len(outcomes) == 1, description="the result is there")
        proxy.set()
    assert outcomes == [0.5, True]
    await pool.terminate()


# -- event loops ------------------------------------------------------------
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
