"""Event loops: an object that is used in several, beside one another or one after the other.

The standard library has none; what its proxies do on several threads, ours do in several loops.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

import aiomanager
from tests.differential import loops
from tests.differential.world import World
from tests.support.waiting import wait_until_sync

BACKENDS = ("asyncio", "trio")
each_thread = pytest.mark.only(faces=("standard", "asyncio-a-thread", "trio-a-thread"))


def _wait_for(count: int, waiting: Callable[[], int]) -> None:
    wait_until_sync(lambda: waiting() >= count, description=f"{count} wait")


@each_thread
def test_two_loops_wait_for_one_event(world: World) -> None:
    """Both wake."""
    event = world.make("Event")
    waits = [world.thread(event.wait) for _ in range(2)]
    event.is_set()
    assert not event.wait(0.05)
    event.set()
    assert [wait.get() for wait in waits] == [True, True]


@each_thread
@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_two_loops_wait_for_one_lock(world: World, kind: str) -> None:
    """One after the other has it."""
    lock = world.make(kind)
    held: list[int] = []

    def hold() -> None:
        with lock:
            held.append(threading.get_ident())
            assert len(held) == 1
            held.pop()

    lock.acquire()
    waits = [world.thread(hold) for _ in range(3)]
    assert not world.thread(lock.acquire, True, 0.1).get()
    lock.release()
    for wait in waits:
        wait.get()
    assert lock.acquire(True, 5)
    lock.release()


@each_thread
def test_two_loops_wait_for_one_condition(world: World) -> None:
    """A notification for all reaches both."""
    condition, shared = world.make("Condition"), world.make("dict", waiting=0)

    def wait() -> bool:
        with condition:
            shared["waiting"] += 1
            return bool(condition.wait(20))

    waits = [world.thread(wait) for _ in range(2)]
    _wait_for(2, lambda: int(shared["waiting"]))
    with condition:
        condition.notify_all()
    assert [wait.get() for wait in waits] == [True, True]


@each_thread
def test_two_loops_get_from_one_queue(world: World) -> None:
    """Each item goes to one of them, and both get some where each waits."""
    for queue in (world.queue(), world.make("Queue")):
        gets = [world.thread(queue.get) for _ in range(2)]
        queue.put(1)
        queue.put(2)
        assert sorted(get.get() for get in gets) == [1, 2]
        assert queue.qsize() == 0


@each_thread
def test_many_loops_put_into_one_queue(world: World) -> None:
    """All arrives, in the order of each loop."""
    for queue in (world.queue(), world.make("Queue")):

        def put(name: int, queue: Any = queue) -> None:
            for number in range(20):
                queue.put((name, number))

        for done in [world.thread(put, name) for name in range(4)]:
            done.get()
        items = [queue.get(timeout=5) for _ in range(80)]
        for name in range(4):
            assert [n for who, n in items if who == name] == list(range(20))


@each_thread
def test_the_end_of_one_loop_ends_no_other_call(world: World) -> None:
    """A thread comes and goes that uses what another waits for."""
    for queue in (world.queue(), world.make("Queue")):
        waiting = world.thread(queue.get)
        for _ in range(3):
            world.thread(queue.qsize).get()
        queue.put("item")
        assert waiting.get() == "item"


# -- ours alone ---------------------------------------------------------------------------------
only_ours = pytest.mark.only(lambda face, kind: face in BACKENDS)


@only_ours
def test_a_loop_that_ends_with_calls_pending(world: World) -> None:
    """The next loop has none of its trouble: what was waited for is to be had there."""
    queue, event = world.queue()._wrapped, world.make("Event")._wrapped

    async def leave_pending() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(queue.get)
            group.start_soon(event.wait)
            await anyio.wait_all_tasks_blocked()
            await queue.qsize()
            group.cancel_scope.cancel()

    async def use(number: int) -> tuple[object, bool]:
        await queue.put(number)
        with anyio.fail_after(loops.HANGS):
            return await queue.get(), await event.wait(0.01)

    for number, backend in enumerate(BACKENDS * 2):
        anyio.run(leave_pending, backend=backend)
        assert anyio.run(use, number, backend=backend) == (number, False)


@only_ours
def test_a_manager_can_be_entered_again_or_says_no(world: World) -> None:
    """After it was closed; and what it gave then works, or says what it wants."""
    address, key = world.host.address, bytes(world.host._authkey)
    name = world.unused()
    manager = aiomanager.connect(address, key)

    async def use(number: int) -> object:
        with anyio.fail_after(loops.HANGS):
            async with manager:
                await manager.queue(name).put(number)
                return await manager.queue(name).get()

    backend = world.face.name
    assert anyio.run(use, 1, backend=backend) == 1
    try:
        again = anyio.run(use, 2, backend=backend)
    except aiomanager.ConfigurationError as exc:
        refusal = str(exc)
    else:
        assert again == 2
        return
    assert "again" in refusal


@only_ours
def test_an_open_manager_in_another_loop(world: World) -> None:
    """Its queues work there, or raise at once an error that names the loop; never that the
    manager is closed, which it is not."""
    client = world.connect()
    queue = client.queue(world.unused())
    queue.put("here")

    async def elsewhere() -> None:
        with anyio.fail_after(5):
            await queue._wrapped.put("there")

    refusal = "another loop"
    try:
        anyio.run(elsewhere, backend=world.face.name)
    except aiomanager.AioManagerError as exc:
        refusal = str(exc)
    assert "loop" in refusal
    assert "manager is closed" not in refusal
    assert "was closed" not in refusal
    assert queue.get(timeout=5) == "here"


@only_ours
def test_wrap_outside_a_loop_is_the_same_for_every_kind(world: World) -> None:
    """It works for each, or says no for each."""
    proxies = [
        world.proxy_of_a_queue(),
        *(getattr(world.host, kind)() for kind in ("Queue", "dict", "Lock", "Event", "Condition")),
        world.host.Device(),
    ]
    outcomes = []
    for proxy in proxies:
        try:
            outcomes.append(aiomanager.wrap(proxy) is not None)
        except aiomanager.AioManagerError:
            outcomes.append(False)
    assert len(set(outcomes)) == 1, list(zip(proxies, outcomes, strict=True))
