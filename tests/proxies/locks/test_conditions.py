"""Conditions: who waits, and who is notified."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anyio
import pytest

from aiomanager import wrap
from tests.proxies.locks.holders import is_free
from tests.support.waiting import wait_until, wait_until_sync


@pytest.mark.anyio
async def test_a_condition_notifies(manager):
    """One, several or all, in both directions between tasks and blocking code."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    woken = []

    async def wait(name):
        async with condition:
            woken.append((name, await condition.wait()))

    def wait_blocking():
        with proxy:
            woken.append(("blocking", proxy.wait()))

    async with anyio.create_task_group() as group:
        for name in "abc":
            group.start_soon(wait, name)
        await waiting(proxy, 3)
        async with condition:
            await condition.notify()
            await condition.wait(0.01)
        await wait_until(lambda: len(woken) == 1, description="one is woken")
        with proxy:
            proxy.notify_all()
    assert sorted(woken) == [("a", True), ("b", True), ("c", True)]
    thread = threading.Thread(target=wait_blocking)
    thread.start()
    await waiting(proxy, 1)
    async with condition:
        await condition.notify_all()
    thread.join()
    assert woken[3:] == [("blocking", True)]


async def waiting(proxy: Any, count: int) -> None:
    """Wait until so many wait for the condition."""
    await wait_until(
        lambda: f", {count})>" in str(proxy), description=f"{count} wait for the condition"
    )


@pytest.mark.anyio
async def test_a_wait_in_vain(manager):
    """Its time is up, and the task has the lock again."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    async with condition:
        assert not await condition.wait(0.01)
        assert not is_free(proxy)
    assert is_free(proxy)


@pytest.mark.anyio
async def test_what_takes_the_lock_of_a_condition(manager):
    """To wait and to notify one has to have it."""
    condition = wrap(manager.Condition())
    for method in (condition.wait, condition.notify, condition.notify_all):
        with pytest.raises(RuntimeError, match="does not own"):
            await method()


@pytest.mark.anyio
async def test_no_notification_is_lost_in_a_long_critical_section(manager):
    """Whoever notifies may have held the lock for longer than a slice: a wait in slices would have
    left the line by then, and be waiting for the lock."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    woken = []

    async def wait():
        async with condition:
            woken.append(await condition.wait())

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await waiting(proxy, 1)
        async with condition:
            with anyio.move_on_after(0.7):
                await anyio.sleep_forever()
            await condition.notify()
        with anyio.fail_after(10):
            await wait_until(lambda: woken, description="the waiting task is woken")


@pytest.mark.anyio
@pytest.mark.may_block(reason="the predicate asks as blocking code would")
async def test_wait_for(manager):
    """The predicate is a function or a coroutine function, and called with the lock held."""
    proxy, shared = manager.Condition(), wrap(manager.Namespace(ready=0))
    condition = wrap(proxy)

    async def ready():
        assert not is_free(proxy)
        return await shared.get("ready")

    async def make_ready():
        await waiting(proxy, 1)
        async with condition:
            await shared.set("ready", 5)
            await condition.notify()

    async with condition:
        assert await condition.wait_for(lambda: False, timeout=0.02) is False
        async with anyio.create_task_group() as group:
            group.start_soon(make_ready)
            assert await condition.wait_for(ready) == 5


@pytest.mark.anyio
@pytest.mark.parametrize("timeout", [None, 60, 0.3])
async def test_a_cancelled_wait_gives_the_lock_up(manager, timeout):
    """At once, however long the wait; the block around it ends without an error, and the task may
    acquire it again."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel():
                await waiting(proxy, 1)
                scope.cancel()

            group.start_soon(cancel)
            async with condition, condition:
                await condition.wait(timeout)
    await waiting(proxy, 0)
    await wait_until(lambda: is_free(proxy), description="nobody has the lock")

    async def in_vain():
        return not await condition.wait(0.01)

    async with condition:
        # The wait that was left passes its notification on, and may do so only now.
        await wait_until(in_vain, description="nobody notifies any more")


@pytest.mark.anyio
async def test_after_a_cancelled_wait_the_lock_is_not_held(manager):
    """What the block still does with the condition is refused, and its end is not."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    async with condition:
        with anyio.move_on_after(0.05):
            await condition.wait()
        for method in (condition.wait, condition.notify, condition.acquire):
            with pytest.raises(RuntimeError):
                await method()
    async with condition:
        await condition.notify()


@pytest.mark.asyncio
async def test_a_notification_for_a_task_that_has_left_is_passed_on(manager):
    """Tasks leave natively while one notification after the other comes; none is lost."""
    proxy = manager.Condition()
    condition = wrap(proxy)
    items: list[int] = []
    taken: list[int] = []

    async def take():
        async with condition:
            while not items:
                await condition.wait()
            taken.append(items.pop())

    staying = [asyncio.create_task(take()) for _ in range(10)]
    leaving = [asyncio.create_task(take()) for _ in range(10)]
    await waiting(proxy, 20)
    for task in leaving:
        task.cancel()
        async with condition:
            items.append(1)
            await condition.notify()
    # Any of them may have taken one, but for those that had left by then.
    await wait_until(lambda: len(taken) == 10, description="each item is taken")
    for task in staying:
        task.cancel()
    await asyncio.wait(staying + leaving)
    await waiting(proxy, 0)
    await wait_until(lambda: is_free(proxy), description="nobody has the lock")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_end_of_the_event_loop_ends_a_wait(manager, backend):
    """The host does not keep the lock for a waiting task that is gone."""
    proxy = manager.Condition()

    async def wait():
        condition = wrap(proxy)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:

                async def cancel():
                    await waiting(proxy, 1)
                    scope.cancel()

                group.start_soon(cancel)
                async with condition:
                    await condition.wait()

    anyio.run(wait, backend=backend)
    wait_until_sync(lambda: ", 0)>" in str(proxy), description="nobody waits")
    wait_until_sync(lambda: is_free(proxy), description="nobody has the lock")
