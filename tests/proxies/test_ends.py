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
from tests import objects
from tests.waiting import wait_until


# -- hosts that go away ------------------------------------------------------------
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
