"""Locks of a stock manager through `wrap`: who has them, and that nobody keeps one who has left."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import anyio
import pytest

from aiomanager import wrap
from aiomanager._addresses import Address
from aiomanager._links import Conversation
from aiomanager._threads import ThreadLink
from tests import objects
from tests.waiting import wait_until, wait_until_sync


@pytest.fixture(scope="module")
def manager():
    """One stock manager for all tests here."""
    with objects.running() as running:
        yield running


class Holder(threading.Thread):
    """Blocking code that holds a lock in a block, `async with` or `with`."""

    def __init__(self, proxy: Any) -> None:
        super().__init__()
        self._proxy = proxy
        self._has = threading.Event()
        self._give_up = threading.Event()

    def run(self) -> None:
        with self._proxy:
            self._has.set()
            self._give_up.wait()

    def __enter__(self) -> None:
        self.start()
        assert self._has.wait(10)

    def __exit__(self, *_: object) -> None:
        self._give_up.set()
        self.join()

    async def __aenter__(self) -> None:
        self.start()
        await wait_until(self._has.is_set, description="the lock is acquired")

    async def __aexit__(self, *_: object) -> None:
        self.__exit__()


def is_free(proxy: Any) -> bool:
    """Whether blocking code gets the lock at once."""
    if not proxy.acquire(False):
        return False
    proxy.release()
    return True


LOCKS = ["Lock", "RLock", "Semaphore", "BoundedSemaphore", "Condition"]
all_locks = pytest.mark.parametrize("kind", LOCKS)


# -- holding ----------------------------------------------------------------------------------


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


# -- leaving ----------------------------------------------------------------------------------


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


# -- conditions -------------------------------------------------------------------------------


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
async def test_wait_for(manager):
    """The predicate is a function or a coroutine function, and called with the lock held."""
    proxy, shared = manager.Condition(), wrap(manager.Namespace(ready=0))
    condition, other = wrap(proxy), wrap(proxy)

    async def ready():
        assert not await other.acquire(False)
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
    async with condition:
        assert not await condition.wait(0.01)


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


# -- the end of the process -------------------------------------------------------------------

WAITS = """
import anyio
import aiomanager
from tests import objects

manager = objects.Manager({address!r}, objects.KEY)
manager.connect()

async def main():
    lock, condition = aiomanager.wrap(manager.Lock()), aiomanager.wrap(manager.Condition())
    semaphore = aiomanager.wrap(manager.Semaphore(0))
    event, barrier = aiomanager.wrap(manager.Event()), aiomanager.wrap(manager.Barrier(2))
    gate, queue = aiomanager.wrap(manager.Gate()), aiomanager.wrap(manager.Queue())
    await lock.acquire()

    async def wait():
        async with condition:
            await condition.wait()

    async with anyio.create_task_group() as group:
        for waiting in (lock.acquire, semaphore.acquire, event.wait, barrier.wait,
                        gate.pass_through, queue.get, wait):
            group.start_soon(waiting)
        while not (await barrier.n_waiting() and await gate.waiting()):
            pass
        print("waiting", flush=True)
        {then}

try:
    anyio.run(main, backend={backend!r})
except* KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(
    "then", ["group.cancel_scope.cancel()", "await anyio.sleep_forever()"], ids=["end", "Ctrl-C"]
)
def test_the_process_ends_with_waits_pending(manager, backend, then):
    """In about a second, and without a word."""
    code = textwrap.dedent(WAITS).format(
        address=manager.address, backend=backend, then=then, names=()
    )
    with subprocess.Popen(
        [sys.executable, "-W", "default", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n", process.communicate()[1]
        start = time.monotonic()
        if "forever" in then:
            process.send_signal(2)
        output = process.communicate(timeout=30)
        took = time.monotonic() - start
    assert output == ("", "")
    assert process.returncode == 0
    assert took < 5, took


LEFT = """
import asyncio
import aiomanager
from tests import objects

manager = objects.Manager({address!r}, objects.KEY)
manager.connect()

async def main():
    barrier, gate = aiomanager.wrap(manager.Barrier(2)), aiomanager.wrap(manager.Gate())
    lock = aiomanager.wrap(manager.Lock())
    await lock.acquire()
    tasks = [asyncio.create_task(wait()) for wait in
             (lock.acquire, barrier.wait, gate.pass_through)]
    while not (await barrier.n_waiting() and await gate.waiting()):
        pass
    return tasks

tasks = asyncio.new_event_loop().run_until_complete(main())
print("left", flush=True)
"""


def test_the_process_ends_though_the_event_loop_was_left(manager):
    """With tasks that nobody cancelled, and threads that wait for the host on their behalf."""
    with subprocess.Popen(
        [sys.executable, "-c", LEFT.format(address=manager.address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "left\n"
        assert process.wait(timeout=10) == 0


# -- the thread lane's part -------------------------------------------------------------------


class ScriptedConnection:
    """Answers each request with the next of its replies."""

    def __init__(self, *replies: Any) -> None:
        self.requests: list[Any] = []
        self.closed = threading.Event()
        self._replies = list(replies)

    def send(self, parts: Any) -> None:
        self.requests.append(parts)

    def receive(self, timeout: float | None) -> Any:
        return self._replies.pop(0)

    def received(self) -> None:
        return None

    def close(self) -> None:
        self.closed.set()


class LateLink(ThreadLink):
    """A link whose worker thread starts when nobody waits for it any more."""

    async def _in_thread(self, call: Any) -> Any:
        self.start_at_last = call
        await anyio.sleep_forever()


def exchange(request: str) -> Conversation[str]:
    """Say something and return the answer."""
    return str((yield [request.encode()]))


@pytest.mark.anyio
async def test_a_conversation_whose_thread_starts_too_late():
    """It does not begin, what has to be said is said, and the thread is not held up."""
    connection = ScriptedConnection("said")
    link = LateLink(connection, Address("unix", "/nowhere"), anyio.CapacityLimiter(1))
    settled = []

    def settle(outcomes):
        settled.append(list(outcomes))
        return exchange("last words")

    with anyio.move_on_after(0.01):
        await link.converse_surely(exchange("never"), None, settle)
    await wait_until(connection.closed.is_set, description="the link is closed")
    assert settled == [[]]
    thread = threading.Thread(target=link.start_at_last)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert connection.requests == [[b"last words"]]
