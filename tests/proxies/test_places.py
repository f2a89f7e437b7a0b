"""Objects in several event loops and in several processes."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import threading
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from multiprocessing import current_process
from typing import Any

import anyio
import pytest

from aiomanager import wrap
from tests.support import objects
from tests.support.waiting import wait_until

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
BACKENDS = ("asyncio", "trio")


class Loop(threading.Thread):
    """An event loop on a thread of its own, which runs one coroutine function."""

    def __init__(self, backend: str, work: Callable[[], Awaitable[object]]) -> None:
        super().__init__()
        self._backend, self._work = backend, work
        self.outcome: object = None

    def run(self) -> None:
        try:
            self.outcome = anyio.run(self._work, backend=self._backend)
        except BaseException as exc:
            self.outcome = exc


# -- event loops ------------------------------------------------------------
@pytest.mark.parametrize("backends", [("asyncio", "asyncio"), BACKENDS])
def test_two_loops_that_wait_for_one_object(manager, backends):
    """Both wake, whatever is waited for, and neither keeps the other from waiting again."""
    event, lock, semaphore = manager.Event(), manager.Lock(), manager.Semaphore(0)
    shared = [wrap(event), wrap(lock), wrap(semaphore)]
    begun = [threading.Event() for _ in backends]

    async def wait(number: int) -> list[Any]:
        assert not await shared[0].wait(0.01)
        begun[number].set()
        return [
            await shared[0].wait(30),
            await shared[1].acquire(timeout=30),
            await shared[1].release(),
            await shared[2].acquire(timeout=30),
        ]

    lock.acquire()
    threads = [Loop(backend, partial(wait, n)) for n, backend in enumerate(backends)]
    for thread in threads:
        thread.start()
    for event_of_one in begun:
        assert event_of_one.wait(30)
    event.set()
    lock.release()
    semaphore.release()
    semaphore.release()
    for thread in threads:
        thread.join(60)
    assert [thread.outcome for thread in threads] == [[True, True, None, True]] * 2


def test_two_loops_that_wait_for_one_result(manager):
    """Both get it; of an iterator each item is for one of them."""
    pool = manager.Pool(1)
    result = wrap(pool.apply_async(objects.slowly, (0.3,)))
    items = wrap(pool.imap(objects.slowly, [0.01] * 20))

    async def wait() -> tuple[float, int]:
        return await result.get(30), len([item async for item in items])

    threads = [Loop(backend, wait) for backend in BACKENDS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    outcomes: list[Any] = [thread.outcome for thread in threads]
    assert [outcome[0] for outcome in outcomes] == [0.3, 0.3]
    assert sum(outcome[1] for outcome in outcomes) == 20
    pool.terminate()


def test_two_loops_at_one_barrier_and_one_condition(manager):
    """They pass together, and a notification of one wakes the other."""
    barrier, proxy = wrap(manager.Barrier(2)), manager.Condition()
    condition = wrap(proxy)

    async def wait() -> bool:
        await barrier.wait(30)
        async with condition:
            await barrier.call("wait", 30)
            return bool(await condition.wait(30))

    async def notify() -> bool:
        await barrier.wait(30)
        await barrier.wait(30)
        async with condition:
            await condition.notify()
        return True

    threads = [Loop("asyncio", wait), Loop("trio", notify)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [thread.outcome for thread in threads] == [True, True]


def test_an_item_that_is_left_in_one_loop(manager):
    """It is the next in another."""
    pool = manager.Pool(1)
    items = wrap(pool.imap(objects.slowly, [0, 0.3, 0.01]))

    async def leave() -> None:
        assert await anext(items) == 0
        with anyio.move_on_after(0.05):
            await anext(items)
        await wait_until(lambda: items._left._items, description="it has come for nobody")

    async def take() -> list[float]:
        return [item async for item in items]

    anyio.run(leave)
    assert anyio.run(take, backend="trio") == [0.3, 0.01]
    pool.terminate()


# -- processes ------------------------------------------------------------
async def use_all(shared: dict[str, Any]) -> list[Any]:
    """Use objects of each kind."""
    async with shared["lock"], shared["rlock"], shared["rlock"], shared["condition"]:
        await shared["condition"].notify_all()
    return [
        await shared["counter"].add(1),
        await shared["event"].wait(0.01),
        await shared["semaphore"].acquire(timeout=0.01),
        await shared["barrier"].wait(5),
        await shared["namespace"].get("x"),
        await anext(shared["iterator"]),
    ]


def each_kind(manager: Any) -> dict[str, Any]:
    """Objects of each kind, wrapped outside any event loop, without their proxies."""
    return {
        "lock": wrap(manager.Lock()),
        "rlock": wrap(manager.RLock()),
        "condition": wrap(manager.Condition()),
        "counter": wrap(manager.Counter()),
        "event": wrap(manager.Event()),
        "semaphore": wrap(manager.Semaphore(0)),
        "barrier": wrap(manager.Barrier(1)),
        "namespace": wrap(manager.Namespace(x=1)),
        "iterator": wrap(manager.numbers()),
    }


def expected(number: int) -> list[Any]:
    """What `use_all` returns when it is called for the nth time."""
    return [number + 1, False, False, 0, 1, number]


def in_child(work: Callable[[], object], how: str) -> object:
    """What the work returns in a child, forked by the system alone or by multiprocessing."""
    reader, writer = multiprocessing.Pipe(duplex=False)

    def child() -> None:
        try:
            outcome = work()
        except BaseException:
            outcome = traceback.format_exc()
        writer.send(outcome)

    if how == "os.fork":
        pid = os.fork()
        if not pid:
            try:
                child()
            finally:
                os._exit(0)
        outcome = reader.recv()
        os.waitpid(pid, 0)
    else:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        outcome = reader.recv()
        process.join()
        process.close()
    reader.close()
    writer.close()
    return outcome


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
@pytest.mark.parametrize("used_before", [False, True])
def test_a_forked_child_uses_what_was_wrapped(manager, how, used_before):
    """With connections and references of its own; the parent goes on with its own."""
    shared = each_kind(manager)
    number = 0
    if used_before:
        assert anyio.run(use_all, shared) == expected(number)
        number += 1
    for backend in BACKENDS:
        run = partial(anyio.run, use_all, shared, backend=backend)
        assert in_child(run, how) == expected(number)
        number += 1
    assert anyio.run(shared["counter"].add) == number + 1


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_a_child_keeps_what_its_parent_gives_up(manager, how):
    """Its reference is counted apart."""
    counter = wrap(manager.Counter())
    anyio.run(counter.add)
    go_on, tell = multiprocessing.Pipe(duplex=False)

    async def use() -> int:
        await counter.add()
        tell_used.send(True)
        go_on.recv()
        return int(await counter.add())

    used, tell_used = multiprocessing.Pipe(duplex=False)

    def give_up() -> None:
        used.recv()
        anyio.run(counter.aclose)
        tell.send(True)

    thread = threading.Thread(target=give_up)
    thread.start()
    assert in_child(lambda: anyio.run(use), how) == 3
    thread.join()
    for end in (go_on, tell, used, tell_used):
        end.close()


@forks
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_owns_nothing(manager):
    """A lock that its parent's task has is not the child's, though it runs in a task alike."""
    proxy = manager.RLock()
    lock = wrap(proxy)

    async def own() -> object:
        async with lock:
            return await anyio.to_thread.run_sync(
                in_child, lambda: anyio.run(lock.acquire, False), "os.fork"
            )

    assert anyio.run(own) is False


def use_there(shared: Any) -> str:
    """In a worker: blocking, and wrapped there."""

    async def use() -> int:
        return int(await wrap(shared).add(1))

    return f"{shared.add(1)} {anyio.run(use)}"


def has_key(key: bytes) -> None:
    """In a worker: know the manager's key."""
    current_process().authkey = key


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_wrapped_objects_in_the_workers_of_an_executor(manager, method):
    """They arrive as the standard library's proxies."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not have it")
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=context, initializer=has_key, initargs=(objects.KEY,)
    ) as executor:
        assert executor.submit(use_there, wrap(manager.Counter())).result(60) == "1 2"
