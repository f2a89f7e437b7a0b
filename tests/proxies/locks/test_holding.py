"""Who holds a lock, and who has left it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import itertools
import random
import threading
import time
from functools import partial

import anyio
import pytest

import aiomanager
from aiomanager import wrap
from tests.proxies.locks.holders import Holder, all_locks, is_free
from tests.support import objects
from tests.support.waiting import wait_until, wait_until_sync


# -- holding ------------------------------------------------------------
@pytest.mark.anyio
@all_locks
async def test_one_at_a_time(manager, kind):
    """Tasks and blocking code exclude one another."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    inside = 0

    async def work():
        nonlocal inside
        for _ in range(5):
            async with lock:
                inside += 1
                assert inside == 1
                await anyio.lowlevel.checkpoint()
                inside -= 1

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(work)
    async with lock:
        assert not is_free(proxy)
    assert is_free(proxy)


@pytest.mark.anyio
@all_locks
async def test_acquire_in_vain(manager, kind):
    """At once, or when the time is up; and at once where the lock is free, whatever the time."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    async with Holder(proxy):
        assert not await lock.acquire(False)
        assert not await lock.acquire(timeout=0)
        start = time.monotonic()
        assert not await lock.acquire(timeout=0.05)
        assert 0.04 < time.monotonic() - start < 5
    assert await lock.acquire(timeout=0.000001)
    await lock.release()
    assert await lock.acquire(False)
    await lock.release()
    assert is_free(proxy)


@pytest.mark.anyio
async def test_a_semaphore_counts(manager):
    """So many at a time; a bounded one refuses to be released too often."""
    semaphore = wrap(manager.BoundedSemaphore(2))
    async with semaphore, semaphore:
        assert not await semaphore.acquire(False)
    with pytest.raises(ValueError, match="too many"):
        await semaphore.release()
    plain = wrap(manager.Semaphore(0))
    await plain.release(2)
    assert [await plain.acquire(False) for _ in range(3)] == [True, True, False]


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["Lock", "Semaphore", "common_lock"])
async def test_what_nobody_owns_anybody_may_release(manager, kind):
    """Another task, and blocking code, as in the standard library."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    await lock.acquire()
    async with anyio.create_task_group() as group:
        group.start_soon(lock.release)
    assert await lock.acquire()
    proxy.release()
    assert is_free(proxy)


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["RLock", "Condition", "common"])
async def test_what_is_owned_belongs_to_a_task(manager, kind):
    """It may acquire it again, and nobody else may release it; whatever it is registered as."""
    lock = wrap(getattr(manager, kind)())

    async def refused():
        assert not await lock.acquire(False)
        with pytest.raises(RuntimeError, match="this task has not acquired it"):
            await lock.release()

    async with lock:
        async with lock:
            assert await lock.acquire(timeout=1)
            await lock.release()
        async with anyio.create_task_group() as group:
            group.start_soon(refused)
    with pytest.raises(RuntimeError, match="not acquired"):
        await lock.release()
    async with lock:
        pass


@pytest.mark.anyio
async def test_call_goes_the_same_way(manager):
    """By its name, a method does what it does as an attribute."""
    lock = wrap(manager.RLock())
    assert await lock.call("acquire")
    await lock.call("release")
    with pytest.raises(RuntimeError):
        await lock.call("release")


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["RLock", "Condition"])
async def test_the_end_of_its_task_gives_a_lock_up(manager, kind):
    """However often it was acquired, and though the wrapped object is garbage."""
    proxy = getattr(manager, kind)()

    async def work():
        lock = wrap(proxy)
        await lock.acquire()
        await lock.acquire()

    async with anyio.create_task_group() as group:
        group.start_soon(work)
    await wait_until(lambda: is_free(proxy), description="the lock is given up")


@pytest.mark.anyio
async def test_many_waiting_tasks_cost_one_thread(manager):
    """And get the lock first come, first served."""
    proxy = manager.Lock()
    lock = wrap(proxy)
    order = []

    async def work(number):
        async with lock:
            order.append(number)

    assert await lock.acquire()
    before = threading.active_count()
    async with anyio.create_task_group() as group:
        for number in range(200):
            group.start_soon(work, number)
            await anyio.lowlevel.checkpoint()
        await anyio.wait_all_tasks_blocked()
        assert threading.active_count() <= before + 2
        proxy.release()
    assert sorted(order) == list(range(200))


# -- leaving ------------------------------------------------------------
@pytest.mark.anyio
@all_locks
async def test_a_cancelled_acquire_keeps_no_lock(manager, kind):
    """Not even if it is granted at the very moment."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    for delay in (0, 0.0005, 0.001, 0.002, 0.005):
        async with Holder(proxy):
            with anyio.move_on_after(delay):
                async with lock:
                    raise AssertionError("the lock was taken")
        with anyio.move_on_after(delay):
            async with lock:
                await anyio.lowlevel.checkpoint()
    await wait_until(lambda: is_free(proxy), description="nobody has the lock")


@pytest.mark.asyncio
@all_locks
async def test_native_cancellation_keeps_no_lock(manager, kind):
    """50 tasks give up natively, at any moment and in any way, while the lock comes and goes."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    chance = random.Random(kind)

    async def work():
        async with lock:
            await asyncio.sleep(0)

    async def work_for(seconds):
        async with asyncio.timeout(seconds):
            await work()

    for _ in range(4):
        tasks = []
        for number in range(50):
            seconds = chance.uniform(0, 0.02)
            if number % 3 == 0:
                tasks.append(asyncio.create_task(work()))
                asyncio.get_running_loop().call_later(seconds, tasks[-1].cancel)
            elif number % 3 == 1:
                tasks.append(asyncio.create_task(asyncio.wait_for(work(), seconds)))
            else:
                tasks.append(asyncio.create_task(work_for(seconds)))
        for left in await asyncio.gather(*tasks, return_exceptions=True):
            assert left is None or isinstance(left, (asyncio.CancelledError, TimeoutError))
        with pytest.raises(asyncio.TimeoutError):
            async with asyncio.timeout(0):
                await lock.acquire()
    await wait_until(lambda: is_free(proxy), description="nobody has the lock")
    async with lock:
        pass


@pytest.mark.anyio
@all_locks
async def test_a_cancelled_block_releases_its_lock(manager, kind):
    """Before the block is left."""
    proxy = getattr(manager, kind)()
    lock = wrap(proxy)
    with anyio.CancelScope() as scope:
        async with lock:
            scope.cancel()
            await anyio.sleep_forever()
    assert is_free(proxy)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@all_locks
def test_the_end_of_the_event_loop_keeps_no_lock(manager, kind, backend):
    """A loop ends while a task waits for the lock, and while one has it."""
    proxy = getattr(manager, kind)()

    async def wait():
        with anyio.move_on_after(0.05):
            await wrap(proxy).acquire()

    async def leave_held():
        if kind in ("RLock", "Condition"):
            await wrap(proxy).acquire()

    with Holder(proxy):
        anyio.run(wait, backend=backend)
    # The host may have granted it to the slice that was under way.
    wait_until_sync(lambda: is_free(proxy), description="nobody has the lock")
    anyio.run(leave_held, backend=backend)
    wait_until_sync(lambda: is_free(proxy), description="nobody has the lock")


# -- one lock, looked up more than once ------------------------------------------------------------
def looked_up(manager, kind):
    """A function that gives the same lock in another wrapped object each time, by every way."""
    proxy = getattr(manager, kind)()
    holder = wrap(manager.dict(lock=proxy))
    count = itertools.count()

    async def look_up():
        return wrap(proxy) if next(count) % 2 else await holder.get("lock")

    return proxy, look_up


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["RLock", "Condition"])
async def test_a_lock_is_owned_however_often_it_is_looked_up(manager, kind):
    """The task nests it, and releases it by any of the wrapped objects, though the one that it was
    acquired by is garbage."""
    proxy, look_up = looked_up(manager, kind)
    async with await look_up():
        async with await look_up():
            assert await (await look_up()).acquire(timeout=1)
        assert not await anyio.to_thread.run_sync(in_thread, partial(is_free, proxy))
    await (await look_up()).release()
    assert is_free(proxy)
    with pytest.raises(RuntimeError, match="not acquired"):
        await (await look_up()).release()


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["RLock", "Condition"])
async def test_another_task_does_not_own_it(manager, kind):
    """By whatever wrapped object."""
    _, look_up = looked_up(manager, kind)

    async def refused():
        lock = await look_up()
        assert not await lock.acquire(False)
        with pytest.raises(RuntimeError, match="not acquired"):
            await lock.release()

    async with await look_up():
        for _ in range(2):
            async with anyio.create_task_group() as group:
                group.start_soon(refused)


@pytest.mark.anyio
async def test_a_condition_that_is_looked_up_each_time(manager):
    """One wrapped object acquires, another waits, a third notifies."""
    proxy, look_up = looked_up(manager, "Condition")
    woken = []

    async def wait():
        async with await look_up():
            woken.append(await (await look_up()).wait(10))

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await wait_until(lambda: ", 1)>" in str(proxy), description="it waits")
        async with await look_up():
            await (await look_up()).notify_all()
    assert woken == [True]


@pytest.mark.anyio
async def test_a_lock_by_connections_with_other_settings(manager):
    """They are one host, so it is one lock."""
    async with (
        aiomanager.connect(manager.address, objects.KEY) as first,
        aiomanager.connect(manager.address, objects.KEY, wait_slice=0.1) as second,
    ):
        async with await first.proxy("common"), await second.proxy("common"):
            pass
        async with await first.proxy("common"):
            pass


@pytest.mark.anyio
async def test_many_that_look_a_lock_up_cost_one_thread(manager):
    """As many tasks with one wrapped object do."""
    proxy = manager.Lock()
    await wrap(proxy).acquire()
    before = threading.active_count()
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(wrap(proxy).acquire)
        await anyio.wait_all_tasks_blocked()
        await wait_until(
            lambda: threading.active_count() <= before + 2, description="one thread waits for all"
        )
        group.cancel_scope.cancel()
    proxy.release()
    await wait_until(lambda: is_free(proxy), description="nobody has the lock")


def in_thread(work):
    """What work returns on a thread that ends, and the connection of its proxies with it."""
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        return executor.submit(work).result()
