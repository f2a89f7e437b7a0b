"""Objects that are looked up, again and again; classes and proxies of one's own; references."""

from __future__ import annotations

import gc
import queue as stdlib_queue
from multiprocessing.managers import RemoteError
from typing import Any

import pytest

from aiomanager import AsyncQueue
from tests.differential import hosts
from tests.differential.world import World
from tests.support.waiting import wait_until_sync

# What belongs to a task wants a loop that lasts.
lasting = pytest.mark.only(lambda face, kind: "-a-" not in face)


# -- looked up twice ------------------------------------------------------------------------------
@lasting
@pytest.mark.parametrize("kind", ["RLock", "Condition"])
def test_a_lock_from_a_dict_is_the_same_lock(world: World, kind: str) -> None:
    """Whoever holds it by one look-up may acquire it by another, and wake whoever waits."""
    shared = world.make("dict")
    shared["lock"] = world.make(kind)
    with shared["lock"]:
        assert shared["lock"].acquire(True, 5)
        if kind == "Condition":
            shared["lock"].notify_all()
        assert not world.thread(lambda: shared["lock"].acquire(False)).get()
        shared["lock"].release()
    assert world.thread(lambda: _held(shared["lock"])).get()


def _held(lock: Any) -> bool:
    with lock:
        return True


@lasting
@pytest.mark.parametrize("name", ["common_lock", "common_condition"])
def test_a_lock_of_a_name_is_the_same_lock(world: World, name: str) -> None:
    """Looked up at a connection each time."""
    client = world.connect()
    with client.look_up(name):
        assert client.look_up(name).acquire(True, 5)
        client.look_up(name).release()
    assert world.thread(lambda: _held(client.look_up(name))).get()


@lasting
def test_a_lock_that_came_by_two_proxies(world: World) -> None:
    """Of one object, made in this process."""
    proxy = world.host.RLock()
    with world.face.over(proxy), world.face.over(proxy):
        pass
    assert world.thread(lambda: _held(world.face.over(proxy))).get()


# -- classes and proxies of one's own -----------------------------------------------------------
def test_a_subclass_of_the_namespace_proxy(world: World) -> None:
    """It has attributes, and the methods that its class names beside them."""
    counter = world.make("Counter")
    assert counter.update(2) == 2
    assert counter.value == 2
    counter.value = 5
    assert counter.update(1) == 6
    shared = world.make("dict", counter=counter)
    assert shared["counter"].update(1) == 7
    assert counter.value == 7


@lasting
def test_a_subclass_of_the_namespace_proxy_by_its_name(world: World) -> None:
    """What a connection looks up has the methods too."""
    assert world.connect().look_up("Counter").update(2) == 2


@pytest.mark.may_block("`wrap` is no coroutine, and has to ask the host here")
def test_a_proxy_type_without_exposed(world: World) -> None:
    """The host is asked what it is, so that a queue is a queue."""
    queue = world.make("Handmade")
    queue.put("item")
    assert queue.qsize() == 1
    assert queue.get() == "item"
    queue.task_done()
    if world.face.is_ours:
        assert isinstance(queue._wrapped, AsyncQueue)
    with pytest.raises(stdlib_queue.Empty):
        queue.get(True, 0.01)
    queue.put("another")
    assert queue.get(True, 5) == "another"


def test_a_queue_with_a_signature_and_a_method_of_its_own(world: World) -> None:
    """`put(item)` and `get()` are called as it has them; what it has besides is there."""
    queue = world.make("unique")
    queue.put("once")
    with pytest.raises(ValueError, match="there already"):
        queue.put("once")
    assert hosts.call(queue, "waiting") == ["once"]
    assert queue.get() == "once"
    assert hosts.call(queue, "waiting") == []


@pytest.mark.parametrize("kind", ["Simple", "Pipe", "Processes", "Lifo", "Priority"])
def test_what_a_queue_of_another_kind_does(world: World, kind: str) -> None:
    """Its `put` and `get` are called as it has them, and wait as it does; nothing else is asked
    of it."""
    queue = world.make(kind)
    queue.put(1)
    assert queue.get() == 1
    getting = world.thread(queue.get)
    queue.put(2)
    assert getting.get() == 2
    for item in (3, 1, 2):
        queue.put(item)
    order = {"Lifo": [2, 1, 3], "Priority": [1, 2, 3]}.get(kind, [3, 1, 2])
    assert [queue.get() for _ in range(3)] == order
    if kind != "Pipe":  # which knows no timeout
        with pytest.raises(stdlib_queue.Empty):
            queue.get(True, 0.01)


def test_a_deque(world: World) -> None:
    """It is no queue, and has its own methods."""
    deque = world.make("Deque", [1, 2, 3], 4)
    deque.append(4)
    deque.appendleft(0)
    assert deque.popleft() == 0
    deque.rotate(1)
    assert [deque.pop() for _ in range(3)] == [2, 1, 3]
    with pytest.raises(IndexError, match="empty"):
        deque.pop()
    deque.extend([5, 6])
    assert deque.count(5) == 1


def test_a_queue_of_an_event_loop(world: World) -> None:
    """What is a coroutine there cannot come over a connection, and the error says so; what is a
    plain method works."""
    queue = world.make("OfALoop")
    with pytest.raises(RemoteError, match="coroutine"):
        hosts.call(queue, "put", 1)
    hosts.call(queue, "put_nowait", 2)
    assert hosts.call(queue, "qsize") == 1
    assert hosts.call(queue, "get_nowait") == 2


# -- names and references ---------------------------------------------------------------------
@lasting
def test_a_name_that_makes_a_queue_at_each_call(world: World) -> None:
    """A connection calls it once for a queue, whoever uses it first; another gets another."""
    if not world.face.is_ours:
        return
    client = world.connect()
    queue = client.queue("made")
    gets = [world.thread(queue.get) for _ in range(2)]
    wait_until_sync(lambda: any(get.is_done for get in gets), description="the first item")
    queue.put("item")
    assert sorted(str(get.get()) for get in gets)[1] == "item"
    assert client.queue("made").qsize() == 0
    assert client.queue("made").qsize() == 0


@pytest.mark.only(lambda face, kind: "-a-" not in face and kind != "ours")
def test_a_connection_leaves_no_reference(world: World) -> None:
    """The host counts as many objects after it as before."""
    keeps = world.make("dict")
    before = world.host._number_of_objects()
    for _ in range(3):
        client = world.connect()
        made = client.look_up("Device")
        assert made.echo(1) == 1
        if world.face.is_ours:
            name = world.unused()
            client.queue(name).put(1)
            assert client.queue(name).get() == 1
        else:
            client.look_up(world.unused()).put(1)
        del made
        client.close()
    gc.collect()
    # The queues themselves are kept by what is registered.
    wait_until_sync(
        lambda: world.host._number_of_objects() <= before, description="the references are given up"
    )
    del keeps
