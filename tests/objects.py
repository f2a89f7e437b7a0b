"""What the tests' stock managers host, importable by their processes under any start method."""

from __future__ import annotations

import contextlib
import multiprocessing
import queue
import threading
import time
from collections.abc import Iterator
from multiprocessing.managers import BaseProxy, SyncManager
from typing import Any

import aiomanager

KEY = b"a key that is not this process's"


class Counter:
    """A user's class."""

    def __init__(self, start: int = 0) -> None:
        self.value = start

    def add(self, number: int = 1, *, times: int = 1) -> int:
        self.value += number * times
        return self.value

    def fail(self) -> None:
        raise LookupError("as it was asked to")

    def unpicklable(self) -> Any:
        return threading.Lock()

    def child(self) -> Counter:
        return Counter(self.value)

    def hidden(self) -> None:
        raise AssertionError("not exposed")


class Gate:
    """Its `pass_through` blocks until somebody calls `open`."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._calls: list[int] = []  # a number would be counted by many threads at once

    def pass_through(self) -> str:
        self._calls.append(threading.get_ident())
        self._event.wait()
        return "through"

    def open(self) -> None:
        self._event.set()

    def waiting(self) -> int:
        return len(self._calls)


class Cache:
    """Has `put` and `get`, and is no queue."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        self._values[key] = value

    def get(self, key: str) -> Any:
        return self._values[key]


class Connections:
    """Has `acquire` and `release`, and is no lock."""

    def acquire(self) -> str:
        return "connection"

    def release(self, connection: str) -> str:
        return "released"

    def size(self) -> int:
        return 1


class BareProxy(BaseProxy):
    """A proxy type that does not say what is exposed."""


def numbers() -> Iterator[int]:
    """An iterator."""
    yield from range(3)


_rlock = threading.RLock()


_queue: queue.Queue[Any] = queue.Queue()


def common_queue() -> Any:
    """The same queue for all."""
    return _queue


def common_rlock() -> Any:
    """The same lock for all."""
    return _rlock


class Manager(SyncManager):
    """A stock manager with a user's classes."""


_COUNTER = ("add", "fail", "unpicklable")
Manager.register("Counter", Counter, exposed=_COUNTER, method_to_typeid={"child": "Child"})
Manager.register(
    "Child", exposed=_COUNTER, method_to_typeid={"child": "Child"}, create_method=False
)
Manager.register("Gate", Gate)
Manager.register("Cache", Cache)
Manager.register("Connections", Connections)
Manager.register("common_lock", threading.Lock)
Manager.register("common_queue", common_queue)
Manager.register("Bare", Counter, BareProxy)
Manager.register("numbers", numbers, exposed=("__next__",))
Manager.register("common", common_rlock, exposed=("acquire", "release"))
Manager.register("task_queue", queue.Queue)


class OurManager(aiomanager.QueueManager):
    """A host of ours, with a user's classes."""


OurManager.register("Counter", Counter, exposed=_COUNTER)
OurManager.register("common", common_rlock, exposed=("acquire", "release"))


@contextlib.contextmanager
def running(address: Any = None) -> Iterator[Manager]:
    """A manager in a process of its own, with another key than this process."""
    manager = Manager(address, KEY, ctx=multiprocessing.get_context("spawn"))
    with manager:
        # The standard library connects once for each thread that calls a proxy, and disconnects
        # with the last proxy; here it is connected all the time.
        kept = manager.dict()
        kept.copy()
        yield manager
        del kept


def square(number: int) -> int:
    """For a pool."""
    return number * number


def slowly(number: float) -> float:
    """For what has to be under way for a while; not to be waited for."""
    time.sleep(number)
    return number


def failing(number: int) -> int:
    """For a pool; it always fails."""
    raise ArithmeticError(number)
