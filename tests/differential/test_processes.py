"""Processes: what was given to a child works there, and nothing that a child does, its end
included, is felt by its parent."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import pytest

from tests.differential.world import World
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.processes

forking = pytest.mark.only(lambda face, kind: True, methods=("fork",))
# An RLock belongs to a task, so that its loop has to last.
lasting = pytest.mark.only(lambda face, kind: "-a-call" not in face)
forking_and_lasting = pytest.mark.only(lambda face, kind: "-a-call" not in face, methods=("fork",))

CHILDREN = 3


def _nothing(*_: Any) -> None:
    """A child that ends."""


def _put(queue: Any, name: object, count: int) -> None:
    for number in range(count):
        queue.put((name, number))


# -- children work ----------------------------------------------------------------------------
@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_what_three_children_put_arrives(world: World, used: bool) -> None:
    """All of it, in each child's order, whether or not the parent had used the queue."""
    queue = world.queue()
    if used:
        _put(queue, "parent", 3)
        assert [queue.get() for _ in range(3)] == [("parent", number) for number in range(3)]
    children = [world.process(_put, queue, name, 3) for name in range(CHILDREN)]
    for child in children:
        world.ends(child)
    items = [queue.get(timeout=5) for _ in range(3 * CHILDREN)]
    assert sorted(items) == [(name, number) for name in range(CHILDREN) for number in range(3)]
    for child_name in range(CHILDREN):
        assert [number for name, number in items if name == child_name] == [0, 1, 2]
    assert queue.qsize() == 0


def test_one_child_after_the_other(world: World) -> None:
    """Each begins with numbers of its own, and its put is no repetition of another's."""
    queue = world.queue()
    for name in range(CHILDREN):
        world.run(_put, queue, name, 1)
    assert sorted(queue.get(timeout=5) for _ in range(CHILDREN)) == [
        (n, 0) for n in range(CHILDREN)
    ]


def test_parent_and_children_at_once(world: World) -> None:
    """Replies are not mixed up, of calls on one queue, one dict and one list."""
    queue, shared, listed = world.queue(), world.make("dict"), world.make("list")
    children = [world.process(_converse, queue, shared, listed, n) for n in range(2)]
    _converse(queue, shared, listed, 2)
    for child in children:
        world.ends(child)
    assert queue.qsize() == 0
    assert len(listed) == 3 * 20


def _converse(queue: Any, shared: Any, listed: Any, name: int) -> None:
    for number in range(20):
        queue.put((name, number))
        got = queue.get()
        assert isinstance(got, tuple), got
        assert len(got) == 2
        shared[f"{name}-{number}"] = number
        assert shared.get(f"{name}-{number}") == number
        listed.append(name)


@lasting
def test_a_lock_excludes_other_processes(world: World) -> None:
    """A count under it loses no step."""
    for kind in ("Lock", "RLock"):
        lock, shared = world.make(kind), world.make("dict", count=0)
        children = [world.process(_count, lock, shared, 10) for _ in range(2)]
        _count(lock, shared, 10)
        for child in children:
            world.ends(child)
        assert shared["count"] == 30


def _count(lock: Any, shared: Any, times: int) -> None:
    for _ in range(times):
        with lock:
            shared["count"] = shared["count"] + 1


def test_a_child_wakes_its_parent(world: World) -> None:
    """By an event, and by an item for which the parent waits."""
    event, queue = world.make("Event"), world.queue()
    waiting, getting = world.thread(event.wait, 20), world.thread(queue.get)
    world.run(_wake, event, queue)
    assert waiting.get()
    assert getting.get() == "woken"


def _wake(event: Any, queue: Any) -> None:
    event.set()
    queue.put("woken")


# -- what is passed ----------------------------------------------------------------------------
def test_an_executor_takes_what_a_process_takes(world: World) -> None:
    """A queue and a dict as arguments of a `ProcessPoolExecutor`, and a queue as a result."""
    queue, shared = world.queue(), world.make("dict")
    stock = world.make("Queue")
    with ProcessPoolExecutor(1, mp_context=get_context(world.method)) as executor:
        assert executor.submit(_use, queue, shared).result(20) == type(queue).__name__
        assert executor.submit(_use, stock, shared).result(20) == type(stock).__name__
        returned = executor.submit(_given_back, queue).result(20)
    assert queue.get(timeout=5) == "from the worker"
    assert stock.get(timeout=5) == "from the worker"
    assert shared["seen"]
    returned.put("through what came back")
    assert queue.get(timeout=5) == "through what came back"


def _use(queue: Any, shared: Any) -> str:
    queue.put("from the worker")
    shared["seen"] = True
    return type(queue).__name__


def _given_back(queue: Any) -> Any:
    return queue


def test_a_queue_as_a_reply_address(world: World) -> None:
    """In an item, inside of something, to a child that answers there; and in a dict."""
    jobs, replies, shared = world.queue(), world.make("Queue"), world.make("dict")
    jobs.put({"job": 7, "reply": [replies]})
    shared["reply"] = replies
    world.run(_answer, jobs, shared)
    assert sorted(replies.get(timeout=5) for _ in range(2)) == ["by the dict", "job 7"]


def _answer(jobs: Any, shared: Any) -> None:
    job = jobs.get(timeout=5)
    job["reply"][0].put(f"job {job['job']}")
    shared["reply"].put("by the dict")


# -- children end, and the parent goes on ---------------------------------------------------------
def _raises(*_: Any) -> None:
    sys.stderr.close()  # the traceback is no news
    raise ValueError("as it was asked to")


def _exits(*_: Any) -> None:
    sys.exit(3)


def _dies(*_: Any) -> None:
    os._exit(4)


def _uses(*things: Any) -> None:
    for thing in things:
        thing.put("child")
        assert thing.get(timeout=5) == "child"


@forking_and_lasting
@pytest.mark.parametrize("target", [_nothing, _raises, _exits, _dies], ids=lambda f: f.__name__)
def test_the_end_of_a_child_cuts_nothing(world: World, target: Callable[..., None]) -> None:
    """What its parent holds and waits for stands: a lock, an event, an item."""
    lock, event, queue = world.make("RLock"), world.make("Event"), world.queue()
    with lock:
        getting, waiting = world.thread(queue.get), world.thread(event.wait, 20)
        event.is_set()
        queue.qsize()
        for _ in range(3):
            world.run(target, queue, code=None)
        assert lock.acquire()
        lock.release()
        assert not world.thread(lock.acquire, False).get()
        event.set()
        queue.put("item")
        assert getting.get() == "item"
        assert waiting.get()
    assert queue.qsize() == 0


@forking
def test_a_child_that_uses_a_queue_takes_none_of_its_parents(world: World) -> None:
    """What the parent has put before, beside and after it is there, once and in order."""
    queue, other = world.queue(), world.queue()
    for number in range(5):
        queue.put(number)
        world.run(_uses, other)
        other.put("parent")
        assert other.get(timeout=5) == "parent"
    assert [queue.get(timeout=5) for _ in range(5)] == [0, 1, 2, 3, 4]


@forking
def test_many_forks_beside_a_busy_parent(world: World) -> None:
    """Used and unused children come and go, and each of the parent's puts is there once."""
    queue = world.queue()
    enough: list[bool] = []

    def put() -> int:
        number = 0
        while not enough:
            queue.put(number)
            number += 1
        return number

    putting = world.thread(put)
    other = world.make("Queue")
    try:
        for number in range(20):
            world.fork(_nothing if number % 4 else _uses, other)
    finally:
        enough.append(True)
    count = putting.get()
    assert count
    assert [queue.get(timeout=5) for _ in range(count)] == list(range(count))
    assert queue.qsize() == 0


@forking
def test_workers_of_a_preloaded_server(world: World) -> None:
    """Made and used before the fork, then used in each worker, and in the master after them."""
    queue, shared = world.queue(), world.make("dict")
    queue.put("before")
    shared["used"] = queue.get()
    for worker in range(3):
        world.fork(_serve, queue, shared, worker)
    assert sorted(queue.get(timeout=5) for _ in range(3)) == [0, 1, 2]
    assert dict(shared.copy()) == {"used": "before", 0: 0, 1: 1, 2: 2}


def _serve(queue: Any, shared: Any, worker: int) -> None:
    assert shared["used"] == "before"
    for _ in range(10):
        shared[worker] = worker
        assert shared[worker] == worker
    queue.put(worker)


@forking
def test_a_grandchild(world: World) -> None:
    """What works in a child works in its child."""
    queue = world.queue()
    queue.put("parent")
    world.fork(_has_a_child, world, queue)
    assert sorted(queue.get(timeout=5) for _ in range(4)) == [
        "after",
        "before",
        "grandchild",
        "parent",
    ]


def _has_a_child(world: World, queue: Any) -> None:
    queue.put("before")
    world.fork(queue.put, "grandchild")
    queue.put("after")


def test_what_a_child_that_is_killed_was_given(world: World) -> None:
    """It is its parent's still, which goes on, and so do children that come after it."""
    queue = world.queue()
    queue.put("parent")
    child = world.process(_wait_for_ever, queue)
    wait_until_sync(lambda: queue.qsize() == 2, description="the child has begun")
    child.kill()
    child.join()
    world.run(_put, queue, "next", 1)
    items = [queue.get(timeout=5) for _ in range(3)]
    assert sorted(map(str, items)) == ["('next', 0)", "begun", "parent"]


def _wait_for_ever(queue: Any) -> None:
    queue.put("begun")
    import threading

    threading.Event().wait()
